//! The real binary delivering to each other kind of destination, through losses, kills and restarts.

use std::collections::{BTreeSet, HashMap};

use demo::bulk::{self, Bulk, BulkOptions};
use demo::hec::{self, Hec, HecOptions};
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, PATIENCE, Rig, Setup, command};

async fn rig(exports: Value) -> Rig {
    let mut setup = Setup::default();
    setup.config = json!({ "exports": exports });
    setup.start().await
}

async fn calls(rig: &Rig, count: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for number in 0..count {
        let reply = rig.chat(&format!("call {number}")).await;
        assert!(seen.insert(reply.header("x-policy-event-id").to_owned()));
    }
    seen
}

/// At least so many are accepted, and none is pending.
fn through(status: &Value, events: u64) -> bool {
    status["pending"] == 0 && status["accepted"].as_u64() >= Some(events)
}

async fn status_until(rig: &Rig, id: &str, check: impl Fn(&Value) -> bool) -> Value {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let url = rig.url(&format!("/api/policy-gateway/exports/{id}/status"));
            let status = rig.send(rig.http.get(url).bearer_auth(ADMIN)).await.json();
            let count = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"));
            assert_eq!(count("accepted"), count("delivered") + count("pending") + count("dead"), "{status}");
            if check(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the status comes")
}

fn splunk(hec: &hec::Running, more: Value) -> Value {
    let mut entry = json!({"destination": "splunk_hec", "endpoint": hec.endpoint(), "token": hec::DEFAULT_TOKEN,
        "index": "ai_audit", "sourcetype": "policy:gateway:audit", "ack_timeout_seconds": 10});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([entry])
}

fn splunk_ids(events: &[Value]) -> BTreeSet<String> {
    events.iter().filter_map(|event| Some(event["event"]["event"]["id"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn splunk_counts_what_is_indexed_and_sends_again_what_was_lost() {
    let hec = Hec::start(HecOptions::default()).await.unwrap();
    let rig = rig(splunk(&hec, json!({"ack": "required"}))).await;
    hec.lose_next(1);
    let seen = calls(&rig, 5).await;
    hec.wait_for(PATIENCE, |events| splunk_ids(events).is_superset(&seen)).await.unwrap();
    let done = status_until(&rig, "splunk_hec", |status| status["pending"] == 0).await;
    assert_eq!((&done["delivered"], &done["dead"]), (&json!(5), &json!(0)));
    let event = hec.events().into_iter().find(|event| event["event"]["event"]["seq"] == 2).unwrap();
    assert_eq!(
        (&event["index"], &event["event"]["policy"]["decision"]),
        (&json!("ai_audit"), &json!("allow"))
    );
    assert_eq!(event["fields"]["event_id"], event["event"]["event"]["id"]);
}

#[tokio::test]
async fn splunk_is_not_believed_before_it_has_indexed_and_a_kill_loses_nothing() {
    let hec = Hec::start(HecOptions::default()).await.unwrap();
    let first = rig(splunk(&hec, json!({}))).await;
    hec.stall(true);
    let seen = calls(&first, 5).await;
    status_until(&first, "splunk_hec", |status| status["pending"] == 5 && hec.requests() > 0).await;
    let Rig { gateway, intake, model, dir, http, config } = first;
    gateway.kill().await;
    hec.stall(false);
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    let done = status_until(&rig, "splunk_hec", |status| status["pending"] == 0).await;
    assert!(done["delivered"].as_u64() >= Some(5), "{done}");
    assert!(splunk_ids(&hec.events()).is_superset(&seen));
    let (code, out, err) =
        command(rig.dir.path(), &["export", "test", "splunk_hec", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("look for index=ai_audit event_id="), "{out}");
}

#[tokio::test]
async fn splunk_says_what_is_wrong() {
    let hec = Hec::start(HecOptions::default()).await.unwrap();
    for (more, part) in [
        (json!({"index": "nowhere"}), "there is no index `nowhere`"),
        (json!({"token": "5ac00000-dead-4000-8000-000000000001"}), "code 4 (Invalid token)"),
        (json!({"endpoint": format!("{}/other", hec.endpoint())}), "the collector's path is"),
    ] {
        let rig = rig(splunk(&hec, more)).await;
        calls(&rig, 1).await;
        let held = status_until(&rig, "splunk_hec", |status| status["state"] == "held").await;
        assert!(held["last_error"].as_str().unwrap().contains(part), "{held}");
        assert_eq!(held["dead"], 0);
    }
}

#[tokio::test]
async fn elastic_is_judged_by_document() {
    let elastic = Bulk::start(BulkOptions::default()).await.unwrap();
    let rig = rig(
        json!([{"destination": "elastic", "endpoint": elastic.endpoint(), "api_key": bulk::DEFAULT_API_KEY,
        "dataset": "policy_gateway.audit", "namespace": "prod"}]),
    )
    .await;
    elastic.fail_next([
        Some((429, "es_rejected_execution_exception")),
        Some((400, "document_parsing_exception")),
        None,
        Some((503, "unavailable_shards_exception")),
    ]);
    let seen = calls(&rig, 6).await;
    let done = status_until(&rig, "elastic", |status| through(status, 6)).await;
    assert_eq!((&done["accepted"], &done["delivered"], &done["dead"]), (&json!(6), &json!(5), &json!(1)));
    let url = rig.url("/api/policy-gateway/exports/elastic/replay");
    let replay = rig.http.post(url).bearer_auth(ADMIN).body(json!({"dead": true}).to_string());
    assert!(rig.send(replay).await.status.is_success());
    elastic.cut_next(1);
    let mut all = seen;
    all.extend(calls(&rig, 3).await);
    // The replay left an event of its own.
    let done = status_until(&rig, "elastic", |status| through(status, 10)).await;
    assert_eq!((&done["delivered"], &done["dead"]), (&json!(10), &json!(0)));
    let documents = elastic.documents();
    let ids: BTreeSet<String> = documents.iter().map(|document| document.id.clone()).collect();
    assert!(ids.is_superset(&all));
    assert_eq!(documents.len(), ids.len(), "an answer that was lost makes no second document");
    assert!(documents.iter().all(|document| document.stream == "logs-policy_gateway.audit-prod"));
    assert_eq!(documents[0].source["data_stream"]["dataset"], "policy_gateway.audit");
}

/// Takes one POST, answers it, and gives its headers by name and its body.
async fn take_post(listener: &tokio::net::TcpListener, answer: &str) -> (HashMap<String, String>, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        assert_ne!(length, 0, "it hung up in the middle of the request");
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let headers: HashMap<String, String> = head
            .lines()
            .filter_map(|line| {
                Some((line.split_once(": ")?.0.to_lowercase(), line.split_once(": ")?.1.to_owned()))
            })
            .collect();
        if body.len() < headers["content-length"].parse().unwrap() {
            continue;
        }
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        return (headers, body.to_owned());
    }
}

#[tokio::test]
async fn a_webhook_keeps_its_id_over_tries_and_a_kill() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // 32 bytes in base64.
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let endpoint = format!("http://{}/audit", listener.local_addr().unwrap());
    let first = rig(json!([{"destination": "webhook", "endpoint": endpoint, "secret": secret}])).await;
    let (seen, one) = tokio::join!(calls(&first, 1), take_post(&listener, "503 Busy"));
    let two = take_post(&listener, "500 Oops").await;
    let Rig { gateway, intake, model, dir, http, config } = first;
    gateway.kill().await;
    // The listener may hold a try of the killed gateway; whatever comes next is the same event.
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    let three = take_post(&listener, "204 No Content").await;
    let id = seen.first().unwrap();
    for (headers, body) in [&one, &two, &three] {
        assert_eq!(&headers["webhook-id"], id);
        assert!(headers["webhook-signature"].starts_with("v1,"), "{headers:?}");
        assert_eq!(body, &one.1, "the same bytes");
    }
    let body: Value = serde_json::from_str(&three.1).unwrap();
    assert_eq!((&body["type"], &body["data"]["event_id"]), (&json!("policy.enforcement"), &json!(id)));
    let url = rig.url("/api/policy-gateway/exports/webhook/status");
    let status = rig.send(rig.http.get(url).bearer_auth(ADMIN)).await.json();
    assert_eq!(status["dead"], 0, "{status}");
}

#[tokio::test]
async fn a_file_holds_every_event_over_a_kill_as_the_log_has_it() {
    let first = rig(json!([{"destination": "file", "path": "audit.jsonl"}, {"destination": "stdout"}])).await;
    let mut seen = calls(&first, 5).await;
    let Rig { gateway, intake, model, dir, http, config } = first;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    seen.extend(calls(&rig, 5).await);
    status_until(&rig, "file", |status| through(status, 10)).await;
    let text = std::fs::read_to_string(rig.dir.path().join("audit.jsonl")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: BTreeSet<String> =
        events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.is_superset(&seen));
    let seqs: BTreeSet<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs.len() as u64, seqs.last().unwrap() - seqs.first().unwrap() + 1, "no hole: {seqs:?}");
    status_until(&rig, "stdout", |status| through(status, 10)).await;
    // The command line prints to where it delivers.
    let (code, out, err) = command(rig.dir.path(), &["export", "test", "stdout", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("\"reason_code\":\"EXPORT_TEST\"") && out.contains("stdout: the event arrived"),
        "{out}"
    );
    let out = rig.gateway.stderr.lock().unwrap().clone();
    let last = seen.last().unwrap();
    assert!(out.lines().any(|line| line.starts_with('{') && line.contains(last.as_str())), "{out}");
}

#[tokio::test]
async fn filters_samples_and_pseudonyms_are_kept_and_the_balance_holds() {
    let mut setup = Setup::default();
    let file = |id: &str, more: Value| {
        let mut entry = json!({"destination": "file", "id": id, "path": format!("{id}.jsonl")});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    setup.config = json!({"exports": [
        file("refusals", json!({"filters": {"decisions": ["refuse"]}})),
        file("sampled", json!({"sample_allows": 0, "pseudonymise_users": "$PSEUDONYM_KEY"})),
    ]});
    setup.env.push(("PSEUDONYM_KEY", "0123456789abcdef".to_owned()));
    let rig = setup.start().await;
    for text in ["hello", "about credential theft", "hello again"] {
        let request = rig.post("/v1/chat/completions", &crate::support::ask(text));
        rig.send(request.header("x-policy-user", "ann@example.com")).await;
    }
    for id in ["refusals", "sampled"] {
        let done = status_until(&rig, id, |status| status["pending"] == 0 && status["skipped"] == 2).await;
        assert_eq!((&done["accepted"], &done["delivered"]), (&json!(1), &json!(1)), "{done}");
    }
    let text = std::fs::read_to_string(rig.dir.path().join("sampled.jsonl")).unwrap();
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["decision"], "refuse");
    assert!(event["policy_user"].as_str().unwrap().starts_with("u_") && !text.contains("ann@"), "{text}");
}
