//! Texts and policies to measure with: the same in every run.

#![expect(clippy::panic, reason = "a benchmark whose policy does not compile has nothing to measure")]

use std::sync::Arc;

use policy::{PolicyDocument, Revision};
use serde_json::json;

const TEXT_BYTES: usize = 2_048;

pub const WORDS: [&str; 32] = [
    "the",
    "customer",
    "asked",
    "about",
    "a",
    "refund",
    "for",
    "an",
    "order",
    "that",
    "came",
    "late",
    "and",
    "we",
    "should",
    "answer",
    "within",
    "one",
    "day",
    "please",
    "write",
    "short",
    "friendly",
    "reply",
    "which",
    "names",
    "our",
    "policy",
    "but",
    "makes",
    "no",
    "promises.",
];

pub const NON_ASCII: [&str; 12] = [
    "die",
    "Rückgabe",
    "für",
    "größere",
    "Aufträge",
    "の注文が",
    "遅れて",
    "届いた",
    "заказ",
    "пришёл",
    "поздно",
    "naïve",
];

/// Knuth's MMIX generator.
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from.get((self.0 >> 33) as usize % from.len()).copied().unwrap_or_default()
    }
}

pub fn text(words: &[&str]) -> String {
    let mut numbers = Numbers(2);
    let mut text = String::new();
    while text.len() < TEXT_BYTES {
        text.push_str(numbers.pick(words));
        text.push(' ');
    }
    text
}

/// A policy with so many terms; `more` come first.
pub fn revision(terms: usize, more: &[&str]) -> Arc<Revision> {
    let mut numbers = Numbers(1);
    let mut word = || {
        let starts = ["br", "dr", "fl", "gr", "kr", "pl", "sk", "tr", "vl", "z", "qu", "st"];
        let ends = ["axo", "ebu", "ilm", "ork", "umba", "yth", "ane", "ixo", "ody", "uzz"];
        (0..3).map(|_| numbers.pick(&starts).to_owned() + numbers.pick(&ends)).collect::<String>()
    };
    let own =
        (0..terms).map(|at| if at.is_multiple_of(2) { word() } else { format!("{} {}", word(), word()) });
    let terms: Vec<String> = more.iter().map(|term| (*term).to_owned()).chain(own).collect();
    let document = json!({"policy_id": "bench", "rules": {"denylist": terms, "redact": true}});
    let document = PolicyDocument::parse(&document).unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::new(Revision::compile(document, 1).unwrap_or_else(|problems| panic!("{problems:?}")))
}
