//! Destinations through the management API, its guard, OpenID Connect, and what survives a restart: with the real binary.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use demo::intake::{DEFAULT_API_KEY, Intake, IntakeOptions};
use reqwest::{Method, StatusCode};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{ADMIN, ENV, Gateway, PATIENCE, Reply, Rig, Setup, ask};

const SECRETS_KEY: &str = "a-secrets-key-for-tests-0123456789";

impl Rig {
    async fn admin(&self, token: &str, method: Method, path: &str, body: Value) -> Reply {
        let url = self.url(&format!("/api/policy-gateway/{path}"));
        let mut request = self.http.request(method, url).bearer_auth(token);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        self.send(request).await
    }
}

/// A gateway whose API may make destinations on this machine.
async fn open(more: Value) -> Rig {
    let mut config = json!({
        "secrets_key": "$SECRETS_KEY",
        "egress": {"env": ["DD_API_KEY"], "allow": ["127.0.0.1"]},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let env = vec![("SECRETS_KEY", SECRETS_KEY.to_owned())];
    Setup { config, env, ..Setup::default() }.start().await
}

fn env() -> Vec<(&'static str, &'static str)> {
    ENV.into_iter().chain([("SECRETS_KEY", SECRETS_KEY)]).collect()
}

#[tokio::test]
async fn a_destination_of_the_api_gets_events_from_its_answer_on_and_after_a_restart() {
    let rig = open(json!({})).await;
    let second = Intake::start(IntakeOptions::default()).await.unwrap();
    let before = rig.chat("before").await;
    rig.log_of(&before).await;
    let body = json!({"destination": "datadog_logs", "id": "siem", "endpoint": second.endpoint(), "api_key": DEFAULT_API_KEY});
    let made = rig.admin(ADMIN, Method::POST, "exports", body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    assert!(!made.text.contains(DEFAULT_API_KEY), "{}", made.text);
    let tested = rig.admin(ADMIN, Method::POST, "exports/siem/test", Value::Null).await;
    assert_eq!(tested.json()["ok"], true, "{}", tested.text);
    let call = rig.chat("hello").await;
    let event_id = call.header("x-policy-event-id").to_owned();
    let has = |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.event_id() == Some(&event_id));
    second.wait_for(PATIENCE, has).await.unwrap();
    let first_id = before.header("x-policy-event-id").to_owned();
    assert!(
        second.logs().iter().all(|log| log.event_id() != Some(first_id.as_str())),
        "it begins at the head"
    );
    let Rig { model, intake, gateway, dir, http, config } = rig;
    assert_eq!(gateway.stop().await, Some(0));
    for file in
        std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&file).unwrap();
        let needle = DEFAULT_API_KEY.as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", file.display());
    }
    let gateway = Gateway::start(&config, &env()).await;
    let rig = Rig { model, intake, gateway, dir, http, config };
    let call = rig.chat("again").await;
    let event_id = call.header("x-policy-event-id").to_owned();
    let has = |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.event_id() == Some(&event_id));
    second.wait_for(PATIENCE, has).await.unwrap();
    let deleted = rig.admin(ADMIN, Method::DELETE, "exports/siem?confirm=true", Value::Null).await;
    assert_eq!(deleted.json()["deleted"], true, "{}", deleted.text);
    let list = rig.admin(ADMIN, Method::GET, "exports", Value::Null).await.json();
    assert_eq!(list["exports"].as_array().unwrap().len(), 1);
    assert_eq!(list["exports"][0]["source"], "file");
    let call = rig.chat("after").await;
    rig.log_of(&call).await;
    assert_eq!(rig.gateway.stop().await, Some(0));
}

#[tokio::test]
async fn a_destination_that_leads_to_this_machine_is_refused_unless_it_is_allowed() {
    let rig = open(json!({"egress": {"env": [], "allow": []}})).await;
    for endpoint in
        [rig.intake.endpoint(), "https://localhost/x".to_owned(), "https://169.254.169.254/x".to_owned()]
    {
        let body = json!({"destination": "datadog_logs", "id": "siem", "endpoint": endpoint, "api_key": "k"});
        let refused = rig.admin(ADMIN, Method::POST, "exports", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert_eq!(refused.json()["error"]["param"], "endpoint", "{}", refused.text);
    }
    let policy = json!({"policy_id": "hooked", "rules": {"denylist": ["x"], "response_pattern": "escalate"},
        "refusal_replacement": {"escalation_path": "https://10.0.0.1/hook"}});
    let refused = rig.admin(ADMIN, Method::POST, "config", json!({ "config": policy })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("refusal_replacement.escalation_path"), "{}", refused.text);
}

/// What an issuer publishes, on a free port, for as long as the test runs; its URL.
async fn issuer(key: &Ed25519KeyPair) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let described = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let keys =
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "x": x}]}).to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let is_keys = request[..read].starts_with(b"GET /keys ");
            let body = if is_keys { &keys } else { &described };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn a_token_of_the_configured_issuer_is_a_role_and_an_actor() {
    let random = ring::rand::SystemRandom::new();
    let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
    let url = issuer(&key).await;
    let oidc = json!({"issuer": url, "audience": "gateway", "roles_claim": "groups",
        "role_map": {"editors": "editor", "auditors": "auditor"}});
    let rig = open(json!({ "oidc": oidc })).await;
    let token = |header: Value, groups: &str, exp: i64| {
        let claims = json!({"iss": url, "aud": "gateway", "sub": "u-1", "groups": [groups], "exp": exp});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let later = jiff::Timestamp::now().as_second() + 300;
    let good = json!({"alg": "EdDSA", "kid": "k1"});
    let editor = token(good.clone(), "editors", later);
    let made = rig.admin(&editor, Method::POST, "projects", json!({"id": "app"})).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let audit = rig.admin(&editor, Method::GET, "audit?event_type=admin", Value::Null).await.json();
    assert_eq!(audit["entries"][0]["actor"], "oidc:u-1");
    let auditor = token(good.clone(), "auditors", later);
    assert_eq!(rig.admin(&auditor, Method::GET, "projects", Value::Null).await.status, StatusCode::OK);
    let refused = rig.admin(&auditor, Method::POST, "projects", json!({"id": "b"})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    for (bad, reason) in [
        (token(good.clone(), "editors", later - 3600), "has expired"),
        (token(json!({"alg": "none"}), "editors", later), "`none`"),
        (token(json!({"alg": "EdDSA", "kid": "k2"}), "editors", later), "`kid`"),
        (format!("{}x", &editor[..editor.len() - 1]), "signature"),
    ] {
        let refused = rig.admin(&bad, Method::GET, "projects", Value::Null).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{reason} {}", refused.text);
        assert!(refused.text.contains(reason), "{reason} {}", refused.text);
    }
    let stranger = rig.admin(&token(good, "others", later), Method::GET, "projects", Value::Null).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN, "{}", stranger.text);
    assert_eq!(rig.http.get(rig.url("/v1/models")).bearer_auth(&editor).send().await.unwrap().status(), 401);
    let log = rig.gateway.stderr.lock().unwrap().clone();
    assert!(!log.contains(&editor), "no token in the log");
}

#[tokio::test]
async fn a_rotated_key_and_its_last_use_survive_a_restart() {
    let rig = open(json!({})).await;
    let post = async |path: &str, body: Value| rig.admin(ADMIN, Method::POST, path, body).await.json();
    post("projects", json!({"id": "app", "policy_id": "test-policy"})).await;
    let old = post("projects/app/keys", json!({"name": "ci"})).await;
    let line = format!("projects/app/keys/{}/rotate", old["key_id"].as_str().unwrap());
    let new = post(&line, json!({"overlap_seconds": 600})).await;
    let call = async |rig: &Rig, key: &Value| {
        let request =
            rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key["key"].as_str().unwrap());
        rig.send(request.body(ask("hello").to_string())).await.status
    };
    assert_eq!((call(&rig, &old).await, call(&rig, &new).await), (StatusCode::OK, StatusCode::OK));
    let Rig { model, intake, gateway, dir, http, config } = rig;
    assert_eq!(gateway.stop().await, Some(0));
    let gateway = Gateway::start(&config, &env()).await;
    let rig = Rig { model, intake, gateway, dir, http, config };
    let keys = rig.admin(ADMIN, Method::GET, "projects/app/keys", Value::Null).await.json();
    for key in keys["keys"].as_array().unwrap() {
        assert!(key["last_used_at"].is_string(), "{keys}");
        assert_eq!(key["expires_at"].is_string(), key["key_id"] == old["key_id"], "{keys}");
    }
    assert_eq!(call(&rig, &new).await, StatusCode::OK);
}
