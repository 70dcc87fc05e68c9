//! The format of cases from outside: what is read, what is refused, and that a case that does not hold says so.

use std::sync::Arc;

use policy::{PolicyDocument, Revision};
use serde_json::{Value, json};

use super::*;

fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

fn one(case: Value) -> Case {
    CaseFile::read(&json!({"cases": [case]})).unwrap().cases.remove(0)
}

fn problems(value: Value) -> Vec<String> {
    let problems = CaseFile::read(&value).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.path).collect()
}

fn fields(rules: Value, case: Value) -> Vec<&'static str> {
    let checked = check(&revision(rules), &one(case), &mut Coverage::default()).unwrap();
    checked.mismatches.iter().map(|mismatch| mismatch.field).collect()
}

#[test]
fn everything_that_is_wrong_with_a_document_is_said_by_path() {
    assert_eq!(
        problems(json!({"cases": [
            {"name": "a", "text": "x", "expect": {"decison": "allow"}},
            {"name": "b", "txt": "x", "expect": {"decision": "maybe"}},
        ], "polcy": "p"})),
        ["cases[0].expect.decison", "cases[1].txt", "cases[1].expect.decision", "polcy"]
    );
    let case = |fields: Value| {
        let mut case = json!({"name": "a", "text": "x", "expect": {"decision": "allow"}});
        case.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        problems(json!({"cases": [case]}))
    };
    assert_eq!(case(json!({})), Vec::<String>::new());
    assert_eq!(case(json!({"messages": []})), ["cases[0].messages"]);
    assert_eq!(case(json!({"text": null})), ["cases[0]"]);
    assert_eq!(case(json!({"text": null, "messages": [{"role": "user"}]})), ["cases[0].messages"]);
    assert_eq!(case(json!({"answer": {"choices": 1}})), ["cases[0].answer"]);
    assert_eq!(case(json!({"stream": [1]})), ["cases[0].stream"]);
    assert_eq!(case(json!({"stream": "a", "answer": "a"})), ["cases[0].stream"]);
    assert_eq!(case(json!({"policy": 5})), ["cases[0].policy"]);
    assert_eq!(case(json!({"expect": {}})), ["cases[0].expect"]);
    assert_eq!(case(json!({"expect": {"released": "x"}})), ["cases[0].expect.released"]);
    assert_eq!(
        case(json!({"expect": {"redactions": {"SECRET": "x"}}})),
        ["cases[0].expect.redactions.SECRET"]
    );
    let twice = json!({"name": "a", "text": "x", "expect": {"decision": "allow"}});
    assert_eq!(problems(json!({"cases": [twice, twice]})), ["cases[1].name"]);
    assert_eq!(problems(json!({"cases": []})), ["cases"]);
}

#[test]
fn each_field_of_an_expectation_is_compared() {
    let rules = json!({"denylist": ["bad", "worse"], "redact": true, "response_pattern": "rewrite"});
    let case = |expect: Value| {
        let case = json!({"name": "a", "text": "bad a@b.org", "stream": ["worse th", "an c@d.org"], "expect": expect});
        fields(rules.clone(), case)
    };
    let good = json!({
        "decision": "rewrite", "reason_code": "REWRITE", "stage": "input", "denylist_hits": ["worse", "bad"],
        "allowlist_hits": [], "triggered_categories": [], "redactions": {"EMAIL_ADDRESS": 2, "SECRET": 0},
        "redacted": " [EMAIL_1]", "released": "███ than [EMAIL_2]",
    });
    assert_eq!(case(good), Vec::<&str>::new());
    assert_eq!(case(json!({"redacted": [{"role": "user", "content": " [EMAIL_1]"}]})), Vec::<&str>::new());
    for (field, wrong) in [
        ("decision", json!("refuse")),
        ("reason_code", json!("REFUSE")),
        ("stage", json!("output")),
        ("denylist_hits", json!(["bad"])),
        ("allowlist_hits", json!(["bad"])),
        ("triggered_categories", json!(["hate"])),
        ("redactions", json!({"EMAIL_ADDRESS": 1})),
        ("redacted", json!("bad [EMAIL_1]")),
        ("released", json!("worse than [EMAIL_2]")),
    ] {
        let mut expect = json!({});
        expect[field] = wrong;
        assert_eq!(case(expect), [field]);
    }
}

#[test]
fn streams_are_cut_everywhere_and_a_stop_is_the_same_wherever() {
    let rules = json!({"denylist": ["credential theft", "theft ring"], "redact": true});
    let case = one(json!({
        "name": "a", "text": "hi", "stream": "to a@b.org: credential theft ring, and more",
        "expect": {"decision": "refuse", "stage": "output", "released": "to [EMAIL_1]: "},
    }));
    let checked = check(&revision(rules), &case, &mut Coverage::default()).unwrap();
    assert_eq!(checked.mismatches, []);
    assert_eq!(checked.cuts, 43, "42 places to cut, and every character alone");
}

#[test]
fn coverage_names_the_rules_that_no_case_reaches() {
    let revision = revision(json!({"denylist": ["bad", "worse", "worst"], "allowlist": ["good", "better"]}));
    let mut coverage = Coverage::default();
    for (text, answer) in [("bad", ""), ("good", "worse")] {
        let case = json!({"name": "a", "text": text, "answer": answer, "expect": {"decision": "refuse"}});
        assert_eq!(check(&revision, &one(case), &mut coverage).unwrap().mismatches, []);
    }
    let missed: Vec<_> = coverage.missed(&revision).into_iter().map(|rule| rule.path).collect();
    assert_eq!(missed, ["rules.denylist[2]", "rules.allowlist[1]"]);
    assert_eq!((coverage.cases, coverage.rules(&revision).len()), (2, 5));
}
