//! Checks a log from its texts alone: the shape of each event, its place, its hash, and that it follows on the one
//! before. Fed from a store or from lines in a file; knows neither.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{Hash, hex, leaf_hash};

/// `prev_hash` of the event with seq 1.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The members that every event starts with, in order.
const CONTRACT: [&str; 14] = [
    "policy_id",
    "decision",
    "effective_decision",
    "reason_code",
    "policy_user",
    "project_id",
    "policy_target",
    "rollout_mode",
    "enforced",
    "triggered_categories",
    "allowlist_hits",
    "denylist_hits",
    "model",
    "created_at",
];

/// The members that every event ends with, in order.
const LINK: [&str; 4] = ["chain", "seq", "prev_hash", "hash"];

/// Length of `,"hash":"<64 hex>"}`.
const HASH_MEMBER_BYTES: usize = 75;

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not an object on one line.
    #[error("it is not a JSON object on one line: {0}")]
    NotAnEvent(String),
    /// The contract's members are not where they belong.
    #[error("member {index} is `{found}`, where `{wanted}` belongs")]
    Members {
        /// Position in the object, from 0.
        index: usize,
        /// The member found.
        found: String,
        /// The member that belongs there.
        wanted: &'static str,
    },
    /// A member stands there twice.
    #[error("member `{0}` stands there twice")]
    Twice(String),
    /// It does not end with a well-formed link.
    #[error("it does not end with `chain`, `seq`, `prev_hash` and `hash`")]
    NoLink,
    /// Events are missing, repeated or out of order.
    #[error("it says seq {found}, where {wanted} belongs: events are missing, repeated or out of order")]
    Seq {
        /// The event's.
        found: u64,
        /// The one after its predecessor's.
        wanted: u64,
    },
    /// It is of another chain than its predecessor.
    #[error("it is of chain {found}, the log of chain {wanted}")]
    Chain {
        /// The event's.
        found: Uuid,
        /// The log's.
        wanted: Uuid,
    },
    /// It does not follow on its predecessor.
    #[error("its `prev_hash` is {found}, the event before has {wanted}: one of them was changed")]
    PrevHash {
        /// The event's.
        found: String,
        /// The predecessor's.
        wanted: String,
    },
    /// Its text is not what was hashed.
    #[error("its `hash` is {found}, its text has {computed}: it was changed")]
    Hash {
        /// The event's.
        found: String,
        /// Of the text as it is.
        computed: String,
    },
    /// The decision record that it closes is not in the store, or another.
    #[error("no decision record of event {event_id} has the hash {wanted}: it was changed or removed")]
    Decision {
        /// The event's id.
        event_id: Uuid,
        /// `decision_hash`.
        wanted: String,
    },
}

/// The first event that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq}: {problem}")]
pub struct VerifyError {
    /// The seq that belongs there.
    pub seq: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What was verified so far.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Events found good.
    pub events: u64,
    /// Seq of the first; 0 where there is none.
    pub first_seq: u64,
    /// Seq of the last; 0 where there is none.
    pub head_seq: u64,
    /// Hash of the last, hex.
    pub head_hash: String,
    /// The chain, where there is an event.
    pub chain: Option<Uuid>,
    /// Whether the first event's predecessor was known: it was the first of all, or an anchor was given. Where not,
    /// nothing says that events before it are missing.
    pub is_anchored: bool,
    /// Decision records whose hash their closing event carries.
    pub decisions: u64,
}

/// Verifies events one after the other. After an error it stays at the event that failed.
#[derive(Debug)]
pub struct Verifier {
    next: Option<u64>,
    prev_hash: Option<String>,
    chain: Option<Uuid>,
    verified: Verified,
    decisions: Option<Decisions>,
}

#[derive(Debug, Default)]
struct Decisions {
    /// Records of decisions that no event has closed yet; more than one where an answer changed the decision.
    open: HashMap<Uuid, Vec<Hash>>,
    /// Records of requests begun up to this time (Unix ms) may be gone.
    gone_ms: i64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// Takes the first event's place on trust, unless its seq is 1.
    pub fn new() -> Self {
        let verified = Verified {
            events: 0,
            first_seq: 0,
            head_seq: 0,
            head_hash: NO_HASH.to_owned(),
            chain: None,
            is_anchored: false,
            decisions: 0,
        };
        Self { next: None, prev_hash: None, chain: None, verified, decisions: None }
    }

    /// The first event must have this seq and this `prev_hash` (hex).
    #[must_use]
    pub fn anchored(mut self, first_seq: u64, prev_hash: &str) -> Self {
        self.next = Some(first_seq);
        self.prev_hash = Some(prev_hash.to_owned());
        self.verified.is_anchored = true;
        self
    }

    /// Also holds each event's `decision_hash` against the decision records given by [`Verifier::decision`]. Those of
    /// requests begun up to `gone_ms` (Unix milliseconds) may be missing.
    #[must_use]
    pub fn with_decisions(mut self, gone_ms: Option<i64>) -> Self {
        self.decisions = Some(Decisions { open: HashMap::new(), gone_ms: gone_ms.unwrap_or(i64::MIN) });
        self
    }

    /// Takes note of a decision record. It must come before the event that closes it.
    ///
    /// # Errors
    /// [`Problem::NotAnEvent`] where it has no event id.
    pub fn decision(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        #[derive(Deserialize)]
        struct Id {
            event_id: Uuid,
        }
        if let Some(decisions) = &mut self.decisions {
            match serde_json::from_slice::<Id>(text) {
                Ok(id) => decisions.open.entry(id.event_id).or_default().push(leaf_hash(text)),
                Err(error) => {
                    let seq = self.verified.head_seq + 1;
                    return Err(VerifyError { seq, problem: Problem::NotAnEvent(error.to_string()) });
                }
            }
        }
        Ok(())
    }

    /// Verifies the next event.
    ///
    /// # Errors
    /// What is wrong with it, the first thing found.
    pub fn event(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        let link = Link::of(text);
        let seq = self.next.or(link.as_ref().map(|link| link.seq)).unwrap_or(1);
        match self.check(text, link) {
            Ok(hash) => {
                if self.verified.events == 0 {
                    self.verified.first_seq = seq;
                    self.verified.is_anchored |= seq == 1;
                }
                self.verified.events += 1;
                self.verified.head_seq = seq;
                self.verified.head_hash.clone_from(&hash);
                self.verified.chain = self.chain;
                self.prev_hash = Some(hash);
                self.next = Some(seq + 1);
                Ok(())
            }
            Err(problem) => Err(VerifyError { seq, problem }),
        }
    }

    fn check(&mut self, text: &[u8], link: Option<Link<'_>>) -> Result<String, Problem> {
        let members: Members =
            serde_json::from_slice(text).map_err(|error| Problem::NotAnEvent(error.to_string()))?;
        if text.contains(&b'\n') {
            return Err(Problem::NotAnEvent("a line end within it".to_owned()));
        }
        if let Some(problem) = members.problem {
            return Err(problem);
        }
        let link = link.ok_or(Problem::NoLink)?;
        let computed = hex(&link.computed);
        if computed != link.hash {
            return Err(Problem::Hash { found: link.hash.to_owned(), computed });
        }
        if let Some(wanted) = self.next
            && link.seq != wanted
        {
            return Err(Problem::Seq { found: link.seq, wanted });
        }
        if let Some(wanted) = self.chain
            && link.chain != wanted
        {
            return Err(Problem::Chain { found: link.chain, wanted });
        }
        let wanted = match &self.prev_hash {
            Some(hash) => Some(hash.as_str()),
            None => (link.seq == 1).then_some(NO_HASH),
        };
        if let Some(wanted) = wanted
            && wanted != link.prev_hash
        {
            return Err(Problem::PrevHash { found: link.prev_hash.to_owned(), wanted: wanted.to_owned() });
        }
        if let Some(decisions) = &mut self.decisions {
            self.verified.decisions += u64::from(decisions.close(&members)?);
        }
        self.chain = Some(link.chain);
        Ok(computed)
    }

    /// What was verified so far.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }
}

impl Decisions {
    /// Whether the event closed a decision record.
    fn close(&mut self, members: &Members) -> Result<bool, Problem> {
        let Some(event_id) = members.event_id else { return Ok(false) };
        let records = self.open.remove(&event_id).unwrap_or_default();
        let Some(wanted) = &members.decision_hash else { return Ok(false) };
        if records.iter().any(|record| hex(record) == *wanted) {
            return Ok(true);
        }
        let begun_ms = event_id.get_timestamp().and_then(|time| {
            let (seconds, nanos) = time.to_unix();
            i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
        });
        if records.is_empty() && begun_ms.is_some_and(|begun| begun <= self.gone_ms) {
            return Ok(false);
        }
        Err(Problem::Decision { event_id, wanted: wanted.clone() })
    }
}

/// The members that the log's writer added to an event, read from the end of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'t> {
    /// Id of the chain.
    pub chain: Uuid,
    /// Place in it.
    pub seq: u64,
    /// Hash of the event before, hex.
    pub prev_hash: &'t str,
    /// Hash as the event states it, hex.
    pub hash: &'t str,
    /// Hash as its text has it.
    pub computed: Hash,
}

impl<'t> Link<'t> {
    /// `None` where the text does not end with the four members, written exactly as the writer does.
    pub fn of(text: &'t [u8]) -> Option<Self> {
        let body = text.get(..text.len().checked_sub(HASH_MEMBER_BYTES)?)?;
        let hash = text.get(body.len()..)?.strip_prefix(b",\"hash\":\"")?.strip_suffix(b"\"}")?;
        let rest = body.strip_suffix(b"\"")?;
        let (rest, prev_hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let rest = rest.strip_suffix(b",\"prev_hash\":\"")?;
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, seq) = rest.split_at_checked(rest.len() - digits)?;
        let rest = rest.strip_suffix(b"\",\"seq\":")?;
        let (rest, chain) = rest.split_at_checked(rest.len().checked_sub(36)?)?;
        rest.strip_suffix(b",\"chain\":\"")?;
        let mut hasher = Sha256::new();
        hasher.update([0_u8]);
        hasher.update(body);
        hasher.update(b"}");
        Some(Self {
            chain: Uuid::try_parse_ascii(chain).ok()?,
            seq: std::str::from_utf8(seq).ok()?.parse().ok()?,
            prev_hash: hex_text(prev_hash)?,
            hash: hex_text(hash)?,
            computed: hasher.finalize().into(),
        })
    }
}

fn hex_text(text: &[u8]) -> Option<&str> {
    let is_hex = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { std::str::from_utf8(text).ok() } else { None }
}

/// What a pass over an event's members finds.
#[derive(Debug, Default)]
struct Members {
    problem: Option<Problem>,
    event_id: Option<Uuid>,
    decision_hash: Option<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

/// More members than this are not an event; it bounds the search for doubles.
const MEMBERS_MAX: usize = 64;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        let mut names: Vec<&'de str> = Vec::with_capacity(MEMBERS_MAX / 2);
        // A name that needs unescaping is none of ours, and fails to borrow.
        while let Some(name) = map.next_key::<&'de str>()? {
            match name {
                "event_id" => members.event_id = map.next_value()?,
                "decision_hash" => members.decision_hash = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if names.contains(&name) {
                members.problem.get_or_insert_with(|| Problem::Twice(name.to_owned()));
            }
            if names.len() == MEMBERS_MAX {
                members.problem.get_or_insert_with(|| Problem::NotAnEvent("too many members".to_owned()));
                continue;
            }
            names.push(name);
        }
        if members.problem.is_none() {
            members.problem = misplaced(&names);
        }
        Ok(members)
    }
}

/// Names in between are not looked at: a later version may have more.
fn misplaced(names: &[&str]) -> Option<Problem> {
    let tail = names.len().saturating_sub(LINK.len());
    let wanted =
        CONTRACT.iter().enumerate().chain(LINK.iter().enumerate().map(|(at, name)| (tail + at, name)));
    for (index, wanted) in wanted {
        let found = names.get(index).copied().unwrap_or_default();
        if found != *wanted {
            return Some(Problem::Members { index, found: found.to_owned(), wanted });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AuditEvent, EventType};
    use crate::log::Record;

    /// `count` events, chained as event.rs specifies, each closing a decision record.
    fn log(count: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let chain = Uuid::from_u128(1);
        let mut prev = NO_HASH.to_owned();
        let mut events = Vec::new();
        let mut decisions = Vec::new();
        for seq in 1..=count {
            let created = format!("2026-01-16T18:22:{seq:02}.000Z");
            let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Enforcement, created);
            event.policy_user = Some(format!("user \"{seq}\""));
            let (Record::Decision { text, .. }, hash) = Record::decision(&event) else { unreachable!() };
            decisions.push(text);
            event.decision_hash = Some(hex(&hash));
            let own = String::from_utf8(event.to_json()).unwrap();
            let own = own.strip_suffix('}').unwrap();
            let unsealed = format!(r#"{own},"chain":"{chain}","seq":{seq},"prev_hash":"{prev}"}}"#);
            prev = hex(&leaf_hash(unsealed.as_bytes()));
            let sealed = format!(r#"{},"hash":"{prev}"}}"#, unsealed.strip_suffix('}').unwrap());
            events.push(sealed.into_bytes());
        }
        (events, decisions)
    }

    fn verify(events: &[Vec<u8>]) -> Result<Verified, VerifyError> {
        let mut verifier = Verifier::new();
        for event in events {
            verifier.event(event)?;
        }
        Ok(verifier.verified().clone())
    }

    #[test]
    fn a_good_log_verifies() {
        let (events, _) = log(5);
        let verified = verify(&events).unwrap();
        assert_eq!((verified.events, verified.first_seq, verified.head_seq), (5, 1, 5));
        assert!(verified.is_anchored);
        let tail = verify(&events[2..]).unwrap();
        assert_eq!((tail.events, tail.first_seq, tail.is_anchored), (3, 3, false));
        assert_eq!(tail.head_hash, verified.head_hash);
    }

    #[test]
    fn any_changed_byte_is_found_at_its_event() {
        let (events, _) = log(3);
        for at in 0..events[1].len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = events.clone();
                changed[1][at] ^= flip;
                let error = verify(&changed).expect_err(&format!("byte {at} ^ {flip:#x}"));
                assert_eq!(error.seq, 2, "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn missing_swapped_and_repeated_events_are_found() {
        let (events, _) = log(4);
        let cases = [[0, 2, 3, 3], [0, 2, 1, 3], [0, 1, 1, 2], [1, 0, 2, 3]];
        for (case, seq) in cases.iter().zip([2, 2, 3, 3]) {
            let shuffled: Vec<_> = case.iter().map(|at| events[*at].clone()).collect();
            let error = verify(&shuffled).unwrap_err();
            assert!(matches!(error.problem, Problem::Seq { .. }), "{error}");
            assert_eq!(error.seq, seq);
        }
    }

    #[test]
    fn an_anchor_binds_the_first_event() {
        let (events, _) = log(3);
        let first = Link::of(&events[0]).unwrap().hash;
        let mut verifier = Verifier::new().anchored(2, first);
        verifier.event(&events[1]).unwrap();
        assert!(verifier.verified().is_anchored);
        let error = Verifier::new().anchored(2, NO_HASH).event(&events[1]).unwrap_err();
        assert!(matches!(error.problem, Problem::PrevHash { .. }), "{error}");
        let error = Verifier::new().anchored(1, NO_HASH).event(&events[1]).unwrap_err();
        assert_eq!(error, VerifyError { seq: 1, problem: Problem::Seq { found: 2, wanted: 1 } });
    }

    #[test]
    fn a_rewritten_tail_shows_against_another_chain() {
        let (mut events, _) = log(2);
        let other = String::from_utf8(events[1].clone()).unwrap();
        let unsealed = other.replace("00000001\",\"seq\"", "00000002\",\"seq\"");
        let body = unsealed.get(..unsealed.len() - HASH_MEMBER_BYTES).unwrap();
        let hash = hex(&leaf_hash(format!("{body}}}").as_bytes()));
        events[1] = format!(r#"{body},"hash":"{hash}"}}"#).into_bytes();
        assert!(matches!(verify(&events).unwrap_err().problem, Problem::Chain { .. }));
    }

    #[test]
    fn members_out_of_place_are_named() {
        let (events, _) = log(1);
        let text = String::from_utf8(events[0].clone()).unwrap();
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
        let (events, decisions) = log(3);
        let mut verifier = Verifier::new().with_decisions(None);
        for (event, decision) in events.iter().zip(&decisions) {
            verifier.decision(decision).unwrap();
            verifier.event(event).unwrap();
        }
        assert_eq!(verifier.verified().decisions, 3);

        let mut changed = decisions[0].clone();
        let at = changed.windows(4).position(|window| window == b"user").unwrap() + 8;
        changed[at] ^= 1;
        let mut verifier = Verifier::new().with_decisions(Some(i64::MAX));
        verifier.decision(&changed).unwrap();
        let error = verifier.event(&events[0]).unwrap_err();
        assert!(matches!(error.problem, Problem::Decision { .. }), "{error}");

        Verifier::new().with_decisions(Some(i64::MAX)).event(&events[0]).unwrap();
        Verifier::new().with_decisions(Some(1)).event(&events[0]).unwrap_err();
    }
}
