//! The file against a real disk: what is in it, rotation, what others do to it, and a torn line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::delivery::{BodyBuilder, Destination, Parcel, Push, SendOutcome};
use crate::export::{self, DestinationConfig};
use crate::testing::{NOW_MS, example_event, stored};

struct Bench {
    dir: tempfile::TempDir,
    path: PathBuf,
    config: File,
    destination: FileDestination,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let config = config(json!({"path": path}));
    Bench { destination: FileDestination::new(config.clone()), dir, path, config }
}

fn config(more: serde_json::Value) -> File {
    let mut entry = json!({"destination": "file"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match export::parse(&entry, "exports[0]").unwrap().destination {
        DestinationConfig::File(config) => config,
        other => panic!("{other:?}"),
    }
}

fn parcel(destination: &FileDestination, seq: u64, now_ms: i64) -> Parcel {
    let mut body = destination.begin(now_ms).unwrap();
    assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
    let body = body.finish().unwrap().body;
    Parcel { body, note: String::new(), seqs: vec![seq], first: seq, last: seq, attempts: 1, now_ms }
}

async fn send(destination: &FileDestination, seq: u64, now_ms: i64) -> SendOutcome {
    destination.send(parcel(destination, seq, now_ms)).await
}

impl Bench {
    async fn delivered(&self, seq: u64) {
        assert_eq!(send(&self.destination, seq, NOW_MS).await, SendOutcome::Delivered);
    }

    /// Seqs in each file, oldest first, the current one last.
    fn seqs(&self) -> Vec<Vec<u64>> {
        let mut paths: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        if paths.first() == Some(&self.path) {
            let current = paths.remove(0);
            paths.push(current);
        }
        let seq =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
        paths.iter().map(|path| fs::read_to_string(path).unwrap().lines().map(seq).collect()).collect()
    }
}

#[tokio::test]
async fn lines_are_appended_as_the_log_has_them() {
    let bench = bench();
    bench.delivered(1).await;
    bench.delivered(2).await;
    let text = fs::read(&bench.path).unwrap();
    let (one, two) = (stored(example_event(), 1).text, stored(example_event(), 2).text);
    assert_eq!(text, [&one[..], b"\n", &two[..], b"\n"].concat());
    assert_eq!(fs::metadata(&bench.path).unwrap().permissions().mode() & 0o007, 0, "not for everybody");
    // Another run goes on where this one ended.
    let again = FileDestination::new(bench.config.clone());
    assert_eq!(send(&again, 3, NOW_MS).await, SendOutcome::Delivered);
    assert_eq!(bench.seqs(), [[1, 2, 3]]);
}

#[tokio::test]
async fn a_file_is_rotated_before_it_grows_too_large() {
    let bench = bench();
    let line = stored(example_event(), 1).text.len() as u64 + 1;
    let config = File { rotate_bytes: 2 * line, ..bench.config.clone() };
    let destination = FileDestination::new(config);
    for seq in 1..=5 {
        assert_eq!(send(&destination, seq, NOW_MS).await, SendOutcome::Delivered);
    }
    assert_eq!(bench.seqs(), [vec![1, 2], vec![3, 4], vec![5]]);
    let names: Vec<_> =
        fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in ["audit.jsonl.20260116T182211Z", "audit.jsonl.20260116T182211Z-1", "audit.jsonl"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn a_file_is_rotated_once_it_is_old() {
    let bench = bench();
    bench.delivered(1).await;
    let hour = 3_600_000;
    assert_eq!(send(&bench.destination, 2, NOW_MS + 23 * hour).await, SendOutcome::Delivered);
    assert_eq!(send(&bench.destination, 3, NOW_MS + 24 * hour).await, SendOutcome::Delivered);
    assert_eq!(bench.seqs(), [vec![1, 2], vec![3]]);
}

#[tokio::test]
async fn a_file_that_was_moved_or_deleted_is_made_anew() {
    let bench = bench();
    bench.delivered(1).await;
    fs::rename(&bench.path, bench.dir.path().join("audit.jsonl.1")).unwrap();
    bench.delivered(2).await;
    assert_eq!(bench.seqs(), [vec![1], vec![2]]);
    fs::remove_file(&bench.path).unwrap();
    bench.delivered(3).await;
    assert_eq!(bench.seqs(), [vec![1], vec![3]]);
}

#[tokio::test]
async fn a_torn_line_is_cut_off() {
    let bench = bench();
    bench.delivered(1).await;
    let mut text = fs::read(&bench.path).unwrap();
    text.extend_from_slice(&stored(example_event(), 2).text[..100]);
    fs::write(&bench.path, &text).unwrap();
    let again = FileDestination::new(bench.config.clone());
    assert_eq!(send(&again, 2, NOW_MS).await, SendOutcome::Delivered);
    assert_eq!(bench.seqs(), [[1, 2]]);
    // Nothing but half a line, longer than what is read in one go.
    fs::write(&bench.path, vec![b'x'; 200_000]).unwrap();
    let again = FileDestination::new(bench.config.clone());
    assert_eq!(send(&again, 3, NOW_MS).await, SendOutcome::Delivered);
    assert_eq!(bench.seqs(), [[3]]);
}

#[tokio::test]
async fn what_cannot_be_written_says_why() {
    let bench = bench();
    let held = |config: File| async move {
        match send(&FileDestination::new(config), 1, NOW_MS).await {
            SendOutcome::Hold { why } => why,
            other => panic!("{other:?}"),
        }
    };
    let missing = bench.dir.path().join("no/such/audit.jsonl");
    let why = held(File { path: missing.clone(), ..bench.config.clone() }).await;
    assert!(why.contains("make its directory") && why.contains(missing.to_str().unwrap()), "{why}");
    let why = held(File { path: bench.dir.path().to_owned(), ..bench.config.clone() }).await;
    assert!(why.contains("give a file"), "{why}");
}

#[tokio::test]
async fn a_full_disk_is_tried_again_and_leaves_no_half_line() {
    let config = config(json!({"path": "/dev/full"}));
    let outcome = send(&FileDestination::new(config), 1, NOW_MS).await;
    assert!(matches!(&outcome, SendOutcome::Retry { why, .. } if why.contains("make room")), "{outcome:?}");
}

#[test]
fn the_configuration_names_a_file_and_bounds() {
    let config = config(json!({"path": "logs/audit.jsonl"}));
    assert_eq!((config.rotate_bytes, config.rotate_after.as_secs()), (100_000_000, 86_400));
    for (more, start) in [
        (json!({"path": "logs/"}), "exports[0].path: must name a file"),
        (json!({"path": "a", "rotate_bytes": 5}), "exports[0].rotate_bytes: `5` is out of range"),
        (json!({"path": "a", "rotate_hours": 0}), "exports[0].rotate_hours: `0` is out of range"),
        (json!({}), "exports[0].path: required field `path` is missing"),
    ] {
        let mut entry = json!({"destination": "file"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problems = export::parse(&entry, "exports[0]").unwrap_err();
        assert!(problems[0].to_string().starts_with(start), "{problems:?}");
    }
}
