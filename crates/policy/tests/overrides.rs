//! Overrides: which of them a hit comes to, what becomes of the text, whose reason code is given, and that streams
//! agree with whole texts however they are cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

use std::borrow::Cow;
use std::sync::Arc;

use policy::{
    Category, Decision, EntityType, Fired, Flow, InputVerdict, Masker, OutputFindings, OutputMode,
    OutputScan, PolicyDocument, Revision, Role, Stage, Subject, Text, apply_edits, conclude, evaluate_input,
    scan_text,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

/// Terms by every action, and one without an override; secrets stay, social security numbers refuse.
fn mixed(pattern: &str) -> Arc<Revision> {
    revision(json!({
        "denylist": ["plain", "spared", "cut", "stop", "ask"],
        "redact": true,
        "response_pattern": pattern,
        "overrides": [
            {"term": "ask", "action": "escalate"},
            {"term": "Spared", "action": "allow", "reason_code": "KNOWN"},
            {"term": "cut", "action": "rewrite", "reason_code": "CUT"},
            {"term": "stop", "action": "refuse", "reason_code": "STOPPED"},
            {"term": "stop", "action": "allow", "targets": ["lab"]},
            {"entity": "SECRET", "action": "allow"},
            {"entity": "US_SSN", "action": "refuse", "reason_code": "SSN"},
            {"entity": "EMAIL_ADDRESS", "action": "rewrite", "reason_code": "MAIL"},
            {"target": "red-team", "action": "allow", "reason_code": "RED_TEAM"},
        ],
    }))
}

fn input(revision: &Revision, target: &str, text: &str) -> (InputVerdict, String) {
    let texts = [Text { message: 0, role: Role::User, is_content: true, text: Cow::Borrowed(text) }];
    let verdict = evaluate_input(revision, &Subject::new(target), &texts, &mut Masker::new());
    let changed = verdict.edits.first().map_or(text.to_owned(), |edits| apply_edits(text, &edits.edits));
    (verdict, changed)
}

#[track_caller]
fn check(revision: &Revision, target: &str, text: &str, decision: Decision, code: &str, becomes: &str) {
    let (verdict, changed) = input(revision, target, text);
    assert_eq!((verdict.decision, verdict.reason_code.as_str(), changed.as_str()), (decision, code, becomes));
    assert_eq!(verdict.add_instruction, decision == Decision::Rewrite);
}

#[test]
fn each_rule_has_its_own_action_and_code() {
    let revision = mixed("refuse");
    use Decision::{Allow, Escalate, Refuse, Rewrite};
    check(&revision, "t", "a plain word", Refuse, "REFUSE", "a plain word");
    check(&revision, "t", "a spared word", Allow, "KNOWN", "a spared word");
    check(&revision, "t", "a cut word", Rewrite, "CUT", "a  word");
    check(&revision, "t", "a spared and cut word", Rewrite, "CUT", "a spared and  word");
    check(&revision, "t", "ask", Escalate, "ESCALATE", "ask");
    check(&revision, "t", "ask, cut, stop", Refuse, "STOPPED", "ask, cut, stop");
    check(&revision, "t", "nothing", Allow, "ALLOW", "nothing");
    assert_eq!(input(&revision, "t", "spared").0.denylist_hits, [Arc::from("spared")]);
    // Rules that come to the same: a code of their own goes before the standard one.
    check(&revision, "t", "plain stop", Refuse, "STOPPED", "plain stop");
}

#[test]
fn entities_stay_are_replaced_or_refuse() {
    let revision = mixed("refuse");
    let secret = format!("ghp_{}", "Ab3".repeat(12));
    let text = format!("token {secret} end");
    let (verdict, changed) = input(&revision, "t", &text);
    assert_eq!((verdict.decision, changed), (Decision::Allow, text));
    assert!(verdict.redactions.is_empty());
    check(&revision, "t", "to a@b.org", Decision::Allow, "MAIL", "to [EMAIL_1]");
    check(&revision, "t", "ssn 536-22-1234", Decision::Refuse, "SSN", "ssn [SSN_1]");
    check(&revision, "t", "at 192.168.7.9", Decision::Allow, "REDACT", "at [IP_1]");
}

#[test]
fn an_override_for_an_entity_beats_what_its_type_comes_to() {
    let rules = |pattern: Value, overrides: Value| {
        let mut rules =
            json!({"redact": true, "redaction": {"actions": {"US_SSN": "refuse", "IP_ADDRESS": "hash"}}});
        rules["overrides"] = overrides;
        rules["rewrite_instead_of_refuse"] = pattern;
        revision(rules)
    };
    let hard = |overrides: Value| rules(json!(false), overrides);
    let ssn = "ssn 536-22-1234";
    check(&hard(json!([])), "t", ssn, Decision::Refuse, "REFUSE", "ssn [SSN_1]");
    let left = hard(json!([{"entity": "US_SSN", "action": "allow"}]));
    check(&left, "t", ssn, Decision::Allow, "ALLOW", ssn);
    let masked = hard(json!([{"entity": "US_SSN", "action": "rewrite"}]));
    check(&masked, "t", ssn, Decision::Allow, "REDACT", "ssn [SSN_1]");
    let named = hard(json!([{"entity": "US_SSN", "reason_code": "SSN"}]));
    check(&named, "t", ssn, Decision::Refuse, "SSN", "ssn [SSN_1]");
    let target = hard(json!([{"target": "t", "action": "allow"}]));
    check(&target, "t", ssn, Decision::Allow, "REDACT", "ssn [SSN_1]");
    check(&target, "u", ssn, Decision::Refuse, "REFUSE", "ssn [SSN_1]");
    let soft = rules(json!(true), json!([{"entity": "IP_ADDRESS", "action": "refuse"}]));
    check(&soft, "t", ssn, Decision::Rewrite, "REWRITE", "ssn [SSN_1]");
    assert_eq!(input(&soft, "t", "at 192.168.7.9").0.decision, Decision::Refuse);
    // What was softened is masked in a stream, and the stream goes on.
    let streamed = stream(&soft, &Subject::new("t"), &[ssn, " on"]);
    assert_eq!((streamed.released.as_str(), streamed.flow), ("ssn [SSN_1] on", Flow::Continue));
    assert_eq!(streamed.findings.fired.decision(), Decision::Rewrite);
}

#[test]
fn the_override_that_fits_best_decides() {
    let revision = mixed("refuse");
    // One for the term and the target, then one for the term, then one for the target.
    check(&revision, "lab", "stop", Decision::Allow, "ALLOW", "stop");
    check(&revision, "red-team", "stop", Decision::Refuse, "STOPPED", "stop");
    check(&revision, "red-team", "plain", Decision::Allow, "RED_TEAM", "plain");
    // A target's override is about violations: what is merely redacted still is.
    check(&revision, "red-team", "at 192.168.7.9", Decision::Allow, "REDACT", "at [IP_1]");
    let first = revision_of_two(&["a", "b"], &["b", "c"]);
    for (target, decision) in
        [("a", Decision::Allow), ("b", Decision::Allow), ("c", Decision::Rewrite), ("d", Decision::Refuse)]
    {
        assert_eq!(input(&first, target, "word").0.decision, decision, "{target}");
    }
}

fn revision_of_two(first: &[&str], second: &[&str]) -> Arc<Revision> {
    revision(json!({"denylist": ["word"], "overrides": [
        {"term": "word", "action": "allow", "targets": first},
        {"term": "word", "action": "rewrite", "targets": second},
    ]}))
}

#[test]
fn what_an_override_leaves_out_is_the_policys() {
    let rules = |overrides: Value| {
        revision(
            json!({"denylist": ["word"], "response_pattern": "rewrite", "allowlist": ["hello"], "overrides": overrides}),
        )
    };
    check(
        &rules(json!([{"term": "word", "reason_code": "W"}])),
        "t",
        "hello word",
        Decision::Rewrite,
        "W",
        "hello ",
    );
    // A term that is let through fires nothing, so the allowlist is asked.
    let spared = rules(json!([{"term": "word", "action": "allow"}]));
    check(&spared, "t", "word", Decision::Refuse, "REFUSE", "word");
    check(&spared, "t", "hello word", Decision::Allow, "ALLOW", "hello word");
    let target = rules(json!([{"target": "t", "action": "escalate", "reason_code": "T"}]));
    check(&target, "t", "nothing listed", Decision::Escalate, "T", "nothing listed");
    check(&target, "u", "nothing listed", Decision::Refuse, "REFUSE", "nothing listed");
}

#[test]
fn a_refusal_that_is_an_override_is_not_replaced() {
    let rules = revision(json!({"denylist": ["soft", "hard"], "rewrite_instead_of_refuse": true,
        "overrides": [{"term": "hard", "action": "refuse"}]}));
    check(&rules, "t", "soft", Decision::Rewrite, "REWRITE", "");
    check(&rules, "t", "hard soft", Decision::Refuse, "REFUSE", "hard soft");
}

#[test]
fn a_category_has_its_own_override_or_its_parents() {
    let revision = revision(json!({
        "flagged_categories": ["hate", "hate/threatening", "violence"],
        "overrides": [
            {"category": "hate", "action": "rewrite"},
            {"category": "hate/threatening", "action": "escalate", "targets": ["t"]},
        ],
    }));
    let action = |target: &str, category| {
        revision.category_effect(&Subject::new(target), category, true).unwrap().action
    };
    assert_eq!(action("t", Category::Hate), Decision::Rewrite);
    assert_eq!(action("t", Category::HateThreatening), Decision::Escalate);
    assert_eq!(action("u", Category::HateThreatening), Decision::Rewrite);
    assert_eq!(action("t", Category::Violence), Decision::Refuse);
    // One that merely logs does no more, but for what an override says.
    let logs = |category| revision.category_effect(&Subject::new("t"), category, false).unwrap().action;
    assert_eq!((logs(Category::Violence), logs(Category::Hate)), (Decision::Allow, Decision::Rewrite));
}

#[test]
fn effects_name_their_override() {
    let revision = mixed("refuse");
    let effect = revision.entity_effect(&Subject::new("t"), EntityType::UsSsn);
    assert_eq!(effect.override_index, Some(6));
    assert!(effect.stops() && !effect.leaves());
    let effect = revision.entity_effect(&Subject::new("red-team"), EntityType::IpAddress);
    assert_eq!(
        (effect.override_index, effect.action, effect.decision),
        (None, Decision::Rewrite, Decision::Allow)
    );
}

#[test]
fn the_stage_that_sets_the_decision_gives_the_code() {
    let revision = mixed("refuse");
    let subject = Subject::new("t");
    let judge = |asked: &str, answered: &str| {
        let (input, _) = input(&revision, "t", asked);
        let (_, output) = scan_text(&revision, &subject, answered, OutputMode::Mask, &mut Masker::new());
        let verdict = conclude(&revision, &input, &output);
        (verdict.stage, verdict.decision, verdict.reason_code.as_str().to_owned())
    };
    assert_eq!(judge("cut", "stop"), (Stage::Output, Decision::Refuse, "STOPPED".into()));
    assert_eq!(judge("plain", "stop"), (Stage::Input, Decision::Refuse, "REFUSE".into()));
    assert_eq!(judge("fine", "spared"), (Stage::Input, Decision::Allow, "KNOWN".into()));
    assert_eq!(judge("fine", "192.168.7.9"), (Stage::Input, Decision::Allow, "REDACT".into()));
    assert_eq!(judge("spared", "192.168.7.9"), (Stage::Input, Decision::Allow, "KNOWN".into()));
}

struct Streamed {
    released: String,
    findings: OutputFindings,
    flow: Flow,
}

fn stream(revision: &Arc<Revision>, subject: &Subject, pieces: &[&str]) -> Streamed {
    let mut scan = OutputScan::new(Arc::clone(revision), subject, OutputMode::Stop);
    let mut masker = Masker::new();
    let mut released = String::new();
    let stopped = pieces.iter().any(|piece| scan.push(piece, &mut masker, &mut released) == Flow::Stop);
    let flow = if stopped { Flow::Stop } else { scan.finish(&mut masker, &mut released) };
    Streamed { released, findings: scan.findings().clone(), flow }
}

#[test]
fn a_stream_goes_on_or_ends_by_the_rule_that_is_hit() {
    for pattern in ["refuse", "rewrite"] {
        let revision = mixed(pattern);
        let run = |text: &str| {
            let streamed = stream(&revision, &Subject::new("t"), &[text]);
            (streamed.released, streamed.flow, streamed.findings.fired.decision())
        };
        assert_eq!(run("a cut b spared c"), ("a ███ b spared c".into(), Flow::Continue, Decision::Rewrite));
        assert_eq!(run("a cut b stop c"), ("a ███ b ".into(), Flow::Stop, Decision::Refuse));
        assert_eq!(run("a ask b"), ("a ".into(), Flow::Stop, Decision::Escalate));
        assert_eq!(run("a 536-22-1234 b"), ("a ".into(), Flow::Stop, Decision::Refuse));
        assert_eq!(run("a@b.org 192.168.7.9"), ("[EMAIL_1] [IP_1]".into(), Flow::Continue, Decision::Allow));
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nZm9v\n-----END RSA PRIVATE KEY----- after";
        assert_eq!(run(key), (key.into(), Flow::Continue, Decision::Allow));
    }
    let plain = |pattern| stream(&mixed(pattern), &Subject::new("t"), &["a plain b"]);
    assert_eq!(plain("refuse").flow, Flow::Stop);
    assert_eq!(plain("rewrite").released, "a ███ b");
}

#[test]
fn hits_come_to_the_same_in_whatever_order() {
    let revision = mixed("refuse");
    let fired = |text: &str| {
        scan_text(&revision, &Subject::new("t"), text, OutputMode::Mask, &mut Masker::new()).1.fired
    };
    let words = ["plain", "spared", "cut", "stop", "ask", "a@b.org"];
    for left in words {
        for right in words {
            let mut merged = fired(left);
            merged.merge(&fired(right));
            assert_eq!(merged, fired(&format!("{right} {left}")), "{left} {right}");
        }
    }
    assert_eq!(fired("nothing"), Fired::default());
}

fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("plain"),
        Just("spared"),
        Just("cut"),
        Just("stop"),
        Just("ask"),
        Just("other"),
        Just("a@b.org"),
        Just("536-22-1234"),
        Just("192.168.7.9"),
        Just("ghp_Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3"),
        Just("-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nplain cut\n-----END RSA PRIVATE KEY-----"),
        Just("https://u:hunter2cut@plain.example"),
    ];
    let gap = prop_oneof![Just(" "), Just(""), Just(", "), Just("\n")];
    proptest::collection::vec((word, gap), 0..12)
        .prop_map(|words| words.into_iter().flat_map(|(word, gap)| [word, gap]).collect())
}

fn pieces<'t>(text: &'t str, cuts: &[prop::sample::Index]) -> Vec<&'t str> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_comes_to_the_same(
        text in texts(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        target in prop_oneof![Just("t"), Just("lab"), Just("red-team")],
        pattern in prop_oneof![Just("refuse"), Just("rewrite")],
    ) {
        let revision = mixed(pattern);
        let subject = Subject::new(target);
        let whole = stream(&revision, &subject, &[&text]);
        let cut = stream(&revision, &subject, &pieces(&text, &cuts));
        prop_assert_eq!(&cut.released, &whole.released);
        prop_assert_eq!(cut.flow, whole.flow);
        prop_assert_eq!(&cut.findings.fired, &whole.findings.fired);
        let (masked, findings) = scan_text(&revision, &subject, &text, OutputMode::Mask, &mut Masker::new());
        prop_assert!(findings.fired.decision() >= whole.findings.fired.decision());
        if whole.flow == Flow::Continue {
            prop_assert_eq!(masked.unwrap_or(text), whole.released);
            prop_assert_eq!(findings, whole.findings);
        }
    }

    #[test]
    fn after_a_rewrite_only_what_is_spared_is_left(text in texts()) {
        let revision = mixed("rewrite");
        let (verdict, changed) = input(&revision, "t", &text);
        if verdict.decision == Decision::Rewrite {
            let (again, unchanged) = input(&revision, "t", &changed);
            prop_assert_eq!(again.decision, Decision::Allow);
            prop_assert_eq!(unchanged, changed);
        }
    }
}
