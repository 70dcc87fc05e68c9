//! A canary in prompts and answers, and the secrets, are nowhere afterwards: not on disk, not in the process's output,
//! not in what was exported, not in metrics or management answers.

use serde_json::json;

use crate::support::{ADMIN, KEY, Rig, ask, command};

const PROMPT: &str = "canaryprompt7f3a";
const ANSWER: &str = "canaryanswer9b1c";
const SECRETS: [&str; 4] = ["sk-upstream-test", ADMIN, demo::intake::DEFAULT_API_KEY, KEY];

#[tokio::test]
async fn nothing_said_and_no_secret_is_kept() {
    let rig = Rig::start().await;
    let say = format!("{PROMPT} demo:say=\"{ANSWER} b\\u0040c.example n\\u0061palm\"");
    let mut events = Vec::new();
    for text in [
        format!("{PROMPT} demo:say=\"{ANSWER}\""),
        say.clone(),
        format!("{PROMPT} napalm {PROMPT}@example.com"),
        format!("{PROMPT} demo:status=500"),
        format!("{PROMPT} demo:malformed"),
        format!("{PROMPT} demo:tool=f args={{\"a\":\"{ANSWER}\"}}"),
    ] {
        events.push(rig.chat(&text).await);
        events.push(rig.stream(&text).await);
    }
    let mut body = ask(PROMPT);
    body["messages"][0]["role"] = json!({PROMPT: 1});
    events.push(rig.send(rig.post("/v1/chat/completions", &body)).await);
    events.push(rig.send(rig.post("/v1/chat/completions", &json!({PROMPT: PROMPT}))).await);
    for reply in &events {
        rig.log_of(reply).await;
    }
    let exported: String = rig.intake.logs().iter().map(|log| log.log.to_string()).collect();
    let metrics = rig.send(rig.http.get(rig.url("/metrics"))).await.text;
    let managed =
        rig.send(rig.http.get(rig.url("/api/policy-gateway/audit?limit=1000")).bearer_auth(ADMIN)).await;
    assert!(managed.text.contains("test-policy"), "{}", managed.text);
    let exports =
        rig.send(rig.http.get(rig.url("/api/policy-gateway/exports")).bearer_auth(ADMIN)).await.text;
    let (code, queried, _) =
        command(rig.dir.path(), &["audit", "query", "-c", "gateway.json", "--json"]).await;
    assert_eq!(code, Some(0));
    let output = rig.gateway.stderr.lock().unwrap().clone();
    let dir = rig.dir.path().to_owned();
    assert_eq!(rig.gateway.stop().await, Some(0));
    let mut places = vec![
        ("exported logs".to_owned(), exported.into_bytes()),
        ("metrics".to_owned(), metrics.into_bytes()),
        ("management API".to_owned(), (managed.text + &exports).into_bytes()),
        ("audit query".to_owned(), queried.into_bytes()),
        ("output".to_owned(), output.into_bytes()),
    ];
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    assert!(places.iter().any(|(name, bytes)| name.ends_with("gateway.db") && bytes.len() > 10_000));
    for (place, bytes) in &places {
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        for needle in [PROMPT, ANSWER] {
            assert!(!holds(needle), "{place} holds `{needle}`");
        }
        for secret in SECRETS {
            // The configuration file itself holds the one key that a person wrote there.
            assert!(!holds(secret) || place.ends_with("gateway.json"), "{place} holds a secret");
        }
    }
}
