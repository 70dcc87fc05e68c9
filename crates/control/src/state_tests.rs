//! Policies, projects, keys and simulations through the API, over ports in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use audit::event::EventType;
use audit::secret::Secret;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use policy::{PolicyDocument, Problem};
use proptest::prelude::*;
use registry::config::ProjectConfig;
use registry::desired_state::{Declared, DeclaredPolicy, Requirements};
use registry::{Desired, DesiredState, KeyError};
use serde_json::{Value, json};

use crate::config::{AdminToken, Role};
use crate::memory::{Memory, Records, state};
use crate::tests::{Destinations, Log, Reviews};
use crate::{Control, PREFIX, Ports};

pub(crate) struct Bench {
    pub(crate) control: Control,
    pub(crate) state: Arc<DesiredState>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) records: Arc<Records>,
    pub(crate) destinations: Arc<Destinations>,
}

pub(crate) async fn bench() -> Bench {
    bench_over(Arc::new(Memory::default()), Declared::default()).await
}

pub(crate) async fn bench_over(memory: Arc<Memory>, declared: Declared) -> Bench {
    let state = state(&memory, declared).await;
    let records = Arc::new(Records::default());
    let destinations = Arc::new(Destinations::default());
    *destinations.state.lock().unwrap() = Some(Arc::clone(&state));
    let ports = Ports {
        evidence: Arc::new(Log::default()),
        exports: Arc::clone(&destinations) as _,
        escalations: Arc::new(Reviews::default()),
        state: Arc::clone(&state),
        log: Arc::clone(&records) as _,
    };
    let token = Secret::new("t".to_owned(), "test").unwrap();
    let tokens = vec![AdminToken { name: "root".to_owned(), role: Role::Admin, token }];
    Bench { control: Control::new(tokens, ports, Bytes::new()), state, memory, records, destinations }
}

impl Bench {
    pub(crate) async fn send(
        &self,
        line: &str,
        match_: Option<&str>,
        body: &Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let headers: Vec<_> = match_.map(|tag| ("if-match", tag)).into_iter().collect();
        self.with(line, &headers, body).await
    }

    pub(crate) async fn with(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header("authorization", "Bearer t")
            .header("x-request-id", "request-1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let (head, body) = self.control.handle(request.body(body).unwrap()).await.into_parts();
        (head.status, head.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn call(&self, line: &str, body: Value) -> (StatusCode, Value) {
        let (status, _, body) = self.send(line, None, &body).await;
        (status, body)
    }

    #[track_caller]
    pub(crate) fn good(answer: (StatusCode, Value)) -> Value {
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
        answer.1
    }

    pub(crate) async fn save(&self, document: Value) -> Value {
        Self::good(self.call("POST config", json!({ "config": document })).await)
    }
}

pub(crate) fn document(term: &str) -> Value {
    json!({"policy_id": "guard", "rules": {"denylist": [term]}})
}

pub(crate) fn declared(policies: &[Value], projects: &[Value]) -> Declared {
    let policy = |document: &Value| DeclaredPolicy {
        document: PolicyDocument::parse(document).unwrap(),
        file: "policies/a.yaml".to_owned(),
    };
    let project = |config: &Value| {
        serde_json::from_value::<ProjectConfig>(config.clone()).unwrap().build("projects[0]").unwrap()
    };
    Declared {
        base: Desired { projects: projects.iter().map(project).collect(), ..Desired::default() },
        policies: policies.iter().map(policy).collect(),
        file: "gateway.yaml".to_owned(),
        requirements: Requirements::new(|document| {
            let needs = document.refusal_replacement.escalation_path.is_some();
            let problem = || Problem::new("refusal_replacement.escalation_path", "give `smtp`");
            needs.then(problem).into_iter().collect()
        }),
        ..Declared::default()
    }
}

#[tokio::test]
async fn a_document_that_needs_what_the_configuration_has_not_is_not_saved() {
    let bench = bench_over(Arc::new(Memory::default()), declared(&[], &[])).await;
    let mut needy = document("napalm");
    needy["refusal_replacement"] = json!({"escalation_path": "a@b.example"});
    let (status, body) = bench.call("POST config", json!({ "config": needy })).await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("refusal_replacement.escalation_path"))
    );
    assert_eq!(bench.save(document("napalm")).await["revision"], 1, "nothing was left behind");
}

#[tokio::test]
async fn every_save_is_a_revision_and_the_same_document_is_none() {
    let bench = bench().await;
    let first = bench.save(document("napalm")).await;
    assert_eq!((&first["revision"], &first["state"]), (&json!(1), &json!("stable")));
    assert_eq!(first["config"]["rules"]["denylist"], json!(["napalm"]));
    assert_eq!(first["author"], "root");
    assert_eq!(bench.save(document("napalm")).await, first, "nothing changed, not even a time");
    let second = bench.save(document("sarin")).await;
    assert_eq!((&second["revision"], &second["created_at"]), (&json!(2), &first["created_at"]));
    // An older document saved again is a new revision.
    assert_eq!(bench.save(document("napalm")).await["revision"], 3);
    assert_eq!(bench.state.snapshot().load().policy("guard").unwrap().stable_revision().unwrap().number(), 3);
    let (_, revisions) = bench.call("GET policies/guard/revisions", Value::Null).await;
    let brief: Vec<_> = revisions["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["revision"], &one["state"]))
        .collect();
    let inactive = json!("inactive");
    assert_eq!(brief, [(&json!(3), &json!("stable")), (&json!(2), &inactive), (&json!(1), &inactive)]);
    assert_eq!(revisions["changes"].as_array().unwrap().len(), 3);
    let (_, old) = bench.call("GET config?policy_id=guard&revision=2", Value::Null).await;
    assert_eq!(old["config"]["rules"]["denylist"], json!(["sarin"]));
    let (_, policies) = bench.call("GET policies", Value::Null).await;
    assert_eq!(policies["policies"][0]["policy_id"], "guard");
    assert_eq!(policies["policies"][0]["stable"], 3);
}

#[tokio::test]
async fn every_save_leaves_one_event_with_who_and_what() {
    let bench = bench().await;
    bench.save(document("napalm")).await;
    bench.save(document("napalm")).await;
    bench.save(document("sarin")).await;
    let events = bench.memory.events();
    assert_eq!(events.len(), 2);
    let event = &events[1];
    assert_eq!((event.event_type, event.policy_id.as_deref()), (EventType::Revision, Some("guard")));
    assert_eq!((event.actor.as_deref(), event.request_id.as_deref()), (Some("root"), Some("request-1")));
    assert_eq!((event.policy_revision, event.enforced, event.decision), (Some(2), false, None));
    assert_eq!(event.reason_code.as_deref(), Some("REVISION_SAVED"));
    let change = event.change.as_ref().unwrap();
    assert_eq!((change.stable_before, change.stable_after), (Some(1), Some(2)));
    assert_eq!(change.digest_before, events[0].change.as_ref().unwrap().digest_after);
    assert_ne!(change.digest_before, change.digest_after);
    let text = String::from_utf8(event.to_json()).unwrap();
    assert!(!text.contains("sarin"), "an event holds no rule: {text}");
}

#[tokio::test]
async fn all_problems_of_a_document_are_told_by_path_and_change_nothing() {
    let bench = bench().await;
    let bad = json!({"policy_id": "", "rules": {"denylist": [1, ""], "colour": 1}, "org_controls": {"audit_logs": false}});
    let (status, body) = bench.call("POST config", json!({ "config": bad })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let paths: Vec<_> = body["error"]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    for path in
        ["policy_id", "rules.denylist[0]", "rules.denylist[1]", "rules.colour", "org_controls.audit_logs"]
    {
        assert!(paths.contains(&path), "{path}: {paths:?}");
    }
    for (body, path) in [
        (json!({}), "config"),
        (json!({"config": document("x"), "force": true}), "force"),
        (json!({"config": document("x"), "expected_revision": "1"}), "expected_revision"),
    ] {
        let (status, body) = bench.call("POST config", body).await;
        assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(path)), "{body}");
    }
    assert_eq!(bench.call("GET policies", Value::Null).await.1, json!({"policies": [], "next": null}));
    assert!(bench.memory.events().is_empty());
}

#[tokio::test]
async fn a_save_that_comes_too_late_is_answered_with_the_newer_revision() {
    let bench = bench().await;
    bench.save(document("one")).await;
    let (_, headers, _) = bench.send("GET config?policy_id=guard", None, &Value::Null).await;
    assert_eq!(headers["etag"], "\"1\"");
    let body = |term: &str| json!({ "config": document(term) });
    let (one, other) = (body("two"), body("three"));
    let both = tokio::join!(
        bench.send("POST config", Some("\"1\""), &one),
        bench.send("POST config", Some("\"1\""), &other)
    );
    let (won, lost) = if both.0.0 == StatusCode::OK { (both.0, both.1) } else { (both.1, both.0) };
    assert_eq!((won.0, lost.0), (StatusCode::OK, StatusCode::CONFLICT));
    let error = &lost.2["error"];
    assert_eq!((&error["code"], &error["current"]["revision"]), (&json!("revision_conflict"), &json!(2)));
    assert_eq!(error["current"]["config"], won.2["config"]);
    for (tag, in_body, status) in [
        (Some("2"), Value::Null, StatusCode::OK),
        (None, json!(2), StatusCode::CONFLICT),
        (Some("W/x"), Value::Null, StatusCode::BAD_REQUEST),
        (Some("\"3\""), json!(2), StatusCode::BAD_REQUEST),
    ] {
        let body = json!({"config": document("four"), "expected_revision": in_body});
        assert_eq!(bench.send("POST config", tag, &body).await.0, status, "{tag:?} {body}");
    }
    let body = json!({"config": {"policy_id": "new", "rules": {}}, "expected_revision": 0});
    assert_eq!(bench.call("POST config", body.clone()).await.0, StatusCode::OK);
    assert_eq!(bench.call("POST config", body).await.0, StatusCode::CONFLICT, "it is there already");
}

#[tokio::test]
async fn promotion_and_rollback_make_older_revisions_stable_again() {
    let bench = bench().await;
    let (status, body) = bench.call("POST policies/guard/rollback", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    bench.save(document("one")).await;
    assert_eq!(bench.call("POST policies/guard/rollback", json!({})).await.0, StatusCode::CONFLICT);
    bench.save(document("two")).await;
    bench.save(document("three")).await;
    let promoted = Bench::good(bench.call("POST policies/guard/revisions/1/promote", Value::Null).await);
    assert_eq!((&promoted["revision"], &promoted["state"]), (&json!(1), &json!("stable")));
    assert_eq!(bench.state.snapshot().load().policy("guard").unwrap().stable_revision().unwrap().number(), 1);
    let back = Bench::good(bench.call("POST policies/guard/rollback", Value::Null).await);
    assert_eq!(back["revision"], 3, "the stable one before");
    let to = Bench::good(bench.call("POST policies/guard/rollback", json!({"to": 2})).await);
    assert_eq!(to["revision"], 2);
    let codes: Vec<_> = bench.memory.events().iter().filter_map(|event| event.reason_code.clone()).collect();
    assert_eq!(codes[3..], ["REVISION_PROMOTED", "REVISION_ROLLED_BACK", "REVISION_ROLLED_BACK"]);
    for (line, status) in [
        ("POST policies/guard/revisions/9/promote", StatusCode::NOT_FOUND),
        ("POST policies/guard/revisions/x/promote", StatusCode::BAD_REQUEST),
        ("POST policies/other/revisions/1/promote", StatusCode::NOT_FOUND),
        ("POST policies/guard/abort", StatusCode::CONFLICT),
        ("GET policies/other/revisions", StatusCode::NOT_FOUND),
        ("GET config?policy_id=other", StatusCode::NOT_FOUND),
        ("GET config", StatusCode::BAD_REQUEST),
        ("GET config?policy_id=guard&colour=red", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(bench.call(line, Value::Null).await.0, status, "{line}");
    }
}

#[tokio::test]
async fn a_difference_is_told_by_pointer_and_as_text() {
    let bench = bench().await;
    bench.save(document("one")).await;
    bench.save(json!({"policy_id": "guard", "rules": {"denylist": ["one", "two"], "redact": true}})).await;
    let diff = Bench::good(bench.call("GET policies/guard/diff", Value::Null).await);
    assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &json!(2)));
    let changes = diff["changes"].as_array().unwrap();
    assert!(changes.contains(&json!({"path": "/rules/denylist/1", "after": "two"})), "{diff}");
    assert!(changes.contains(&json!({"path": "/rules/redact", "before": false, "after": true})), "{diff}");
    assert!(diff["unified"].as_str().unwrap().starts_with("--- guard revision 1\n+++ guard revision 2\n@@"));
    let back = Bench::good(bench.call("GET policies/guard/diff?from=2&to=1", Value::Null).await);
    assert!(
        back["changes"].as_array().unwrap().contains(&json!({"path": "/rules/denylist/1", "before": "two"}))
    );
    assert_eq!(bench.call("GET policies/guard/diff?from=7", Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_file_declares_is_read_only_and_names_the_file() {
    let project = json!({"id": "filed", "policy_id": "guard", "keys": ["ak_filed"]});
    let bench = bench_over(Arc::new(Memory::default()), declared(&[document("one")], &[project])).await;
    let config = Bench::good(bench.call("GET config?policy_id=guard", Value::Null).await);
    assert_eq!(
        (&config["revision"], &config["source"], &config["file"]),
        (&json!(1), &json!("file"), &json!("policies/a.yaml"))
    );
    let (_, keys) = bench.call("GET projects/filed/keys", Value::Null).await;
    let key = keys["keys"][0]["key_id"].as_str().unwrap().to_owned();
    for (line, body, file) in [
        ("POST config".to_owned(), json!({"config": document("two")}), "policies/a.yaml"),
        ("POST policies/guard/revisions/1/promote".to_owned(), json!({}), "policies/a.yaml"),
        ("POST policies/guard/rollback".to_owned(), json!({"to": 1}), "policies/a.yaml"),
        ("PATCH projects/filed".to_owned(), json!({"status": "disabled"}), "gateway.yaml"),
        (format!("DELETE projects/filed/keys/{key}"), Value::Null, "gateway.yaml"),
    ] {
        let (status, answer) = bench.call(&line, body).await;
        assert_eq!(status, StatusCode::CONFLICT, "{line} {answer}");
        assert_eq!(answer["error"]["code"], "declared_in_file");
        assert!(answer["error"]["message"].as_str().unwrap().contains(file), "{answer}");
    }
    let (status, _) = bench.call("POST projects", json!({"id": "filed"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    // A key of its own may be given to a project of the file.
    let made = Bench::good(bench.call("POST projects/filed/keys", json!({})).await);
    let snapshot = bench.state.snapshot().load_full();
    assert_eq!(snapshot.authenticate(made["key"].as_str().unwrap(), 0).unwrap().project.id, "filed");
    assert_eq!(bench.memory.events()[0].actor.as_deref(), Some("policies/a.yaml"));
}

#[tokio::test]
async fn files_make_revisions_only_where_they_changed_and_a_bad_one_changes_nothing() {
    let memory = Arc::new(Memory::default());
    let number = |bench: &Bench| {
        bench.state.snapshot().load().policy("guard").map(|policy| policy.stable_revision().unwrap().number())
    };
    let bench = bench_over(Arc::clone(&memory), declared(&[document("one")], &[])).await;
    assert_eq!(number(&bench), Some(1));
    let bench = bench_over(Arc::clone(&memory), declared(&[document("one")], &[])).await;
    assert_eq!((number(&bench), memory.events().len()), (Some(1), 1), "a restart changes nothing");
    let reload = async |declared: Declared| -> Result<(), String> {
        let prepared = bench.state.prepare(declared).await.map_err(|error| error.to_string())?;
        prepared.commit().await.map_err(|error| error.to_string())?.put_in_force();
        Ok(())
    };
    reload(declared(&[document("two")], &[])).await.unwrap();
    assert_eq!(number(&bench), Some(2));
    Bench::good(bench.call("POST projects", json!({"id": "app", "policy_id": "guard"})).await);
    let error = reload(declared(&[], &[])).await.unwrap_err();
    assert!(error.contains("project `app`, which the management API created"), "{error}");
    let clash = reload(declared(&[document("two")], &[json!({"id": "app"})])).await.unwrap_err();
    assert!(clash.contains("declared twice"), "{clash}");
    assert_eq!((number(&bench), memory.events().len()), (Some(2), 3));
    Bench::good(bench.call("PATCH projects/app", json!({"policy_id": null})).await);
    reload(declared(&[], &[])).await.unwrap();
    assert_eq!(number(&bench), None);
    let last = memory.events().pop().unwrap();
    assert_eq!(last.reason_code.as_deref(), Some("POLICY_REMOVED"));
    // Nobody declares it any more: the API may.
    assert_eq!(bench.save(document("three")).await["revision"], 3);
}

#[tokio::test]
async fn a_key_is_shown_once_and_revoked_from_the_next_request_on() {
    let bench = bench().await;
    bench.save(document("one")).await;
    let project = Bench::good(bench.call("POST projects", json!({"id": "app", "policy_id": "guard"})).await);
    assert_eq!((&project["name"], &project["status"]), (&json!("app"), &json!("active")));
    let made = Bench::good(
        bench
            .call("POST projects/app/keys", json!({"name": "ci", "expires_at": "2999-01-01T00:00:00Z"}))
            .await,
    );
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("ak_") && key.len() > 40, "{key}");
    assert!(key.starts_with(made["prefix"].as_str().unwrap()));
    let login =
        |now_ms: i64| bench.state.snapshot().load().authenticate(key, now_ms).map(|key| key.id.clone());
    assert_eq!(login(0).unwrap(), made["key_id"].as_str().unwrap());
    assert_eq!(login(i64::MAX), Err(KeyError::Expired));
    let list = Bench::good(bench.call("GET projects/app/keys", Value::Null).await);
    assert_eq!((&list["keys"][0]["name"], &list["keys"][0]["status"]), (&json!("ci"), &json!("active")));
    let line = format!("DELETE projects/app/keys/{}", made["key_id"].as_str().unwrap());
    assert_eq!(Bench::good(bench.call(&line, Value::Null).await)["status"], "revoked");
    assert_eq!(login(0), Err(KeyError::Revoked));
    let events = bench.memory.events().len();
    Bench::good(bench.call(&line, Value::Null).await);
    assert_eq!(bench.memory.events().len(), events, "done again, nothing changes");
    assert_eq!(bench.call("DELETE projects/app/keys/key_0", Value::Null).await.0, StatusCode::NOT_FOUND);
    for (body, path) in [
        (json!({"expires_at": "soon"}), "expires_at"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"name": "x".repeat(201)}), "name"),
        (json!({"nam": "x"}), "nam"),
    ] {
        let (status, answer) = bench.call("POST projects/app/keys", body).await;
        assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(path)), "{answer}");
    }
    let all = format!("{list}{:?}", bench.memory.events());
    assert!(!all.contains(key), "the key is nowhere else");
}

#[tokio::test]
async fn projects_are_checked_as_the_configuration_is() {
    let bench = bench().await;
    bench.save(document("one")).await;
    for (body, path) in [
        (json!({}), "id"),
        (json!({"id": "a b"}), "id"),
        (json!({"id": "a", "policy_id": "other"}), "policy_id"),
        (json!({"id": "a", "status": "off"}), "status"),
        (json!({"id": "a", "keys": []}), "keys"),
        (json!({"id": "a", "entitlements": {"policies": ["guard", "other"]}}), "entitlements.policies[1]"),
        (json!({"id": "a", "entitlements": {"colours": []}}), "entitlements.colours"),
    ] {
        let (status, answer) = bench.call("POST projects", body).await;
        assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(path)), "{answer}");
    }
    Bench::good(bench.call("POST projects", json!({"id": "a", "policy_id": "guard"})).await);
    assert_eq!(bench.call("POST projects", json!({"id": "a"})).await.0, StatusCode::CONFLICT);
    let patch = json!({"name": "A", "status": "disabled", "entitlements": {"models": ["small"]}});
    let patched = Bench::good(bench.call("PATCH projects/a", patch).await);
    assert_eq!((&patched["name"], &patched["policy_id"]), (&json!("A"), &json!("guard")));
    assert_eq!(patched["entitlements"]["models"], json!(["small"]));
    assert_eq!(Bench::good(bench.call("GET projects/a", Value::Null).await), patched);
    assert_eq!(bench.call("GET projects", Value::Null).await.1["projects"], json!([patched]));
    let cleared = Bench::good(bench.call("PATCH projects/a", json!({"policy_id": null})).await);
    assert_eq!(cleared["policy_id"], Value::Null);
    let (status, answer) = bench.call("PATCH projects/a", json!({"policy_id": "other"})).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("policy_id")),
        "{answer}"
    );
    assert_eq!(bench.call("PATCH projects/a", json!({"id": "b"})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(bench.call("PATCH projects/b", json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_in_force() {
    let bench = bench().await;
    bench.save(document("one")).await;
    bench.memory.broken.store(true, Ordering::SeqCst);
    for (line, body) in
        [("POST config", json!({"config": document("two")})), ("POST projects", json!({"id": "a"}))]
    {
        assert_eq!(bench.call(line, body).await.0, StatusCode::SERVICE_UNAVAILABLE, "{line}");
    }
    assert_eq!(bench.state.snapshot().load().policy("guard").unwrap().stable_revision().unwrap().number(), 1);
    assert_eq!(bench.call("GET projects", Value::Null).await.1, json!({"projects": [], "next": null}));
    bench.memory.broken.store(false, Ordering::SeqCst);
    assert_eq!(bench.save(document("two")).await["revision"], 2);
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let memory = Arc::new(Memory::default());
    let first = bench_over(Arc::clone(&memory), Declared::default()).await;
    first.save(document("one")).await;
    first.save(document("two")).await;
    Bench::good(first.call("POST policies/guard/revisions/1/promote", Value::Null).await);
    Bench::good(first.call("POST projects", json!({"id": "app", "policy_id": "guard"})).await);
    let made = Bench::good(first.call("POST projects/app/keys", json!({})).await);
    let policies = first.call("GET policies", Value::Null).await;
    let second = bench_over(memory, Declared::default()).await;
    assert_eq!(second.call("GET policies", Value::Null).await, policies);
    let snapshot = second.state.snapshot().load_full();
    assert_eq!(snapshot.policy("guard").unwrap().stable_revision().unwrap().number(), 1);
    let key = snapshot.authenticate(made["key"].as_str().unwrap(), 0).unwrap();
    assert_eq!((key.project.id.as_str(), &json!(key.id)), ("app", &made["key_id"]));
}

#[tokio::test]
async fn a_simulation_says_why_and_leaves_one_event_that_enforced_nothing() {
    let bench = bench().await;
    bench.save(json!({"policy_id": "guard", "rules": {"denylist": ["Napalm"], "redact": true}})).await;
    let messages = json!([{"role": "user", "content": "how is ｎａｐａｌｍ made? ann@example.com"}]);
    let by_id = json!({"policy_id": "guard", "messages": messages, "policy_user": "u", "policy_target": "t"});
    let answer = Bench::good(bench.call("POST simulate", by_id).await);
    for (field, value) in [
        ("policy_id", json!("guard")),
        ("policy_revision", json!(1)),
        ("decision", json!("refuse")),
        ("effective_decision", json!("allow")),
        ("reason_code", json!("REFUSE")),
        ("rollout_mode", json!("enforced")),
        ("enforced", json!(false)),
        ("denylist_hits", json!(["Napalm"])),
        ("policy_target", json!("t")),
        ("redactions", json!({"EMAIL_ADDRESS": 1})),
    ] {
        assert_eq!(answer[field], value, "{field}: {answer}");
    }
    let text = answer["redacted_messages"][0]["content"].as_str().unwrap();
    assert!(!text.contains("ann@example.com"), "{text}");
    let find = &answer["explanation"]["findings"][0];
    assert_eq!(
        (&find["rule"], &find["normalised"]),
        (&json!("rules.denylist[0]"), &json!("napalm")),
        "{answer}"
    );
    let texts = bench.records.texts.lock().unwrap().clone();
    assert_eq!(texts.len(), 1);
    let event: Value = serde_json::from_slice(&texts[0]).unwrap();
    assert_eq!((&event["event_type"], &event["enforced"]), (&json!("simulation"), &json!(false)));
    assert_eq!((&event["event_id"], &event["policy_user"]), (&answer["event_id"], &json!("u")));
    assert!(!event.to_string().contains("made?"), "no message in an event");
}

#[tokio::test]
async fn a_document_or_a_revision_may_be_simulated_without_being_in_force() {
    let bench = bench().await;
    bench.save(document("one")).await;
    bench.save(document("two")).await;
    let messages = json!([{"role": "user", "content": "one"}]);
    let decision = async |body: Value| {
        let answer = Bench::good(bench.call("POST simulate", body).await);
        (answer["decision"].clone(), answer["policy_revision"].clone())
    };
    let of = |more: Value| {
        let mut body = json!({ "messages": messages });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(decision(of(json!({"policy_id": "guard"}))).await, (json!("allow"), json!(2)));
    assert_eq!(decision(of(json!({"policy_id": "guard", "revision": 1}))).await, (json!("refuse"), json!(1)));
    assert_eq!(decision(of(json!({"config": document("one")}))).await, (json!("refuse"), Value::Null));
    assert_eq!(bench.memory.events().len(), 2, "nothing was saved");
    for (more, path) in [
        (json!({}), Value::Null),
        (json!({"policy_id": "guard", "config": document("one")}), Value::Null),
        (json!({"config": {"policy_id": "x", "rules": {"denylist": 1}}}), json!("rules.denylist")),
        (json!({"policy_id": "guard", "model": "x"}), json!("model")),
        (json!({"policy_id": "guard", "messages": []}), json!("messages")),
        (json!({"policy_id": "guard", "messages": [{"role": "user"}]}), json!("messages[0].content")),
    ] {
        let (status, answer) = bench.call("POST simulate", of(more)).await;
        assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &path), "{answer}");
    }
    assert_eq!(bench.call("POST simulate", of(json!({"policy_id": "other"}))).await.0, StatusCode::NOT_FOUND);
}

/// The policy's state as `GET policies` tells it: stable, candidate, newest.
async fn standing(bench: &Bench) -> (Value, Value, Value) {
    let (_, all) = bench.call("GET policies", Value::Null).await;
    let one = &all["policies"][0];
    (one["stable"].clone(), one["candidate"].clone(), one["newest_revision"].clone())
}

#[tokio::test]
async fn a_file_may_declare_a_candidate_and_both_keep_their_numbers() {
    let memory = Arc::new(Memory::default());
    let candidate = |term: &str, percent: u64| {
        json!({"policy_id": "guard", "rules": {"denylist": [term]},
            "rollout": {"canary": {"enabled": true, "sample_percent": percent}}})
    };
    let over = async |documents: &[Value]| bench_over(Arc::clone(&memory), declared(documents, &[])).await;
    let bench = over(&[document("one"), candidate("two", 5)]).await;
    assert_eq!(standing(&bench).await, (json!(1), json!(2), json!(2)));
    let snapshot = bench.state.snapshot().load_full();
    let policy = snapshot.policy("guard").unwrap();
    assert_eq!(policy.candidate().unwrap().revision.number(), 2);
    let bench = over(&[document("one"), candidate("two", 5)]).await;
    assert_eq!((standing(&bench).await, memory.events().len()), ((json!(1), json!(2), json!(2)), 1));
    let bench = over(&[document("one"), candidate("two", 50)]).await;
    assert_eq!(standing(&bench).await, (json!(1), json!(3), json!(3)), "another share is another revision");
    let (_, revisions) = bench.call("GET policies/guard/revisions", Value::Null).await;
    let digests: Vec<_> =
        revisions["revisions"].as_array().unwrap().iter().map(|one| &one["digest_without_rollout"]).collect();
    assert_eq!(digests[0], digests[1], "and the same subjects");
    assert_eq!(over(&[document("one")]).await.state.policies().await[0].policy.candidate, None);
    let bench = over(&[document("two")]).await;
    assert_eq!(standing(&bench).await, (json!(4), Value::Null, json!(4)));
    for line in ["POST policies/guard/abort", "POST policies/guard/rollback"] {
        assert_eq!(bench.call(line, Value::Null).await.0, StatusCode::CONFLICT, "{line}");
    }
}

/// A document that is tried out.
fn candidate(term: &str, percent: u64) -> Value {
    json!({"policy_id": "guard", "rules": {"denylist": [term]},
        "rollout": {"canary": {"enabled": true, "sample_percent": percent}, "rollback_min_requests": 1}})
}

#[tokio::test]
async fn a_candidate_stands_beside_the_stable_revision_until_it_is_promoted_replaced_or_ended() {
    let bench = bench().await;
    bench.save(document("one")).await;
    let saved = bench.save(candidate("two", 5)).await;
    assert_eq!((&saved["revision"], &saved["state"]), (&json!(2), &json!("candidate")));
    assert_eq!(standing(&bench).await, (json!(1), json!(2), json!(2)));
    let snapshot = bench.state.snapshot().load_full();
    let policy = snapshot.policy("guard").unwrap();
    let numbers: Vec<_> = policy.revisions().map(|revision| revision.number()).collect();
    assert_eq!(numbers, [1, 2]);
    let wider = bench.save(candidate("two", 50)).await;
    assert_eq!(wider["digest_without_rollout"], saved["digest_without_rollout"]);
    assert_ne!(wider["digest"], saved["digest"]);
    let current = Bench::good(bench.call("GET config?policy_id=guard", Value::Null).await);
    assert_eq!((&current["revision"], &current["state"]), (&json!(3), &json!("candidate")));
    let diff = Bench::good(bench.call("GET policies/guard/diff", Value::Null).await);
    assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &json!(3)));
    // Its rollout is on: what becomes stable is a document of its own.
    let promoted = Bench::good(bench.call("POST policies/guard/revisions/3/promote", Value::Null).await);
    assert_eq!((&promoted["revision"], &promoted["state"]), (&json!(4), &json!("stable")));
    assert_eq!(promoted["config"]["rollout"]["canary"]["enabled"], false);
    assert_eq!(standing(&bench).await, (json!(4), Value::Null, json!(4)));
    bench.save(candidate("three", 5)).await;
    let ended = Bench::good(bench.call("POST policies/guard/rollback", Value::Null).await);
    assert_eq!((&ended["revision"], &ended["state"]), (&json!(4), &json!("stable")));
    // The newest document again: no other revision, but in force once more.
    assert_eq!(bench.save(candidate("three", 5)).await["revision"], 5);
    assert_eq!(standing(&bench).await, (json!(4), json!(5), json!(5)));
    Bench::good(bench.call("POST policies/guard/abort", Value::Null).await);
    bench.save(candidate("four", 5)).await;
    bench.save(document("five")).await;
    assert_eq!(standing(&bench).await, (json!(7), Value::Null, json!(7)), "a stable save ends it");
}

#[tokio::test]
async fn a_candidate_without_a_stable_revision_must_be_asked_for() {
    let bench = bench().await;
    let (status, answer) = bench.call("POST config", json!({"config": candidate("one", 5)})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["error"]["message"].as_str().unwrap().contains("allow_without_stable"), "{answer}");
    let body = json!({"config": candidate("one", 5), "allow_without_stable": true});
    assert_eq!(Bench::good(bench.call("POST config", body).await)["state"], "candidate");
    assert_eq!(standing(&bench).await, (Value::Null, json!(1), json!(1)));
    assert_eq!(bench.save(candidate("two", 5)).await["revision"], 2, "once asked for, it stays so");
    Bench::good(bench.call("POST projects", json!({"id": "app", "policy_id": "guard"})).await);
    let (status, answer) = bench.call("POST policies/guard/abort", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a project would be without its policy: {answer}");
    bench.save(document("three")).await;
    assert_eq!(standing(&bench).await, (json!(3), Value::Null, json!(3)));
}

#[tokio::test]
async fn a_candidate_that_was_taken_back_returns_as_another_revision() {
    let bench = bench().await;
    bench.save(document("one")).await;
    bench.save(candidate("two", 5)).await;
    let spike = || {
        let snapshot = bench.state.snapshot().load_full();
        let candidate = snapshot.policy("guard").unwrap().candidate().unwrap().clone();
        candidate.observe(true, policy::Decision::Refuse, policy::Decision::Allow)
    };
    assert!(spike().is_some_and(|spike| spike.takes_back));
    assert_eq!(bench.save(candidate("two", 5)).await["revision"], 3);
    assert_eq!(standing(&bench).await, (json!(1), json!(3), json!(3)));
}

/// What somebody may do to a policy.
#[derive(Clone, Debug)]
enum Step {
    Save(u8),
    Try(u8),
    Promote(u64),
    RollBack(Option<u64>),
    Abort,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4).prop_map(Step::Save),
        3 => (0_u8..4).prop_map(Step::Try),
        2 => (1_u64..8).prop_map(Step::Promote),
        2 => proptest::option::of(1_u64..8).prop_map(Step::RollBack),
        1 => Just(Step::Abort),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order: numbers have no holes, a revision never changes, the snapshot has what the
    /// state says, and every change has its event and its line in the log.
    #[test]
    fn no_order_of_changes_loses_or_changes_a_revision(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let memory = Arc::new(Memory::default());
            let mut bench = bench_over(Arc::clone(&memory), Declared::default()).await;
            let mut seen: BTreeMap<u64, String> = BTreeMap::new();
            for step in steps {
                let (line, body) = match &step {
                    Step::Save(which) => {
                        ("POST config".to_owned(), json!({"config": document(&format!("term {which}"))}))
                    }
                    Step::Try(which) => {
                        let document = candidate(&format!("term {which}"), 5);
                        ("POST config".to_owned(), json!({ "config": document }))
                    }
                    Step::Promote(number) => (format!("POST policies/guard/revisions/{number}/promote"), json!({})),
                    Step::RollBack(to) => ("POST policies/guard/rollback".to_owned(), json!({ "to": to })),
                    Step::Abort => ("POST policies/guard/abort".to_owned(), json!({})),
                    Step::Restart => {
                        let before = bench.state.policies().await.into_iter().map(|view| view.policy).collect::<Vec<_>>();
                        bench = bench_over(Arc::clone(&memory), Declared::default()).await;
                        let after = bench.state.policies().await.into_iter().map(|view| view.policy).collect::<Vec<_>>();
                        assert_eq!(before, after);
                        continue;
                    }
                };
                let (status, answer) = bench.call(&line, body).await;
                assert!(status != StatusCode::SERVICE_UNAVAILABLE, "{step:?} {answer}");
                let Ok((view, revisions, changes)) = bench.state.revisions("guard").await else { continue };
                let newest = revisions.len() as u64;
                assert_eq!(view.policy.newest, newest);
                for (one, number) in revisions.iter().rev().zip(1..) {
                    assert_eq!(one.revision.number, number);
                    let known = seen.entry(number).or_insert_with(|| one.revision.document.clone());
                    assert_eq!(known, &one.revision.document, "a revision is immutable");
                }
                assert_eq!(changes.len(), memory.events().len());
                let snapshot = bench.state.snapshot().load_full();
                let stable = snapshot.policy("guard").and_then(|policy| policy.stable_revision()).unwrap();
                assert_eq!(Some(stable.number()), view.policy.stable);
                let tried = snapshot.policy("guard").and_then(|policy| policy.candidate());
                assert_eq!(tried.map(|one| one.revision.number()), view.policy.candidate);
                assert!(!stable.document().rollout.is_on() && tried.is_none_or(|one| one.revision.document().rollout.is_on()));
                let document: Value = serde_json::from_str(&seen[&stable.number()]).unwrap();
                assert_eq!(serde_json::to_value(stable.document()).unwrap(), document);
                if let (StatusCode::OK, Step::Save(which)) = (status, &step) {
                    assert_eq!(answer["config"]["rules"]["denylist"], json!([format!("term {which}")]));
                    assert_eq!(answer["state"], "stable");
                }
            }
        });
    }
}
