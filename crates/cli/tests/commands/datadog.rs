//! `datadog`: what is made there, once; and a gap between the ledger and Datadog, by name.

use std::path::Path;

use demo::intake::{Act, Intake, IntakeOptions, Step};
use serde_json::{Value, json};

use crate::bench::{Bench, ENV, KEY};
use crate::process::{Done, run};

const PARTS: [(&str, usize); 4] = [("dashboard", 1), ("monitors", 7), ("pipeline", 1), ("metrics", 5)];

/// Runs `datadog` with both keys.
async fn datadog(dir: &Path, api: &str, args: &[&str]) -> Done {
    let env = [&ENV[..], &[("DD_APP_KEY", "an-app-key")]].concat();
    run(dir, &env, &[&["datadog"], args, &["--api-url", api]].concat()).await
}

fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test]
async fn without_apply_nothing_is_asked_and_no_key_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    for (part, count) in PARTS {
        let shown = parsed(&run(dir.path(), &[], &["datadog", part, "--service", "llm"]).await.good());
        assert_eq!(shown.as_array().map_or(1, Vec::len), count, "{part}");
        let text = shown.to_string();
        assert!(text.contains("service:llm") && !text.contains("service:policy-gateway"), "{part}");
    }
    let err = run(dir.path(), &[], &["datadog", "metrics", "--apply"]).await.bad();
    assert!(err.contains("DD_API_KEY is not set"), "{err}");
}

#[tokio::test]
async fn applied_twice_there_is_one_of_each_and_what_is_not_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start(IntakeOptions::default()).await.unwrap();
    let api = format!("http://{}", intake.addr());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let theirs = json!({"name": "[Policy Gateway] Logs arrive late", "type": "query alert", "tags": ["team:other"],
        "query": "sum(last_5m):sum:their.own{*} > 1", "message": "theirs", "options": {"thresholds": {"critical": 1}}});
    let with_keys = |request: reqwest::RequestBuilder| {
        request.header("dd-api-key", demo::intake::DEFAULT_API_KEY).header("dd-application-key", "an-app-key")
    };
    let made =
        with_keys(http.post(format!("{api}/api/v1/monitor"))).body(theirs.to_string()).send().await.unwrap();
    assert!(made.status().is_success());
    for (part, count) in PARTS {
        let first = parsed(&datadog(dir.path(), &api, &[part, "--apply", "--json"]).await.good());
        let second = parsed(&datadog(dir.path(), &api, &[part, "--apply", "--json"]).await.good());
        let (first, second) = (first[part].as_array().unwrap(), second[part].as_array().unwrap());
        assert_eq!((first.len(), second.len()), (count, count), "{part}");
        for (first, second) in first.iter().zip(second) {
            assert_eq!((&first["done"], &second["done"]), (&json!("created"), &json!("updated")));
            assert_eq!((&first["id"], &first["name"]), (&second["id"], &second["name"]));
        }
    }
    let all =
        with_keys(http.get(format!("{api}/api/v1/monitor"))).send().await.unwrap().text().await.unwrap();
    let all = parsed(&all);
    assert_eq!(all.as_array().unwrap().len(), 8, "ours, and theirs");
    assert_eq!(all[0]["message"], "theirs");
    intake.set_api_keys(["another-key".to_owned()]);
    let err = datadog(dir.path(), &api, &["pipeline", "--apply"]).await.bad();
    assert!(err.contains("403") && err.contains("DD_APP_KEY") && !err.contains("an-app-key"), "{err}");
    let err = datadog(dir.path(), "http://example.com", &["pipeline", "--apply"]).await.bad();
    assert!(err.contains("use https"), "{err}");
}

#[tokio::test]
async fn a_gap_is_found_by_name_and_closed_by_a_late_delivery() {
    let bench = Bench::new().await;
    let (gateway, base) = bench.serve().await;
    let first = bench.call(&base, KEY, "one").await.event_id;
    bench.arrive(&bench.intake, &[first]).await;
    // Datadog answers 202, and the log is never to be found.
    bench.intake.script([Step::new(Act::AcceptThenLose)]);
    let lost = bench.call(&base, KEY, "two").await.event_id;
    bench.intake.wait_for(crate::process::PATIENCE, |ledger| ledger.stats().lost == 1).await.unwrap();
    let third = bench.call(&base, KEY, "three").await.event_id;
    bench.arrive(&bench.intake, &[third]).await;
    gateway.stop().await;
    let api = format!("http://{}", bench.intake.addr());
    let args = ["reconcile", "--from", "2h", "--to", "0s", "-c", "gateway.json"];
    let done = datadog(bench.path(), &api, &[&args[..], &["--json"]].concat()).await;
    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    let report = parsed(&done.out);
    assert_eq!(report["missing"], 1, "{report}");
    let hours = report["hours"].as_array().unwrap();
    let sum = |name: &str| hours.iter().map(|hour| hour[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("delivered"), sum("found"), sum("pending")), (3, 2, 0), "{report}");
    let named: Vec<&Value> =
        hours.iter().flat_map(|hour| hour["missing_events"].as_array().unwrap()).collect();
    let mut log = bench.intake.read(|ledger| {
        ledger.received_after(0).find(|log| log.event_id() == Some(lost.as_str())).unwrap().log.clone()
    });
    let seq = log["event"]["seq"].clone();
    assert_eq!(named, [&json!({"seq": seq, "event_id": lost})]);
    let told = datadog(bench.path(), &api, &args).await;
    assert_eq!(told.code, Some(1));
    assert!(told.out.contains(&format!("missing: seq {seq}, @event.id {lost}")), "{}", told.out);
    assert!(told.out.contains("export replay datadog_logs"), "{}", told.out);

    // Delivered late it has the time of sending, and counts where it belongs.
    log["event"]["late"] = json!(true);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = http.post(bench.intake.endpoint()).header("dd-api-key", demo::intake::DEFAULT_API_KEY);
    let sent =
        sent.header("content-type", "application/json").body(json!([log]).to_string()).send().await.unwrap();
    assert!(sent.status().is_success());
    let done = datadog(bench.path(), &api, &args).await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert!(done.out.ends_with("nothing is missing\n"), "{}", done.out);
}

#[test]
fn files_for_splunk_and_elastic_are_well_formed() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let read = |path: &str| std::fs::read_to_string(deploy.join(path)).unwrap();
    for file in ["elastic/index-template.json", "elastic/ilm-policy.json"] {
        parsed(&read(file));
    }
    let saved: Vec<Value> = read("elastic/kibana.ndjson").lines().map(parsed).collect();
    let ids: Vec<&Value> = saved.iter().map(|object| &object["id"]).collect();
    for object in &saved {
        assert!(object["type"].is_string() && object["attributes"]["title"].is_string(), "{object}");
        for reference in object["references"].as_array().unwrap() {
            assert!(ids.contains(&&reference["id"]), "{reference}");
        }
        for inner in [
            "/attributes/panelsJSON",
            "/attributes/visState",
            "/attributes/kibanaSavedObjectMeta/searchSourceJSON",
        ] {
            if let Some(text) = object.pointer(inner) {
                parsed(text.as_str().unwrap());
            }
        }
    }
    let conf = read("splunk/savedsearches.conf");
    let stanzas: Vec<&str> = conf.split("\n[").skip(1).collect();
    assert!(stanzas.len() >= 5);
    for stanza in stanzas {
        let keys: Vec<&str> = stanza
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(" = ").unwrap().0)
            .collect();
        for needed in ["search", "cron_schedule", "dispatch.earliest_time", "counttype", "enableSched"] {
            assert!(keys.contains(&needed), "{needed} in [{stanza}");
        }
    }
}
