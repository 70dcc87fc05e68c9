//! The sender against a server that plays token endpoint and ingestion endpoint: the flow, and what every answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::tests::config;
use super::*;
use crate::delivery::{BodyBuilder, Destination, Parcel, Push, SendOutcome};
use crate::export::test_server::{Reply, Seen, TestServer};
use crate::testing::{NOW_MS, example_event, stored};

fn token(number: u64) -> Reply {
    let token =
        json!({"token_type": "Bearer", "expires_in": 3599, "access_token": format!("token-{number}")});
    Reply::status(200).with("content-type", "application/json").body(token.to_string())
}

/// Hands out numbered tokens; requests to the rule are answered by `answer`.
async fn azure(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> TestServer {
    let tokens = AtomicU64::new(0);
    TestServer::new(move |seen: &Seen| {
        if seen.target.ends_with("/oauth2/v2.0/token") {
            return token(tokens.fetch_add(1, Ordering::SeqCst) + 1);
        }
        answer(seen)
    })
    .await
}

fn destination(server: &TestServer) -> AzureMonitorDestination {
    let config = config(json!({"endpoint": server.url, "authority": server.url}));
    AzureMonitorDestination::new(config).unwrap()
}

fn parcel(destination: &AzureMonitorDestination) -> Parcel {
    let mut body = destination.begin(NOW_MS).unwrap();
    assert_eq!(body.push(&stored(example_event(), 1)), Push::Taken);
    let encoded = body.finish().unwrap();
    Parcel {
        body: encoded.body,
        note: encoded.note,
        seqs: vec![1],
        first: 1,
        last: 1,
        attempts: 1,
        now_ms: NOW_MS,
    }
}

async fn send(destination: &AzureMonitorDestination) -> SendOutcome {
    let outcome = destination.send(parcel(destination)).await;
    let shown = format!("{outcome:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("token-"), "{shown}");
    outcome
}

fn shape(outcome: SendOutcome) -> (&'static str, Option<u64>, String) {
    match outcome {
        SendOutcome::Delivered => ("delivered", None, String::new()),
        SendOutcome::Retry { after, why } => ("retry", after.map(|after| after.as_secs()), why),
        SendOutcome::TooLarge { why } => ("too large", None, why),
        SendOutcome::Rejected { why } => ("rejected", None, why),
        SendOutcome::Hold { why } => ("hold", None, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_what_microsoft_documents() {
    let server = azure(|_| Reply::status(204)).await;
    let destination = destination(&server);
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    let asked = &seen[0];
    assert_eq!(asked.target, "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token");
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        asked.body,
        "grant_type=client_credentials&client_id=app&client_secret=hunter2&scope=https%3A%2F%2Fmonitor.azure.com%2F.default"
    );
    let sent = &seen[1];
    assert_eq!(sent.method, "POST");
    assert_eq!(
        sent.target,
        "/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-PolicyGateway_CL?api-version=2023-01-01"
    );
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("authorization", "Bearer token-1"),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    let rows: Vec<Value> = serde_json::from_slice(&sent.gunzipped()).unwrap();
    assert_eq!(rows[0]["PolicyId"], "support-guardrails");
}

#[tokio::test]
async fn a_token_is_asked_for_once_for_all_that_fly() {
    let server = azure(|_| Reply::status(204)).await;
    let destination = Arc::new(destination(&server));
    let flights = (0..4).map(|_| send(&destination));
    assert!(
        futures_util::future::join_all(flights)
            .await
            .iter()
            .all(|outcome| *outcome == SendOutcome::Delivered)
    );
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
    let asked = server.seen().iter().filter(|seen| seen.target.ends_with("/token")).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_replaced() {
    let server = azure(|seen| match seen.header("authorization") {
        "Bearer token-1" => Reply::status(401),
        _ => Reply::status(204),
    })
    .await;
    let destination = destination(&server);
    let (outcome, _, why) = shape(send(&destination).await);
    assert_eq!(outcome, "hold");
    assert!(why.contains("answers 401") && why.contains("`cloud`"), "{why}");
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
}

#[tokio::test]
async fn an_old_token_is_not_used_to_its_last_second() {
    let life = Arc::new(AtomicU64::new(299));
    let given = Arc::clone(&life);
    let server = TestServer::new(move |seen: &Seen| {
        if !seen.target.ends_with("/token") {
            return Reply::status(204);
        }
        let token = json!({"expires_in": given.load(Ordering::SeqCst), "access_token": "t"});
        Reply::status(200).body(token.to_string())
    })
    .await;
    let asked = || server.seen().iter().filter(|seen| seen.target.ends_with("/token")).count();
    // Half of a short life is used.
    let short = destination(&server);
    send(&short).await;
    send(&short).await;
    assert_eq!(asked(), 1);
    life.store(0, Ordering::SeqCst);
    let none = destination(&server);
    send(&none).await;
    send(&none).await;
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn every_status_of_the_ingestion_means_what_it_should() {
    for (status, meaning, part) in [
        (400, "rejected", "deploy/azure/"),
        (401, "hold", "token"),
        (403, "hold", "Monitoring Metrics Publisher"),
        (404, "hold", "`dcr_id`"),
        (408, "retry", "too long"),
        (413, "too large", "too large"),
        (415, "hold", "`endpoint`"),
        (429, "retry", "fewer requests"),
        (500, "retry", "trouble"),
        (502, "retry", "trouble"),
        (503, "retry", "trouble"),
        (504, "retry", "trouble"),
        (307, "hold", "redirects"),
    ] {
        let refusal = json!({"error": {"code": "SomeCode", "message": "the value \"user-12345\" is wrong"}})
            .to_string();
        let server =
            azure(move |_| Reply::status(status).with("retry-after", "11").body(refusal.clone())).await;
        let (outcome, after, why) = shape(send(&destination(&server)).await);
        assert_eq!(outcome, meaning, "{status}");
        assert!(why.contains(&format!("answers {status} (SomeCode)")) && why.contains(part), "{why}");
        assert!(!why.contains("user-12345"), "{why}");
        assert_eq!(after, (meaning == "retry").then_some(11), "{status}");
    }
}

#[tokio::test]
async fn a_page_is_no_success() {
    let server =
        azure(|_| Reply::status(200).with("content-type", "text/html").body("<html>Sign in</html>")).await;
    let (outcome, _, why) = shape(send(&destination(&server)).await);
    assert_eq!(outcome, "hold");
    assert!(why.contains("`text/html`") && !why.contains("Sign in"), "{why}");
    let server = azure(|_| Reply::status(200)).await;
    assert_eq!(send(&destination(&server)).await, SendOutcome::Delivered);
}

#[tokio::test]
async fn what_the_token_endpoint_says_is_told_apart() {
    let refusal = |code: u64| json!({"error": "invalid_client", "error_description": "AADSTS: hunter2", "error_codes": [code]});
    for (status, body, meaning, part) in [
        (401, refusal(7_000_215), "hold", "(AADSTS7000215): the secret from the configuration is wrong"),
        (401, refusal(7_000_222), "hold", "has expired"),
        (400, refusal(700_016), "hold", "check `client_id` and `tenant_id`"),
        (400, refusal(90_002), "hold", "there is no such tenant"),
        (400, json!({"error": "invalid_request"}), "hold", "(invalid_request): check `tenant_id`"),
        (404, json!("no"), "hold", "check `tenant_id`"),
        (429, json!({}), "retry", "fewer requests"),
        (503, json!({}), "retry", "trouble"),
        (200, json!({"access_token": "x"}), "hold", "not a token"),
        (200, json!("<html>"), "hold", "not a token"),
    ] {
        let server = TestServer::new(move |_: &Seen| Reply::status(status).body(body.to_string())).await;
        let (outcome, _, why) = shape(send(&destination(&server)).await);
        assert_eq!(outcome, meaning, "{why}");
        assert!(why.starts_with("no token: ") && why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn a_new_secret_gets_a_new_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first").unwrap();
    let server = azure(|_| Reply::status(204)).await;
    let secret = format!("file:{}", file.path().display());
    let config = config(json!({"endpoint": server.url, "authority": server.url, "client_secret": secret}));
    let destination = AzureMonitorDestination::new(config).unwrap();
    destination.send(parcel(&destination)).await;
    std::fs::write(file.path(), "second").unwrap();
    destination.reload_secrets().await.unwrap();
    destination.send(parcel(&destination)).await;
    let asked = server.seen().into_iter().filter(|seen| seen.target.ends_with("/token"));
    let bodies: Vec<_> = asked.map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect();
    assert!(
        bodies[0].contains("client_secret=first&") && bodies[1].contains("client_secret=second&"),
        "{bodies:?}"
    );
}
