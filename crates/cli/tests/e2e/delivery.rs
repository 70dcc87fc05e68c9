//! Delivery to the strict Datadog intake through its troubles: nothing is lost, and the balance adds up.

use std::collections::HashSet;

use demo::intake::{Act, Step};
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, PATIENCE, Rig, Setup, command};

/// Sends calls; the event ids that the client saw.
async fn calls(rig: &Rig, count: usize) -> HashSet<String> {
    let mut seen = HashSet::new();
    for number in 0..count {
        let reply = rig.chat(&format!("call {number}")).await;
        assert!(seen.insert(reply.header("x-policy-event-id").to_owned()));
    }
    seen
}

async fn status(rig: &Rig) -> Value {
    let url = rig.url("/api/policy-gateway/exports/datadog_logs/status");
    let reply = rig.send(rig.http.get(url).bearer_auth(ADMIN)).await;
    let status = reply.json();
    let count = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"));
    assert_eq!(count("accepted"), count("delivered") + count("pending") + count("dead"), "{status}");
    status
}

/// Asks for the status until it satisfies `check`.
async fn status_until(rig: &Rig, check: impl Fn(&Value) -> bool) -> Value {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = status(rig).await;
            if check(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the status comes")
}

async fn all_arrive(rig: &Rig, seen: &HashSet<String>) {
    let all = |ledger: &demo::intake::Ledger| {
        let ids = ledger.event_ids();
        seen.iter().all(|id| ids.contains(id.as_str()))
    };
    rig.intake.wait_for(PATIENCE, all).await.unwrap();
    for log in rig.intake.logs() {
        assert!(log.violations.is_empty(), "{:?}: {}", log.violations, log.log);
    }
}

#[tokio::test]
async fn storms_cuts_and_losses_of_the_answer_lose_nothing() {
    let rig = Rig::start().await;
    rig.intake.script([
        Step::status(429).retry_after("1"),
        Step::status(503),
        Step::new(Act::CutBeforeRead),
        Step::new(Act::CutAfterRead { keep: false }),
        Step::new(Act::CutAfterRead { keep: true }),
        Step::status(500).times(2),
        Step::status(408),
    ]);
    let seen = calls(&rig, 30).await;
    all_arrive(&rig, &seen).await;
    let done = status_until(&rig, |status| status["pending"] == 0).await;
    assert_eq!(done["accepted"], 30);
    assert_eq!(done["dead"], 0);
}

#[tokio::test]
async fn a_wrong_key_holds_and_a_right_one_resumes() {
    let setup = Setup::default();
    let key_file = setup.dir.path().join("dd-key");
    std::fs::write(&key_file, "wrong-key").unwrap();
    let mut rig_setup = setup;
    let exports = |endpoint: &str| {
        json!([{"destination": "datadog_logs", "endpoint": endpoint, "api_key": format!("file:{}", key_file.display()),
            "service": "policy-gateway", "ddsource": "policy-gateway"}])
    };
    let intake = demo::intake::Intake::start(demo::intake::IntakeOptions::default()).await.unwrap();
    rig_setup.config = json!({"exports": exports(&intake.endpoint())});
    let mut rig = rig_setup.start().await;
    rig.intake = intake;
    let seen = calls(&rig, 5).await;
    let held = status_until(&rig, |status| status["state"] == "held").await;
    assert_eq!(held["pending"], 5);
    assert!(held["last_error"].as_str().unwrap().contains("403"), "{held}");
    assert!(!held.to_string().contains("wrong-key"));
    std::fs::write(&key_file, demo::intake::DEFAULT_API_KEY).unwrap();
    rig.gateway.signal("HUP").await;
    all_arrive(&rig, &seen).await;
    status_until(&rig, |status| status["state"] == "running" && status["pending"] == 0).await;
}

#[tokio::test]
async fn a_poison_event_is_bisected_out_and_can_be_replayed() {
    let rig = Rig::start().await;
    // Every request is refused until single events are left; 21 in a row would hold, so fewer are sent.
    rig.intake.script([Step::status(503)]);
    let seen = calls(&rig, 6).await;
    rig.intake.script([Step::status(400).forever()]);
    let dead = status_until(&rig, |status| status["dead"].as_u64() >= Some(1)).await;
    assert!(dead["dead"].as_u64().unwrap() <= 6);
    rig.intake.script([]);
    status_until(&rig, |status| status["pending"] == 0).await;
    let url = rig.url("/api/policy-gateway/exports/datadog_logs/replay");
    let replay = rig.http.post(url).bearer_auth(ADMIN).body(json!({"dead": true}).to_string());
    let reply = rig.send(replay.header("content-type", "application/json")).await;
    assert!(reply.status.is_success(), "{}", reply.text);
    all_arrive(&rig, &seen).await;
    let done = status_until(&rig, |status| status["dead"] == 0).await;
    assert_eq!(done["delivered"], 6);
}

#[tokio::test]
async fn too_large_batches_are_split() {
    let rig = Rig::start().await;
    rig.intake.script([Step::status(503), Step::status(413)]);
    let seen = calls(&rig, 8).await;
    all_arrive(&rig, &seen).await;
    assert_eq!(status_until(&rig, |status| status["pending"] == 0).await["dead"], 0);
}

#[tokio::test]
async fn each_encoding_is_understood() {
    for compression in ["gzip", "zstd", "deflate", "identity"] {
        let intake = demo::intake::Intake::start(demo::intake::IntakeOptions::default()).await.unwrap();
        let mut setup = Setup::default();
        setup.config = json!({"exports": [{"destination": "datadog_logs", "endpoint": intake.endpoint(), "api_key": "$DD_API_KEY",
            "service": "policy-gateway", "ddsource": "policy-gateway", "compression": compression}]});
        let mut rig = setup.start().await;
        rig.intake = intake;
        let seen = calls(&rig, 3).await;
        all_arrive(&rig, &seen).await;
        let used: HashSet<String> = rig.intake.read(|ledger| {
            ledger
                .requests()
                .map(|request| serde_json::to_value(request).unwrap()["encoding"].to_string())
                .collect()
        });
        assert_eq!(used.len(), 1, "{used:?}");
        assert!(used.iter().any(|encoding| encoding.contains(compression)), "{used:?}");
    }
}

#[tokio::test]
async fn an_outage_over_a_restart_loses_nothing_and_keeps_order() {
    let rig = Rig::start().await;
    rig.intake.script([Step::status(503).forever()]);
    let mut seen = calls(&rig, 10).await;
    let Rig { gateway, intake, model, dir, http, config } = rig;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    seen.extend(calls(&rig, 5).await);
    rig.intake.script([]);
    all_arrive(&rig, &seen).await;
    let seqs: Vec<u64> =
        rig.intake.logs().iter().map(|log| log.log["event"]["seq"].as_u64().unwrap()).collect();
    let distinct: HashSet<_> = seqs.iter().copied().collect();
    // The first event is of the policy file, from before there was a destination.
    assert_eq!(distinct, (2..=seen.len() as u64 + 1).collect(), "{seqs:?}");
    let (code, out, err) = command(rig.dir.path(), &["audit", "verify", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
}

#[tokio::test]
async fn the_command_line_sees_destinations_while_the_gateway_runs() {
    let rig = Rig::start().await;
    let seen = calls(&rig, 3).await;
    all_arrive(&rig, &seen).await;
    let run = |args: &'static [&'static str]| command(rig.dir.path(), args);
    let (code, out, err) = run(&["export", "list", "-c", "gateway.json", "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("datadog_logs") && !out.contains(demo::intake::DEFAULT_API_KEY), "{out}");
    let (code, out, err) = run(&["export", "status", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = run(&["export", "test", "datadog_logs", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, _) =
        run(&["audit", "query", "-c", "gateway.json", "--decision", "allow", "--json"]).await;
    assert_eq!((code, out.lines().count()), (Some(0), 3), "{out}");
}
