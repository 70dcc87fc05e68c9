//! One line of a request file judged by two policies: `policy diff` promises 200,000 a second on two cores, 10 µs each.

#![expect(clippy::unwrap_used, reason = "this whole binary is a benchmark")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use judge::flips::{Flips, Pair};
use policy::{PolicyDocument, Revision};
use serde_json::json;

fn revision(denylist: &[&str]) -> Arc<Revision> {
    let document = json!({"policy_id": "p", "rules": {"denylist": denylist, "redact": true}});
    Arc::new(Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap())
}

fn lines(c: &mut Criterion) {
    let pair =
        Pair::new(revision(&["credential theft", "malware"]), revision(&["credential theft", "ransomware"]));
    let line = |content: &str| {
        let message = json!({"role": "user", "content": content});
        let line =
            json!({"model": "m", "messages": [message], "policy_user": "u1", "policy_project_id": "p1"});
        Bytes::from(line.to_string())
    };
    let mut group = c.benchmark_group("flips");
    group.throughput(Throughput::Elements(1));
    for (name, text) in [
        ("same", "Please change the address of my account to the one I gave you yesterday."),
        ("redacted", "My e-mail address is jo@example.com, can you send the invoice there?"),
        ("flips", "I think that there is malware on the stick that I got from you."),
    ] {
        let (line, mut flips) = (line(text), Flips::default());
        group.bench_function(name, |b| b.iter(|| pair.judge(black_box(&line), &mut flips).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
