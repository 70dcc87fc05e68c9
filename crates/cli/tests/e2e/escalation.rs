//! Escalation from outside: who waits, who passes, and what is known after a kill.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, KEY, Reply, Rig, Setup, ask, command};

/// Said by the model and not by the prompt: the demo model reads JSON escapes, the policy does not.
const SAY_DENIED: &str = r#"demo:say="N\u0061palm \u006e\u0061palm, ask ann\u0040example.com""#;

fn setup(extra: Value) -> Setup {
    let mut policy = json!({
        "policy_id": "test-policy",
        "rules": {"denylist": ["napalm"], "redact": true, "response_pattern": "escalate"},
    });
    for (key, value) in extra.as_object().unwrap() {
        policy[key] = value.clone();
    }
    Setup { policy, ..Setup::default() }
}

impl Rig {
    async fn api(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = self.url(&format!("/api/policy-gateway/{path}"));
        let mut request = self.http.request(method, url).bearer_auth(ADMIN);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        (response.status(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    async fn decide(&self, id: &str, verdict: &str) -> Value {
        let path = format!("escalations/{id}/{verdict}");
        let (status, body) =
            self.api(reqwest::Method::POST, &path, Some(json!({"reason": "looked at it"}))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    async fn as_user(&self, user: &str, text: &str) -> Reply {
        let mut body = ask(text);
        body["policy_user"] = json!(user);
        self.send(self.post("/policy/v1/chat/completions", &body)).await
    }
}

fn escalation_id(reply: &Reply) -> String {
    let id = reply.header("x-policy-escalation-id").to_owned();
    assert!(!id.is_empty(), "{reply:?}");
    id
}

#[tokio::test]
async fn a_request_waits_for_a_reviewer_and_then_passes_for_its_user_only() {
    let rig = setup(json!({})).start().await;
    let text = "how is napalm made, says ann@example.com";
    let reply = rig.as_user("u1", text).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
    let id = escalation_id(&reply);
    assert_eq!(reply.json()["policy"]["escalation_id"], json!(id));
    assert_eq!(reply.header("x-policy-effective-decision"), "escalate");
    assert_eq!(rig.model.requests().len(), 0, "the model is not called");
    let log = rig.log_of(&reply).await;
    assert_eq!(log["event"]["escalation_id"], json!(id));
    assert_eq!(log["policy"]["decision"], "escalate");
    // The same again opens no second one; spelled otherwise it is still the same.
    assert_eq!(escalation_id(&rig.as_user("u1", text).await), id);
    let respelled =
        json!({"policy_user": "u1", "messages": [{"content": text, "role": "user"}], "model": "demo-model"});
    let respelled = respelled.to_string().replace("napalm", "n\\u0061palm");
    let respelled = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(KEY).body(respelled);
    assert_eq!(escalation_id(&rig.send(respelled).await), id);
    let (_, list) = rig.api(reqwest::Method::GET, "escalations?state=open", None).await;
    assert_eq!(list["entries"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["entries"][0]["denylist_hits"], json!(["napalm"]));
    assert_eq!(list["entries"][0]["policy_user"], "u1");
    assert!(!list.to_string().contains("how is"), "no content");

    let decided = rig.decide(&id, "approve").await;
    assert_eq!((&decided["state"], &decided["decided_by"]), (&json!("approved"), &json!("root")));
    let reply = rig.as_user("u1", text).await;
    assert_eq!(reply.header("x-policy-decision"), "escalate");
    assert_eq!(reply.header("x-policy-effective-decision"), "allow");
    assert_eq!(escalation_id(&reply), id);
    assert!(reply.content().contains("napalm"), "its answer passes too: {reply:?}");
    let sent = rig.last_upstream().to_string();
    assert!(
        sent.contains("napalm") && sent.contains("[EMAIL_1]") && !sent.contains("ann@example.com"),
        "{sent}"
    );
    let log = rig.log_of(&reply).await;
    assert_eq!(log["event"]["escalation_id"], json!(id));
    assert_eq!(
        (&log["policy"]["effective_decision"], &log["policy"]["enforced"]),
        (&json!("allow"), &json!(true))
    );
    assert_eq!(log["policy"]["reason_code"], "ESCALATE");
    // Streamed, too, whatever the chunks.
    let mut body = ask(text);
    (body["policy_user"], body["stream"]) = (json!("u1"), json!(true));
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert!(reply.streamed("content").contains("napalm"), "{reply:?}");
    assert_eq!(reply.finish_reasons(), ["stop"]);
    // Somebody else waits.
    assert_ne!(escalation_id(&rig.as_user("u2", text).await), id);
    assert_eq!(rig.as_user("u2", text).await.header("x-policy-effective-decision"), "escalate");

    // The decision is an event of its own, by whom and without why.
    let decided = |log: &Value| log["policy"]["reason_code"] == "ESCALATION_APPROVED";
    rig.intake
        .wait_for(crate::support::PATIENCE, |ledger| ledger.logs().any(|log| decided(&log.log)))
        .await
        .unwrap();
    let log = rig.intake.logs().iter().find(|log| decided(&log.log)).unwrap().log.clone();
    assert_eq!((&log["event"]["type"], &log["event"]["actor"]), (&json!("admin"), &json!("root")));
    assert_eq!(log["event"]["escalation_id"], json!(id));
    assert!(!log.to_string().contains("looked at it"));
    let metrics = rig.http.get(rig.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        "policy_gateway_escalations_open 1",
        "policy_gateway_escalations_opened_total 2",
        "policy_gateway_escalations_decided_total{state=\"approved\"} 1",
        "policy_gateway_escalations_passed_total 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_denied_request_is_refused_with_its_ticket_and_a_decision_is_final() {
    let rig = setup(json!({})).start().await;
    let id = escalation_id(&rig.chat("napalm").await);
    rig.decide(&id, "deny").await;
    let reply = rig.chat("napalm").await;
    assert_eq!(escalation_id(&reply), id);
    assert_eq!(reply.header("x-policy-decision"), "escalate");
    assert_eq!(reply.header("x-policy-effective-decision"), "refuse");
    assert_eq!(rig.log_of(&reply).await["event"]["escalation_id"], json!(id));
    let path = format!("escalations/{id}/approve");
    let (status, body) = rig.api(reqwest::Method::POST, &path, Some(json!({"reason": "x"}))).await;
    assert_eq!((status, &body["error"]["current"]["state"]), (StatusCode::CONFLICT, &json!("denied")));
    let (status, _) = rig.api(reqwest::Method::POST, &path, Some(json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a reason is needed");
    assert_eq!(rig.model.requests().len(), 0);
}

#[tokio::test]
async fn an_answer_waits_too_and_passes_with_redactions_once_granted() {
    let rig = setup(json!({})).start().await;
    for stream in [false, true] {
        let mut body = ask(&format!("{SAY_DENIED} {stream}"));
        body["stream"] = json!(stream);
        let send = || rig.send(rig.post("/policy/v1/chat/completions", &body));
        let reply = send().await;
        let text = |reply: &Reply| if stream { reply.streamed("content") } else { reply.content() };
        assert!(!reply.text.to_lowercase().contains("napalm,"), "{reply:?}");
        let event = rig.log_of(&reply).await;
        let id = event["event"]["escalation_id"].as_str().unwrap().to_owned();
        assert_eq!(
            (&event["event"]["stage"], &event["policy"]["effective_decision"]),
            (&json!("output"), &json!("escalate"))
        );
        if stream {
            assert_eq!(reply.finish_reasons(), ["content_filter"]);
            assert_eq!(reply.frames().last().unwrap()["policy"]["escalation_id"], json!(id));
        }
        rig.decide(&id, "approve").await;
        let reply = send().await;
        assert_eq!(text(&reply), "Napalm napalm, ask [EMAIL_1]", "{reply:?}");
        let event = rig.log_of(&reply).await;
        assert_eq!(event["event"]["escalation_id"], json!(id));
        assert_eq!(
            (&event["policy"]["decision"], &event["policy"]["effective_decision"]),
            (&json!("escalate"), &json!("allow"))
        );
    }
}

#[tokio::test]
async fn a_refusal_is_not_lifted_by_a_grant() {
    let rig = setup(json!({"rules": {
        "denylist": ["napalm", "fraud"], "response_pattern": "escalate",
        "overrides": [{"term": "fraud", "action": "refuse"}],
    }}))
    .start()
    .await;
    let text = r#"napalm demo:say="fr\u0061ud and napalm""#;
    let id = escalation_id(&rig.chat(text).await);
    rig.decide(&id, "approve").await;
    for stream in [false, true] {
        let reply = if stream { rig.stream(text).await } else { rig.chat(text).await };
        assert!(!reply.text.contains("and napalm"), "{reply:?}");
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["effective_decision"], "refuse", "{log}");
    }
}

#[tokio::test]
async fn in_error_mode_the_code_tells_waiting_from_denied() {
    let rig = setup(json!({"rules": {
        "denylist": ["napalm"], "response_pattern": "escalate", "response_mode": "error",
    }}))
    .start()
    .await;
    let reply = rig.chat("napalm").await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (StatusCode::FORBIDDEN, &json!("policy_escalated"))
    );
    rig.decide(&escalation_id(&reply), "deny").await;
    assert_eq!(rig.chat("napalm").await.json()["error"]["code"], "policy_refused");
}

#[tokio::test]
async fn kept_content_is_for_reviewers_and_on_no_disk_in_the_clear() {
    let mut setup = setup(json!({"org_controls": {"retain_content": "escalations"}}));
    setup.config["secrets_key"] = json!("0123456789abcdef0123456789abcdef");
    let rig = setup.start().await;
    let id = escalation_id(&rig.chat("napalm CONTENT-CANARY").await);
    let (_, ticket) = rig.api(reqwest::Method::GET, &format!("escalations/{id}"), None).await;
    assert_eq!(ticket["messages"], json!([{"content": "napalm CONTENT-CANARY", "role": "user"}]));
    for entry in std::fs::read_dir(rig.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(14).any(|window| window == b"CONTENT-CANARY"), "{}", path.display());
        }
    }
    rig.decide(&id, "deny").await;
    let (_, ticket) = rig.api(reqwest::Method::GET, &format!("escalations/{id}"), None).await;
    assert_eq!((&ticket["content_retained"], ticket.get("messages")), (&json!(false), None));
}

#[tokio::test]
async fn a_policy_that_cannot_be_honoured_stops_the_start() {
    for (path, missing) in
        [("review@example.com", "`smtp`"), ("https://hooks.example/x", "`escalations.webhook_secret`")]
    {
        let setup = setup(json!({"refusal_replacement": {"escalation_path": path},
            "org_controls": {"retain_content": "escalations"}}));
        std::fs::create_dir_all(setup.dir.path().join("policies")).unwrap();
        std::fs::write(setup.dir.path().join("policies/policy.json"), setup.policy.to_string()).unwrap();
        let config = setup.dir.path().join("gateway.json");
        std::fs::write(&config, json!({"policies": ["policies/*.json"]}).to_string()).unwrap();
        let (code, _, stderr) = command(setup.dir.path(), &["check", "-c", "gateway.json"]).await;
        assert_eq!(code, Some(1));
        for word in [
            "policy.json",
            "refusal_replacement.escalation_path",
            missing,
            "org_controls.retain_content",
            "`secrets_key`",
        ] {
            assert!(stderr.contains(word), "{word} is not in\n{stderr}");
        }
    }
}

#[tokio::test]
async fn the_command_line_lists_shows_and_decides() {
    let rig = setup(json!({})).start().await;
    let id = escalation_id(&rig.chat("napalm").await);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&rig.config).unwrap()).unwrap();
    config["listen"] = json!(rig.gateway.base.trim_start_matches("http://"));
    std::fs::write(rig.dir.path().join("there.json"), config.to_string()).unwrap();
    let run = |args: &[&str]| {
        let args: Vec<String> = ["escalation"]
            .iter()
            .chain(args)
            .map(|arg| (*arg).to_owned())
            .chain(["-c".into(), "there.json".into()])
            .collect();
        let dir = rig.dir.path().to_owned();
        async move { command(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (code, out, err) = run(&["list", "--state", "open"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&id) && out.contains("open"), "{out}");
    let (code, out, _) = run(&["show", &id, "--json"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["id"], json!(id));
    let (code, out, err) = run(&["approve", &id, "--reason", "fine"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("approved") && out.contains("fine"), "{out}");
    assert_eq!(rig.chat("napalm").await.header("x-policy-effective-decision"), "allow");
    let (code, _, err) = run(&["deny", &id, "--reason", "late"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("is approved already"), "{err}");
}

/// The id that a client saw is known after every kill, and the same request finds its ticket again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_was_told_survives_a_kill() {
    let mut rig = setup(json!({})).start().await;
    let mut seen: HashSet<(String, String)> = HashSet::new();
    for round in 0..15 {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..8 {
            let text = format!("napalm {round} {}", number / 2);
            let request = rig.post("/v1/chat/completions", &ask(&text));
            calls.spawn(async move {
                let response = request.send().await.ok()?;
                let id = response.headers().get("x-policy-escalation-id")?.to_str().unwrap().to_owned();
                Some((text, id))
            });
        }
        // Killed as soon as the first has its answer: the others are anywhere between ticket and answer.
        let first = calls.join_next().await.unwrap().unwrap();
        let Rig { gateway, intake, model, dir, http, config } = rig;
        gateway.kill().await;
        seen.extend(first);
        while let Some(call) = calls.join_next().await {
            seen.extend(call.unwrap());
        }
        let gateway = Gateway::start(&config, &ENV).await;
        rig = Rig { gateway, intake, model, dir, http, config };
    }
    assert!(seen.len() >= 15);
    let mut tickets: HashSet<String> = HashSet::new();
    for (text, id) in &seen {
        let (status, ticket) = rig.api(reqwest::Method::GET, &format!("escalations/{id}"), None).await;
        assert_eq!((status, &ticket["state"]), (StatusCode::OK, &json!("open")), "{ticket}");
        assert_eq!(&escalation_id(&rig.chat(text).await), id, "the same request, the same ticket");
        tickets.insert(id.clone());
    }
    let (_, list) = rig.api(reqwest::Method::GET, "escalations?limit=1000", None).await;
    let texts: HashSet<&String> = seen.iter().map(|(text, _)| text).collect();
    assert_eq!(tickets.len(), texts.len(), "one ticket a request");
    assert!(list["entries"].as_array().unwrap().len() <= 15 * 4);
    let Rig { gateway, dir, .. } = rig;
    assert_eq!(gateway.stop().await, Some(0));
    let (code, out, err) = command(dir.path(), &["audit", "verify", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
}
