use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::checkpoint::Statement;
use crate::event::{AuditEvent, CheckpointInfo, EventType};
use crate::log::Record;
use crate::merkle::{Nodes, node_hash};
use crate::note::{Note, SigningKey};
use crate::proof::Proof;

const CHAIN: Uuid = Uuid::from_u128(0x019b_c8a0_0000_7000_8000_0000_0000_0001);

fn key(byte: u8) -> SigningKey {
    SigningKey::generate("prod", &[byte; 32]).unwrap().0
}

/// A log that is written event by event.
struct Log {
    chain: Uuid,
    events: Vec<Vec<u8>>,
    decisions: Vec<Vec<u8>>,
    hashes: Vec<Hash>,
    tree: Peaks,
}

impl Log {
    fn new() -> Self {
        let (events, decisions, hashes) = (Vec::new(), Vec::new(), Vec::new());
        Self { chain: CHAIN, events, decisions, hashes, tree: Peaks::default() }
    }

    fn of(count: u64) -> Self {
        let mut log = Self::new();
        (0..count).for_each(|_| log.request("user"));
        log
    }

    /// With a checkpoint after every `every` events, about them.
    fn signed(count: u64, every: u64, key: &SigningKey) -> Self {
        let mut log = Self::new();
        while log.tree.size() < count {
            if log.tree.size().is_multiple_of(every) && log.tree.size() > 0 {
                log.checkpoint(&[key], None);
            } else {
                log.request("user");
            }
        }
        log
    }

    fn request(&mut self, user: &str) {
        let seq = self.tree.size() + 1;
        let created = format!("2026-01-16T18:22:{:02}.000Z", seq % 60);
        let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Enforcement, created);
        event.policy_user = Some(format!("{user} \"{seq}\""));
        let (Record::Decision { text, .. }, hash) = Record::decision(&event) else { unreachable!() };
        self.decisions.push(text);
        event.decision_hash = Some(hex(&hash));
        self.append(&event);
    }

    fn statement(&self) -> Statement {
        let (size, root) = (self.tree.size(), self.tree.root());
        Statement { chain: self.chain, size, root, head: *self.hashes.last().unwrap(), next_key: None }
    }

    fn note(&self, key: &SigningKey) -> Checkpoint {
        Checkpoint::parse(&Note::sign(self.statement().text(), &[key]).to_string()).unwrap()
    }

    fn checkpoint(&mut self, keys: &[&SigningKey], next_key: Option<PublicKey>) {
        let statement = Statement { next_key, ..self.statement() };
        let mut event =
            AuditEvent::blank(Uuid::now_v7(), EventType::Checkpoint, "2026-01-16T18:23:00.000Z".into());
        event.checkpoint = Some(CheckpointInfo {
            size: statement.size,
            root: hex(&statement.root),
            note: Note::sign(statement.text(), keys).to_string(),
            public_key: keys.last().unwrap().public().to_string(),
        });
        self.append(&event);
    }

    fn append(&mut self, event: &AuditEvent) {
        self.append_text(&event.to_json());
    }

    fn append_text(&mut self, own: &[u8]) {
        let text =
            link(own, self.chain, self.tree.size() + 1, &self.hashes.last().copied().unwrap_or(NO_HASH));
        let hash = stated_hash(&text).unwrap();
        self.events.push(text);
        self.hashes.push(hash);
        self.tree.push(hash);
    }

    /// The log as somebody would have it who changes one event and hashes all anew from there on.
    fn rewritten(&self, from: usize) -> Self {
        let mut log = Self { chain: self.chain, ..Self::new() };
        for (at, event) in self.events.iter().enumerate() {
            let text = String::from_utf8(event.clone()).unwrap();
            let end = text.rfind(",\"chain\":").unwrap();
            let mut own = format!("{}}}", &text[..end]);
            if at == from {
                own = own.replacen("\"enforced\":false", "\"enforced\":true", 1);
            }
            log.append_text(own.as_bytes());
        }
        log
    }
}

fn link(own: &[u8], chain: Uuid, seq: u64, prev: &Hash) -> Vec<u8> {
    let own = std::str::from_utf8(own).unwrap().strip_suffix('}').unwrap();
    let unsealed = format!(r#"{own},"chain":"{chain}","seq":{seq},"prev_hash":"{}"}}"#, hex(prev));
    let hash = hex(&leaf_hash(unsealed.as_bytes()));
    format!(r#"{},"hash":"{hash}"}}"#, unsealed.strip_suffix('}').unwrap()).into_bytes()
}

fn verify(events: &[Vec<u8>]) -> Result<Verified, VerifyError> {
    verify_asking(events, Asked::default())
}

fn verify_asking(events: &[Vec<u8>], asked: Asked) -> Result<Verified, VerifyError> {
    run(Verifier::asking(asked), events, Examined::stored)
}

fn run(
    mut verifier: Verifier,
    events: &[Vec<u8>],
    examine: fn(&[u8]) -> Examined,
) -> Result<Verified, VerifyError> {
    for event in events {
        verifier.examined(examine(event))?;
    }
    verifier.finish()
}

fn keys(key: &SigningKey) -> Asked {
    Asked { keys: vec![key.public().clone()], ..Asked::default() }
}

fn with_checkpoint(key: &SigningKey, checkpoint: Checkpoint) -> Asked {
    Asked { checkpoints: vec![checkpoint], ..keys(key) }
}

#[test]
fn a_good_log_verifies() {
    let log = Log::of(5);
    let verified = verify(&log.events).unwrap();
    assert_eq!((verified.events, verified.first_seq, verified.head_seq), (5, 1, 5));
    assert_eq!((verified.is_anchored, verified.claim), (true, Claim::FullChain));
    let tail = verify(&log.events[2..]).unwrap();
    assert_eq!((tail.events, tail.first_seq, tail.is_anchored), (3, 3, false));
    assert_eq!(tail.head_hash, verified.head_hash);
    assert_eq!(verify(&[]).unwrap().events, 0);
}

#[test]
fn any_changed_byte_is_found_at_its_event() {
    let log = Log::of(3);
    for at in 0..log.events[1].len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = log.events.clone();
            changed[1][at] ^= flip;
            let error = verify(&changed).expect_err(&format!("byte {at} ^ {flip:#x}"));
            assert_eq!(error.seq, 2, "byte {at}: {error}");
        }
    }
}

#[test]
fn missing_swapped_and_repeated_events_are_found() {
    let log = Log::of(4);
    let cases = [[0, 2, 3, 3], [0, 2, 1, 3], [0, 1, 1, 2], [1, 0, 2, 3]];
    for (case, seq) in cases.iter().zip([2, 2, 3, 3]) {
        let shuffled: Vec<_> = case.iter().map(|at| log.events[*at].clone()).collect();
        let error = verify(&shuffled).unwrap_err();
        assert!(matches!(error.problem, Problem::Seq { .. }), "{error}");
        assert_eq!(error.seq, seq);
    }
}

#[test]
fn an_anchor_binds_the_first_event() {
    let log = Log::of(3);
    let mut verifier = Verifier::new().anchored(2, log.hashes[0], None);
    verifier.event(&log.events[1]).unwrap();
    assert!(verifier.finish().unwrap().is_anchored);
    let error = Verifier::new().anchored(2, NO_HASH, None).event(&log.events[1]).unwrap_err();
    assert!(matches!(error.problem, Problem::PrevHash { .. }), "{error}");
    let error = Verifier::new().anchored(1, NO_HASH, None).event(&log.events[1]).unwrap_err();
    assert_eq!(error, VerifyError { seq: 1, problem: Problem::Seq { found: 2, wanted: 1 } });
}

#[test]
fn an_event_of_another_chain_is_found() {
    let mut log = Log::of(2);
    let own = AuditEvent::blank(Uuid::now_v7(), EventType::Admin, "t".into()).to_json();
    log.events.push(link(&own, Uuid::from_u128(9), 3, &log.hashes[1]));
    let error = verify(&log.events).unwrap_err();
    assert!(error.seq == 3 && matches!(error.problem, Problem::Chain { .. }), "{error}");
}

#[test]
fn members_out_of_place_are_named() {
    let text = String::from_utf8(Log::of(1).events[0].clone()).unwrap();
    for (changed, wanted) in [
        (text.replacen("\"model\":null,", "", 1), "member 12 is `created_at`, where `model` belongs"),
        (text.replacen("\"enforced\":false", "\"enforced\":false,\"enforced\":false", 1), "twice"),
        (text.replacen(",\"seq\":1", "", 1), "where `chain` belongs"),
        (text.replacen('{', "[", 1), "not a JSON object"),
        (text.replacen(':', ":\n", 1), "a line end within it"),
    ] {
        let error = verify(&[changed.into_bytes()]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn decision_records_are_held_against_their_closings() {
    let log = Log::of(3);
    let mut verifier = Verifier::new().with_decisions(None);
    for (event, decision) in log.events.iter().zip(&log.decisions) {
        verifier.decision(DecisionRecord::of(decision).unwrap());
        verifier.event(event).unwrap();
    }
    assert_eq!(verifier.finish().unwrap().decisions, 3);

    let mut changed = log.decisions[0].clone();
    let at = changed.windows(4).position(|window| window == b"user").unwrap() + 8;
    changed[at] ^= 1;
    let mut verifier = Verifier::new().with_decisions(Some(i64::MAX));
    verifier.decision(DecisionRecord::of(&changed).unwrap());
    let error = verifier.event(&log.events[0]).unwrap_err();
    assert!(matches!(error.problem, Problem::Decision { .. }), "{error}");

    Verifier::new().with_decisions(Some(i64::MAX)).event(&log.events[0]).unwrap();
    Verifier::new().with_decisions(Some(1)).event(&log.events[0]).unwrap_err();
}

#[test]
fn checkpoints_in_the_log_vouch_for_it() {
    let key = key(1);
    let log = Log::signed(25, 10, &key);
    let verified = verify_asking(&log.events, keys(&key)).unwrap();
    assert_eq!((verified.claim, verified.checkpoints), (Claim::FullChain, 2));
    assert_eq!((verified.proven_seq, verified.signed_seq), (20, 20));
    assert_eq!(verified.signed_by, [key.public().to_string()]);
    let unasked = verify(&log.events).unwrap();
    assert_eq!((unasked.proven_seq, unasked.signed_seq), (20, 0));
    // A beginning that is not there is bound by the heads.
    let tail = verify_asking(&log.events[5..], keys(&key)).unwrap();
    assert_eq!((tail.checkpoints, tail.signed_seq), (2, 20));
}

#[test]
fn a_log_that_is_hashed_anew_is_found_by_its_checkpoints() {
    let key = key(1);
    let log = Log::signed(35, 10, &key);
    for (changed, seq, to) in [(3, 1, 10), (13, 11, 20), (25, 21, 30)] {
        let forged = log.rewritten(changed);
        let error = verify_asking(&forged.events, keys(&key)).unwrap_err();
        assert_eq!(error, VerifyError { seq, problem: Problem::Rewritten { to } }, "{changed}");
        // So it is from the middle on, where no tree can be grown.
        let error = verify_asking(&forged.events[2..], keys(&key)).unwrap_err();
        assert_eq!(error.problem, Problem::Rewritten { to }, "{changed}");
    }
    // What comes after the last checkpoint is held by the chain alone …
    let forged = log.rewritten(32);
    assert_eq!(verify_asking(&forged.events, keys(&key)).unwrap().signed_seq, 30);
    // … and by a later one that somebody else kept.
    let error = verify_asking(&forged.events, with_checkpoint(&key, log.note(&key))).unwrap_err();
    assert_eq!(error, VerifyError { seq: 31, problem: Problem::Rewritten { to: 35 } });
}

#[test]
fn a_cut_tail_and_an_older_copy_show_against_a_checkpoint_from_outside() {
    let key = key(1);
    let log = Log::signed(35, 10, &key);
    let kept = log.note(&key);
    let whole = verify_asking(&log.events, with_checkpoint(&key, kept.clone())).unwrap();
    assert_eq!((whole.proven_seq, whole.signed_seq), (35, 35));
    for left in [0, 1, 20, 34] {
        let error = verify_asking(&log.events[..left], with_checkpoint(&key, kept.clone())).unwrap_err();
        let head = left as u64;
        assert_eq!(error, VerifyError { seq: head + 1, problem: Problem::CutTail { size: 35, head } });
    }
    // The older copy went on, with another event 21 and others after it.
    let mut other = Log { chain: log.chain, ..Log::new() };
    for event in &log.events[..20] {
        let text = std::str::from_utf8(event).unwrap();
        other.append_text(format!("{}}}", &text[..text.rfind(",\"chain\":").unwrap()]).as_bytes());
    }
    (0..30).for_each(|_| other.request("someone else"));
    let error = verify_asking(&other.events, with_checkpoint(&key, kept.clone())).unwrap_err();
    assert_eq!(error, VerifyError { seq: 11, problem: Problem::Rewritten { to: 35 } });
    // Another log altogether.
    let stranger = Log { chain: Uuid::from_u128(3), ..Log::new() };
    let mut stranger = stranger;
    (0..40).for_each(|_| stranger.request("user"));
    let error = verify_asking(&stranger.events, with_checkpoint(&key, kept)).unwrap_err();
    assert!(error.to_string().contains("the checkpoint is of chain"), "{error}");
}

#[test]
fn wrong_keys_and_wrong_signatures_are_told_apart() {
    let (own, other) = (key(1), key(2));
    let named = SigningKey::generate("another", &[1; 32]).unwrap().0;
    let log = Log::signed(25, 10, &own);
    for stranger in [&other, &named] {
        let error = verify_asking(&log.events, keys(stranger)).unwrap_err();
        assert_eq!(error.problem, Problem::Unsigned);
    }
    // A checkpoint with the right name and id, of other words.
    let mut forged = Log::of(10);
    let note = log.note(&own).note.to_string().replacen("\n25\n", "\n10\n", 1);
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Checkpoint, "t".into());
    let (root, public_key) = (String::new(), String::new());
    event.checkpoint = Some(CheckpointInfo { size: 10, root, note, public_key });
    forged.append(&event);
    let error = verify_asking(&forged.events, keys(&own)).unwrap_err();
    assert_eq!(error, VerifyError { seq: 11, problem: Problem::Signature("prod".to_owned()) });
    // Outside.
    let error =
        verify_asking(&log.events, Asked { checkpoints: vec![log.note(&other)], ..keys(&own) }).unwrap_err();
    assert!(matches!(error.problem, Problem::UnknownKey(_)), "{error}");
}

#[test]
fn a_key_hands_over_to_the_next() {
    let (old, new, thief) = (key(1), key(2), key(3));
    let mut log = Log::signed(15, 10, &old);
    log.checkpoint(&[&old, &new], Some(new.public().clone()));
    (0..5).for_each(|_| log.request("user"));
    log.checkpoint(&[&new], None);
    for asked in
        [keys(&old), Asked { keys: vec![old.public().clone(), new.public().clone()], ..Asked::default() }]
    {
        let verified = verify_asking(&log.events, asked).unwrap();
        assert_eq!((verified.signed_seq, verified.signed_by.len()), (21, 2));
    }
    // Who has only the new one believes it from where it took over, and the tree before that.
    let verified = verify_asking(&log.events, keys(&new)).unwrap();
    assert_eq!((verified.signed_seq, verified.signed_by.len()), (21, 1));
    // A key that nobody handed over to.
    log.checkpoint(&[&thief], None);
    let error = verify_asking(&log.events, keys(&old)).unwrap_err();
    assert!(error.seq == 23 && matches!(error.problem, Problem::UnknownKey(_)), "{error}");
    // A hand-over that the next key did not sign is none.
    let mut log = Log::signed(15, 10, &old);
    log.checkpoint(&[&old], Some(new.public().clone()));
    let error = verify_asking(&log.events, keys(&old)).unwrap_err();
    assert!(matches!(error.problem, Problem::Signature(_)), "{error}");
}

/// A tree whose leaves are all there.
struct Leaves<'h>(&'h [Hash]);

impl Nodes for Leaves<'_> {
    type Error = ();

    fn perfect(&mut self, level: u32, index: u64) -> Result<Hash, ()> {
        if level == 0 {
            return self.0.get(index as usize).copied().ok_or(());
        }
        let left = self.perfect(level - 1, 2 * index)?;
        Ok(node_hash(&left, &self.perfect(level - 1, 2 * index + 1)?))
    }
}

fn proofs(log: &Log, key: &SigningKey, seqs: impl Iterator<Item = u64>) -> Proven {
    let note = log.note(key).note.to_string();
    let mut proven = Proven::default();
    for seq in seqs {
        let head = (log.tree.size(), Some(note.clone()));
        let proof = Proof::inclusion(&mut Leaves(&log.hashes), log.chain, seq, head).unwrap();
        let text = serde_json::to_string(&proof).unwrap();
        proven.add(&Proof::parse(&text).unwrap(), &[key.public().clone()]).unwrap();
    }
    proven
}

#[test]
fn a_filtered_log_holds_by_inclusion_and_only_that() {
    let key = key(1);
    let log = Log::signed(40, 10, &key);
    let kept: Vec<Vec<u8>> = log.events.iter().step_by(3).cloned().collect();
    let filtered = |proofs| Asked { is_filtered: true, proofs, ..keys(&key) };
    let verified = verify_asking(&kept, filtered(Some(proofs(&log, &key, (1..=40).step_by(3))))).unwrap();
    assert_eq!((verified.claim, verified.gaps, verified.proofs), (Claim::InclusionOnly, 13, 14));
    // Omission does not show, and is not claimed.
    let fewer = [&kept[..4], &kept[5..]].concat();
    let verified = verify_asking(&fewer, filtered(Some(proofs(&log, &key, (1..=40).step_by(3))))).unwrap();
    assert_eq!(verified.claim, Claim::InclusionOnly);
    // Alteration does, even where the event is hashed anew.
    let forged: Vec<Vec<u8>> = log.rewritten(12).events.iter().step_by(3).cloned().collect();
    let error = verify_asking(&forged, filtered(Some(proofs(&log, &key, (1..=40).step_by(3))))).unwrap_err();
    assert!(error.seq == 13 && matches!(error.problem, Problem::Proof { .. }), "{error}");
    // Nothing holds without proofs, and none may be missing.
    let error = verify_asking(&kept, filtered(Some(proofs(&log, &key, [1, 4].into_iter())))).unwrap_err();
    assert_eq!(error, VerifyError { seq: 7, problem: Problem::NoProof });
    let unproven = Asked { is_filtered: true, ..Asked::default() };
    assert_eq!(verify_asking(&kept, unproven).unwrap().claim, Claim::Unproven);
    assert!(matches!(verify(&kept).unwrap_err().problem, Problem::Seq { found: 4, wanted: 2 }));
}

#[test]
fn proofs_of_other_keys_sizes_and_leaves_do_not_hold() {
    let (own, other) = (key(1), key(2));
    let log = Log::of(20);
    let note = |log: &Log, key| Some(log.note(key).note.to_string());
    let made = |seq, head| Proof::inclusion(&mut Leaves(&log.hashes), log.chain, seq, head).unwrap();
    let trusted = [own.public().clone()];
    let good = made(7, (20, note(&log, &own)));
    assert_eq!(good.check(&trusted).unwrap().len(), 1);
    assert_eq!(good.check(&[]).unwrap().len(), 0);
    assert_eq!(made(7, (20, note(&log, &other))).check(&trusted), Err(crate::proof::ProofError::Unsigned));
    assert_eq!(made(7, (20, None)).check(&trusted), Err(crate::proof::ProofError::Unsigned));
    assert!(matches!(
        made(7, (19, note(&log, &own))).check(&trusted),
        Err(crate::proof::ProofError::Checkpoint { .. })
    ));
    let text = serde_json::to_string(&good).unwrap();
    for (from, to) in
        [("\"seq\":7", "\"seq\":8"), ("\"seq\":7", "\"seq\":0"), ("\"leaf_hash\":\"", "\"leaf_hash\":\"0")]
    {
        let changed = text.replacen(from, to, 1);
        assert!(Proof::parse(&changed).unwrap().check(&trusted).is_err(), "{changed}");
    }
    let earlier =
        Log { events: Vec::new(), decisions: Vec::new(), hashes: log.hashes[..9].to_vec(), ..Log::of(0) };
    let mut tree = Peaks::default();
    earlier.hashes.iter().for_each(|hash| tree.push(*hash));
    let earlier = Log { tree, ..earlier };
    let consistent = Proof::consistency(
        &mut Leaves(&log.hashes),
        log.chain,
        (9, note(&earlier, &own)),
        (20, note(&log, &own)),
    )
    .unwrap();
    assert_eq!(consistent.check(&trusted).unwrap().len(), 1);
    let text = serde_json::to_string(&consistent).unwrap().replacen("\"path\":[\"", "\"path\":[\"0", 1);
    assert!(Proof::parse(&text).unwrap().check(&trusted).is_err());
}

#[test]
fn pseudonymised_events_prove_their_position_only() {
    let key = key(1);
    let mut log = Log::signed(30, 10, &key);
    log.checkpoint(&[&key], None);
    let pseudonymised: Vec<Vec<u8>> = log
        .events
        .iter()
        .map(|event| String::from_utf8(event.clone()).unwrap().replacen("\"user ", "\"u-7f ", 1).into_bytes())
        .collect();
    let error = verify(&pseudonymised).unwrap_err();
    assert!(error.seq == 1 && matches!(error.problem, Problem::Hash { .. }), "{error}");
    let position = |events: &[Vec<u8>], asked| run(Verifier::asking(asked), events, Examined::position);
    let verified = position(&pseudonymised, keys(&key)).unwrap();
    assert_eq!((verified.claim, verified.signed_seq), (Claim::PositionOnly, 30));
    assert_eq!(verified.altered, 28, "checkpoints are as they were");
    // A destination's own shape.
    let shaped: Vec<Vec<u8>> = log
        .events
        .iter()
        .map(|event| {
            let value: serde_json::Value = serde_json::from_slice(event).unwrap();
            let log = json!({"service": "policy-gateway",
                "event": {"seq": value["seq"], "checkpoint": value["checkpoint"]},
                "audit": {"chain": value["chain"], "prev_hash": value["prev_hash"], "hash": value["hash"]}});
            json!({"attributes": {"attributes": log}}).to_string().into_bytes()
        })
        .collect();
    let verified = position(&shaped, keys(&key)).unwrap();
    assert_eq!((verified.claim, verified.signed_seq, verified.altered), (Claim::PositionOnly, 30, 31));
    // Two lines that agree with one another and not with the log.
    let mut forged = pseudonymised.clone();
    for (at, from) in [(4, "\"hash\":\""), (5, "\"prev_hash\":\"")] {
        let text = String::from_utf8(forged[at].clone()).unwrap();
        let place = text.rfind(from).unwrap() + from.len();
        forged[at] = format!("{}{}{}", &text[..place], "ab".repeat(32), &text[place + 64..]).into_bytes();
    }
    let error = position(&forged, keys(&key)).unwrap_err();
    assert_eq!(error, VerifyError { seq: 1, problem: Problem::Rewritten { to: 10 } });
    // Without a checkpoint nothing holds such lines.
    let bare: Vec<Vec<u8>> = pseudonymised[..8].to_vec();
    assert_eq!(position(&bare, Asked::default()).unwrap().claim, Claim::Unproven);
    assert!(position(&[b"{\"a\":1}".to_vec()], Asked::default()).is_err());
}

#[test]
fn events_that_come_again_are_the_same_or_found() {
    let log = Log::of(6);
    let again: Vec<Vec<u8>> = [0, 1, 2, 1, 2, 3, 4, 0, 5].map(|at: usize| log.events[at].clone()).to_vec();
    let asked = Asked { may_repeat: true, ..Asked::default() };
    let verified = verify_asking(&again, asked.clone()).unwrap();
    assert_eq!((verified.events, verified.repeated, verified.head_seq), (6, 3, 6));
    let forged = log.rewritten(2);
    let twins: Vec<Vec<u8>> = [&log.events[..4], &forged.events[2..3], &log.events[4..]].concat();
    assert_eq!(verify_asking(&twins, asked.clone()).unwrap_err().problem, Problem::Twin);
    let later: Vec<Vec<u8>> = [&log.events[3..], &log.events[..1]].concat();
    assert_eq!(verify_asking(&later, asked).unwrap_err().problem, Problem::TooFarBack);
}

#[test]
fn a_tree_from_before_the_beginning_goes_on() {
    let key = key(1);
    let log = Log::signed(35, 10, &key);
    let mut tree = Peaks::default();
    log.hashes[..17].iter().for_each(|hash| tree.push(*hash));
    let anchored = |tree| Verifier::asking(keys(&key)).anchored(18, log.hashes[16], Some(tree));
    let verified = run(anchored(tree), &log.events[17..], Examined::stored).unwrap();
    assert_eq!((verified.checkpoints, verified.signed_seq), (2, 30));
    let mut forged = log.hashes[..17].to_vec();
    forged[3] = [7; 32];
    let mut tree = Peaks::default();
    forged.iter().for_each(|hash| tree.push(*hash));
    let error = run(anchored(tree), &log.events[17..], Examined::stored).unwrap_err();
    assert_eq!(error.problem, Problem::Rewritten { to: 20 });
}

/// What somebody does to a log.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { byte: usize, bit: u8 },
    Remove,
    Swap(usize),
    Repeat,
    Insert,
    Rewrite,
    CutBefore,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), 0_u8..8).prop_map(|(byte, bit)| Mutation::Flip { byte, bit }),
        Just(Mutation::Remove),
        any::<usize>().prop_map(Mutation::Swap),
        Just(Mutation::Repeat),
        Just(Mutation::Insert),
        Just(Mutation::Rewrite),
        Just(Mutation::CutBefore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to one event of a log whose last checkpoint somebody kept, is found, and where it was done is named:
    /// exactly, or of a log hashed anew by the two checkpoints around it.
    #[test]
    fn any_single_mutation_is_found(
        count in 2_u64..60, every in 2_u64..15, pick in any::<usize>(), mutation in mutation(),
    ) {
        let key = key(1);
        let log = Log::signed(count, every, &key);
        let kept = with_checkpoint(&key, log.note(&key));
        prop_assert!(verify_asking(&log.events, kept.clone()).is_ok());
        let at = pick % log.events.len();
        let mut events = log.events.clone();
        let bad = at as u64 + 1;
        let mut exact = Some(bad);
        match mutation {
            Mutation::Flip { byte, bit } => {
                let place = byte % events[at].len();
                events[at][place] ^= 1 << bit;
            }
            Mutation::Remove => drop(events.remove(at)),
            Mutation::Swap(with) => {
                let with = with % events.len();
                prop_assume!(with != at);
                events.swap(at, with);
                exact = Some(at.min(with) as u64 + 1);
                // What the first event says of its place is believed until the next one.
                if exact == Some(1) { exact = None; }
            }
            Mutation::Repeat => {
                events.insert(at, events[at].clone());
                exact = Some(bad + 1);
            }
            Mutation::Insert => {
                let own = AuditEvent::blank(Uuid::now_v7(), EventType::Admin, "t".into()).to_json();
                let prev = if at == 0 { NO_HASH } else { log.hashes[at - 1] };
                events.insert(at, link(&own, log.chain, bad, &prev));
                exact = Some(bad + 1);
            }
            Mutation::Rewrite => {
                events = log.rewritten(at).events;
                exact = None;
            }
            Mutation::CutBefore => events.truncate(at),
        }
        let error = match verify_asking(&events, kept) {
            // A beginning that is not there is said to be unknown.
            Ok(verified) if matches!(mutation, Mutation::Remove) && at == 0 => {
                prop_assert_eq!((verified.is_anchored, verified.first_seq), (false, 2));
                return Ok(());
            }
            Ok(_) => return Err(TestCaseError::fail("it was not found")),
            Err(error) => error,
        };
        match (exact, &error.problem) {
            (_, Problem::Rewritten { to }) => prop_assert!(error.seq <= bad && bad <= *to, "{}", error),
            (Some(1), _) if error.seq != 1 => prop_assert!(at == 0, "{}", error),
            (Some(exact), _) => prop_assert_eq!(error.seq, exact, "{}", error),
            (None, _) => {}
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<Vec<u8>>(), tail in "\\PC{0,200}") {
        let _ = Verifier::new().event(&text);
        let _ = Examined::position(&text);
        let text = [b"{\"policy_id\":", tail.as_bytes(), b"}"].concat();
        let _ = Verifier::new().event(&text);
        let _ = Examined::position(&text);
        let _ = stated_hash(&text);
    }
}
