//! Checks a log from its texts alone: the shape of each event, its place, its hash, that it follows on the one before, and
//! that it is what signed checkpoints and proofs say. Fed from a store or from lines of files; knows neither.

mod examine;
mod in_order;
mod lines;
mod problem;
mod vouched;

use std::collections::HashMap;

use uuid::Uuid;

use crate::checkpoint::Checkpoint;
use crate::event::{Hash, hex, leaf_hash};
use crate::merkle::Peaks;
use crate::note::PublicKey;
use crate::proof::Proven;

pub use examine::{Examined, Link, stated_hash};
pub use in_order::in_order;
pub use lines::{Blocks, LINE_BYTES_MAX, examine_lines, examine_row};
pub use problem::{Problem, VerifyError};

use vouched::Vouched;

/// `prev_hash` of the event with seq 1.
const NO_HASH: Hash = [0; 32];

/// How a log is to be read, and what it is held against.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Keys whose checkpoints are believed. Where there are any, something in the log must be signed by one.
    pub keys: Vec<PublicKey>,
    /// Checkpoints from outside: the log must reach that far, and be what they were made of.
    pub checkpoints: Vec<Checkpoint>,
    /// Inclusion proofs, for logs with holes.
    pub proofs: Option<Proven>,
    /// Events may be missing: the destination filters or samples.
    pub is_filtered: bool,
    /// An event may come more than once, the same each time: destinations are delivered to at least once.
    pub may_repeat: bool,
}

/// What holds of a log that was found good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// No event was changed, removed, put in or moved.
    #[default]
    FullChain,
    /// The events that are here are in the log as they are; nothing is said of others.
    InclusionOnly,
    /// The events that are here stand for events of the log, in these places; nothing is said of what they say.
    PositionOnly,
    /// Each event fits its own hash, and nothing says that it is in the log.
    Unproven,
}

/// What was verified so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// What holds.
    pub claim: Claim,
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
    /// Places where events are missing.
    pub gaps: u64,
    /// Events whose text is not the one that was hashed.
    pub altered: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events of which a proof was given.
    pub proofs: u64,
    /// Checkpoints in the log that it was held against.
    pub checkpoints: u64,
    /// Events up to this seq are those that a checkpoint was made of; 0 where there is none.
    pub proven_seq: u64,
    /// The same, of a checkpoint that a key signed which was given.
    pub signed_seq: u64,
    /// The keys that signed.
    pub signed_by: Vec<String>,
}

/// Verifies events one after the other. After an error it stays at the event that failed.
#[derive(Debug, Default)]
pub struct Verifier {
    next: Option<u64>,
    prev_hash: Option<Hash>,
    chain: Option<Uuid>,
    verified: Verified,
    decisions: Option<Decisions>,
    proofs: Option<Proven>,
    is_filtered: bool,
    may_repeat: bool,
    /// Whether a beginning is known, and the tree with it.
    anchor: Option<Option<Peaks>>,
    vouched: Vouched,
}

#[derive(Debug, Default)]
struct Decisions {
    /// Records of decisions that no event has closed yet; more than one where an answer changed the decision.
    open: HashMap<Uuid, Vec<Hash>>,
    /// Records of requests begun up to this time (Unix ms) may be gone.
    gone_ms: i64,
}

impl Verifier {
    /// Takes the first event's place on trust, unless its seq is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with more that is asked of the log.
    pub fn asking(asked: Asked) -> Self {
        let Asked { keys, checkpoints, proofs, is_filtered, may_repeat } = asked;
        let vouched = Vouched::new(keys, checkpoints);
        Self { proofs, is_filtered, may_repeat, vouched, ..Self::default() }
    }

    /// The first event must have this seq and this `prev_hash`. `tree` is that of the events before it, where it is known.
    #[must_use]
    pub fn anchored(mut self, first_seq: u64, prev_hash: Hash, tree: Option<Peaks>) -> Self {
        self.next = Some(first_seq);
        self.prev_hash = Some(prev_hash);
        self.verified.is_anchored = true;
        self.anchor = Some(tree.filter(|tree| tree.size() + 1 == first_seq));
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
    pub fn decision(&mut self, record: DecisionRecord) {
        if let Some(decisions) = &mut self.decisions {
            decisions.open.entry(record.event_id).or_default().push(record.hash);
        }
    }

    /// Verifies the next event.
    ///
    /// # Errors
    /// What is wrong with it, the first thing found.
    pub fn event(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        self.examined(Examined::stored(text))
    }

    /// Verifies the next event, which was looked at by itself already.
    ///
    /// # Errors
    /// What is wrong with it, the first thing found.
    pub fn examined(&mut self, event: Examined) -> Result<(), VerifyError> {
        let own = event.link.map(|link| link.seq);
        // Where events may be missing, the next one is whichever comes.
        let next = self.next.map(|next| if self.is_filtered { own.unwrap_or(next).max(next) } else { next });
        let seq = next.or(own).unwrap_or(1);
        let at = |problem| VerifyError { seq, problem };
        let link = self.place(&event).map_err(at)?;
        let Some(link) = link else { return Ok(()) };
        if self.verified.events == 0 {
            self.verified.first_seq = link.seq;
            self.verified.is_anchored |= link.seq == 1;
            let whole = (link.seq == 1).then(Peaks::default);
            self.vouched.begin(self.anchor.take().flatten().or(whole));
        }
        self.chain = Some(link.chain);
        self.verified.events += 1;
        self.verified.altered += u64::from(event.is_altered);
        self.prev_hash = Some(link.hash);
        self.next = Some(link.seq + 1);
        self.vouched.event(link.seq, link.hash, link.chain)?;
        if let Some(note) = &event.note {
            self.vouched.checkpoint(link.seq, link.chain, note)?;
        }
        self.verified.head_seq = link.seq;
        Ok(())
    }

    /// Its link, once its place is found to be right; `None` for one that was here before.
    fn place(&mut self, event: &Examined) -> Result<Option<Link>, Problem> {
        if let Some(problem) = &event.problem {
            return Err(problem.clone());
        }
        let link = event.link.ok_or(Problem::NoLink)?;
        if let Some(wanted) = self.chain
            && link.chain != wanted
        {
            return Err(Problem::Chain { found: link.chain, wanted });
        }
        let mut is_after_hole = false;
        match self.next {
            Some(wanted) if link.seq < wanted && self.may_repeat && self.verified.events > 0 => {
                return match self.vouched.hash_of(link.seq) {
                    Some(hash) if hash == link.hash => {
                        self.verified.repeated += 1;
                        Ok(None)
                    }
                    Some(_) => Err(Problem::Twin),
                    None => Err(Problem::TooFarBack),
                };
            }
            Some(wanted) if link.seq > wanted && self.is_filtered => is_after_hole = true,
            Some(wanted) if link.seq != wanted => return Err(Problem::Seq { found: link.seq, wanted }),
            _ => {}
        }
        if is_after_hole {
            self.verified.gaps += 1;
            self.vouched.hole();
        } else {
            let wanted = self.prev_hash.or((link.seq == 1).then_some(NO_HASH));
            if let Some(wanted) = wanted.filter(|wanted| *wanted != link.prev_hash) {
                return Err(Problem::PrevHash { found: hex(&link.prev_hash), wanted: hex(&wanted) });
            }
        }
        if let Some(decisions) = &mut self.decisions {
            self.verified.decisions += u64::from(decisions.close(event)?);
        }
        if let Some(proofs) = &self.proofs {
            self.verified.proofs += u64::from(proofs.holds(&link, self.is_filtered)?);
        }
        Ok(Some(link))
    }

    /// What was verified. Nothing may follow.
    ///
    /// # Errors
    /// What the end of the log shows: that a checkpoint was made of more than is here, or that nothing is signed although keys
    /// were given.
    pub fn finish(mut self) -> Result<Verified, VerifyError> {
        let head = self.verified.head_seq;
        self.vouched.finish(head)?;
        let mut verified = self.verified;
        let found = &self.vouched.found;
        verified.head_hash = hex(&self.prev_hash.unwrap_or(NO_HASH));
        verified.chain = self.chain;
        verified.checkpoints = found.checkpoints;
        verified.proven_seq = found.proven;
        verified.signed_seq = found.signed;
        verified.signed_by = found.keys.iter().cloned().collect();
        let all_proven = self.proofs.is_some() && verified.proofs == verified.events;
        // Links of texts that are not those that were hashed bind nothing by themselves.
        verified.claim = match (verified.altered > 0, verified.gaps > 0) {
            (true, _) if all_proven || (verified.gaps == 0 && found.proven > 0) => Claim::PositionOnly,
            (false, true) if all_proven => Claim::InclusionOnly,
            (false, false) => Claim::FullChain,
            _ => Claim::Unproven,
        };
        if let Some(proofs) = self.proofs.filter(|_| all_proven) {
            verified.signed_by.extend(proofs.into_keys());
        } else {
            self.vouched.must_be_signed(head)?;
        }
        Ok(verified)
    }
}

/// A decision record, looked at by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionRecord {
    event_id: Uuid,
    hash: Hash,
}

impl DecisionRecord {
    /// `None` where it has no event id.
    pub fn of(text: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Id {
            event_id: Uuid,
        }
        let Id { event_id } = serde_json::from_slice(text).ok()?;
        Some(Self { event_id, hash: leaf_hash(text) })
    }
}

impl Decisions {
    /// Whether the event closed a decision record.
    fn close(&mut self, event: &Examined) -> Result<bool, Problem> {
        let Some(event_id) = event.event_id else { return Ok(false) };
        let records = self.open.remove(&event_id).unwrap_or_default();
        let Some(wanted) = event.decision_hash else { return Ok(false) };
        if records.contains(&wanted) {
            return Ok(true);
        }
        let begun_ms = event_id.get_timestamp().and_then(|time| {
            let (seconds, nanos) = time.to_unix();
            i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
        });
        if records.is_empty() && begun_ms.is_some_and(|begun| begun <= self.gone_ms) {
            return Ok(false);
        }
        Err(Problem::Decision { event_id, wanted: hex(&wanted) })
    }
}

#[cfg(test)]
mod tests;
