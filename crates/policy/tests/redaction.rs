//! What a policy's redaction block does to a request and an answer: which types are looked for, what stands in their
//! place, and what they make of the decision.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "this whole binary is a test")]

use std::borrow::Cow;
use std::sync::Arc;

use policy::{
    Decision, EntityType, Flow, Masker, OutputFindings, OutputMode, OutputScan, PolicyDocument, ReasonCode,
    Revision, Role, Stage, Subject, Text, apply_edits, conclude, evaluate_input, scan_text,
};
use serde_json::{Value, json};

fn revision(redaction: &Value) -> Arc<Revision> {
    let document = json!({"policy_id": "p", "rules": {"redact": true, "redaction": redaction}});
    Arc::new(Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap())
}

fn redacted(redaction: &Value, text: &str) -> String {
    let (changed, _) =
        scan_text(&revision(redaction), &Subject::default(), text, OutputMode::Mask, &mut Masker::new());
    changed.unwrap_or_else(|| text.to_owned())
}

const TEXT: &str =
    "mail bob@example.com, card 4111 1111 1111 1111, key ghp_0123456789abcdefghijklmnopqrstuvwxyz.";

#[test]
fn only_the_types_named_are_looked_for() {
    assert_eq!(redacted(&json!({}), TEXT), "mail [EMAIL_1], card [CARD_1], key [SECRET_1].");
    assert_eq!(
        redacted(&json!({"entities": ["CREDIT_CARD"]}), TEXT),
        TEXT.replace("4111 1111 1111 1111", "[CARD_1]")
    );
}

#[test]
fn each_type_has_its_action() {
    let actions = json!({"EMAIL_ADDRESS": "partial", "SECRET": "partial", "CREDIT_CARD": "partial"});
    assert_eq!(
        redacted(&json!({"actions": actions}), TEXT),
        "mail b***@example.com, card **** **** **** 1111, key ghp_********."
    );
    let hashed = redacted(&json!({"action": "hash", "actions": {"SECRET": "mask"}}), TEXT);
    assert!(hashed.starts_with("mail [EMAIL_") && hashed.ends_with("key [SECRET_1]."), "{hashed}");
    assert!(!hashed.contains("bob@") && !hashed.contains("4111"), "{hashed}");
}

#[test]
fn a_refused_type_refuses_the_request_and_is_masked_all_the_same() {
    for (action, decision, code) in [
        ("refuse", Decision::Refuse, ReasonCode::Refuse),
        ("escalate", Decision::Escalate, ReasonCode::Escalate),
    ] {
        let revision = revision(&json!({"actions": {"CREDIT_CARD": action}}));
        let judged = |text: &str| {
            let texts = [Text { message: 0, role: Role::User, is_content: true, text: Cow::Borrowed(text) }];
            evaluate_input(&revision, &Subject::default(), &texts, &mut Masker::new())
        };
        let verdict = judged(TEXT);
        assert_eq!((verdict.decision, verdict.reason_code), (decision, code));
        assert_eq!(verdict.redactions[&EntityType::CreditCard], 1);
        assert!(apply_edits(TEXT, &verdict.edits[0].edits).contains("card [CARD_1], key [SECRET_1]"));
        let verdict = judged("mail bob@example.com");
        assert_eq!((verdict.decision, verdict.reason_code), (Decision::Allow, ReasonCode::Redact));
    }
}

#[test]
fn a_refused_type_in_an_answer_stops_a_stream_and_refuses_it() {
    let revision = revision(&json!({"actions": {"CREDIT_CARD": "refuse"}}));
    let (masked, whole) =
        scan_text(&revision, &Subject::default(), TEXT, OutputMode::Mask, &mut Masker::new());
    assert_eq!(masked.unwrap(), "mail [EMAIL_1], card [CARD_1], key [SECRET_1].");
    let mut scan = OutputScan::new(Arc::clone(&revision), &Subject::default(), OutputMode::Stop);
    let (mut masker, mut released) = (Masker::new(), String::new());
    let mut flow = Flow::Continue;
    for piece in TEXT.split_inclusive(' ') {
        flow = scan.push(piece, &mut masker, &mut released);
        if flow == Flow::Stop {
            break;
        }
    }
    assert_eq!((flow, released.as_str()), (Flow::Stop, "mail [EMAIL_1], card "));
    let input = evaluate_input(&revision, &Subject::default(), &[], &mut masker);
    for findings in [scan.findings(), &whole] {
        let verdict = conclude(&revision, &input, findings);
        assert_eq!((verdict.decision, verdict.stage), (Decision::Refuse, Stage::Output));
        assert_eq!(verdict.redactions[&EntityType::CreditCard], 1);
    }
    let mut merged = OutputFindings::default();
    merged.merge(&revision, &whole);
    assert_eq!(merged.fired.decision(), Decision::Refuse);
}

#[test]
fn rewriting_instead_of_refusing_holds_for_entities_too() {
    let document = json!({"policy_id": "p", "rules": {"redact": true, "rewrite_instead_of_refuse": true,
        "redaction": {"entities": ["US_SSN"], "action": "refuse"}}});
    let revision = Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap();
    assert_eq!(revision.entity_decision(EntityType::UsSsn), Some(Decision::Rewrite));
}

#[test]
fn a_secret_is_told_from_what_stands_in_its_place() {
    let body =
        "Jk6jJXf950-h4VZLC6EVg8d_kmUcyg3Ft45wEQjUBBoXlHTo0lHjtJ-ftOvX76D9NVgWLFBVeZJ3bPzfJ6M4r_7LWkoKr";
    for secret in [
        "api_key = \"6f1e4c76ee5a1832882e326b506d1412\"",
        "token: \"dafa7817-e246-48f3-91a7-e87653d587b8\"",
        "//npm.example.org/:_authToken=0d3c1f7a-6c1e-4b57-9a55-2f8f7cf0a1d4",
        "_authToken=8fKq20ZkPw3hXv91LmTtYb",
        "xoxb-263594206564-FGqddMF8t08v8N7Oq4i57vs1",
        "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",
        &format!("sk-ant-api03-{body}AA"),
    ] {
        assert!(redacted(&json!({}), secret).contains("[SECRET_1]"), "{secret}");
    }
    for other in [
        "token = settings.production.database1",
        "secret_key: \"my-secrets-manager-secret-01\"",
        "api_key = \"${{ secrets.API_KEY_2024_PROD }}\"",
        "_authToken=0d3c1f7a-6c1e-4b57-9a55-2f8f7cf0a1d4",
        "npm.example.org:_authToken=0d3c1f7a-6c1e-4b57-9a55-2f8f7cf0a1d4",
        "\"token\": \"xoxb-1234-5678-a9b8c7d6e5f4a3b2c1\"",
        "hf_requiredCharacteristicTypesForTheMeta",
        "glc_eyJvIjoiNzc3IiwibiI6ImtleSIsImsiOiJrEXAMPLE",
        &format!("ANTHROPIC_API_KEY=sk-ant-api03-{body}BB"),
    ] {
        assert_eq!(redacted(&json!({}), other), other);
    }
}
