//! How fast lines of events are verified, as `audit verify --file` does it: on all cores, with a signed checkpoint every 10,000
//! events. `cargo bench -p audit --bench verify [-- EVENTS]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::Instant;

use audit::checkpoint::Statement;
use audit::event::{
    AuditEvent, CheckpointInfo, EventType, Hash, Outcome, RequestInfo, Stage, Usage, hex, leaf_hash,
};
use audit::merkle::Peaks;
use audit::note::{Note, SigningKey};
use audit::verify::{Asked, Blocks, Examined, Verifier, VerifyError, examine_lines, in_order};
use policy::Decision;
use uuid::Uuid;

const CHAIN: Uuid = Uuid::from_u128(0x019b_c8a0_0000_7000_8000_0000_0000_0001);

fn main() {
    let events = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(300_000);
    let key = SigningKey::generate("bench", &[1; 32]).unwrap().0;
    let text = log(events, &key);
    let keys = vec![key.public().clone()];
    println!("{events} events, {} MB", text.len() / 1_000_000);
    for _ in 0..3 {
        let begun = Instant::now();
        let mut verifier = Verifier::asking(Asked { keys: keys.clone(), ..Asked::default() });
        let blocks = Blocks::new(&text[..]).map(|block| Ok::<_, VerifyError>(block.unwrap()));
        in_order(
            blocks,
            |block| examine_lines(&block, Examined::stored),
            |found| found.into_iter().try_for_each(|event| verifier.examined(event)),
        )
        .unwrap();
        let verified = verifier.finish().unwrap();
        let rate = verified.events as f64 / begun.elapsed().as_secs_f64();
        println!("verified: {rate:.0} records/s, signed up to {}", verified.signed_seq);
    }
}

fn log(events: u64, key: &SigningKey) -> Vec<u8> {
    let mut text = Vec::new();
    let mut tree = Peaks::default();
    let mut head: Hash = [0; 32];
    let mut common = event();
    while tree.size() < events {
        let own = if tree.size() % 10_000 == 9_999 {
            let (size, root) = (tree.size(), tree.root());
            let statement = Statement { chain: CHAIN, size, root, head, next_key: None };
            let mut event =
                AuditEvent::blank(Uuid::now_v7(), EventType::Checkpoint, common.created_at.clone());
            event.checkpoint = Some(CheckpointInfo {
                size,
                root: hex(&root),
                note: Note::sign(statement.text(), &[key]).to_string(),
                public_key: key.public().to_string(),
            });
            event.to_json()
        } else {
            common.event_id = Uuid::now_v7();
            common.to_json()
        };
        let own = std::str::from_utf8(&own).unwrap().strip_suffix('}').unwrap();
        let seq = tree.size() + 1;
        let unsealed = format!(r#"{own},"chain":"{CHAIN}","seq":{seq},"prev_hash":"{}"}}"#, hex(&head));
        head = leaf_hash(unsealed.as_bytes());
        tree.push(head);
        text.extend_from_slice(unsealed.strip_suffix('}').unwrap().as_bytes());
        text.extend_from_slice(format!(",\"hash\":\"{}\"}}\n", hex(&head)).as_bytes());
    }
    text
}

/// About 1 KiB with its link, as the gateway writes it.
fn event() -> AuditEvent {
    let text = |text: &str| Some(text.to_owned());
    let created = "2026-01-16T18:22:11.000Z".to_owned();
    AuditEvent {
        policy_id: text("support-guardrails"),
        decision: Some(Decision::Rewrite),
        effective_decision: Some(Decision::Rewrite),
        reason_code: text("REWRITE"),
        policy_user: text("user-12345"),
        project_id: text("support-bot"),
        policy_target: text("support-bot"),
        enforced: true,
        allowlist_hits: vec!["refund policy".to_owned()],
        denylist_hits: vec!["credential theft".to_owned()],
        model: text("abliterated-model"),
        request_id: text("req_01j9zq4m5n6p7q8r9s0t1v2w3x"),
        policy_revision: Some(7),
        data_classification: text("confidential"),
        stage: Some(Stage::Input),
        usage: Some(Usage {
            prompt_tokens: 120,
            completion_tokens: 45,
            total_tokens: 165,
            cost_usd: 0.000_825,
        }),
        request: Some(RequestInfo {
            route: "/v1/chat/completions".to_owned(),
            stream: false,
            http_status: Some(200),
            error_code: None,
            latency_ms: None,
            outcome: Some(Outcome::Completed),
        }),
        decision_hash: Some("ab".repeat(32)),
        ..AuditEvent::blank(Uuid::now_v7(), EventType::Enforcement, created)
    }
}
