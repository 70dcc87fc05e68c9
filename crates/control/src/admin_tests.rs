//! What every change has in common: its event, its idempotency key, tags, pages; and destinations through the API.

use std::collections::BTreeSet;
use std::sync::Arc;

use audit::egress::Egress;
use audit::event::{AuditEvent, EventType};
use audit::seal::Sealer;
use audit::secret::Secret;
use http::StatusCode;
use policy::Problem;
use registry::KeyError;
use registry::desired_state::{Declared, ExportRules};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Operation, ROUTES};
use crate::memory::Memory;
use crate::state_tests::{Bench, bench, bench_over, declared, document};

fn rules(env: &[&str], allow: &[&str], key: Option<&str>) -> ExportRules {
    let texts = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    ExportRules {
        egress: Egress::parse(&texts(allow)).unwrap(),
        env: texts(env),
        sealer: key.map(|key| Sealer::new(&Secret::new(key.to_owned(), "test").unwrap(), b"test")),
    }
}

fn filed(rules: ExportRules) -> Declared {
    Declared {
        exports: vec!["datadog_logs".to_owned()],
        export_rules: rules,
        file: "gateway.yaml".to_owned(),
        ..Declared::default()
    }
}

fn datadog(more: Value) -> Value {
    let mut body = json!({"destination": "datadog_logs", "site": "datadoghq.eu", "api_key": "hush-hush"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

impl Bench {
    fn recorded(&self) -> Vec<AuditEvent> {
        let texts = self.records.texts.lock().unwrap().clone();
        let events = texts.iter().map(|text| serde_json::from_slice(text).unwrap());
        events.chain(self.memory.events()).collect()
    }
}

/// Everything that is needed for each route to have something to change.
async fn furnished() -> (Bench, String) {
    let bench =
        bench_over(Arc::new(Memory::default()), filed(rules(&[], &[], Some("0123456789abcdef")))).await;
    bench.save(document("one")).await;
    bench.save(document("two")).await;
    bench
        .save(json!({"policy_id": "guard", "rules": {"denylist": ["three"]},
            "rollout": {"canary": {"enabled": true, "sample_percent": 5}}}))
        .await;
    Bench::good(bench.call("POST projects", json!({"id": "app", "policy_id": "guard"})).await);
    let key = Bench::good(bench.call("POST projects/app/keys", json!({})).await);
    Bench::good(bench.call("POST exports", datadog(json!({"id": "siem"}))).await);
    (bench, key["key_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_route_that_changes_or_does_something_leaves_one_event_that_says_who_and_what() {
    for route in ROUTES {
        let (bench, key) = furnished().await;
        let id = Uuid::nil();
        let (line, body, code, subject) = match route.operation {
            Operation::SaveConfig => (
                "POST config".to_owned(),
                json!({"config": document("four")}),
                "REVISION_SAVED",
                "policy guard".to_owned(),
            ),
            Operation::PromoteRevision => (
                "POST policies/guard/revisions/1/promote".to_owned(),
                json!({}),
                "REVISION_PROMOTED",
                "policy guard".to_owned(),
            ),
            Operation::RollBack => (
                "POST policies/guard/rollback".to_owned(),
                json!({"to": 1}),
                "REVISION_ROLLED_BACK",
                "policy guard".to_owned(),
            ),
            Operation::AbortCandidate => (
                "POST policies/guard/abort".to_owned(),
                json!({}),
                "REVISION_ABORTED",
                "policy guard".to_owned(),
            ),
            Operation::Simulate => {
                let messages = json!([{"role": "user", "content": "hi"}]);
                let body = json!({"policy_id": "guard", "messages": messages});
                ("POST simulate".to_owned(), body, "ALLOW", String::new())
            }
            Operation::CreateProject => (
                "POST projects".to_owned(),
                json!({"id": "new"}),
                "PROJECT_CREATED",
                "project new".to_owned(),
            ),
            Operation::PatchProject => (
                "PATCH projects/app".to_owned(),
                json!({"name": "App"}),
                "PROJECT_UPDATED",
                "project app".to_owned(),
            ),
            Operation::CreateKey => {
                ("POST projects/app/keys".to_owned(), json!({}), "KEY_CREATED", "key ".to_owned())
            }
            Operation::RotateKey => (
                format!("POST projects/app/keys/{key}/rotate"),
                json!({}),
                "KEY_ROTATED",
                format!("key {key}"),
            ),
            Operation::RevokeKey => {
                (format!("DELETE projects/app/keys/{key}"), Value::Null, "KEY_REVOKED", format!("key {key}"))
            }
            Operation::CreateExport => (
                "POST exports".to_owned(),
                datadog(json!({"id": "other"})),
                "EXPORT_CREATED",
                "destination other".to_owned(),
            ),
            Operation::PatchExport => (
                "PATCH exports/siem".to_owned(),
                json!({"service": "llm"}),
                "EXPORT_UPDATED",
                "destination siem".to_owned(),
            ),
            Operation::DeleteExport => (
                "DELETE exports/siem?confirm=true".to_owned(),
                Value::Null,
                "EXPORT_DELETED",
                "destination siem".to_owned(),
            ),
            Operation::TestExport => (
                "POST exports/datadog_logs/test".to_owned(),
                Value::Null,
                "EXPORT_TESTED",
                "destination datadog_logs".to_owned(),
            ),
            Operation::ReplayExport => (
                "POST exports/datadog_logs/replay".to_owned(),
                json!({"dead": true}),
                "EXPORT_REPLAYED",
                "destination datadog_logs".to_owned(),
            ),
            Operation::ReadEscalation => {
                (format!("GET escalations/{id}"), Value::Null, "ESCALATION_READ", format!("escalation {id}"))
            }
            // Its event is made where the ticket ends, in one commit with that: see the store's tests.
            Operation::ApproveEscalation | Operation::DenyEscalation => continue,
            Operation::ReadConfig
            | Operation::ListPolicies
            | Operation::ListRevisions
            | Operation::DiffRevisions
            | Operation::ListProjects
            | Operation::ReadProject
            | Operation::ListKeys
            | Operation::ListExports
            | Operation::ReadExport
            | Operation::ExportStatus
            | Operation::ListEscalations
            | Operation::History
            | Operation::Audit
            | Operation::ListCheckpoints
            | Operation::Usage => {
                assert_eq!(route.method, http::Method::GET, "{}: a reading", route.path);
                continue;
            }
        };
        let before: BTreeSet<Uuid> = bench.recorded().iter().map(|event| event.event_id).collect();
        Bench::good(bench.call(&line, body).await);
        let mut events = bench.recorded();
        events.retain(|event| !before.contains(&event.event_id));
        assert_eq!(events.len(), if code == "KEY_ROTATED" { 2 } else { 1 }, "{line}: {events:?}");
        let event = &events[0];
        assert_eq!(event.reason_code.as_deref(), Some(code), "{line}");
        assert_eq!(event.actor.as_deref(), Some("root"), "{line}");
        assert_eq!(event.request_id.as_deref(), Some("request-1"), "{line}");
        assert!(!event.enforced && event.effective_decision.is_none_or(|one| one == policy::Decision::Allow));
        if route.operation == Operation::Simulate {
            continue;
        }
        let change = event.change.as_ref().unwrap();
        assert!(change.subject.starts_with(&subject), "{line}: {}", change.subject);
        assert_eq!(change.route, Some(format!("{} {}", route.method, route.path)));
        let changes = ["_CREATED", "_UPDATED", "_DELETED", "_SAVED", "_REVOKED", "KEY_ROTATED"];
        if changes.iter().any(|change| code.ends_with(change)) {
            assert_ne!(change.digest_before, change.digest_after, "{line}");
            assert_eq!(change.digest_after.is_none(), code.ends_with("_DELETED"), "{line}");
            assert_eq!(change.digest_before.is_none(), code.ends_with("_CREATED"), "{line}");
        }
        let text = String::from_utf8(event.to_json()).unwrap();
        assert!(!text.contains("hush") && !text.contains("napalm"), "no secret and no content: {text}");
    }
}

#[tokio::test]
async fn a_review_that_is_read_without_its_content_is_not_on_record() {
    let bench = bench().await;
    Bench::good(bench.call("GET escalations", Value::Null).await);
    assert!(bench.recorded().is_empty());
    let shown = Bench::good(bench.call(&format!("GET escalations/{}", Uuid::nil()), Value::Null).await);
    assert!(shown["messages"].is_array());
    let event = bench.recorded().pop().unwrap();
    assert_eq!((event.event_type, event.escalation_id), (EventType::Admin, Some(Uuid::nil())));
}

#[tokio::test]
async fn a_post_that_is_sent_again_gets_the_same_answer_and_does_nothing() {
    let memory = Arc::new(Memory::default());
    let bench = bench_over(Arc::clone(&memory), Declared::default()).await;
    let post = async |bench: &Bench, line: &str, key: &str, body: Value| {
        let (status, headers, body) = bench.with(line, &[("idempotency-key", key)], &body).await;
        (status, headers.contains_key("idempotent-replayed"), body)
    };
    let (status, replayed, first) = post(&bench, "POST projects", "k1", json!({"id": "a"})).await;
    assert_eq!((status, replayed), (StatusCode::OK, false), "{first}");
    let again = post(&bench, "POST projects", "k1", json!({"id": "a"})).await;
    assert_eq!(again, (StatusCode::OK, true, first.clone()));
    let (status, _, other) = post(&bench, "POST projects", "k1", json!({"id": "b"})).await;
    assert_eq!(
        (status, &other["error"]["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("idempotency_key_reused"))
    );
    let (status, ..) = post(&bench, "POST projects/a/keys", "k1", json!({"id": "a"})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "another route is another request");
    // What came to nothing may be tried again.
    let (status, ..) = post(&bench, "POST projects", "k2", json!({"id": "a b"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, replayed, _) = post(&bench, "POST projects", "k2", json!({"id": "c"})).await;
    assert_eq!((status, replayed), (StatusCode::OK, false));
    // A key is shown again to whoever made it, over a restart too, and is nowhere in the clear.
    let (_, _, made) = post(&bench, "POST projects/a/keys", "k3", json!({"name": "ci"})).await;
    let key = made["key"].as_str().unwrap().to_owned();
    let kept = memory.answers();
    assert!(!kept.is_empty());
    assert!(kept.iter().all(|body| !String::from_utf8_lossy(body).contains(&key)));
    let events = memory.events().len();
    let bench = bench_over(Arc::clone(&memory), Declared::default()).await;
    let again = post(&bench, "POST projects/a/keys", "k3", json!({"name": "ci"})).await;
    assert_eq!(again, (StatusCode::OK, true, made));
    assert_eq!(memory.events().len(), events);
    let keys = Bench::good(bench.call("GET projects/a/keys", Value::Null).await);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    // A crash in the middle: nobody knows, so that nothing is done.
    memory.forget_ends();
    let (status, _, lost) = post(&bench, "POST projects/a/keys", "k3", json!({"name": "ci"})).await;
    assert_eq!((status, &lost["error"]["code"]), (StatusCode::CONFLICT, &json!("idempotency_key_in_use")));
    assert_eq!(memory.events().len(), events);
    for bad in ["", &"x".repeat(256)] {
        let (status, ..) = post(&bench, "POST projects", bad, json!({"id": "z"})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{}", bad.len());
    }
}

#[tokio::test]
async fn of_the_same_post_twice_at_once_one_is_done() {
    let bench = bench().await;
    Bench::good(bench.call("POST projects", json!({"id": "a"})).await);
    for round in 0..20 {
        let key = format!("k{round}");
        let headers = [("idempotency-key", key.as_str())];
        let body = json!({});
        let send = || bench.with("POST projects/a/keys", &headers, &body);
        let (one, other, third) = tokio::join!(send(), send(), send());
        let all = [one.0, other.0, third.0];
        assert_eq!(all.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{all:?}");
        assert!(all.iter().all(|status| [StatusCode::OK, StatusCode::CONFLICT].contains(status)), "{all:?}");
    }
    let keys = Bench::good(bench.call("GET projects/a/keys?limit=1000", Value::Null).await);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn lists_come_in_pages_and_by_filters() {
    let bench = bench_over(
        Arc::new(Memory::default()),
        declared(&[document("one")], &[json!({"id": "filed", "policy_id": "guard"})]),
    )
    .await;
    for id in ["a", "b", "z"] {
        Bench::good(bench.call("POST projects", json!({"id": id})).await);
    }
    Bench::good(bench.call("PATCH projects/b", json!({"status": "disabled"})).await);
    let ids = async |query: &str| {
        let answer = Bench::good(bench.call(&format!("GET projects?{query}"), Value::Null).await);
        let ids: Vec<String> = answer["projects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), answer["next"].as_str().map(str::to_owned))
    };
    assert_eq!(ids("").await, ("a b filed z".to_owned(), None));
    assert_eq!(ids("limit=3").await, ("a b filed".to_owned(), Some("filed".to_owned())));
    assert_eq!(ids("limit=3&cursor=filed").await, ("z".to_owned(), None));
    assert_eq!(ids("status=active&limit=2").await, ("a filed".to_owned(), Some("filed".to_owned())));
    assert_eq!(ids("status=disabled").await.0, "b");
    assert_eq!(ids("source=file").await.0, "filed");
    assert_eq!(ids("policy_id=guard").await.0, "filed");
    for _ in 0..5 {
        Bench::good(bench.call("POST projects/a/keys", json!({})).await);
    }
    let (mut seen, mut query) = (BTreeSet::new(), "limit=2".to_owned());
    loop {
        let page = Bench::good(bench.call(&format!("GET projects/a/keys?{query}"), Value::Null).await);
        for key in page["keys"].as_array().unwrap() {
            assert!(seen.insert(key["key_id"].as_str().unwrap().to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => query = format!("limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    for line in [
        "GET projects?limit=0",
        "GET projects?limit=1001",
        "GET projects?limit=99999999999999999999999",
        "GET projects?limit=-1",
        "GET projects?cursor=nobody",
        "GET projects?status=gone",
        "GET projects?order=id",
        "GET policies?source=git",
        "GET exports?state=dead",
        "GET projects/a/keys?status=lost",
    ] {
        let (status, body) = bench.call(line, Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{line}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains('`')), "{line} {body}");
    }
}

#[tokio::test]
async fn a_change_of_what_somebody_else_changed_meanwhile_is_refused_with_what_is_there() {
    let bench =
        bench_over(Arc::new(Memory::default()), filed(rules(&[], &[], Some("0123456789abcdef")))).await;
    let (_, headers, _) = bench.with("POST projects", &[], &json!({"id": "a"})).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let (status, changed, _) = bench.send("PATCH projects/a", Some(&tag), &json!({"name": "A"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(changed["etag"], tag.as_str());
    let (status, _, body) = bench.send("PATCH projects/a", Some(&tag), &json!({"name": "B"})).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::PRECONDITION_FAILED, &json!("precondition_failed"))
    );
    assert_eq!(body["error"]["current"]["name"], "A");
    assert_eq!(bench.send("PATCH projects/a", Some("*"), &json!({"name": "C"})).await.0, StatusCode::OK);
    assert_eq!(bench.send("PATCH projects/a", Some("a"), &json!({})).await.0, StatusCode::BAD_REQUEST);
    let (_, headers, _) = bench.with("GET projects/a", &[], &Value::Null).await;
    let tag = headers["etag"].to_str().unwrap();
    let seen = bench.with("GET projects/a", &[("if-none-match", tag)], &Value::Null).await;
    assert_eq!((seen.0, seen.2), (StatusCode::NOT_MODIFIED, Value::Null));
    let (_, headers, _) = bench.with("POST exports", &[], &datadog(json!({"id": "siem"}))).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        bench.send("PATCH exports/siem", Some(&tag), &json!({"service": "x"})).await.0,
        StatusCode::OK
    );
    for line in ["PATCH exports/siem", "DELETE exports/siem?confirm=true"] {
        assert_eq!(
            bench.send(line, Some(&tag), &json!({})).await.0,
            StatusCode::PRECONDITION_FAILED,
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_destination_is_made_changed_and_deleted_and_its_secret_never_shown() {
    let memory = Arc::new(Memory::default());
    let key = Some("0123456789abcdef");
    let bench = bench_over(Arc::clone(&memory), filed(rules(&["DD_KEY"], &[], key))).await;
    let made = Bench::good(bench.call("POST exports", datadog(json!({"tags": ["env:prod"]}))).await);
    assert_eq!(made["id"], "datadog_logs-2", "a file has the name already");
    assert_eq!((&made["source"], &made["secrets"]), (&json!("api"), &json!(["api_key"])));
    assert_eq!(made["endpoint"], "https://http-intake.logs.datadoghq.eu/api/v2/logs");
    assert_eq!(made["config"]["tags"], json!(["env:prod"]));
    let running = bench.destinations.running.lock().unwrap().clone();
    assert_eq!(running[0].egress, Some(Egress::default()), "it is guarded");
    assert_eq!(running[0].secrets()[0].1.resolve().unwrap().expose(), "hush-hush");
    // A change without the secret keeps it; one with another has that.
    let line = "PATCH exports/datadog_logs-2";
    let patched = Bench::good(bench.call(line, json!({"service": "llm", "tags": null})).await);
    assert_eq!((&patched["config"]["service"], &patched["config"]["tags"]), (&json!("llm"), &Value::Null));
    let secret = |bench: &Bench| {
        let running = bench.destinations.running.lock().unwrap().clone();
        running[0].secrets()[0].1.clone()
    };
    assert_eq!(secret(&bench).resolve().unwrap().expose(), "hush-hush");
    Bench::good(bench.call(line, json!({"api_key": "other-hush"})).await);
    assert_eq!(secret(&bench).resolve().unwrap().expose(), "other-hush");
    Bench::good(bench.call(line, json!({"api_key": "$DD_KEY"})).await);
    assert_eq!(secret(&bench), audit::secret::SecretSource::Env("DD_KEY".to_owned()));
    Bench::good(bench.call(line, json!({"api_key": "third-hush"})).await);
    let events = memory.events().len();
    Bench::good(bench.call(line, json!({"service": "llm"})).await);
    assert_eq!(memory.events().len(), events, "nothing changed");
    let list = Bench::good(bench.call("GET exports", Value::Null).await);
    let ids: Vec<_> = list["exports"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["datadog_logs", "datadog_logs-2"]);
    assert_eq!(list["exports"][0]["file"], "gateway.yaml");
    let all = format!("{made} {patched} {list} {:?} {:?}", memory.exports(), memory.events());
    assert!(!all.contains("hush"), "{all}");
    // A restart has it again; with another key it says what is wrong.
    let again = bench_over(Arc::clone(&memory), filed(rules(&[], &[], key))).await;
    assert_eq!(again.state.running_exports().await.unwrap().len(), 1);
    let error = again.state.exports_under(&rules(&[], &[], Some("fedcba9876543210"))).await.unwrap_err();
    assert!(error.to_string().contains("`secrets_key`"), "{error}");
    let (status, body) = bench.call("DELETE exports/datadog_logs-2", Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::CONFLICT, &json!("backlog")));
    assert_eq!(body["error"]["current"]["pending"], 2);
    let deleted = Bench::good(bench.call("DELETE exports/datadog_logs-2?confirm=true", Value::Null).await);
    assert_eq!(deleted, json!({"id": "datadog_logs-2", "deleted": true, "dropped": 2}));
    assert!(bench.destinations.running.lock().unwrap().is_empty());
    for line in
        ["GET exports/datadog_logs-2", "PATCH exports/datadog_logs-2", "DELETE exports/datadog_logs-2"]
    {
        assert_eq!(bench.call(line, json!({})).await.0, StatusCode::NOT_FOUND, "{line}");
    }
}

#[tokio::test]
async fn destinations_that_may_not_be_are_refused_by_path_and_nothing_changes() {
    let memory = Arc::new(Memory::default());
    let bench = bench_over(Arc::clone(&memory), filed(rules(&["DD_KEY"], &["siem.internal"], None))).await;
    let keyless = |more: Value| {
        let mut body = datadog(json!({"api_key": "$DD_KEY"}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let to = |endpoint: &str| keyless(json!({"site": null, "endpoint": endpoint}));
    for (body, path, hint) in [
        (json!([]), "", "object"),
        (json!({}), "destination", "missing"),
        (json!({"destination": "carrier_pigeon"}), "destination", "not known"),
        (json!({"destination": "file", "path": "/etc/passwd"}), "destination", "configuration file only"),
        (json!({"destination": "stdout"}), "destination", "configuration file only"),
        (json!({"destination": "kafka"}), "destination", "not built yet"),
        (
            json!({"destination": "s3", "bucket": "audit", "region": "eu-central-1"}),
            "access_key_id",
            "own credentials",
        ),
        (datadog(json!({})), "api_key", "secrets_key"),
        (keyless(json!({"api_key": "$HOME"})), "api_key", "egress.env"),
        (keyless(json!({"api_key": "${PATH}"})), "api_key", "egress.env"),
        (keyless(json!({"api_key": "file:/etc/shadow"})), "api_key", "configuration file"),
        (keyless(json!({"api_key": ""})), "api_key", "empty"),
        (keyless(json!({"api_key": 7})), "api_key", ""),
        (keyless(json!({"colour": "red"})), "colour", ""),
        (keyless(json!({"id": "../../etc"})), "id", "characters"),
        (keyless(json!({"id": "'; DROP TABLE exports; --"})), "id", "characters"),
        (keyless(json!({"id": 7})), "id", "string"),
        (keyless(json!({"batch_events_max": -1})), "batch_events_max", ""),
        (keyless(json!({"site": "localhost"})), "endpoint", "not public"),
        (to("http://hooks.example.com/x"), "endpoint", "https"),
        (to("https://127.0.0.1/x"), "endpoint", "not public"),
        (to("https://169.254.169.254/latest"), "endpoint", "not public"),
        (to("https://[::1]/x"), "endpoint", "not public"),
        (to("https://192.168.0.1/x"), "endpoint", "not public"),
        (to("https://metadata.localhost/x"), "endpoint", "not public"),
    ] {
        let (status, answer) = bench.call("POST exports", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body} {answer}");
        let problem = &answer["error"]["problems"][0];
        assert_eq!(problem["path"], path, "{body} {answer}");
        assert!(problem["message"].as_str().unwrap().contains(hint), "{body} {answer}");
    }
    assert!(memory.events().is_empty() && memory.exports().is_empty());
    *bench.destinations.refuses.lock().unwrap() = Some(Problem::new("endpoint", "leads nowhere good"));
    let (status, answer) = bench.call("POST exports", keyless(json!({}))).await;
    assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("endpoint")));
    assert!(memory.events().is_empty());
    *bench.destinations.refuses.lock().unwrap() = None;
    let body = to("http://siem.internal:8088/x");
    assert_eq!(Bench::good(bench.call("POST exports", body.clone()).await)["id"], "datadog_logs-2");
    let (status, _) = bench.call("POST exports", keyless(json!({"id": "datadog_logs-2"}))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    for (line, body) in [
        ("POST exports", keyless(json!({"id": "datadog_logs"}))),
        ("PATCH exports/datadog_logs", json!({"service": "x"})),
        ("DELETE exports/datadog_logs", Value::Null),
    ] {
        let (status, answer) = bench.call(line, body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (StatusCode::CONFLICT, &json!("declared_in_file")),
            "{line}"
        );
        assert!(answer["error"]["message"].as_str().unwrap().contains("`gateway.yaml`"), "{answer}");
    }
    for (patch, path) in
        [(json!({"id": "x"}), "id"), (json!({"destination": "otlp"}), "destination"), (json!(7), "")]
    {
        let (status, answer) = bench.call("PATCH exports/datadog_logs-2", patch).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["error"]["problems"][0]["path"], path, "{answer}");
    }
    // A file cannot take its name while it is there.
    let mut taken = filed(rules(&["DD_KEY"], &["siem.internal"], None));
    taken.exports.push("datadog_logs-2".to_owned());
    let error = bench.state.prepare(taken).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("exports[1].id"), "{error}");
}

#[tokio::test]
async fn a_policy_of_the_api_may_notify_public_places_only() {
    let memory = Arc::new(Memory::default());
    let guard = |path: &str| json!({"policy_id": "guard", "rules": {"denylist": ["x"]}, "refusal_replacement": {"escalation_path": path}});
    let egress = Egress::default();
    let declared = Declared {
        api_requirements: registry::desired_state::Requirements::new(move |document| {
            let path = document.refusal_replacement.escalation_path.as_deref();
            let error = path.and_then(|path| egress.check(path).err());
            error
                .map(|error| Problem::new("refusal_replacement.escalation_path", error.to_string()))
                .into_iter()
                .collect()
        }),
        ..declared(&[], &[])
    };
    let filed = Declared { requirements: Declared::default().requirements, ..declared };
    let bench = bench_over(Arc::clone(&memory), filed.clone()).await;
    let (status, body) = bench.call("POST config", json!({"config": guard("https://10.0.0.1/hook")})).await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("refusal_replacement.escalation_path"))
    );
    bench.save(guard("https://hooks.example.com/x")).await;
    // What a file declares may go anywhere.
    let mut with_file = filed;
    with_file.policies = super::state_tests::declared(
        &[json!({"policy_id": "own", "rules": {},
        "refusal_replacement": {"escalation_path": "http://127.0.0.1/hook"}})],
        &[],
    )
    .policies;
    assert!(bench.state.prepare(with_file).await.is_ok());
}

#[tokio::test]
async fn a_key_is_followed_by_another_and_both_are_good_for_a_while() {
    let bench = bench().await;
    Bench::good(bench.call("POST projects", json!({"id": "a"})).await);
    let old = Bench::good(
        bench.call("POST projects/a/keys", json!({"name": "ci", "expires_at": "2999-01-01T00:00:00Z"})).await,
    );
    let id = old["key_id"].as_str().unwrap();
    let line = format!("POST projects/a/keys/{id}/rotate");
    let new = Bench::good(bench.call(&line, json!({"overlap_seconds": 3600})).await);
    assert_eq!((&new["name"], &new["replaces"]["key_id"]), (&json!("ci"), &old["key_id"]));
    assert!(new["expires_at"].as_str().unwrap() > "2998", "it lives as long as the old one was to: {new}");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let login = |key: &Value, at_ms: i64| {
        let snapshot = bench.state.snapshot().load_full();
        snapshot.authenticate(key["key"].as_str().unwrap(), at_ms).map(|key| key.id.clone())
    };
    assert!(login(&old, now_ms + 1_000_000).is_ok() && login(&new, now_ms).is_ok());
    assert_eq!(login(&old, now_ms + 3_700_000), Err(KeyError::Expired));
    assert!(login(&new, now_ms + 3_700_000).is_ok());
    // At once, where nothing is said.
    let id = new["key_id"].as_str().unwrap().to_owned();
    let line = format!("POST projects/a/keys/{id}/rotate");
    let third = Bench::good(bench.call(&line, Value::Null).await);
    assert_eq!(login(&new, jiff::Timestamp::now().as_millisecond()), Err(KeyError::Expired));
    assert!(login(&third, now_ms).is_ok());
    assert_eq!(bench.call(&line, json!({})).await.0, StatusCode::CONFLICT, "it is over");
    let id = third["key_id"].as_str().unwrap().to_owned();
    for (body, path) in [
        (json!({"overlap_seconds": 2_678_401}), "overlap_seconds"),
        (json!({"overlap_seconds": -1}), "overlap_seconds"),
        (json!({"expires_at": "yesterday"}), "expires_at"),
        (json!({"overlap": 1}), "overlap"),
    ] {
        let (status, answer) = bench.call(&format!("POST projects/a/keys/{id}/rotate"), body).await;
        assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(path)), "{answer}");
    }
    Bench::good(bench.call("POST projects", json!({"id": "b"})).await);
    let (status, _) = bench.call(&format!("POST projects/b/keys/{id}/rotate"), json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "another project's key");
}

#[tokio::test]
async fn when_a_key_was_last_presented_is_told_and_kept() {
    let memory = Arc::new(Memory::default());
    let bench = bench_over(Arc::clone(&memory), Declared::default()).await;
    Bench::good(bench.call("POST projects", json!({"id": "a"})).await);
    let made = Bench::good(bench.call("POST projects/a/keys", json!({})).await);
    let last = async |bench: &Bench| {
        Bench::good(bench.call("GET projects/a/keys", Value::Null).await)["keys"][0]["last_used_at"].clone()
    };
    assert_eq!(last(&bench).await, Value::Null);
    let snapshot = bench.state.snapshot().load_full();
    snapshot.authenticate(made["key"].as_str().unwrap(), 1_768_587_731_000).unwrap();
    assert_eq!(last(&bench).await, "2026-01-16T18:22:11.000Z");
    Bench::good(bench.call("PATCH projects/a", json!({"name": "A"})).await);
    assert_eq!(last(&bench).await, "2026-01-16T18:22:11.000Z", "another snapshot knows it still");
    bench.state.keep_uses().await.unwrap();
    let bench = bench_over(memory, Declared::default()).await;
    assert_eq!(last(&bench).await, "2026-01-16T18:22:11.000Z");
}

#[tokio::test]
async fn ids_with_tricks_in_them_find_nothing_and_change_nothing() {
    let (bench, _) = furnished().await;
    let before = (bench.memory.events().len(), bench.memory.exports());
    for id in [
        "%27%20OR%201%3D1%20--",
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        "app%00",
        "app%0d%0aX-Evil%3A%201",
        "%F0%9F%92%A3",
        "app%22%3B%20DROP%20TABLE%20projects",
        "%",
        "%c3%28",
    ] {
        for (line, body) in [
            (format!("GET projects/{id}"), Value::Null),
            (format!("PATCH projects/{id}"), json!({"name": "x"})),
            (format!("POST projects/{id}/keys"), json!({})),
            (format!("DELETE projects/app/keys/{id}"), Value::Null),
            (format!("POST projects/app/keys/{id}/rotate"), json!({})),
            (format!("GET exports/{id}"), Value::Null),
            (format!("DELETE exports/{id}?confirm=true"), Value::Null),
            (format!("GET policies/{id}/revisions"), Value::Null),
            (format!("POST policies/{id}/abort"), json!({})),
            (format!("GET escalations/{id}"), Value::Null),
        ] {
            let (status, body) = bench.call(&line, body).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{line} {body}");
            assert!(body["error"]["message"].is_string());
        }
        assert_eq!(
            bench.call(&format!("GET config?policy_id={id}"), Value::Null).await.0,
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!((bench.memory.events().len(), bench.memory.exports()), before);
}
