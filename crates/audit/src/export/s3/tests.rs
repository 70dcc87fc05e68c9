//! Configuration, keys and bytes: that a batch always makes the same object, and that what is in it is what the log holds.

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::encode::{Note, key, other_key, suffix};
use super::*;
use crate::delivery::{BodyBuilder, Encoded, Push};
use crate::event::{AuditEvent, EventType, hex};
use crate::export::Kind;
use crate::export::test_server::gunzip;
use crate::outbox::StoredEvent;
use crate::testing::{example_event, stored};

pub(super) fn entry(more: Value) -> Value {
    let mut entry =
        json!({"destination": "s3", "bucket": "audit", "prefix": "pg/", "region": "eu-central-1"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

pub(super) fn config(more: Value) -> S3 {
    // The CLI does this at its start; the first test does it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    S3::read(&serde_json::from_value(entry(more)).unwrap(), "x").unwrap()
}

fn object(compression: S3Compression, events: &[StoredEvent]) -> (Encoded, Note) {
    let mut body = S3Body::new(compression, 10_000, 8_000_000).unwrap();
    for event in events {
        assert_eq!(body.push(event), Push::Taken);
    }
    let encoded = body.finish().unwrap();
    let note = serde_json::from_str(&encoded.note).unwrap();
    (encoded, note)
}

fn lines(events: &[StoredEvent]) -> Vec<u8> {
    events.iter().flat_map(|event| event.text.iter().copied().chain([b'\n'])).collect()
}

#[test]
fn an_object_holds_the_stored_lines_as_they_are() {
    let events: Vec<_> = (7..=9).map(|seq| stored(example_event(), seq)).collect();
    let expected = lines(&events);
    for (compression, unpack) in [
        (S3Compression::None, (|bytes: &[u8]| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>),
        (S3Compression::Gzip, gunzip),
        (S3Compression::Zstd, |bytes| zstd::stream::decode_all(bytes).unwrap()),
    ] {
        let (encoded, note) = object(compression, &events);
        assert_eq!(unpack(&encoded.body), expected);
        assert_eq!(encoded.bytes_uncompressed, expected.len() as u64);
        assert_eq!(note.sha256, hex(&Sha256::digest(&expected).into()));
        assert_eq!((note.date.as_str(), note.events), ("2026-01-16", 3));
        assert_eq!(note.chain, "00000000-0000-0000-0000-000000000042");
    }
}

#[test]
fn the_key_is_the_contracts() {
    let (_, note) = object(S3Compression::Gzip, &[stored(example_event(), 7)]);
    let chain = "00000000-0000-0000-0000-000000000042";
    let ends = [
        (S3Compression::Gzip, ".jsonl.gz"),
        (S3Compression::Zstd, ".jsonl.zst"),
        (S3Compression::None, ".jsonl"),
    ];
    for (compression, end) in ends {
        let suffix = suffix(S3Format::Jsonl, compression);
        assert_eq!(key("pg/", &note, 7, 9, suffix), format!("pg/date=2026-01-16/part-{chain}-7-9{end}"));
        let digest = &note.sha256[..16];
        let other = format!("pg/date=2026-01-16/part-{chain}-7-9-{digest}{end}");
        assert_eq!(other_key("pg/", &note, 7, 9, suffix), other);
    }
}

#[test]
fn the_day_is_the_first_events_in_utc() {
    let at = |created_at: &str, seq| {
        stored(AuditEvent::blank(uuid::Uuid::nil(), EventType::Heartbeat, created_at.into()), seq)
    };
    let (_, note) =
        object(S3Compression::None, &[at("2025-12-31T23:59:59.999Z", 1), at("2026-01-01T00:00:00.000Z", 2)]);
    assert_eq!(note.date, "2025-12-31");
}

#[test]
fn an_object_takes_no_more_than_it_may() {
    let event = stored(example_event(), 1);
    let line = event.text.len() + 1;
    let mut body = S3Body::new(S3Compression::None, 10, 3 * line).unwrap();
    let pushed: Vec<_> = (0..4).map(|_| body.push(&event)).collect();
    assert_eq!(pushed, [Push::Taken, Push::Taken, Push::Taken, Push::Full]);
    let mut body = S3Body::new(S3Compression::None, 10, 10).unwrap();
    assert_eq!(body.push(&event), Push::Taken, "a first event goes in whatever its size");
    let mut body = S3Body::new(S3Compression::None, 1, usize::MAX).unwrap();
    assert_eq!([body.push(&event), body.push(&event)], [Push::Taken, Push::Full]);
    let mut body = S3Body::new(S3Compression::None, 1, usize::MAX).unwrap();
    assert!(matches!(body.push(&StoredEvent { seq: 1, text: "{}".into() }), Push::Unfit(_)));
}

proptest! {
    #[test]
    fn the_same_events_make_the_same_object(count in 1_u64..40, compression in 0..3) {
        let compression = [S3Compression::None, S3Compression::Gzip, S3Compression::Zstd][compression as usize];
        let events: Vec<_> = (1..=count).map(|seq| stored(example_event(), seq)).collect();
        let (first, second) = (object(compression, &events), object(compression, &events));
        prop_assert_eq!(&first.0, &second.0);
        let (_, fewer) = object(compression, &events[..1]);
        prop_assert_eq!(fewer.sha256 == first.1.sha256, count == 1);
    }
}

#[test]
fn defaults_are_filled_in() {
    let config = config(json!({}));
    assert_eq!(
        (config.format, config.compression, config.path_style),
        (S3Format::Jsonl, S3Compression::Gzip, false)
    );
    assert_eq!(
        (config.credentials.clone(), config.shown.as_str()),
        (S3Credentials::Ambient, "https://audit.s3.eu-central-1.amazonaws.com/pg/")
    );
    let limits = &config.limits;
    assert_eq!((limits.batch_events_max, limits.batch_bytes_max, limits.concurrency), (10_000, 8_000_000, 4));
    assert_eq!((limits.linger.as_secs(), limits.timeout.as_secs()), (5, 60));
    let minio =
        super::tests::config(json!({"endpoint": "http://127.0.0.1:9000", "region": null, "prefix": null}));
    assert_eq!((minio.region.as_str(), minio.path_style), ("us-east-1", true));
    assert_eq!(minio.shown, "http://127.0.0.1:9000/audit/");
}

#[test]
fn mistakes_are_named_with_their_path() {
    for (more, start) in [
        (json!({"bucket": "s3://audit"}), "exports[0].bucket: is not the name of a bucket"),
        (json!({"prefix": "/x"}), "exports[0].prefix: must be letters"),
        (json!({"prefix": "a//b"}), "exports[0].prefix: must be letters"),
        (json!({"prefix": "a/../b/"}), "exports[0].prefix: must be letters"),
        (json!({"prefix": "a b/"}), "exports[0].prefix: must be letters"),
        (json!({"region": null}), "exports[0].region: is missing"),
        (json!({"region": "eu central"}), "exports[0].region: `eu central` is not a region"),
        (json!({"endpoint": "http://x/audit"}), "exports[0].endpoint: must not hold a path"),
        (json!({"access_key_id": "a"}), "exports[0].secret_access_key: is missing"),
        (json!({"secret_access_key": "hunter2"}), "exports[0].access_key_id: is missing"),
        (json!({"session_token": "hunter2"}), "exports[0].session_token: needs"),
        (json!({"kms_key_id": "k"}), "exports[0].kms_key_id: needs `sse: aws:kms`"),
        (json!({"kms_key_id": "k", "sse": "AES256"}), "exports[0].kms_key_id: needs `sse: aws:kms`"),
        (json!({"sse": "kms"}), "exports[0].sse: unknown value `kms`"),
        (json!({"format": "csv"}), "exports[0].format: unknown value `csv`"),
        (
            json!({"object_lock": {"mode": "COMPLIANCE", "retain_days": 0}}),
            "exports[0].object_lock.retain_days: `0`",
        ),
        (
            json!({"object_lock": {"mode": "FOREVER", "retain_days": 1}}),
            "exports[0].object_lock.mode: unknown value",
        ),
        (json!({"linger_ms": 300_001}), "exports[0].linger_ms: `300001` is out of range"),
        (json!({"batch_bytes_max": 64_000_001}), "exports[0].batch_bytes_max: `64000001` is out of range"),
    ] {
        let problems = crate::export::parse(&entry(more.clone()), "exports[0]").unwrap_err();
        let found = format!("{}: {}", problems[0].path, problems[0].message);
        assert!(found.starts_with(start), "{more}: {found}");
        assert!(!found.contains("hunter2"));
    }
}
