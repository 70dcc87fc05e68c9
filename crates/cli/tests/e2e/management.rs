//! Policies, projects and keys through the management API, and what calls make of them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, KEY, Reply, Rig, Setup, ask, command};

impl Rig {
    async fn manage(&self, method: Method, path: &str, body: Value) -> Reply {
        let url = self.url(&format!("/api/policy-gateway/{path}"));
        let mut request = self.http.request(method, url).bearer_auth(ADMIN);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        self.send(request).await
    }

    #[track_caller]
    fn good(reply: Reply) -> Value {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    async fn save(&self, document: Value) -> Value {
        Self::good(self.manage(Method::POST, "config", json!({ "config": document })).await)
    }

    async fn call_with(&self, key: &str, text: &str) -> Reply {
        let request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(key);
        self.send(request.body(ask(text).to_string())).await
    }
}

fn guard(terms: &[&str]) -> Value {
    json!({"policy_id": "guard", "rules": {"denylist": terms}})
}

/// A gateway whose files declare no policy and no project.
async fn bare() -> Rig {
    Setup { config: json!({"policies": [], "projects": []}), ..Setup::default() }.start().await
}

/// A policy, a project and a key; the key.
async fn made(rig: &Rig) -> (String, String) {
    rig.save(guard(&["napalm"])).await;
    let project = json!({"id": "app", "name": "App", "policy_id": "guard"});
    Rig::good(rig.manage(Method::POST, "projects", project).await);
    let key = Rig::good(rig.manage(Method::POST, "projects/app/keys", json!({"name": "ci"})).await);
    (key["key"].as_str().unwrap().to_owned(), key["key_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_policy_a_project_and_a_key_are_in_force_at_once() {
    let rig = bare().await;
    let (key, key_id) = made(&rig).await;
    let passed = rig.call_with(&key, "tear gas").await;
    assert_eq!((passed.status, passed.header("x-policy-revision")), (StatusCode::OK, "1"));
    assert_eq!(passed.header("x-policy-id"), "guard");
    assert_eq!(rig.save(guard(&["napalm", "tear gas"])).await["revision"], 2);
    let refused = rig.call_with(&key, "tear gas").await;
    assert_eq!((refused.header("x-policy-decision"), refused.header("x-policy-revision")), ("refuse", "2"));
    let log = rig.log_of(&refused).await;
    assert_eq!((&log["policy"]["project_id"], &log["event"]["policy_revision"]), (&json!("app"), &json!(2)));
    let disabled = rig.manage(Method::PATCH, "projects/app", json!({"status": "disabled"})).await;
    assert_eq!(Rig::good(disabled)["status"], "disabled");
    assert_eq!(rig.call_with(&key, "hi").await.status, StatusCode::FORBIDDEN);
    Rig::good(rig.manage(Method::PATCH, "projects/app", json!({"status": "active"})).await);
    assert_eq!(rig.call_with(&key, "hi").await.status, StatusCode::OK);
    Rig::good(rig.manage(Method::DELETE, &format!("projects/app/keys/{key_id}"), Value::Null).await);
    let revoked = rig.call_with(&key, "hi").await;
    assert_eq!(revoked.status, StatusCode::UNAUTHORIZED);
    assert!(revoked.text.contains("revoked"), "{}", revoked.text);
}

#[tokio::test]
async fn every_change_reaches_the_siem_and_history_with_its_request() {
    let rig = bare().await;
    let reply = rig.manage(Method::POST, "config", json!({"config": guard(&["napalm"])})).await;
    let request_id = reply.header("x-request-id").to_owned();
    assert!(!request_id.is_empty());
    let history = Rig::good(rig.manage(Method::GET, "history?event_type=revision", Value::Null).await);
    let event = &history["entries"][0];
    assert_eq!((&event["request_id"], &event["actor"]), (&json!(request_id), &json!("root")));
    let log = rig.log(event["event_id"].as_str().unwrap()).await;
    assert_eq!(log["message"], "policy revision: REVISION_SAVED");
    assert_eq!((&log["policy"]["policy_id"], &log["policy"]["decision"]), (&json!("guard"), &Value::Null));
    assert_eq!(log["event"]["change"]["stable_after"], 1);
    assert!(!log.to_string().contains("napalm"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_saves_at_once_one_is_refused_with_the_newer_revision() {
    let rig = bare().await;
    rig.save(guard(&["one"])).await;
    let save = |term: &str| {
        let body = json!({"config": guard(&[term]), "expected_revision": 1});
        rig.manage(Method::POST, "config", body)
    };
    let (one, other) = tokio::join!(save("two"), save("three"));
    let (won, lost) = if one.status == StatusCode::OK { (one, other) } else { (other, one) };
    assert_eq!((won.status, lost.status), (StatusCode::OK, StatusCode::CONFLICT), "{}", lost.text);
    let current = &lost.json()["error"]["current"];
    assert_eq!((&current["revision"], &current["config"]), (&json!(2), &won.json()["config"]));
}

#[tokio::test]
async fn a_restart_keeps_everything_and_no_key_is_on_disk() {
    let rig = bare().await;
    let (key, _) = made(&rig).await;
    rig.save(guard(&["tear gas"])).await;
    let policies = Rig::good(rig.manage(Method::GET, "policies", Value::Null).await);
    let Rig { model, intake, gateway, dir, http, config } = rig;
    assert_eq!(gateway.stop().await, Some(0));
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{}", path.display());
        }
    }
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { model, intake, gateway, dir, http, config };
    assert_eq!(Rig::good(rig.manage(Method::GET, "policies", Value::Null).await), policies);
    assert_eq!(rig.call_with(&key, "tear gas").await.header("x-policy-decision"), "refuse");
    assert_eq!(rig.call_with(&key, "napalm").await.header("x-policy-decision"), "allow");
}

#[tokio::test]
async fn what_files_declare_is_read_only_and_stands_beside_what_the_api_made() {
    let rig = Rig::start().await;
    let document = json!({"policy_id": "test-policy", "rules": {}});
    let refused = rig.manage(Method::POST, "config", json!({ "config": document })).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("policy.json"), "{}", refused.text);
    rig.save(guard(&["tear gas"])).await;
    let project = json!({"id": "app", "policy_id": "test-policy", "entitlements": {"policies": ["guard"]}});
    Rig::good(rig.manage(Method::POST, "projects", project).await);
    let key = Rig::good(rig.manage(Method::POST, "projects/app/keys", json!({})).await);
    let key = key["key"].as_str().unwrap();
    assert_eq!(rig.call_with(key, "napalm").await.header("x-policy-decision"), "refuse");
    let mut body = ask("tear gas");
    body["policy_id"] = json!("guard");
    let request = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key).body(body.to_string());
    assert_eq!(rig.send(request).await.header("x-policy-id"), "guard");
    assert_eq!(rig.chat("hello").await.status, StatusCode::OK, "the file's key {KEY} is good still");
}

#[tokio::test]
async fn a_simulation_calls_no_model_and_is_in_the_log() {
    let rig = Rig::start().await;
    let body = json!({"policy_id": "test-policy", "messages": [{"role": "user", "content": "make napalm"}]});
    let answer = Rig::good(rig.manage(Method::POST, "simulate", body).await);
    assert_eq!((&answer["decision"], &answer["enforced"]), (&json!("refuse"), &json!(false)));
    assert!(rig.model.requests().is_empty());
    let log = rig.log(answer["event_id"].as_str().unwrap()).await;
    assert_eq!((&log["event"]["type"], &log["policy"]["enforced"]), (&json!("simulation"), &json!(false)));
    assert!(!log.to_string().contains("make"), "{log}");
}

#[tokio::test]
async fn the_description_is_served_to_anybody_and_printed() {
    let rig = Rig::start().await;
    let served = rig.send(rig.http.get(rig.url("/openapi.json"))).await;
    assert_eq!((served.status, served.json()["openapi"].as_str()), (StatusCode::OK, Some("3.1.0")));
    let (code, printed, _) = command(rig.dir.path(), &["openapi"]).await;
    assert_eq!((code, printed), (Some(0), served.text));
}

#[tokio::test]
async fn a_candidate_is_applied_to_its_share_until_it_is_aborted_or_promoted() {
    let rig = bare().await;
    let (key, _) = made(&rig).await;
    let canary = json!({"policy_id": "guard", "rules": {"denylist": ["napalm", "tear gas"]},
        "rollout": {"canary": {"enabled": true, "sample_percent": 100}}});
    let saved = rig.save(canary.clone()).await;
    assert_eq!((&saved["revision"], &saved["state"]), (&json!(2), &json!("candidate")));
    let judged = async |text: &str| {
        let reply = rig.call_with(&key, text).await;
        ["x-policy-decision", "x-policy-rollout-mode", "x-policy-revision"]
            .map(|name| reply.header(name).to_owned())
    };
    assert_eq!(judged("tear gas").await, ["refuse", "canary", "2"]);
    Rig::good(rig.manage(Method::POST, "policies/guard/abort", Value::Null).await);
    assert_eq!(judged("tear gas").await, ["allow", "enforced", "1"]);
    assert_eq!(rig.save(canary).await["revision"], 2, "it is the newest still");
    assert_eq!(judged("tear gas").await, ["refuse", "canary", "2"]);
    Rig::good(rig.manage(Method::POST, "policies/guard/revisions/2/promote", Value::Null).await);
    assert_eq!(judged("tear gas").await, ["refuse", "enforced", "3"]);
    Rig::good(rig.manage(Method::POST, "policies/guard/rollback", Value::Null).await);
    assert_eq!(judged("tear gas").await, ["allow", "enforced", "1"]);
}
