//! What scoring costs: 1 KB of prose on one core, and 64 KB.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moderation::Classifier;

const PROSE: &str = "The committee met on Tuesday to go over the plans for the new library, which has been delayed \
    twice since the spring. Most members liked the larger reading room, although a few asked whether the budget would \
    hold if prices kept rising. An engineer explained how the roof is going to be lifted into place by two cranes. ";

fn score(c: &mut Criterion) {
    let classifier = Classifier::embedded();
    let mut group = c.benchmark_group("score");
    for bytes in [1024, 65536] {
        let text: String = PROSE.chars().cycle().take(bytes).collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{} KB", bytes / 1024), |b| {
            b.iter(|| classifier.score(black_box(&text)));
        });
    }
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
