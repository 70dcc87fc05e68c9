//! `export`: through a gateway that runs, and on the store of one that does not.

use demo::intake::{Act, Step};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bench::{ADMIN, Bench, KEY, destination};
use crate::process::PATIENCE;

/// A port that was free a moment ago: the management API can only be found at an address that the file names.
pub async fn named_port(bench: &mut Bench) {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    bench.config["listen"] = json!(free.to_string());
    bench.write();
}

/// Three events that the destination rejects for good, one by one; the status once they are dead letters.
async fn three_dead(bench: &Bench, base: &str) -> Value {
    bench.intake.script([Step::status(400).forever()]);
    for text in ["one", "two", "three"] {
        bench.call(base, KEY, text).await;
    }
    let settled = async {
        loop {
            let status = bench.json(&["export", "status"]).await;
            if status["exports"][0]["dead"] == 3 {
                return status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("they are dead letters")
}

#[tokio::test]
async fn destinations_are_listed_without_their_secrets() {
    let mut bench = Bench::new().await;
    bench.config["exports"] = json!([destination(&bench.intake), destination(&bench.intake)]);
    bench.write();
    let out = bench.run(&["export", "list", "-c", "gateway.json"]).await.good();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(out.contains("datadog_logs-2"), "{out}");
    assert!(!out.contains(demo::intake::DEFAULT_API_KEY), "{out}");
    let listed = bench.json(&["export", "list"]).await;
    assert_eq!(listed["exports"][1]["id"], "datadog_logs-2");
    assert_eq!(listed["exports"][1]["endpoint"], bench.intake.endpoint());
}

#[tokio::test]
async fn a_test_says_what_is_wrong() {
    let bench = Bench::new().await;
    let report = bench.json(&["export", "test"]).await;
    let event_id = report["exports"][0]["event_id"].as_str().unwrap().to_owned();
    bench.arrive(&bench.intake, &[event_id]).await;
    bench.intake.set_api_keys(["another-key".to_owned()]);
    let done = bench.run(&["export", "test", "datadog_logs", "-c", "gateway.json"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.out.starts_with("datadog_logs: ") && done.out.contains("403"), "{}", done.out);
    assert!(!done.out.contains(demo::intake::DEFAULT_API_KEY), "{}", done.out);
    let err = bench.run(&["export", "test", "splunk", "-c", "gateway.json"]).await.bad();
    assert!(err.contains("no destination has the id `splunk`; there is datadog_logs"), "{err}");
    assert!(!bench.path().join("deep").exists(), "a test needs no store");
}

#[tokio::test]
async fn the_gateway_is_asked_where_it_runs_and_the_store_where_not() {
    let mut bench = Bench::new().await;
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    let running = three_dead(&bench, &base).await;
    let fields = ["accepted", "delivered", "pending", "dead"];
    let pick = |status: &Value| fields.map(|field| status["exports"][0][field].clone());
    assert_eq!(running["source"], "gateway");
    assert_eq!(pick(&running), [json!(3), json!(0), json!(0), json!(3)]);
    gateway.stop().await;
    let stopped = bench.json(&["export", "status"]).await;
    assert_eq!(stopped["source"], "store");
    assert_eq!(pick(&stopped), pick(&running));
    let table = bench.run(&["export", "status", "datadog_logs", "-c", "gateway.json"]).await.good();
    assert!(table.starts_with("ID ") && table.lines().count() == 2, "{table}");
    assert!(!table.contains(ADMIN), "{table}");
}

#[tokio::test]
async fn dead_letters_are_sent_again_through_the_gateway() {
    let mut bench = Bench::new().await;
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    three_dead(&bench, &base).await;
    bench.intake.script([]);
    let good = bench.call(&base, KEY, "good").await.event_id;
    bench.arrive(&bench.intake, &[good]).await;
    let replayed = bench.json(&["export", "replay", "datadog_logs", "--dead"]).await;
    assert_eq!((&replayed["delivered"], &replayed["resolved"]), (&3.into(), &3.into()), "{replayed}");
    let out = bench
        .run(&["export", "replay", "datadog_logs", "--from", "1", "--to", "2", "-c", "gateway.json"])
        .await;
    assert_eq!(out.good(), "datadog_logs: 2 delivered, 0 of them dead letters settled, 0 rejected\n");
    assert_eq!(bench.json(&["export", "status"]).await["exports"][0]["dead"], 0);
    gateway.stop().await;
}

#[tokio::test]
async fn dead_letters_are_sent_again_from_the_store_of_a_stopped_gateway() {
    let bench = Bench::new().await;
    let (gateway, base) = bench.serve().await;
    three_dead(&bench, &base).await;
    gateway.stop().await;
    let done = bench.run(&["export", "replay", "datadog_logs", "--dead", "-c", "gateway.json"]).await;
    assert_eq!(done.code, Some(1), "rejected again is no success: {}", done.out);
    assert!(done.out.contains("3 rejected"), "{}", done.out);
    bench.intake.script([]);
    let replayed = bench.json(&["export", "replay", "datadog_logs", "--dead"]).await;
    assert_eq!(replayed["resolved"], 3, "{replayed}");
    let after = bench.json(&["export", "status"]).await;
    assert_eq!(after["exports"][0]["dead"], 0);
    assert_eq!(after["exports"][0]["delivered"], 3);
}

#[tokio::test]
async fn a_store_in_use_is_not_touched_and_the_way_out_is_named() {
    let mut bench = Bench::new().await;
    bench.config["admin_tokens"] = json!([{"name": "reader", "role": "auditor", "token": "$ADMIN_TOKEN"}]);
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    bench.intake.script([Step::new(Act::Hang)]);
    bench.call(&base, KEY, "one").await;
    let replay = ["export", "replay", "datadog_logs", "--dead", "-c", "gateway.json"];
    let err = bench.run(&replay).await.bad();
    assert!(err.contains("no token of role `admin` or `editor`") && err.contains("gateway.db"), "{err}");
    assert_eq!(bench.json(&["export", "status"]).await["source"], "gateway", "an auditor may look");
    drop(gateway);
}
