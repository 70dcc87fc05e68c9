//! The intake over a socket: what it takes and refuses, what it does behind a 202, and each scripted fault.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Act, BODY_BYTES_MAX, DEFAULT_API_KEY, Dropped, Encoding, Intake, IntakeOptions, Running, Step, Violation,
};
use crate::exchange::{self, Answer};

/// Long enough for a slow machine; a test that gets there has failed.
const WITHIN: Duration = Duration::from_secs(20);

const KEY: (&str, &str) = ("dd-api-key", DEFAULT_API_KEY);
const JSON: (&str, &str) = ("content-type", "application/json");

async fn intake() -> Running {
    Intake::start(IntakeOptions::default()).await.unwrap()
}

async fn post_with(intake: &Running, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    exchange::send(intake.addr(), "POST", "/api/v2/logs", headers, body).await
}

async fn post(intake: &Running, body: &Value) -> Answer {
    post_with(intake, &[KEY, JSON], body.to_string().as_bytes()).await
}

async fn control(intake: &Running, path: &str, body: &Value) -> Answer {
    exchange::send(intake.addr(), "POST", path, &[], body.to_string().as_bytes()).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn log(id: &str) -> Value {
    json!({"message": "m", "event": {"id": id}})
}

#[tokio::test]
async fn one_log_and_an_array_are_taken() {
    let intake = intake().await;
    let answer = post(&intake, &log("a")).await;
    assert_eq!((answer.status, answer.text()), (202, "{}"));
    assert_eq!(post(&intake, &json!([log("b"), log("c")])).await.status, 202);
    assert_eq!(post(&intake, &json!([])).await.status, 202);
    let ids: Vec<_> = intake.logs().iter().map(|log| log.event_id().unwrap().to_owned()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(intake.read(|ledger| ledger.event_ids().len()), 3);
    let stats = intake.stats();
    assert_eq!((stats.requests, stats.received, stats.violations, stats.by_status[&202]), (3, 3, 0, 3));
}

#[tokio::test]
async fn every_encoding_is_unpacked() {
    let intake = intake().await;
    let body = json!([log("a")]).to_string().into_bytes();
    let two_members = [gzip(&body[..5]), gzip(&body[5..])].concat();
    let cases = [
        ("identity", body.clone(), Encoding::Identity),
        ("gzip", gzip(&body), Encoding::Gzip),
        ("GZIP", two_members, Encoding::Gzip),
        ("deflate", deflate(&body), Encoding::Deflate),
        ("zstd", zstd::encode_all(&body[..], 1).unwrap(), Encoding::Zstd),
    ];
    for (index, (name, packed, encoding)) in cases.iter().enumerate() {
        let answer = post_with(&intake, &[KEY, JSON, ("content-encoding", name)], packed).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.text());
        let request = intake.read(|ledger| ledger.requests().next_back().cloned().unwrap());
        assert_eq!((request.encoding, request.inflated_bytes), (Some(*encoding), body.len()));
        assert_eq!(request.wire_bytes, packed.len());
        assert_eq!(intake.logs().len(), index + 1);
    }
}

#[tokio::test]
async fn broken_packing_is_a_bad_request() {
    let intake = intake().await;
    let body = log("a").to_string().into_bytes();
    let raw_deflate = {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&body[..], 1).unwrap();
    let cases = [
        ("gzip", body.clone()),
        ("gzip", gzip(&body)[..20].to_vec()),
        ("gzip", [gzip(&body), b"tail".to_vec()].concat()),
        ("deflate", raw_deflate),
        ("deflate", [deflate(&body), b"tail".to_vec()].concat()),
        ("zstd", zstd[..zstd.len() - 1].to_vec()),
        ("br", body.clone()),
        ("gzip, gzip", gzip(&gzip(&body))),
    ];
    for (encoding, packed) in cases {
        let answer = post_with(&intake, &[KEY, JSON, ("content-encoding", encoding)], &packed).await;
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["status"]),
            (400, &json!("400")),
            "{encoding}"
        );
    }
    assert_eq!(intake.stats().received, 0);
}

#[tokio::test]
async fn the_size_limit_counts_unpacked_bytes() {
    let intake = intake().await;
    let frame = json!([{"message": ""}]).to_string().len();
    let of = |bytes: usize| json!([{"message": "x".repeat(bytes - frame)}]).to_string().into_bytes();
    let fits = of(BODY_BYTES_MAX);
    assert_eq!(fits.len(), BODY_BYTES_MAX);
    assert_eq!(post_with(&intake, &[KEY, JSON], &fits).await.status, 202);
    let over = of(BODY_BYTES_MAX + 1);
    for (encoding, packed) in [
        ("identity", over.clone()),
        ("gzip", gzip(&over)),
        ("deflate", deflate(&over)),
        ("zstd", zstd::encode_all(&over[..], 1).unwrap()),
        ("gzip", gzip(&vec![b' '; 200 << 20])),
        ("identity", vec![b' '; 12 << 20]),
    ] {
        let answer = post_with(&intake, &[KEY, JSON, ("content-encoding", encoding)], &packed).await;
        assert_eq!(answer.status, 413, "{encoding}, {} bytes", packed.len());
        assert_eq!(answer.json()["errors"][0]["title"], "Request Entity Too Large");
    }
}

#[tokio::test]
async fn keys_decide_before_content() {
    let intake = intake().await;
    let body = b"not json";
    assert_eq!(post_with(&intake, &[JSON], body).await.status, 401);
    assert_eq!(post_with(&intake, &[("dd-api-key", "wrong"), JSON], body).await.status, 403);
    assert_eq!(post_with(&intake, &[KEY, JSON], body).await.status, 400);
    let valid = exchange::send(intake.addr(), "GET", "/api/v1/validate", &[KEY], b"").await;
    assert_eq!((valid.status, valid.json()), (200, json!({"valid": true})));
    intake.set_api_keys(["new".to_owned()]);
    assert_eq!(exchange::send(intake.addr(), "GET", "/api/v1/validate", &[KEY], b"").await.status, 403);
    assert_eq!(post(&intake, &log("a")).await.status, 403);
    assert_eq!(control(&intake, "/demo/keys", &json!({"api_keys": [DEFAULT_API_KEY]})).await.status, 200);
    assert_eq!(post(&intake, &log("a")).await.status, 202);
}

#[tokio::test]
async fn other_paths_methods_types_and_shapes_are_refused() {
    let intake = intake().await;
    let send = async |method: &str, path: &str| {
        exchange::send(intake.addr(), method, path, &[KEY, JSON], b"{}").await
    };
    assert_eq!(send("POST", "/v1/input").await.status, 404);
    assert_eq!(send("POST", "/api/v2/logs/").await.status, 404);
    let put = send("PUT", "/api/v2/logs").await;
    assert_eq!((put.status, put.header("allow")), (405, Some("POST")));
    assert_eq!(post_with(&intake, &[KEY], b"{}").await.status, 400);
    assert_eq!(post_with(&intake, &[KEY, ("content-type", "application/xml")], b"{}").await.status, 400);
    for body in ["", "[", "3", "[{},3]", "[{}", "{} {}", "{\"message\":\"\u{0}\"}"] {
        assert_eq!(post_with(&intake, &[KEY, JSON], body.as_bytes()).await.status, 400, "{body}");
    }
    assert_eq!(post_with(&intake, &[KEY, JSON], b"{\"message\":\"\xff\"}").await.status, 400);
    assert_eq!(post(&intake, &json!(vec![log("a"); 1001])).await.status, 400);
    assert_eq!(intake.stats().received, 0);
    assert_eq!(post(&intake, &json!(vec![log("a"); 1000])).await.status, 202);
    assert_eq!(intake.stats().received, 1000);
}

#[tokio::test]
async fn plain_text_is_a_log_a_line_with_fields_from_the_query() {
    let intake = intake().await;
    let path = "/api/v2/logs?ddsource=nginx&ddtags=env:prod,Team:A&service=web";
    let headers = [KEY, ("content-type", "text/plain; charset=utf-8")];
    let answer = exchange::send(intake.addr(), "POST", path, &headers, b"one\n\ntwo\n").await;
    assert_eq!(answer.status, 202);
    let logs = intake.logs();
    assert_eq!(logs.len(), 2);
    assert_eq!(logs[1].log, json!({"message": "two", "ddsource": "nginx", "service": "web"}));
    assert_eq!(logs[1].tags, ["env:prod", "team:a"]);
}

#[tokio::test]
async fn logs_out_of_the_window_vanish_behind_a_202() {
    let intake = intake().await;
    let now = Timestamp::now();
    let at = |offset: SignedDuration| now + offset;
    let minute = SignedDuration::from_mins(1);
    let cases = [
        (json!({"timestamp": at(-super::AGE_MAX - minute).as_millisecond()}), Some(Dropped::TooOld)),
        (json!({"timestamp": at(-super::AGE_MAX + minute).as_millisecond()}), None),
        (json!({"date": at(super::AHEAD_MAX + minute).to_string()}), Some(Dropped::InFuture)),
        (json!({"date": at(super::AHEAD_MAX - minute).to_string()}), None),
        (json!({"timestamp": now.as_millisecond().to_string()}), None),
        (json!({"eventTime": "2020-01-01T00:00:00"}), Some(Dropped::TooOld)),
        (json!({"syslog": {"timestamp": at(-minute).strftime("%b %e %H:%M:%S").to_string()}}), None),
        // Seconds where milliseconds are meant: 1970.
        (json!({"timestamp": now.as_second()}), Some(Dropped::TooOld)),
        // The first of the names counts.
        (json!({"date": "2020-01-01T00:00:00Z", "timestamp": now.as_millisecond()}), None),
        (json!({}), None),
    ];
    for (fields, dropped) in cases {
        let mut log = log("a");
        log.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(post(&intake, &log).await.status, 202);
        let received = intake.read(|ledger| ledger.received_after(0).last().cloned().unwrap());
        assert_eq!((received.dropped, received.violations.as_slice()), (dropped, &[][..]), "{fields}");
    }
    assert_eq!(intake.logs().len(), 6);
    assert_eq!(intake.stats().dropped_for_time, 4);

    assert_eq!(post(&intake, &json!({"message": "m", "timestamp": "soon"})).await.status, 202);
    assert_eq!(intake.logs().last().unwrap().violations, [Violation::Time]);

    control(&intake, "/demo/clock", &json!({"ahead_s": 19 * 3600})).await;
    post(&intake, &json!({"message": "m", "timestamp": now.as_millisecond()})).await;
    assert_eq!(intake.stats().dropped_for_time, 5);
}

#[tokio::test]
async fn a_long_log_is_cut_behind_a_202() {
    let intake = intake().await;
    let text = "é".repeat(600_000);
    assert_eq!(post(&intake, &json!({"message": text, "service": "s"})).await.status, 202);
    assert_eq!(post(&intake, &json!({"message": "m", "blob": text})).await.status, 202);
    let logs = intake.logs();
    assert!(logs.iter().all(|log| log.truncated));
    assert_eq!(logs[0].log["service"], "s");
    assert!(logs[0].log.to_string().len() <= super::LOG_BYTES_MAX);
    assert_eq!(logs[1].log.get("blob"), None);
    assert_eq!(intake.stats().truncated, 2);
}

#[tokio::test]
async fn rules_on_attributes_and_tags_are_watched() {
    let intake = intake().await;
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "k": inner }));
    let wide = |n: usize| (0..n).map(|i| (format!("k{i}"), json!(i))).collect::<serde_json::Map<_, _>>();
    let tags = |list: String| json!({"message": "m", "ddtags": list});
    let cases = [
        (json!({"service": "s"}), vec![Violation::Message]),
        (json!({"message": "m", "deep": nested(8)}), vec![]),
        (json!({"message": "m", "deep": nested(9)}), vec![Violation::Levels(10)]),
        (json!({"message": "m", "w": wide(254)}), vec![]),
        (json!({"message": "m", "w": wide(255)}), vec![Violation::Attributes(256)]),
        (json!({"message": "m", "k".repeat(49): 1}), vec![]),
        (json!({"message": "m", "k".repeat(50): 1}), vec![Violation::Key(50)]),
        (json!({"message": "m", "list": [{"a": 1}, {"b": [1, 2, 3]}]}), vec![]),
        (tags("env:prod,Team:A-b_c.d/e".to_owned()), vec![]),
        (tags("a b".to_owned()), vec![Violation::Tag("a b".to_owned())]),
        (tags("key:".to_owned()), vec![Violation::Tag("key:".to_owned())]),
        (tags("1key".to_owned()), vec![Violation::Tag("1key".to_owned())]),
        (tags("t".repeat(200)), vec![]),
        (tags("t".repeat(201)), vec![Violation::Tag("t".repeat(201))]),
        (tags((0..101).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",")), vec![Violation::Tags(101)]),
        (json!({"message": "m", "ddtags": ["a"]}), vec![Violation::TagsShape]),
    ];
    for (log, violations) in cases {
        assert_eq!(post(&intake, &log).await.status, 202);
        assert_eq!(intake.logs().last().unwrap().violations, violations, "{log}");
    }
    post(&intake, &tags("Env:Prod, a b ,key:,env:prod".to_owned())).await;
    assert_eq!(intake.logs().last().unwrap().tags, ["env:prod", "a_b", "key"]);
}

#[tokio::test]
async fn scripted_statuses_come_in_order_and_keep_nothing() {
    let intake = intake().await;
    intake.script([Step::status(429).retry_after("7").times(2), Step::new(Act::Handle), Step::status(500)]);
    let mut seen = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        let answer = post(&intake, &log(id)).await;
        seen.push((answer.status, answer.header("retry-after").map(str::to_owned)));
    }
    let after = Some("7".to_owned());
    assert_eq!(seen, [(429, after.clone()), (429, after), (202, None), (500, None), (202, None)]);
    let ids: Vec<_> = intake.logs().iter().map(|log| log.event_id().unwrap().to_owned()).collect();
    assert_eq!(ids, ["c", "e"]);

    intake.script([Step::status(503).forever()]);
    for _ in 0..3 {
        assert_eq!(post(&intake, &log("x")).await.status, 503);
    }
    intake.script([]);
    assert_eq!(post(&intake, &log("x")).await.status, 202);
}

#[tokio::test]
async fn connections_are_cut_and_logs_lost_as_scripted() {
    let intake = intake().await;
    intake.script([
        Step::new(Act::CutBeforeRead),
        Step::new(Act::CutAfterRead { keep: false }),
        Step::new(Act::CutAfterRead { keep: true }),
        Step::new(Act::AcceptThenLose),
        Step::status(200),
    ]);
    let mut statuses = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        statuses.push(post(&intake, &log(id)).await.status);
    }
    assert_eq!(statuses, [0, 0, 0, 202, 200]);
    let stats = intake.stats();
    assert_eq!((stats.unanswered, stats.received, stats.lost), (3, 2, 1));
    assert_eq!(intake.logs().iter().filter_map(|log| log.event_id()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn a_hanging_request_ends_with_its_sender_or_the_intake() {
    let intake = intake().await;
    intake.script([Step::new(Act::Hang).times(2)]);
    let body = log("a").to_string();
    let open = || exchange::open(intake.addr(), "POST", "/api/v2/logs", &[KEY, JSON], body.as_bytes());
    let (first, second) = (open().await, open().await);
    intake.wait_for(WITHIN, |ledger| ledger.stats().in_flight == 2).await.unwrap();
    drop(first);
    intake.wait_for(WITHIN, |ledger| ledger.stats().unanswered == 1).await.unwrap();
    assert_eq!(intake.stats().in_flight_max, 2);
    intake.shutdown().await;
    drop(second);
}

#[tokio::test]
async fn the_script_comes_over_http_too() {
    let intake = intake().await;
    let steps = json!({"steps": [
        {"act": "status", "status": 429, "retry_after": "1", "times": 2, "latency_ms": 1},
        {"act": "cut_after_read", "keep": true}]});
    assert_eq!(control(&intake, "/demo/script", &steps).await.json(), json!({"steps": 2}));
    let more = json!({"steps": [{"act": "hang", "forever": true}], "append": true});
    assert_eq!(control(&intake, "/demo/script", &more).await.json(), json!({"steps": 3}));
    assert_eq!(post(&intake, &log("a")).await.header("retry-after"), Some("1"));
    assert_eq!(control(&intake, "/demo/script", &json!({"steps": []})).await.json(), json!({"steps": 0}));
    for bad in [
        json!({"steps": [{"act": "status"}]}),
        json!({"steps": [{"act": "status", "status": 99}]}),
        json!({"steps": [{"act": "explode"}]}),
        json!({"steps": [{"act": "hang", "status": 500}]}),
        json!({"step": []}),
    ] {
        assert_eq!(control(&intake, "/demo/script", &bad).await.status, 400, "{bad}");
    }
    assert_eq!(control(&intake, "/demo/nothing", &json!({})).await.status, 404);
}

#[tokio::test]
async fn logs_are_followed_as_they_come() {
    let intake = intake().await;
    post(&intake, &log("before")).await;
    let mut follow = intake.subscribe();
    let addr = intake.addr();
    let waiting = exchange::send(addr, "GET", "/demo/logs?after=1&limit=1&wait_ms=20000", &[], b"");
    let two = json!([log("x"), log("y")]);
    let (answer, _) = tokio::join!(waiting, post(&intake, &two));
    let shown = answer.json();
    assert_eq!(shown["next"], 2);
    assert_eq!(shown["logs"][0]["log"], log("x"));
    assert_eq!(follow.next().await.event_id(), Some("x"));
    assert_eq!(follow.next().await.event_id(), Some("y"));
    assert!(tokio::time::timeout(Duration::from_millis(1), follow.next()).await.is_err());
    let failed = intake.wait_for(Duration::from_millis(1), |ledger| ledger.logs().count() == 4).await;
    assert!(failed.unwrap_err().to_string().contains("received: 3"));
}

#[tokio::test]
async fn the_journal_has_every_log_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let options =
        || IntakeOptions { journal: Some(path.clone()), logs_kept_max: 1, ..IntakeOptions::default() };
    for round in ["a", "b"] {
        let intake = Intake::start(options()).await.unwrap();
        intake.script([Step::new(Act::AcceptThenLose), Step::new(Act::Handle)]);
        post(&intake, &log("lost")).await;
        post(&intake, &json!([log(round), log("kept")])).await;
        assert_eq!((intake.logs().len(), intake.stats().evicted), (1, 2));
        intake.shutdown().await;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        lines.iter().map(|line| (line["log"]["event"]["id"].as_str(), &line["dropped"])).collect();
    let lost = (Some("lost"), &json!("lost"));
    let kept = |id| (Some(id), &Value::Null);
    assert_eq!(seen, [lost, kept("a"), kept("kept"), lost, kept("b"), kept("kept")]);
}

#[tokio::test]
async fn counting_keeps_nothing_but_still_checks() {
    let options = IntakeOptions { count_only: true, ..IntakeOptions::default() };
    let intake = Intake::start(options).await.unwrap();
    assert_eq!(post(&intake, &json!([log("a"), log("b")])).await.status, 202);
    assert_eq!(post_with(&intake, &[("dd-api-key", "no"), JSON], b"[]").await.status, 403);
    assert_eq!((intake.stats().received, intake.logs().len()), (2, 0));
}

mod properties {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::check::{self, TAG_CHARS_MAX, TAGS_MAX};
    use super::super::decode::Entry;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(
                    (prop_oneof!["timestamp|date|message|ddtags|syslog", "\\PC{0,6}"], inner),
                    0..4
                )
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_log_is_taken_and_its_tags_keep_the_rules(log in json(), tags in "\\PC{0,300}", long in any::<bool>()) {
            let bytes = if long { 2_000_000 } else { 10 };
            let taken = check::check(Entry { log, bytes }, &tags, jiff::Timestamp::UNIX_EPOCH);
            prop_assert!(taken.tags.len() <= TAGS_MAX);
            for tag in &taken.tags {
                prop_assert!(tag.starts_with(char::is_alphabetic) && !tag.ends_with(':'), "{tag:?}");
                prop_assert!(tag.chars().count() <= TAG_CHARS_MAX);
                prop_assert!(!tag.contains(',') && !tag.contains(char::is_whitespace));
            }
        }
    }
}
