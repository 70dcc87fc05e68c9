//! How much a stream holds back: no more than the stated reach, whatever is pushed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

use std::sync::Arc;

use policy::{Flow, Masker, OutputMode, OutputScan, PolicyDocument, REACH_CHARS_MAX, Revision, Subject};
use serde_json::{Value, json};

/// The most that is held over a text that comes character by character, in bytes.
fn most_held(rules: Value, text: &str) -> usize {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    let revision = Arc::new(Revision::compile(document, 1).unwrap());
    let mut scan = OutputScan::new(revision, &Subject::default(), OutputMode::Mask);
    let (mut masker, mut released) = (Masker::new(), String::new());
    let mut most = 0;
    for c in text.chars() {
        assert_eq!(scan.push(c.encode_utf8(&mut [0; 4]), &mut masker, &mut released), Flow::Continue);
        most = most.max(scan.held());
    }
    most
}

#[test]
fn entities_hold_back_no_more_than_their_reach() {
    let long = |piece: &str| piece.repeat(5_000 / piece.len());
    for text in [
        long("a"),
        long("1"),
        long("1 "),
        long("1-"),
        long("a."),
        long("a@"),
        long("a@b."),
        long("F:"),
        long("+1"),
        long("https://a:b"),
        format!("https://{}", long("u:")),
        format!("ghp_{}", long("A")),
        format!("eyJ{}", long("hbGc.")),
        format!("-----BEGIN {}", long("A")),
        format!("-----BEGIN RSA PRIVATE KEY-----\n{}", long("QUJD\n")),
        format!("password = {}", long("Ab3$")),
        format!("x{}@{}", long("a"), long("b.")),
    ] {
        let most = most_held(json!({"redact": true}), &text);
        assert!(most <= REACH_CHARS_MAX, "{most} bytes of {:?}…", &text[..20.min(text.len())]);
    }
}

#[test]
fn terms_hold_back_no_more_than_their_reach() {
    let term = "ab ".repeat(REACH_CHARS_MAX / 3);
    let text = "ab ".repeat(2_000);
    assert!(most_held(json!({"denylist": [term.trim()]}), &text) <= REACH_CHARS_MAX + 1);
}
