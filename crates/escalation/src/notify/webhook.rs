//! A notice as a signed POST: Standard Webhooks 1.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). The id is the same on
//! every try, the timestamp is the try's. Redirects are not followed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use serde_json::json;

use super::{TIMEOUT, cause, data};
use crate::config::{Channels, WebhookSecret};
use crate::fingerprint::hmac;
use crate::ticket::rfc3339;
use crate::tickets::{Notice, NoticeKind};

/// What is posted.
struct Signed {
    id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

pub(super) async fn send(channels: &Channels, notice: &Notice, now_ms: i64) -> Result<(), String> {
    let secret = channels
        .webhook_secret
        .as_ref()
        .ok_or("the configuration has no `escalations.webhook_secret` any more: give it")?;
    let signed = sign(channels, secret, notice, now_ms);
    let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
    if !channels.is_declared(&notice.path) {
        channels.egress.check(&notice.path).map_err(|error| format!("`escalation_path` {error}"))?;
        builder = channels.egress.guard(builder);
    }
    let client = builder.build().map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
    let answer = client
        .post(&notice.path)
        .header("content-type", "application/json")
        .header("user-agent", concat!("policy-gateway/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", signed.id)
        .header("webhook-timestamp", signed.timestamp)
        .header("webhook-signature", signed.signature)
        .body(signed.body)
        .send()
        .await
        .map_err(|error| cause(&error.without_url()))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the receiver answered {status}")) }
}

fn sign(channels: &Channels, secret: &WebhookSecret, notice: &Notice, now_ms: i64) -> Signed {
    let id = format!("msg_{}_{}", notice.about.id().as_simple(), notice.kind.as_str());
    let topic = if notice.kind == NoticeKind::RolledBack { "rollout" } else { "escalation" };
    let timestamp = now_ms.div_euclid(1000).to_string();
    let body = json!({
        "type": format!("{topic}.{}", notice.kind.as_str()),
        "timestamp": rfc3339(now_ms),
        "data": data(channels, &notice.about),
    })
    .to_string()
    .into_bytes();
    let mut mac = hmac(&secret.0);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body] {
        mac.update(part);
    }
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    Signed { id, timestamp, signature, body }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::config::EscalationsConfig;
    use crate::ticket::tests::ticket;
    use crate::tickets::About;

    #[test]
    fn an_independent_verifier_takes_the_signature_and_nothing_changed() {
        let secret = format!("whsec_{}", STANDARD.encode([5; 32]));
        let escalations = EscalationsConfig {
            webhook_secret: Some(secret.clone()),
            public_url: Some("https://gateway.example.com/".to_owned()),
        };
        let channels = Channels::build(None, Some(&escalations), None).unwrap();
        let notice = Notice {
            id: 1,
            kind: NoticeKind::Opened,
            path: "https://hooks.example/x".to_owned(),
            attempts: 3,
            next_ms: 0,
            about: About::Ticket(Box::new(ticket())),
        };
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let key = channels.webhook_secret.clone().unwrap();
        let signed = sign(&channels, &key, &notice, now_ms);
        let headers = |signed: &Signed| {
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", signed.id.parse().unwrap());
            headers.insert("webhook-timestamp", signed.timestamp.parse().unwrap());
            headers.insert("webhook-signature", signed.signature.parse().unwrap());
            headers
        };
        let verifier = standardwebhooks::Webhook::new(&secret).unwrap();
        verifier.verify(&signed.body, &headers(&signed)).unwrap();
        let mut changed = signed.body.clone();
        changed[10] ^= 1;
        assert!(verifier.verify(&changed, &headers(&signed)).is_err());
        let body: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
        assert_eq!(body["type"], "escalation.opened");
        assert_eq!(
            body["data"]["url"],
            "https://gateway.example.com/api/policy-gateway/escalations/00000000-0000-0000-0000-000000000000"
        );
        let again = sign(&channels, &key, &notice, now_ms + 60_000);
        assert_eq!(again.id, signed.id, "a try more is the same message");
    }
}
