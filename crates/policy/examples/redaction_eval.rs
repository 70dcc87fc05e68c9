//! Measures redaction on a file of labelled rows: `cargo run -p policy --example redaction_eval -- ROWS.jsonl [--errors]`.
//!
//! A row is `{"text", "spans": [{"start", "end", "type"}], "annotated_types"}`: offsets are characters, and a find counts
//! only where its type is annotated in the row. A labelled span is found by any find of its type that overlaps it, and a
//! find is right if it overlaps any labelled span of its type. A row without spans is clean.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a tool for developers: it prints, and stops at a file it cannot read"
)]

use std::collections::{BTreeMap, BTreeSet};

use policy::finds::{Found, find_violations};
use policy::{EntityType, PolicyDocument, Revision, Subject};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Row {
    text: String,
    spans: Vec<Span>,
    annotated_types: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Span {
    start: usize,
    end: usize,
    r#type: String,
}

#[derive(Default)]
struct Count {
    labelled: u64,
    found_labelled: u64,
    finds: u64,
    right_finds: u64,
}

impl Count {
    fn precision(&self) -> f64 {
        share(self.right_finds, self.finds)
    }

    fn recall(&self) -> f64 {
        share(self.found_labelled, self.labelled)
    }

    fn f1(&self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { part as f64 / all as f64 }
}

/// The types whose mean is the headline: those with a pattern or a checksum and enough rows.
const HEADLINE: [&str; 10] = [
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "US_SSN",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "UK_NHS",
    "ES_NIF",
];

/// Names that the data has for a type of ours.
fn our_name(name: &str) -> &str {
    match name {
        "US_ROUTING_NUMBER" => "ABA_ROUTING_NUMBER",
        name => name,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("name a file of rows");
    let shows_errors = arguments.next().is_some();
    let document =
        json!({"policy_id": "p", "rules": {"redact": true, "redaction": {"entities": EntityType::ALL}}});
    let document = PolicyDocument::parse(&document).expect("a valid document");
    let revision = Revision::compile(document, 1).expect("a valid document");
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let (mut clean, mut alarms) = (0, 0);
    for line in std::fs::read_to_string(&path).expect("a readable file").lines() {
        let row: Row = serde_json::from_str(line).expect("a row of the format above");
        let offsets: Vec<usize> = row.text.char_indices().map(|(at, _)| at).chain([row.text.len()]).collect();
        let byte = |at: usize| offsets.get(at).copied().unwrap_or(row.text.len());
        let annotated: BTreeSet<&str> = row.annotated_types.iter().map(|name| our_name(name)).collect();
        let labelled: Vec<(usize, usize, &str)> =
            row.spans.iter().map(|span| (byte(span.start), byte(span.end), our_name(&span.r#type))).collect();
        let finds: Vec<(usize, usize, &str)> = find_violations(&revision, &Subject::default(), &row.text)
            .into_iter()
            .filter_map(|find| match find.what {
                Found::Entity(entity) => Some((find.range.start, find.range.end, entity.as_str())),
                Found::Term { .. } => None,
            })
            .filter(|find| annotated.contains(find.2))
            .collect();
        let overlaps =
            |a: &(usize, usize, &str), b: &(usize, usize, &str)| a.2 == b.2 && a.0 < b.1 && b.0 < a.1;
        for span in &labelled {
            let count = counts.entry(span.2.to_owned()).or_default();
            let is_found = finds.iter().any(|find| overlaps(span, find));
            count.labelled += 1;
            count.found_labelled += u64::from(is_found);
            let known = EntityType::ALL.iter().any(|entity| entity.as_str() == span.2);
            if shows_errors && known && !is_found {
                println!("missed {}: {:?} in {:?}", span.2, row.text.get(span.0..span.1), row.text);
            }
        }
        for find in &finds {
            let count = counts.entry(find.2.to_owned()).or_default();
            let is_right = labelled.iter().any(|span| overlaps(find, span));
            count.finds += 1;
            count.right_finds += u64::from(is_right);
            if shows_errors && !is_right {
                println!("wrong {}: {:?} in {:?}", find.2, row.text.get(find.0..find.1), row.text);
            }
        }
        if row.spans.is_empty() {
            clean += 1;
            alarms += u64::from(!finds.is_empty());
        }
    }
    report(&counts, clean, alarms);
    report_time(&revision, &path);
}

/// Processor time per kibibyte over the file itself, which is dense with entities.
fn report_time(revision: &Revision, path: &str) {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let pieces: Vec<&str> = text.lines().collect();
    let Some(before) = processor_ns() else { return };
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    for piece in &pieces {
        std::hint::black_box(find_violations(revision, &Subject::default(), piece));
    }
    let spent = processor_ns().unwrap_or(before) - before;
    println!("processor time: {} ns per KiB", spent * 1024 / bytes.max(1) as u64);
}

/// Of this process, where the system tells it.
fn processor_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn report(counts: &BTreeMap<String, Count>, clean: u64, alarms: u64) {
    println!("| type | labelled | precision | recall | F1 |\n|---|---|---|---|---|");
    for (name, count) in counts {
        if EntityType::ALL.iter().any(|entity| entity.as_str() == name) {
            let (precision, recall, f1) = (count.precision(), count.recall(), count.f1());
            println!("| {name} | {} | {precision:.3} | {recall:.3} | {f1:.3} |", count.labelled);
        }
    }
    let f1 = |name: &str| counts.get(name).map_or(0.0, Count::f1);
    #[expect(clippy::cast_precision_loss, reason = "ten")]
    let mean = HEADLINE.iter().map(|name| f1(name)).sum::<f64>() / HEADLINE.len() as f64;
    println!("\nmacro F1 over {}: {mean:.3}", HEADLINE.join(", "));
    println!("clean rows with an alarm: {alarms} of {clean} ({:.2} %)", share(alarms, clean) * 100.0);
}
