//! Two documents of one policy in a file: who meets the candidate, what the events say of both, and what a spike does.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ENV, Gateway, PATIENCE, Reply, Rig, Setup, ask, command};

/// Stable lets everything through but `napalm`; the candidate also refuses `tango`.
fn documents(rollout: &Value) -> String {
    let stable = json!({"policy_id": "test-policy", "rules": {"denylist": ["napalm"]}});
    let candidate = json!({"policy_id": "test-policy", "rules": {"denylist": ["napalm", "tango"]},
        "rollout": rollout});
    format!("{stable}\n---\n{candidate}\n")
}

fn write(dir: &Path, text: &str) {
    std::fs::create_dir_all(dir.join("policies")).unwrap();
    std::fs::write(dir.join("policies/both.yaml"), text).unwrap();
}

fn canary(percent: u64) -> Value {
    json!({"canary": {"enabled": true, "sample_percent": percent}})
}

async fn start(rollout: &Value) -> Rig {
    let mut setup = Setup::default();
    setup.config = json!({"policies": ["policies/*.yaml"]});
    write(setup.dir.path(), &documents(rollout));
    setup.start().await
}

async fn say(rig: &Rig, user: &str, text: &str) -> Reply {
    let request = rig.post("/v1/chat/completions", &ask(text)).header("x-policy-user", user);
    rig.send(request).await
}

fn told(reply: &Reply) -> [&str; 5] {
    ["revision", "rollout-mode", "enforced", "decision", "effective-decision"]
        .map(|name| reply.header(&format!("x-policy-{name}")))
}

const IN_CANARY: [&str; 5] = ["2", "canary", "true", "refuse", "refuse"];
const BY_STABLE: [&str; 5] = ["1", "enforced", "true", "allow", "allow"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_sticky_and_a_larger_share_only_adds_users() {
    let share = |percent| {
        let mut rollout = canary(percent);
        rollout["rollback_on_spike"] = json!(false);
        rollout
    };
    let rig = start(&share(50)).await;
    let users: Vec<String> = (0..24).map(|user| format!("user-{user}")).collect();
    let mut inside = BTreeSet::new();
    for user in &users {
        let (first, again) = (say(&rig, user, "tango").await, say(&rig, user, "tango").await);
        assert_eq!(told(&first), told(&again), "{user}");
        if told(&first) == IN_CANARY {
            inside.insert(user);
            assert!(first.json()["choices"][0]["message"]["content"].is_null());
        } else {
            assert_eq!(told(&first), BY_STABLE);
        }
        let event = &rig.log_of(&first).await["event"];
        let stable = if told(&first) == IN_CANARY {
            json!({"policy_revision": 1, "decision": "allow", "reason_code": "ALLOW", "stage": "input",
                "denylist_hits": [], "allowlist_hits": [], "triggered_categories": [], "redactions": {}})
        } else {
            Value::Null
        };
        assert_eq!(event["stable"], stable);
    }
    assert!(!inside.is_empty() && inside.len() < users.len(), "{inside:?}");

    write(rig.dir.path(), &documents(&share(75)));
    rig.gateway.signal("HUP").await;
    let larger = loop {
        let mut larger = BTreeSet::new();
        for user in &users {
            let reply = say(&rig, user, "tango").await;
            // The document is another revision, and the same but for its share.
            if told(&reply)[1] == "canary" {
                larger.insert(user);
            }
        }
        assert!(larger.is_superset(&inside), "{inside:?} {larger:?}");
        if larger.len() > inside.len() {
            break larger;
        }
    };
    assert!(larger.len() <= users.len());
    assert_eq!(rig.gateway.stop().await, Some(0));
    // After a restart, everybody is where they were.
    let gateway = Gateway::start(&rig.config, &ENV).await;
    let rig = Rig { gateway, ..rig };
    for user in &users {
        let mode = if larger.contains(user) { "canary" } else { "enforced" };
        assert_eq!(say(&rig, user, "tango").await.header("x-policy-rollout-mode"), mode, "{user}");
    }
}

/// The shadow's log of a reply's request.
async fn shadow_of(rig: &Rig, reply: &Reply) -> Value {
    let request_id = reply.header("x-request-id").to_owned();
    let is_shadow = |log: &Value| {
        log["event"]["request_id"] == request_id.as_str() && log["policy"]["rollout_mode"] == "shadow"
    };
    rig.intake.wait_for(PATIENCE, |ledger| ledger.logs().any(|log| is_shadow(&log.log))).await.unwrap();
    let logs = rig.intake.logs();
    let mut shadows = logs.iter().filter(|log| is_shadow(&log.log));
    let shadow = shadows.next().unwrap().log.clone();
    assert!(shadows.next().is_none());
    shadow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_changes_nothing_and_is_told_beside() {
    let rig = start(&json!({"shadow": {"enabled": true, "sample_percent": 100}})).await;
    let input = say(&rig, "u", "tango").await;
    let output = say(&rig, "u", "demo:say=\"so \\u0074ango it is\"").await;
    let mut body = ask("demo:say=\"so \\u0074ango it is\" demo:chunk=1");
    body["stream"] = json!(true);
    let streamed = rig.send(rig.post("/v1/chat/completions", &body).header("x-policy-user", "u")).await;
    assert_eq!(
        (output.content(), streamed.streamed("content")),
        ("so tango it is".into(), "so tango it is".into())
    );
    for (reply, stage) in [(&input, "input"), (&output, "output"), (&streamed, "output")] {
        assert_eq!(told(reply), BY_STABLE);
        let (main, shadow) = (rig.log_of(reply).await, shadow_of(&rig, reply).await);
        let brief = |log: &Value| {
            let policy = &log["policy"];
            json!([
                policy["rollout_mode"],
                policy["enforced"],
                policy["decision"],
                policy["effective_decision"],
                policy["denylist_hits"],
                log["event"]["policy_revision"]
            ])
        };
        assert_eq!(brief(&main), json!(["enforced", true, "allow", "allow", [], 1]));
        assert_eq!(brief(&shadow), json!(["shadow", false, "refuse", "allow", ["tango"], 2]));
        assert_eq!(shadow["event"]["stage"], stage);
        assert_eq!(shadow["usage"], Value::Null);
        assert_ne!(main["usage"], Value::Null);
        assert_ne!(shadow["event"]["id"], main["event"]["id"]);
        // One commit: nothing comes between.
        assert_eq!(shadow["event"]["seq"].as_u64(), main["event"]["seq"].as_u64().map(|seq| seq + 1));
    }
    let metrics = rig.http.get(rig.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("policy_gateway_judged_total{mode=\"shadow\"} 3\n"), "{metrics}");
    assert!(metrics.contains("policy_gateway_judged_total{mode=\"enforced\"} 3\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stable_is_judged_beside_a_canary_to_the_end_of_the_answer() {
    let rig = start(&canary(100)).await;
    for stream in [false, true] {
        let mut body = ask("demo:say=\"fine, n\\u0061palm\"");
        body["stream"] = json!(stream);
        let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["decision"], "refuse");
        let stable = &log["event"]["stable"];
        assert_eq!((&stable["decision"], &stable["stage"]), (&json!("refuse"), &json!("output")));
        assert_eq!(stable["denylist_hits"], json!(["napalm"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_listed_is_stables() {
    let rig = start(&json!({"canary": {"enabled": true, "sample_percent": 100, "targets": ["beta"]}})).await;
    let request = rig.post("/v1/chat/completions", &ask("tango")).header("x-policy-target", "beta");
    assert_eq!(told(&rig.send(request).await), IN_CANARY);
    assert_eq!(told(&rig.chat("tango").await), BY_STABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spike_takes_the_candidate_back_once_and_a_restart_keeps_it_so() {
    let mut rollout = canary(100);
    rollout["rollback_min_requests"] = json!(20);
    rollout["rollback_threshold"] = json!(0.5);
    let rig = start(&rollout).await;
    let spikes = |rig: &Rig| {
        let logs = rig.intake.logs();
        let is_rollback = |log: &Value| log["event"]["type"] == "rollback";
        logs.iter().map(|log| log.log.clone()).filter(is_rollback).collect::<Vec<_>>()
    };
    // Stable refuses these as well: not a spike of the candidate's.
    for _ in 0..20 {
        assert_eq!(told(&say(&rig, "u", "napalm").await), IN_CANARY);
    }
    let before = std::time::Instant::now();
    let calls = (0..60).map(|user| {
        let request = rig.post("/v1/chat/completions", &ask("tango"));
        tokio::spawn(request.header("x-policy-user", format!("user-{user}")).send())
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    let arrived =
        |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.log["event"]["type"] == "rollback");
    rig.intake.wait_for(PATIENCE, arrived).await.unwrap();
    println!("from the first bad call to the rollback at the intake: {:?}", before.elapsed());
    const TAKEN_BACK: [&str; 5] = ["1", "rollback", "true", "allow", "allow"];
    for user in ["user-1", "another"] {
        assert_eq!(told(&say(&rig, user, "tango").await), TAKEN_BACK);
    }
    let event = spikes(&rig).remove(0);
    assert_eq!(event["message"], "policy rollback: ROLLBACK_SPIKE");
    assert_eq!(event["policy"]["policy_id"], "test-policy");
    assert_eq!(event["policy"]["decision"], Value::Null);
    assert_eq!(event["policy"]["rollout_mode"], Value::Null);
    assert_eq!(event["policy"]["enforced"], false);
    assert_eq!(event["policy"].as_object().unwrap().len(), 14);
    assert_eq!(event["event"]["policy_revision"], 2);
    let numbers = &event["event"]["rollback"];
    assert_eq!((&numbers["window_minutes"], &numbers["threshold"]), (&json!(15), &json!(0.5)));
    assert_eq!(numbers["resume_at"], Value::Null);
    assert!(numbers["rate"].as_f64() > numbers["stable_rate"].as_f64(), "{numbers}");

    let Rig { gateway, intake, model, dir, http, config } = rig;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    assert_eq!(told(&say(&rig, "user-1", "tango").await), TAKEN_BACK);
    // Whatever was logged until now has arrived once this has.
    let last = say(&rig, "user-2", "tango").await;
    rig.log_of(&last).await;
    let ids: BTreeSet<String> = spikes(&rig).iter().map(|log| log["event"]["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    let metrics = rig.http.get(rig.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("policy_gateway_judged_total{mode=\"rollback\"} 2\n"), "{metrics}");
}

/// Takes one POST and gives its body.
async fn take_post(listener: &tokio::net::TcpListener) -> Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        assert_ne!(length, 0, "it hung up in the middle of the request");
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            assert!(text.contains("webhook-signature: v1,"), "{text}");
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            return body;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_the_policy_names_is_notified_of_a_rollback() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let path = format!("http://{}/hook", listener.local_addr().unwrap());
    let mut setup = Setup::default();
    // 32 bytes in base64.
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    setup.config = json!({"policies": ["policies/*.yaml"], "escalations": {"webhook_secret": secret}});
    let stable = json!({"policy_id": "test-policy", "rules": {}});
    let candidate = json!({"policy_id": "test-policy", "rules": {"denylist": ["tango"]},
        "refusal_replacement": {"escalation_path": path},
        "rollout": {"canary": {"enabled": true, "sample_percent": 100}, "rollback_min_requests": 1}});
    write(setup.dir.path(), &format!("{stable}\n---\n{candidate}\n"));
    let rig = setup.start().await;
    let (reply, body) = tokio::join!(say(&rig, "u", "tango"), take_post(&listener));
    assert_eq!(told(&reply), IN_CANARY);
    assert_eq!(body["type"], "rollout.rolled_back");
    assert_eq!(
        (&body["data"]["policy_id"], &body["data"]["policy_revision"]),
        (&json!("test-policy"), &json!(2))
    );
    assert_eq!(body["data"]["rollback"]["requests"], 1);
    let event = rig.log(body["data"]["event_id"].as_str().unwrap()).await;
    assert_eq!(event["event"]["type"], "rollback");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_outlives_a_kill() {
    let mut rollout = canary(100);
    rollout["rollback_min_requests"] = json!(10);
    let rig = start(&rollout).await;
    for user in 0..9 {
        let reply = say(&rig, &format!("user-{user}"), "tango").await;
        assert_eq!(told(&reply), IN_CANARY);
        rig.log_of(&reply).await;
    }
    let Rig { gateway, intake, model, dir, http, config } = rig;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    assert_eq!(told(&say(&rig, "user-9", "tango").await), IN_CANARY);
    let arrived =
        |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.log["event"]["type"] == "rollback");
    rig.intake.wait_for(PATIENCE, arrived).await.unwrap();
    assert_eq!(say(&rig, "user-9", "tango").await.header("x-policy-rollout-mode"), "rollback");
}

async fn start_with_rule(rollout: &Value) -> Rig {
    let rule = json!({"term": "tango", "action": "refuse", "reason_code": "NEW_TERM", "rollout": rollout});
    Setup::rules(json!({"denylist": ["napalm", "tango"], "overrides": [rule]})).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rule_is_a_shadow_while_the_rest_is_enforced() {
    let rig = start_with_rule(&json!({"shadow": {"enabled": true, "sample_percent": 100}})).await;
    assert_eq!(told(&say(&rig, "u", "napalm").await), ["1", "enforced", "true", "refuse", "refuse"]);
    let mut body = ask("demo:say=\"so \\u0074ango it is\"");
    body["stream"] = json!(true);
    let streamed = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(streamed.streamed("content"), "so tango it is");
    for reply in [say(&rig, "u", "tango").await, streamed] {
        assert_eq!(told(&reply), BY_STABLE);
        let (main, shadow) = (rig.log_of(&reply).await, shadow_of(&rig, &reply).await);
        assert_eq!(main["policy"]["denylist_hits"], json!([]));
        let policy = &shadow["policy"];
        assert_eq!((&policy["decision"], &policy["effective_decision"]), (&json!("refuse"), &json!("allow")));
        assert_eq!(
            (&policy["reason_code"], &policy["denylist_hits"]),
            (&json!("NEW_TERM"), &json!(["tango"]))
        );
        assert_eq!(shadow["event"]["policy_revision"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rule_is_a_canary_and_taken_back_alone() {
    let canary = json!({"canary": {"enabled": true, "sample_percent": 100}, "rollback_min_requests": 3});
    let rig = start_with_rule(&canary).await;
    for _ in 0..3 {
        let reply = say(&rig, "u", "tango").await;
        assert_eq!(told(&reply), ["1", "canary", "true", "refuse", "refuse"]);
        let stable = &rig.log_of(&reply).await["event"]["stable"];
        assert_eq!((&stable["decision"], &stable["policy_revision"]), (&json!("allow"), &json!(1)));
    }
    let is_rollback = |log: &Value| log["event"]["type"] == "rollback";
    rig.intake.wait_for(PATIENCE, |ledger| ledger.logs().any(|log| is_rollback(&log.log))).await.unwrap();
    let logs = rig.intake.logs();
    let event = &logs.iter().find(|log| is_rollback(&log.log)).unwrap().log;
    assert_eq!(event["event"]["rollback"]["rules"], json!(["tango"]));
    assert_eq!(told(&say(&rig, "u", "tango").await), ["1", "rollback", "true", "allow", "allow"]);
    assert_eq!(told(&say(&rig, "u", "napalm").await), ["1", "rollback", "true", "refuse", "refuse"]);
    let Rig { gateway, intake, model, dir, http, config } = rig;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    assert_eq!(told(&say(&rig, "u", "tango").await), ["1", "rollback", "true", "allow", "allow"]);
}

#[tokio::test]
async fn documents_that_do_not_go_together_stop_the_start_with_the_reason() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("gateway.json"), r#"{"policies": ["policies/*.yaml"]}"#).unwrap();
    let check = async |text: &str| {
        write(dir.path(), text);
        let (code, _, stderr) = command(dir.path(), &["check", "-c", "gateway.json"]).await;
        assert_eq!(code, Some(1), "{stderr}");
        stderr
    };
    let both = documents(&canary(5));
    let (stable, candidate) = both.split_once("\n---\n").unwrap();
    let alone = check(candidate).await;
    assert!(alone.contains("policies/both.yaml:1: rollout: is on, which makes this a candidate"), "{alone}");
    let twice = check(&format!("{both}---\n{candidate}")).await;
    assert!(twice.contains("a candidate of policy `test-policy`"), "{twice}");
    let stables = check(&format!("{stable}\n---\n{stable}\n")).await;
    assert!(stables.contains("keep one document, rename one, or switch on `rollout.shadow`"), "{stables}");
    let contrary =
        documents(&json!({"canary": {"enabled": true, "sample_percent": 101}, "shadow": {"enabled": true},
        "rollback_window_minutes": 0}));
    let contrary = check(&contrary).await;
    for part in ["rollout: shadow and canary are both enabled", "from 0 to 100", "must be more than 0"] {
        assert!(contrary.contains(part), "{part}: {contrary}");
    }
}
