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

/// A gateway with a key that has served and ended, twice, and the public key. Its last event is a checkpoint of the rest.
async fn signed() -> (Bench, String) {
    let mut bench = Bench::new().await;
    let public = bench.run(&["audit", "keygen", "--name", "test", "-o", "signing.key"]).await.good();
    let public = public.trim().to_owned();
    let path = bench.path().join("signing.key").display().to_string();
    bench.config["audit"] =
        serde_json::json!({ "signing_key": format!("file:{path}"), "public_keys": [public] });
    bench.write();
    for texts in [["one", "napalm"], ["two", "three"]] {
        let (gateway, base) = bench.serve().await;
        let mut ids = Vec::new();
        for text in texts {
            ids.push(bench.call(&base, KEY, text).await.event_id);
        }
        bench.arrive(&bench.intake, &ids).await;
        gateway.stop().await;
    }
    (bench, public)
}

#[tokio::test]
async fn a_signed_log_verifies_by_its_key_and_by_no_other() {
    let (bench, public) = signed().await;
    let report = bench.json(&["audit", "verify"]).await;
    assert_eq!((&report["ok"], &report["claim"]), (&true.into(), &"full_chain".into()), "{report}");
    // revision, two calls, checkpoint; two calls, checkpoint
    assert_eq!(
        (&report["events"], &report["checkpoints"], &report["signed_seq"]),
        (&7.into(), &2.into(), &6.into())
    );
    assert_eq!(report["signed_by"], serde_json::json!([public]));
    let copy = bench.run(&["audit", "export", "-c", "gateway.json", "-o", "copy.jsonl"]).await;
    copy.good();
    let told = bench.run(&["audit", "verify", "--file", "copy.jsonl", "--public-key", &public]).await.good();
    assert!(told.contains("claim: full chain: ") && told.contains("signed up to seq 6 by test+"), "{told}");
    assert!(told.contains("not shown: whether there were events after seq 7"), "{told}");
    let other = bench.run(&["audit", "keygen", "-o", "other.key"]).await.good();
    std::fs::write(bench.path().join("other.pub"), format!("# somebody's\n{other}")).unwrap();
    let err =
        bench.run(&["audit", "verify", "--file", "copy.jsonl", "--public-key", "other.pub"]).await.bad();
    assert!(err.contains("nothing in the log is signed by a key that was given"), "{err}");
    let err = bench.run(&["audit", "verify", "--file", "copy.jsonl", "--public-key", "nonsense"]).await.bad();
    assert!(err.contains("--public-key `nonsense` is no file either"), "{err}");
    // The private key is its owner's alone, and is not written over.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(bench.path().join("signing.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let err = bench.run(&["audit", "keygen", "-o", "signing.key"]).await.bad();
    assert!(err.contains("name a file that is not there yet"), "{err}");
}

#[tokio::test]
async fn a_cut_tail_and_a_rolled_back_store_show_against_what_the_siem_has() {
    let (bench, public) = signed().await;
    bench.run(&["audit", "export", "-c", "gateway.json", "-o", "copy.jsonl"]).await.good();
    // The second checkpoint as Datadog has it: both arrived there, since checkpoints are events.
    let log = |size: u64| {
        bench
            .intake
            .logs()
            .iter()
            .map(|log| log.log.clone())
            .find(|log| log["event"]["type"] == "checkpoint" && log["event"]["checkpoint"]["size"] == size)
            .unwrap_or_else(|| panic!("no checkpoint of {size} events arrived"))
    };
    std::fs::write(bench.path().join("siem.json"), log(6).to_string()).unwrap();
    log(3);
    let against = ["--checkpoint", "siem.json", "--public-key", &public];
    let whole = [&["audit", "verify", "--file", "copy.jsonl"][..], &against].concat();
    bench.run(&whole).await.good();
    let lines = std::fs::read_to_string(bench.path().join("copy.jsonl")).unwrap();
    let cut: Vec<&str> = lines.lines().take(5).collect();
    std::fs::write(bench.path().join("cut.jsonl"), cut.join("\n")).unwrap();
    let cut = [&["audit", "verify", "--json", "--file", "cut.jsonl"][..], &against].concat();
    let done = bench.run(&cut).await;
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (done.code, &report["ok"], &report["first_bad_seq"]),
        (Some(1), &false.into(), &6.into()),
        "{report}"
    );
    let err = bench
        .run(&[&["audit", "verify", "--file", "cut.jsonl"][..], &["--public-key", &public]].concat())
        .await;
    assert_eq!(err.code, Some(0), "alone it looks like a log: {}", err.err);
    // An older copy of the store that goes on.
    let store = bench.path().join("deep/down/gateway.db");
    bench.run(&["audit", "verify", "-c", "gateway.json", "--checkpoint", "siem.json"]).await.good();
    std::fs::rename(&store, bench.path().join("kept.db")).unwrap();
    let (gateway, base) = bench.serve().await;
    bench.call(&base, KEY, "another").await;
    gateway.stop().await;
    let err = bench.run(&["audit", "verify", "-c", "gateway.json", "--checkpoint", "siem.json"]).await.bad();
    assert!(err.contains("the checkpoint is of chain") || err.contains("tail was cut off"), "{err}");
    let kept = ["audit", "verify", "--store", "kept.db"];
    bench.run(&[&kept[..], &against].concat()).await.good();
}

#[tokio::test]
async fn a_filtered_copy_holds_by_proofs() {
    let (bench, public) = signed().await;
    let refused = bench.run(&["audit", "export", "-c", "gateway.json", "--project-id", "bot"]).await.good();
    let lines: Vec<&str> = refused.lines().collect();
    let kept = [lines[0], lines[2]].join("\n");
    std::fs::write(bench.path().join("some.jsonl"), &kept).unwrap();
    let proofs = bench.run(&["audit", "prove", "-c", "gateway.json", "--file", "some.jsonl"]).await.good();
    assert_eq!(proofs.lines().count(), 2);
    std::fs::write(bench.path().join("proofs.jsonl"), &proofs).unwrap();
    let verify = ["audit", "verify", "--file", "some.jsonl", "--public-key", &public];
    let err = bench.run(&verify).await.bad();
    assert!(err.contains("events are missing, repeated or out of order"), "{err}");
    let told = bench.run(&[&verify[..], &["--filtered", "--proof", "proofs.jsonl"]].concat()).await.good();
    assert!(told.contains("claim: inclusion only: "), "{told}");
    let done = bench.run(&[&verify[..3], &["some.jsonl", "--filtered"]].concat()).await;
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(done.out.contains("claim: none: "), "{}", done.out);
    std::fs::write(bench.path().join("some.jsonl"), kept.replacen("\"ann\"", "\"bob\"", 1)).unwrap();
    let position = [&verify[..], &["--filtered", "--position-only", "--proof", "proofs.jsonl"]].concat();
    let told = bench.run(&position).await.good();
    assert!(told.contains("claim: position only: "), "{told}");
    let alone =
        bench.run(&["audit", "verify", "--proof", "proofs.jsonl", "--public-key", &public]).await.good();
    assert!(alone.contains("the proofs hold: 2 of events in their log"), "{alone}");
    std::fs::write(
        bench.path().join("proofs.jsonl"),
        proofs.replacen("\"path\":[\"", "\"path\":[\"00\",\"", 1),
    )
    .unwrap();
    let err = bench.run(&["audit", "verify", "--proof", "proofs.jsonl"]).await.bad();
    assert!(err.contains("the proof in line 1 of `proofs.jsonl` does not hold"), "{err}");
    let grown = bench.run(&["audit", "consistency", "-c", "gateway.json", "--from", "3"]).await.good();
    std::fs::write(bench.path().join("grown.json"), grown).unwrap();
    let told = bench.run(&["audit", "verify", "--proof", "grown.json", "--public-key", &public]).await.good();
    assert!(told.contains("1 of logs that go on from earlier ones, signed by test+"), "{told}");
    let err = bench.run(&["audit", "prove", "-c", "gateway.json", "--seq", "99"]).await.bad();
    assert!(err.contains("the log has 7 events"), "{err}");
}

#[tokio::test]
async fn a_buckets_folder_is_read_in_order_and_its_parts_may_overlap() {
    let (bench, public) = signed().await;
    let lines = bench.run(&["audit", "export", "-c", "gateway.json"]).await.good();
    let lines: Vec<&str> = lines.lines().collect();
    let chain = serde_json::from_str::<Value>(lines[0]).unwrap()["chain"].as_str().unwrap().to_owned();
    let part = |day: &str, first: usize, last: usize| {
        let folder = bench.path().join("bucket").join(format!("date={day}"));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("{}\n", lines[first - 1..last].join("\n"));
        let path = folder.join(format!("part-{chain}-{first}-{last}.jsonl"));
        std::fs::write(&path, text).unwrap();
        path
    };
    part("2026-01-17", 1, 2);
    part("2026-01-16", 3, 5);
    part("2026-01-18", 6, 7);
    part("2026-01-19", 2, 4);
    let verify = ["audit", "verify", "--file", "bucket", "--public-key", &public];
    let told = bench.run(&verify).await.good();
    assert!(told.starts_with("7 events are good: seq 1 to 7"), "{told}");
    let missing = part("2026-01-16", 3, 5);
    std::fs::remove_file(missing).unwrap();
    let err = bench.run(&verify).await.bad();
    assert!(err.contains("event 5: it says seq 6, where 5 belongs"), "{err}");
    // A part that somebody put in.
    let forged = part("2026-01-16", 3, 5);
    let text = std::fs::read_to_string(&forged).unwrap();
    std::fs::write(&forged, text.replacen("\"ann\"", "\"bob\"", 1)).unwrap();
    let err = bench.run(&verify).await.bad();
    assert!(err.contains("it was changed"), "{err}");
}
