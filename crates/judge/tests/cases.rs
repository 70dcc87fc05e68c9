//! The workspace's own cases, in the format and by the runner of users' `policy test`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this whole binary is a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use judge::cases::{CaseFile, Coverage, check};
use policy::{PolicyDocument, Revision};

/// Where the cases are: beside the crate whose behaviour they show. Each document brings its policy.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/tests/cases");

fn revision(document: &serde_json::Value) -> Arc<Revision> {
    Arc::new(Revision::compile(PolicyDocument::parse(document).unwrap(), 1).unwrap())
}

/// What does not hold in one file.
fn failures(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let cases = CaseFile::read(&value).unwrap_or_else(|problems| panic!("{}: {problems:?}", file.display()));
    let mut policies: BTreeMap<String, (Arc<Revision>, Coverage)> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases.cases {
        let document = case.policy.as_ref().or(cases.policy.as_ref()).expect("a policy");
        let (revision, coverage) =
            policies.entry(document.to_string()).or_insert_with(|| (revision(document), Coverage::default()));
        let checked = check(revision, case, coverage).unwrap();
        let told = checked.mismatches.iter().map(|mismatch| format!("{}: {mismatch:?}", case.name));
        failures.extend(told);
    }
    for (revision, coverage) in policies.values() {
        failures.extend(coverage.missed(revision).iter().map(|rule| format!("no case reaches {rule:?}")));
    }
    failures
}

#[test]
fn every_case_holds_and_every_rule_is_reached() {
    let mut files: Vec<_> = std::fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let failures: Vec<String> = files
        .iter()
        .flat_map(|file| failures(file).into_iter().map(|told| format!("{}: {told}", file.display())))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
