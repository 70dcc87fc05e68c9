//! Two revisions judged together come to exactly what each comes to alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

use std::borrow::Cow;
use std::sync::Arc;

use policy::rollout::{Bucket, choose_rules};
use policy::{
    Masker, OutputMode, Pair, PolicyDocument, Revision, Role, Subject, Text, evaluate_input, scan_text,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Terms of which one is part of another, begins where another ends, is spelled otherwise, or is beyond ASCII.
const TERMS: [&str; 10] = [
    "napalm",
    "Napalm",
    "na",
    "palm oil",
    "oil",
    "c++",
    "\u{e9}t\u{e9}",
    "credential theft",
    "credential",
    "\u{6cb9}",
];

const PIECES: [&str; 20] = [
    "napalm",
    " ",
    "palm oil",
    "oil",
    "oils",
    "C++",
    "\u{e9}t\u{e9}",
    "e\u{301}te\u{301}",
    "credential",
    "\n theft",
    "na",
    "\u{6cb9}",
    "bob@example.com",
    "4111 1111 1111 1111",
    "[EMAIL_1]",
    ",",
    "so",
    "\u{200b}",
    "ｎａｐａｌｍ",
    "+1 415 555 0100",
];

fn revision(terms: &[&str], allow: &[&str], more: &Value) -> Arc<Revision> {
    let mut rules = json!({"denylist": terms, "allowlist": allow});
    rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

fn some_revision() -> impl Strategy<Value = Arc<Revision>> {
    let more = prop::sample::select(vec![
        json!({"redact": true}),
        json!({"redact": true, "response_pattern": "rewrite"}),
        json!({"redact": true, "redaction": {"entities": ["EMAIL_ADDRESS"]}}),
        json!({"redact": true, "redaction": {"actions": {"EMAIL_ADDRESS": "hash", "CREDIT_CARD": "refuse"}}}),
        json!({"redact": false, "scan_system": true, "response_pattern": "rewrite"}),
    ]);
    let terms = prop::sample::subsequence(TERMS.to_vec(), 0..=TERMS.len()).prop_shuffle();
    let allow = prop::sample::subsequence(vec!["so", "oil"], 0..=2);
    (terms, allow, more).prop_map(|(terms, allow, more)| revision(&terms, &allow, &more))
}

fn some_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_request_is_judged_by_each_as_if_alone(
        first in some_revision(),
        second in some_revision(),
        contents in prop::collection::vec((any::<bool>(), some_text()), 1..4),
    ) {
        let texts: Vec<Text<'_>> = contents
            .iter()
            .enumerate()
            .map(|(message, (is_user, text))| Text {
                message,
                role: if *is_user { Role::User } else { Role::System },
                is_content: true,
                text: Cow::Borrowed(text),
            })
            .collect();
        let subject = Subject::default();
        let alone = |revision: &Revision| evaluate_input(revision, &subject, &texts, &mut Masker::new());
        let pair = Pair::new(Arc::clone(&first), Arc::clone(&second));
        let [one, other] =
            pair.evaluate_input([&subject, &subject], &texts, [&mut Masker::new(), &mut Masker::new()]);
        prop_assert_eq!(one, alone(&first));
        prop_assert_eq!(other, alone(&second));
    }

    #[test]
    fn an_answer_is_judged_by_each_as_if_alone(
        first in some_revision(),
        second in some_revision(),
        text in some_text(),
        stops in any::<bool>(),
    ) {
        let subject = Subject::default();
        let mode = if stops { OutputMode::Stop } else { OutputMode::Mask };
        let alone = |revision: &Revision, mode| scan_text(revision, &subject, &text, mode, &mut Masker::new());
        let pair = Pair::new(Arc::clone(&first), Arc::clone(&second));
        let mut released = String::new();
        let maskers = [&mut Masker::new(), &mut Masker::new()];
        let [one, other] = pair.scan_text_into([&subject, &subject], &text, mode, maskers, &mut released);
        let (expected, findings) = alone(&first, mode);
        prop_assert_eq!(one.changed.then_some(released), expected);
        prop_assert_eq!(one, findings);
        prop_assert_eq!(other, alone(&second, OutputMode::Mask).1);
    }

    #[test]
    fn a_rule_that_is_off_counts_as_not_there(
        tried in prop::sample::subsequence(TERMS.to_vec(), 0..=4),
        text in some_text(),
    ) {
        // Spellings of one form are one rule.
        let is_tried = |term: &&str| tried.iter().any(|tried| tried.to_lowercase() == term.to_lowercase());
        let others: Vec<&str> = TERMS.into_iter().filter(|term| !is_tried(term)).collect();
        let overrides: Vec<Value> = tried.iter()
            .map(|term| json!({"term": term, "action": "rewrite", "rollout": {"shadow": {"enabled": true, "sample_percent": 100}}}))
            .collect();
        let all = revision(&TERMS, &[], &json!({"redact": true, "overrides": overrides}));
        let rest = revision(&others, &[], &json!({"redact": true}));
        let off = choose_rules(all.tried_rules(), false, "t", |digest| Bucket::of("p", digest, Some("u"), "k")).off;
        let subject = Subject { off, ..Subject::new("t") };
        let texts = [Text { message: 0, role: Role::User, is_content: true, text: Cow::Borrowed(text.as_str()) }];
        let (with, without) = (
            evaluate_input(&all, &subject, &texts, &mut Masker::new()),
            evaluate_input(&rest, &Subject::new("t"), &texts, &mut Masker::new()),
        );
        prop_assert_eq!(with, without);
        let scan = |revision: &Revision, subject: &Subject, mode| scan_text(revision, subject, &text, mode, &mut Masker::new());
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            prop_assert_eq!(scan(&all, &subject, mode), scan(&rest, &Subject::new("t"), mode));
        }
    }
}
