//! What a candidate beside the stable revision adds: a request and an answer of 2 KB, judged by one revision and by both. The
//! candidate has 50 terms more than the 1,000 of stable.

mod corpus;

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Masker, OutputMode, Pair, Role, Subject, Text, evaluate_input, scan_text};

use corpus::{NON_ASCII, WORDS, revision, text};

const MORE: [&str; 50] = [
    "amber", "basalt", "cinder", "dapple", "ember", "fathom", "gambit", "harrow", "indigo", "juniper",
    "kestrel", "lantern", "meadow", "nimbus", "obsidian", "paddock", "quarry", "ramble", "saffron",
    "thistle", "umber", "vellum", "willow", "xenon", "yonder", "zephyr", "aster", "bramble", "copper",
    "dune", "elder", "fern", "glade", "heath", "iris", "jasper", "kelp", "larch", "moss", "nettle", "onyx",
    "pollen", "quill", "reed", "sedge", "tarn", "ulmus", "vetch", "wren", "yarrow",
];

fn beside(c: &mut Criterion) {
    let (stable, candidate) = (revision(1_000, &[]), revision(1_000, &MORE));
    let pair = Pair::new(Arc::clone(&stable), candidate);
    let subject = Subject::default();
    for (kind, words) in [("ascii", &WORDS[..]), ("non-ascii", &NON_ASCII[..])] {
        let content = text(words);
        let texts = || {
            let text = Cow::Borrowed(black_box(content.as_str()));
            [Text { message: 0, role: Role::User, is_content: true, text }]
        };
        c.bench_function(&format!("request of 2 KB {kind}: stable alone"), |b| {
            b.iter(|| black_box(evaluate_input(&stable, &subject, &texts(), &mut Masker::new())));
        });
        c.bench_function(&format!("request of 2 KB {kind}: candidate beside"), |b| {
            b.iter(|| {
                let maskers = [&mut Masker::new(), &mut Masker::new()];
                black_box(pair.evaluate_input([&subject, &subject], &texts(), maskers))
            });
        });
        c.bench_function(&format!("answer of 2 KB {kind}: stable alone"), |b| {
            b.iter(|| {
                let mut masker = Masker::new();
                black_box(scan_text(&stable, &subject, black_box(&content), OutputMode::Mask, &mut masker))
            });
        });
        c.bench_function(&format!("answer of 2 KB {kind}: candidate beside"), |b| {
            b.iter(|| {
                let maskers = [&mut Masker::new(), &mut Masker::new()];
                let mut out = String::new();
                let subjects = [&subject, &subject];
                black_box(pair.scan_text_into(
                    subjects,
                    black_box(&content),
                    OutputMode::Mask,
                    maskers,
                    &mut out,
                ))
            });
        });
    }
}

criterion_group!(benches, beside);
criterion_main!(benches);
