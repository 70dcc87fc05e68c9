//! What judging costs: a request of 2 KB by 1,000 and 10,000 denied terms with redaction on, in ASCII and not, whole and
//! as a stream of words.

mod corpus;

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Masker, OutputMode, OutputScan, Role, Subject, Text, evaluate_input};

use corpus::{NON_ASCII, WORDS, revision, text};

fn evaluate(c: &mut Criterion) {
    for (kind, words) in [("ascii", &WORDS[..]), ("non-ascii", &NON_ASCII[..])] {
        let content = text(words);
        for terms in [1_000, 10_000] {
            let revision = revision(terms, &[]);
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
    let revision = revision(1_000, &[]);
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
