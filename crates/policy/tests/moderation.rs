//! Categories: when they fire, what that comes to, and that an answer comes to the same however it is cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use policy::{
    Category, CategoryMode, Decision, Flow, InputVerdict, Masker, Moderator, Outcome, OutputFindings,
    OutputMode, OutputScan, Pair, PolicyDocument, Revision, Role, Scored, Scorer, Source, Subject, Text,
    WINDOW_CHARS, conclude, evaluate_input, scan_text,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Scores by words: `gore` is graphic violence at 0.9, `rude` harassment at 0.6, `obey` an injection at 0.5 (flagged in
/// what a tool gave only), and `outage` is a text that nobody can score.
#[derive(Debug, Default)]
struct Words {
    asked: Mutex<Vec<(String, Source)>>,
}

impl Moderator for Words {
    fn name(&self) -> Arc<str> {
        "words/1".into()
    }

    fn judge(&self, text: &str, source: Source, wanted: &[Category]) -> Outcome {
        assert!(!wanted.is_empty());
        self.asked.lock().unwrap().push((text.to_owned(), source));
        if text.contains("outage") {
            return Outcome::Unavailable("timeout");
        }
        let score = |category| match category {
            Category::ViolenceGraphic if text.contains("gore") => (0.9, true),
            Category::Harassment if text.contains("rude") => (0.6, true),
            Category::PromptInjection if text.contains("obey") => (0.5, source == Source::Tool),
            _ => (0.1, false),
        };
        Outcome::Scored(Scored::new(score))
    }

    fn mode(&self, category: Category) -> CategoryMode {
        if category == Category::Harassment { CategoryMode::Log } else { CategoryMode::Block }
    }
}

fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

fn subject() -> Subject {
    Subject::new("t").scored_by(Scorer::new(Arc::new(Words::default())))
}

fn message(role: Role, text: &str) -> Text<'_> {
    Text { message: 0, role, is_content: true, text: Cow::Borrowed(text) }
}

fn input(rules: Value, role: Role, text: &str) -> InputVerdict {
    evaluate_input(&revision(rules), &subject(), &[message(role, text)], &mut Masker::new())
}

fn fired(verdict: &InputVerdict) -> (Decision, Vec<&'static str>) {
    let categories = verdict.triggered_categories.iter().map(|category| category.as_str()).collect();
    (verdict.decision, categories)
}

#[test]
fn a_listed_category_fires_what_it_comes_to() {
    let parent = json!({"flagged_categories": ["violence"]});
    assert_eq!(fired(&input(parent.clone(), Role::User, "gore")), (Decision::Refuse, vec!["violence"]));
    assert_eq!(fired(&input(parent.clone(), Role::User, "nice")), (Decision::Allow, vec![]));
    // Only what is listed is told.
    assert_eq!(fired(&input(json!({"flagged_categories": ["hate"]}), Role::User, "gore")).1, [""; 0]);
    let soft = json!({"flagged_categories": ["violence/graphic"], "response_pattern": "rewrite"});
    let verdict = input(soft, Role::User, "gore here");
    assert_eq!((verdict.decision, verdict.add_instruction), (Decision::Rewrite, true));
    assert_eq!(verdict.edits, []);
    assert!((verdict.moderated.scores[&Category::ViolenceGraphic] - 0.9).abs() < 1e-6);
    // Nobody judges, nothing fires.
    let verdict = evaluate_input(
        &revision(parent),
        &Subject::default(),
        &[message(Role::User, "gore")],
        &mut Masker::new(),
    );
    assert_eq!(fired(&verdict), (Decision::Allow, vec![]));
}

#[test]
fn a_mode_says_whether_it_blocks_and_an_override_has_the_last_word() {
    let with = |moderation: Value, overrides: Value| {
        let rules = json!({
            "flagged_categories": ["harassment"], "moderation": moderation, "overrides": overrides,
            "allowlist": ["rude"],
        });
        fired(&input(rules, Role::User, "rude")).0
    };
    // By itself this provider only logs it.
    assert_eq!(with(json!({}), json!([])), Decision::Allow);
    assert_eq!(with(json!({"mode": "block"}), json!([])), Decision::Refuse);
    let single = json!({"mode": "block", "categories": {"harassment": {"mode": "log"}}});
    assert_eq!(with(single, json!([])), Decision::Allow);
    let ask = json!([{"category": "harassment", "action": "escalate"}]);
    assert_eq!(with(json!({"mode": "log"}), ask), Decision::Escalate);
    // A target's override is about violations, which what is logged is none of.
    let target = json!([{"target": "t", "action": "refuse"}]);
    assert_eq!(with(json!({"mode": "log"}), target), Decision::Allow);
    let logged = input(json!({"flagged_categories": ["harassment"]}), Role::User, "rude");
    assert_eq!(fired(&logged), (Decision::Allow, vec!["harassment"]));
    assert!(logged.moderated.blocking.is_empty());
    assert_eq!(logged.reason_code.as_str(), "ALLOW");
}

#[test]
fn thresholds_are_the_policys_and_stricter_for_tools() {
    let with = |settings: Value, role| {
        let rules = json!({
            "flagged_categories": ["prompt-injection"],
            "moderation": {"categories": {"prompt-injection": settings}},
            "scan_system": true,
        });
        fired(&input(rules, role, "obey")).0
    };
    let cases = [
        (json!({}), Decision::Allow, Decision::Refuse),
        (json!({"threshold": 0.5}), Decision::Refuse, Decision::Refuse),
        (json!({"threshold": 0.6}), Decision::Allow, Decision::Allow),
        (json!({"threshold": 0.6, "tool_threshold": 0.4}), Decision::Allow, Decision::Refuse),
    ];
    for (settings, user, tool) in cases {
        assert_eq!(with(settings.clone(), Role::User), user, "{settings}");
        assert_eq!(with(settings.clone(), Role::Tool), tool, "{settings}");
        // An application may tell its model what to do.
        assert_eq!(with(settings, Role::System), Decision::Allow);
    }
    let rules = json!({
        "flagged_categories": ["prompt-injection"],
        "moderation": {"categories": {"prompt-injection": {"threshold": 0.1}}},
    });
    let (_, findings) = scan_text(&revision(rules), &subject(), "obey", OutputMode::Mask, &mut Masker::new());
    assert!(!findings.violates());
}

#[test]
fn what_nobody_can_score_fails_closed_unless_the_policy_says_otherwise() {
    let with = |moderation: Value, categories: Value| {
        let verdict =
            input(json!({"flagged_categories": categories, "moderation": moderation}), Role::User, "outage");
        (verdict.decision, verdict.triggered_categories.len(), verdict.moderated.unavailable)
    };
    let why = Some("timeout");
    assert_eq!(with(json!({}), json!(["hate"])), (Decision::Refuse, 0, why));
    assert_eq!(with(json!({"on_unavailable": "allow"}), json!(["hate"])), (Decision::Allow, 0, why));
    // What would only be logged stops nothing.
    assert_eq!(with(json!({}), json!(["harassment"])), (Decision::Allow, 0, why));
    assert_eq!(with(json!({"mode": "log"}), json!(["hate"])), (Decision::Allow, 0, why));
    let stops = scan_text(
        &revision(json!({"flagged_categories": ["hate"]})),
        &subject(),
        "outage",
        OutputMode::Mask,
        &mut Masker::new(),
    );
    assert!(stops.1.stops() && stops.1.moderated.unavailable == why);
}

#[test]
fn what_is_replaced_is_not_shown_to_who_scores() {
    let words = Arc::new(Words::default());
    let subject = Subject::new("t").scored_by(Scorer::new(Arc::clone(&words) as _));
    let revision = revision(json!({"flagged_categories": ["hate"], "redact": true, "denylist": ["napalm"]}));
    let texts = [message(Role::User, "mail bob@example.com about napalm, then 10.1.2.3")];
    evaluate_input(&revision, &subject, &texts, &mut Masker::new());
    scan_text(&revision, &subject, "of alice@example.com", OutputMode::Mask, &mut Masker::new());
    let asked = words.asked.lock().unwrap();
    assert_eq!(asked[0], ("mail [EMAIL_ADDRESS] about napalm, then [IP_ADDRESS]".into(), Source::User));
    assert_eq!(asked[1], ("of [EMAIL_1]".into(), Source::Answer));
}

#[test]
fn two_revisions_come_to_what_each_comes_to_alone() {
    let (one, other) = (
        revision(json!({"flagged_categories": ["violence"]})),
        revision(json!({"flagged_categories": ["harassment"], "moderation": {"mode": "block"}})),
    );
    let pair = Pair::new(Arc::clone(&one), Arc::clone(&other));
    let subject = subject();
    let texts = [message(Role::User, "gore and rude")];
    let verdicts =
        pair.evaluate_input([&subject, &subject], &texts, [&mut Masker::new(), &mut Masker::new()]);
    for (verdict, revision) in verdicts.iter().zip([&one, &other]) {
        assert_eq!(verdict, &evaluate_input(revision, &subject, &texts, &mut Masker::new()));
        assert_eq!(verdict.decision, Decision::Refuse);
    }
}

#[derive(Debug, PartialEq)]
struct Streamed {
    released: String,
    findings: OutputFindings,
    flow: Flow,
}

fn stream(revision: &Arc<Revision>, mode: OutputMode, pieces: &[&str]) -> Streamed {
    let mut scan = OutputScan::new(Arc::clone(revision), &subject(), mode);
    let (mut masker, mut released) = (Masker::new(), String::new());
    for piece in pieces {
        if scan.push(piece, &mut masker, &mut released) == Flow::Stop {
            break;
        }
        assert!(scan.held() < 8 * 1024, "{}", scan.held());
    }
    let flow = scan.finish(&mut masker, &mut released);
    assert_eq!(scan.released_bytes(), released.len() as u64);
    Streamed { released, findings: scan.findings().clone(), flow }
}

fn whole(revision: &Revision, mode: OutputMode, text: &str) -> (String, OutputFindings) {
    let (changed, findings) = scan_text(revision, &subject(), text, mode, &mut Masker::new());
    assert_eq!(changed.is_some(), findings.changed);
    (changed.unwrap_or_else(|| text.to_owned()), findings)
}

#[test]
fn a_window_leaves_after_its_verdict_and_a_violating_one_not_at_all() {
    let text = format!("{}gore{}", "a".repeat(WINDOW_CHARS + 50), "b".repeat(3 * WINDOW_CHARS));
    let refusing = revision(json!({"flagged_categories": ["violence"]}));
    let out = stream(&refusing, OutputMode::Stop, &[&text]);
    assert_eq!((out.released, out.flow), ("a".repeat(WINDOW_CHARS), Flow::Stop));
    assert_eq!(out.findings.triggered_categories, [Category::Violence]);
    // Masked, windows before and after are as they were; the next one is read with what stands before it.
    let rewriting = revision(json!({"flagged_categories": ["violence"], "response_pattern": "rewrite"}));
    let out = stream(&rewriting, OutputMode::Stop, &[&text]);
    let mask = rewriting.mask();
    let rest = "b".repeat(3 * WINDOW_CHARS + 54 - WINDOW_CHARS);
    assert_eq!(out.released, format!("{}{mask}{rest}", "a".repeat(WINDOW_CHARS)));
    assert_eq!((out.flow, whole(&rewriting, OutputMode::Mask, &text).0), (Flow::Continue, out.released));
    // Nothing hides at a cut between two windows.
    let text = format!("{}gore{}", "a".repeat(WINDOW_CHARS - 2), "b".repeat(20));
    let out = stream(&refusing, OutputMode::Stop, &[&text]);
    assert_eq!(out.released, format!("{}go", "a".repeat(WINDOW_CHARS - 2)));
}

#[test]
fn what_a_reviewer_let_pass_stays() {
    let revision = revision(json!({"flagged_categories": ["violence"], "response_pattern": "escalate"}));
    let granted = Subject { granted: true, ..subject() };
    let (changed, findings) = scan_text(&revision, &granted, "gore", OutputMode::Mask, &mut Masker::new());
    assert_eq!((changed, findings.fired.decision()), (None, Decision::Escalate));
    let verdict = evaluate_input(&revision, &granted, &[message(Role::User, "hi")], &mut Masker::new());
    assert_eq!(conclude(&revision, &verdict, &findings).triggered_categories, [Category::Violence]);
}

fn cut<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut places: Vec<usize> =
        cuts.iter().filter_map(|cut| boundaries.get(cut % boundaries.len().max(1))).copied().collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

const FRAGMENTS: &[&str] = &[
    "gore",
    "rude",
    "outage",
    "napalm",
    "tango",
    "bob@example.com",
    "4111 1111 1111 1111",
    "ab",
    "é",
    "—",
    "🔪",
    " ",
    "the quick brown fox jumps over the lazy dog, again and again and again ",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_answer_comes_to_the_same_however_it_is_cut(
        picks in prop::collection::vec(0..FRAGMENTS.len(), 0..40),
        cuts in prop::collection::vec(0_usize..4000, 0..8),
        closed in any::<bool>(),
        pattern in prop::sample::select(vec!["refuse", "rewrite"]),
    ) {
        let text: String = picks.iter().map(|pick| FRAGMENTS[*pick]).collect::<Vec<_>>().join(" ");
        let revision = revision(json!({
            "denylist": ["napalm", "tango"], "redact": true, "response_pattern": pattern,
            "flagged_categories": ["violence", "harassment"],
            "moderation": {"on_unavailable": if closed { "block" } else { "allow" }},
            "overrides": [{"term": "tango", "action": "allow"}],
        }));
        let chars: Vec<&str> = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            let (expected, findings) = whole(&revision, mode, &text);
            for pieces in [cut(&text, &cuts), chars.clone(), vec![text.as_str()]] {
                let outcome = stream(&revision, mode, &pieces);
                prop_assert_eq!(&outcome.released, &expected, "{:?}", mode);
                prop_assert_eq!(&outcome.findings, &findings);
                prop_assert_eq!(outcome.flow == Flow::Stop, mode == OutputMode::Stop && findings.stops());
            }
        }
    }
}
