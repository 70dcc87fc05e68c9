//! `serve` and signals: reading the configuration again, and ending.

use demo::intake::{Intake, IntakeOptions};
use reqwest::StatusCode;
use serde_json::json;

use crate::bench::{Bench, ENV, KEY, destination};
use crate::process::{PATIENCE, Process};

#[tokio::test]
async fn the_address_may_be_given_on_the_command_line_and_the_folder_of_the_store_is_made() {
    let mut bench = Bench::new().await;
    bench.config["listen"] = json!("192.0.2.1:1");
    bench.write();
    let err = bench.run(&["serve", "-c", "gateway.json"]).await.bad();
    assert!(err.contains("cannot listen on 192.0.2.1:1"), "{err}");
    assert!(!bench.path().join("deep").exists(), "a start that fails leaves nothing behind");
    let args = ["serve", "-c", "gateway.json", "--listen", "127.0.0.1:0"];
    let mut gateway = Process::start(bench.path(), &ENV, &args);
    let base = gateway.listens().await;
    assert_eq!(bench.call(&base, KEY, "hello").await.status, StatusCode::OK);
    assert!(bench.path().join("deep/down/gateway.db").is_file());
    gateway.stop().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_every_problem_is_logged() {
    let mut bench = Bench::new().await;
    let (mut gateway, base) = bench.serve().await;
    let good = bench.config.clone();
    bench.config["projects"][0]["keys"] = json!(["ak_other", "wrong"]);
    bench.config["colour"] = json!("red");
    bench.write();
    gateway.signal("HUP").await;
    gateway.says("projects[0].keys[1]: a key starts with `ak_`").await;
    gateway.says("nothing was reloaded; the old configuration stays").await;
    assert_eq!(bench.call(&base, KEY, "hello").await.status, StatusCode::OK);
    assert_eq!(bench.call(&base, "ak_other", "hello").await.status, StatusCode::UNAUTHORIZED);
    bench.config = good;
    bench.config["projects"][0]["keys"] = json!(["ak_other"]);
    bench.write();
    gateway.signal("HUP").await;
    gateway.says("reloaded").await;
    assert_eq!(bench.call(&base, KEY, "hello").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.call(&base, "ak_other", "hello").await.status, StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_says_so_and_the_rest_is_in_force() {
    let mut bench = Bench::new().await;
    let (mut gateway, base) = bench.serve().await;
    bench.config["listen"] = json!("127.0.0.1:1");
    bench.config["store"] = json!("sqlite://elsewhere.db");
    bench.config["limits"] = json!({"requests_max": 5});
    bench.config["projects"][0]["status"] = json!("disabled");
    bench.write();
    gateway.signal("HUP").await;
    for section in ["listen", "store", "limits"] {
        let line = gateway.says("takes effect after a restart").await;
        assert!(line.contains(section), "{line}");
    }
    gateway.says("reloaded").await;
    assert_eq!(bench.call(&base, KEY, "hello").await.status, StatusCode::FORBIDDEN);
    assert!(!bench.path().join("elsewhere.db").exists());
    gateway.stop().await;
}

#[tokio::test]
async fn a_policy_file_that_changes_is_in_force_without_a_signal() {
    let bench = Bench::new().await;
    let (mut gateway, base) = bench.serve().await;
    assert_eq!(bench.call(&base, KEY, "tear gas").await.decision, "allow");
    bench.policy("policy_id: rules\nrules: {denylist: [tear gas]}\n");
    gateway.says("reloaded").await;
    assert_eq!(bench.call(&base, KEY, "tear gas").await.decision, "refuse");
    assert_eq!(bench.call(&base, KEY, "napalm").await.decision, "allow");
    bench.policy("policy_id: rules\nrules: {denylist: tear gas}\n");
    gateway.says("rules.denylist").await;
    gateway.says("nothing was reloaded").await;
    assert_eq!(bench.call(&base, KEY, "tear gas").await.decision, "refuse");
    gateway.stop().await;
}

#[tokio::test]
async fn destinations_are_replaced_without_losing_an_event() {
    let mut bench = Bench::new().await;
    let (mut gateway, base) = bench.serve().await;
    let before = bench.call(&base, KEY, "before").await.event_id;
    bench.arrive(&bench.intake, &[before]).await;
    let second = Intake::start(IntakeOptions::default()).await.unwrap();
    bench.config["exports"] = json!([destination(&second)]);
    bench.write();
    gateway.signal("HUP").await;
    gateway.says("reloaded").await;
    let after = bench.call(&base, KEY, "after").await.event_id;
    bench.arrive(&second, &[after]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_signal_lets_calls_finish_and_the_second_does_not() {
    let bench = Bench::new().await;
    let (mut gateway, base) = bench.serve().await;
    let hanging = bench.try_call(&base, KEY, "demo:hang");
    let ending = async {
        bench.model.wait_for(PATIENCE, |stats| stats.requests >= 1).await.unwrap();
        gateway.signal("TERM").await;
        gateway.says("a second signal ends at once").await;
        gateway.signal("INT").await;
        gateway.ended().await
    };
    let (answer, (code, heard)) = tokio::join!(hanging, ending);
    assert!(answer.is_err(), "the model never answered");
    assert_eq!(code, Some(1), "{heard}");
    let (mut gateway, _) = bench.serve().await;
    gateway.signal("TERM").await;
    gateway.says("stopping").await;
    let (code, heard) = gateway.ended().await;
    assert_eq!(code, Some(0), "{heard}");
}

#[tokio::test]
async fn the_log_is_text_or_json_and_holds_no_secret() {
    let bench = Bench::new().await;
    let args = ["serve", "-c", "gateway.json", "--log-format", "json"];
    let mut gateway = Process::start(bench.path(), &[&ENV[..], &[("RUST_LOG", "trace")]].concat(), &args);
    let base = gateway.listens().await;
    let id = bench.call(&base, KEY, "the canary sings").await.event_id;
    bench.arrive(&bench.intake, &[id]).await;
    let heard = gateway.stop().await;
    let line = heard.lines().find(|line| line.contains("a second signal")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "INFO");
    for (name, secret) in ENV {
        assert!(!heard.contains(secret), "the log holds {name}");
    }
    assert!(!heard.contains("canary"), "the log holds a prompt");
}
