//! What judging costs: a request of 2 KB by 1,000 and 10,000 denied terms with redaction on, in ASCII and not, whole and
//! as a stream of words.

#![expect(clippy::panic, reason = "a benchmark whose policy does not compile has nothing to measure")]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Masker, OutputMode, OutputScan, PolicyDocument, Revision, Role, Subject, Text, evaluate_input};
use serde_json::json;

const TEXT_BYTES: usize = 2_048;

const WORDS: [&str; 32] = [
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

const NON_ASCII: [&str; 12] = [
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

fn text(words: &[&str]) -> String {
    let mut numbers = Numbers(2);
    let mut text = String::new();
    while text.len() < TEXT_BYTES {
        text.push_str(numbers.pick(words));
        text.push(' ');
    }
    text
}

fn revision(terms: usize) -> Arc<Revision> {
    let mut numbers = Numbers(1);
    let mut word = || {
        let starts = ["br", "dr", "fl", "gr", "kr", "pl", "sk", "tr", "vl", "z", "qu", "st"];
        let ends = ["axo", "ebu", "ilm", "ork", "umba", "yth", "ane", "ixo", "ody", "uzz"];
        (0..3).map(|_| numbers.pick(&starts).to_owned() + numbers.pick(&ends)).collect::<String>()
    };
    let terms: Vec<String> = (0..terms)
        .map(|at| if at.is_multiple_of(2) { word() } else { format!("{} {}", word(), word()) })
        .collect();
    let document = json!({"policy_id": "bench", "rules": {"denylist": terms, "redact": true}});
    let document = PolicyDocument::parse(&document).unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::new(Revision::compile(document, 1).unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn evaluate(c: &mut Criterion) {
    for (kind, words) in [("ascii", &WORDS[..]), ("non-ascii", &NON_ASCII[..])] {
        let content = text(words);
        for terms in [1_000, 10_000] {
            let revision = revision(terms);
            c.bench_function(&format!("evaluate 2 KB {kind}, {terms} terms, redaction"), |b| {
                b.iter(|| {
                    let texts = [Text {
                        message: 0,
                        role: Role::User,
                        is_content: true,
                        text: Cow::Borrowed(black_box(content.as_str())),
                    }];
                    black_box(evaluate_input(&revision, &Subject::default(), &texts, &mut Masker::new()))
                });
            });
        }
    }
}

fn stream(c: &mut Criterion) {
    let revision = revision(1_000);
    let content = text(&WORDS);
    let words: Vec<&str> = content.split_inclusive(' ').collect();
    c.bench_function("scan 2 KB in chunks of a word, 1000 terms, redaction", |b| {
        b.iter(|| {
            let mut scan = OutputScan::new(Arc::clone(&revision), &Subject::default(), OutputMode::Mask);
            let mut masker = Masker::new();
            let mut released = String::with_capacity(content.len());
            for word in &words {
                let _ = scan.push(black_box(word), &mut masker, &mut released);
            }
            let _ = scan.finish(&mut masker, &mut released);
            black_box(released)
        });
    });
}

criterion_group!(benches, evaluate, stream);
criterion_main!(benches);
