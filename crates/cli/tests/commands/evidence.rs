//! `audit`: what it prints of a store, beside a gateway and without one.

use serde_json::Value;

use crate::bench::{Bench, KEY};

/// Six events after that of the policy file's first revision: three allowed, two refused, one error. A gateway that has
/// ended.
async fn six_events() -> (Bench, Vec<String>) {
    let bench = Bench::new().await;
    let (gateway, base) = bench.serve().await;
    let mut ids = Vec::new();
    for text in ["one", "napalm", "two", "napalm again", "three"] {
        ids.push(bench.call(&base, KEY, text).await.event_id);
    }
    ids.push(bench.call(&base, KEY, "demo:status=500").await.event_id);
    bench.arrive(&bench.intake, &ids).await;
    gateway.stop().await;
    (bench, ids)
}

fn ids(lines: &str) -> Vec<String> {
    let id =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["event_id"].as_str().unwrap().to_owned();
    lines.lines().map(id).collect()
}

#[tokio::test]
async fn events_are_found_by_what_they_say() {
    let (bench, made) = six_events().await;
    let query = async |args: &[&str]| {
        let out = bench.run(&[&["audit", "query", "-c", "gateway.json"], args].concat()).await.good();
        ids(&out)
    };
    let newest_first: Vec<String> = made.iter().rev().cloned().collect();
    let revision = query(&["--event-type", "revision"]).await;
    assert_eq!(revision.len(), 1);
    let all = [&newest_first[..], &revision].concat();
    assert_eq!(query(&[]).await, all);
    assert_eq!(query(&["--oldest-first"]).await, [&revision[..], &made].concat());
    assert_eq!(query(&["--limit", "2"]).await, newest_first[..2]);
    assert_eq!(query(&["--decision", "refuse"]).await, [made[3].clone(), made[1].clone()]);
    assert_eq!(query(&["--event-id", &made[2]]).await, [made[2].clone()]);
    assert_eq!(query(&["--policy-user", "ann", "--project-id", "bot", "--from", "1h"]).await, newest_first);
    assert_eq!(query(&["--policy-user", "bob"]).await, Vec::<String>::new());
    assert_eq!(query(&["--to", "1h"]).await, Vec::<String>::new());
    assert_eq!(query(&["--event-type", "checkpoint"]).await, Vec::<String>::new());
    let by_path = bench.run(&["audit", "query", "--store", "deep/down/gateway.db"]).await.good();
    assert_eq!(ids(&by_path), all);
    let by_url = bench.run(&["audit", "query", "--store", "sqlite://deep/down/gateway.db"]).await.good();
    assert_eq!(ids(&by_url), all);
}

#[tokio::test]
async fn a_table_is_for_people() {
    let (bench, made) = six_events().await;
    let args = ["audit", "query", "-c", "gateway.json", "--table", "--decision", "refuse"];
    let out = bench.run(&args).await.good();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("TIME "), "{out}");
    for (line, id) in lines[1..].iter().zip([&made[3], &made[1]]) {
        assert!(
            line.contains(" refuse ") && line.contains(" rules ") && line.ends_with(id.as_str()),
            "{out}"
        );
    }
}

#[tokio::test]
async fn evidence_needs_no_secrets_and_no_gateway_and_disturbs_none() {
    let (bench, made) = six_events().await;
    let args = ["audit", "query", "-c", "gateway.json"];
    let out = crate::process::run(bench.path(), &[], &args).await.good();
    assert_eq!(ids(&out).len(), made.len() + 1);
    let (gateway, base) = bench.serve().await;
    assert_eq!(ids(&bench.run(&args).await.good()).len(), made.len() + 1);
    let more = bench.call(&base, KEY, "four").await.event_id;
    bench.arrive(&bench.intake, &[more]).await;
    assert_eq!(ids(&bench.run(&args).await.good()).len(), made.len() + 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_copy_verifies_like_the_store() {
    let (bench, made) = six_events().await;
    let report = bench.json(&["audit", "verify"]).await;
    assert_eq!(
        (&report["ok"], &report["events"], &report["is_anchored"]),
        (&true.into(), &7.into(), &true.into())
    );
    let told = bench.run(&["audit", "verify", "-c", "gateway.json"]).await.good();
    assert!(told.starts_with("7 events are good: seq 1 to 7 of chain "), "{told}");
    let export = ["audit", "export", "-c", "gateway.json"];
    let copy = bench.run(&export).await.good();
    assert_eq!(ids(&copy)[1..], made);
    bench.run(&[&export[..], &["-o", "copy.jsonl"]].concat()).await.good();
    assert_eq!(std::fs::read_to_string(bench.path().join("copy.jsonl")).unwrap(), copy);
    let told_of_copy = bench.run(&["audit", "verify", "--file", "copy.jsonl"]).await.good();
    assert_eq!(told_of_copy, told);
    let err = bench.run(&[&export[..], &["-o", "copy.jsonl"]].concat()).await.bad();
    assert!(err.contains("`copy.jsonl` cannot be created: name a file that is not there yet"), "{err}");
}

#[tokio::test]
async fn what_was_changed_removed_or_put_in_is_found() {
    let (bench, _) = six_events().await;
    let copy = bench.run(&["audit", "export", "-c", "gateway.json"]).await.good();
    let lines: Vec<&str> = copy.lines().collect();
    let changed = copy.replacen("\"policy_user\":\"ann\"", "\"policy_user\":\"bob\"", 1);
    let removed = [&lines[..2], &lines[3..]].concat().join("\n");
    let twice = [&lines[..3], &lines[2..]].concat().join("\n");
    for (name, text, event) in
        [("changed", changed, "event 2: "), ("removed", removed, "event 3: "), ("twice", twice, "event 4: ")]
    {
        std::fs::write(bench.path().join(name), text).unwrap();
        let err = bench.run(&["audit", "verify", "--file", name]).await.bad();
        assert!(
            err.starts_with(&format!("error: the log is not as it was written: {event}")),
            "{name}: {err}"
        );
    }
    let done = bench.run(&["audit", "verify", "--json", "--file", "removed"]).await;
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["problem"].as_str().unwrap().starts_with("event 3: "), "{report}");
}

#[tokio::test]
async fn a_byte_changed_in_the_database_is_found() {
    let (bench, _) = six_events().await;
    let path = bench.path().join("deep/down/gateway.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"\"policy_user\":\"ann\"";
    let at =
        bytes.windows(needle.len()).rposition(|window| window == needle).expect("it is there in plain text");
    bytes[at + needle.len() - 2] = b'x';
    std::fs::write(&path, bytes).unwrap();
    let err = bench.run(&["audit", "verify", "-c", "gateway.json"]).await.bad();
    assert!(err.starts_with("error: the log is not as it was written: event "), "{err}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_and_not_made() {
    let bench = Bench::new().await;
    for args in [
        &["audit", "query", "-c", "gateway.json"][..],
        &["audit", "verify", "-c", "gateway.json"],
        &["audit", "export", "-c", "gateway.json"],
        &["export", "status", "-c", "gateway.json"],
        &["export", "replay", "datadog_logs", "--dead", "-c", "gateway.json"],
    ] {
        let err = bench.run(args).await.bad();
        assert!(err.contains("there is no store at `deep/down/gateway.db`"), "{args:?}: {err}");
    }
    assert!(!bench.path().join("deep").exists());
    let err = bench.run(&["audit", "verify", "--file", "none.jsonl"]).await.bad();
    assert!(err.contains("`none.jsonl` cannot be opened"), "{err}");
}
