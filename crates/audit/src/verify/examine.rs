//! An event's text looked at by itself: its shape, its place in the log as it states it, and whether its hash is that of its
//! text. Needs no neighbours, so that many are looked at at once.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::problem::Problem;
use crate::event::{Hash, hex, unhex};

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

/// More members than this are not an event; it bounds the search for doubles.
const MEMBERS_MAX: usize = 64;

/// What an event's text says by itself.
#[derive(Debug, Default)]
pub struct Examined {
    pub(super) link: Option<Link>,
    pub(super) event_id: Option<Uuid>,
    pub(super) decision_hash: Option<Hash>,
    /// The signed note of a checkpoint event.
    pub(super) note: Option<String>,
    pub(super) problem: Option<Problem>,
    /// Its text is not the one that was hashed, which is known of such logs.
    pub(super) is_altered: bool,
}

impl Examined {
    /// Looks at an event as it is stored.
    pub fn stored(text: &[u8]) -> Self {
        let link = Link::of(text);
        match check(text, link.as_ref()) {
            Ok(members) => Self {
                link,
                event_id: members.event_id,
                decision_hash: members.decision_hash,
                note: members.note,
                ..Self::default()
            },
            Err(problem) => Self { link, problem: Some(problem), ..Self::default() },
        }
    }

    /// Looks at an event as a destination has it that pseudonymises, shortens or reshapes events: what counts is the
    /// place and the hash that it carries.
    pub fn position(text: &[u8]) -> Self {
        if Link::of(text).is_some_and(|link| link.computed == link.hash) {
            return Self::stored(text);
        }
        let value = match serde_json::from_slice::<Value>(text) {
            Ok(value) => value,
            Err(error) => return Self::bad(Problem::NotAnEvent(error.to_string())),
        };
        let link = Link::of(text).or_else(|| Link::carried(&value));
        let problem = link.is_none().then(|| {
            Problem::NotAnEvent("it carries no chain, seq, prev_hash and hash of an event".to_owned())
        });
        Self { link, note: find_note(&value), problem, is_altered: true, ..Self::default() }
    }

    /// Its chain and seq, as it states them.
    pub fn place(&self) -> Option<(Uuid, u64)> {
        self.link.map(|link| (link.chain, link.seq))
    }

    /// Stands for events that cannot be read.
    pub fn bad(problem: Problem) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

fn check(text: &[u8], link: Option<&Link>) -> Result<Members, Problem> {
    let members: Members =
        serde_json::from_slice(text).map_err(|error| Problem::NotAnEvent(error.to_string()))?;
    if memchr::memchr(b'\n', text).is_some() {
        return Err(Problem::NotAnEvent("a line end within it".to_owned()));
    }
    if let Some(problem) = members.problem {
        return Err(problem);
    }
    let link = link.ok_or(Problem::NoLink)?;
    if link.computed != link.hash {
        return Err(Problem::Hash { found: hex(&link.hash), computed: hex(&link.computed) });
    }
    Ok(members)
}

/// The members that the log's writer added to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id of the chain.
    pub chain: Uuid,
    /// Place in it.
    pub seq: u64,
    /// Hash of the event before.
    pub prev_hash: Hash,
    /// Hash as the event states it.
    pub hash: Hash,
    /// Hash as its text has it.
    pub computed: Hash,
}

impl Link {
    /// Read from the end of a text; `None` where it does not end with the four members, written exactly as the writer
    /// does.
    pub fn of(text: &[u8]) -> Option<Self> {
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
            prev_hash: unhex(prev_hash)?,
            hash: unhex(hash)?,
            computed: hasher.finalize().into(),
        })
    }

    /// Carried by a destination's own shape of an event, which has an `audit` beside an `event`, however deep.
    fn carried(value: &Value) -> Option<Self> {
        match value {
            Value::Object(members) => {
                let link = match (members.get("audit"), members.get("event")) {
                    (Some(audit), Some(event)) => Self::from_parts(audit, event),
                    _ => None,
                };
                link.or_else(|| members.values().find_map(Self::carried))
            }
            Value::Array(values) => values.iter().find_map(Self::carried),
            _ => None,
        }
    }

    fn from_parts(audit: &Value, event: &Value) -> Option<Self> {
        let text = |name: &str| audit.get(name).and_then(Value::as_str);
        let hash = unhex(text("hash")?.as_bytes())?;
        Some(Self {
            chain: Uuid::try_parse(text("chain")?).ok()?,
            seq: event.get("seq")?.as_u64()?,
            prev_hash: unhex(text("prev_hash")?.as_bytes())?,
            hash,
            computed: hash,
        })
    }
}

/// The hash that a stored event states, without a look at the rest of its text.
pub fn stated_hash(text: &[u8]) -> Option<Hash> {
    let member = text.get(text.len().checked_sub(HASH_MEMBER_BYTES)?..)?;
    unhex(member.strip_prefix(b",\"hash\":\"")?.strip_suffix(b"\"}")?)
}

fn find_note(value: &Value) -> Option<String> {
    let members = value.as_object()?;
    if let Some(note) = members.get("checkpoint").and_then(|one| one.get("note")).and_then(Value::as_str) {
        return Some(note.to_owned());
    }
    members.values().find_map(find_note)
}

/// What a pass over an event's members finds.
#[derive(Debug, Default)]
struct Members {
    problem: Option<Problem>,
    event_id: Option<Uuid>,
    decision_hash: Option<Hash>,
    note: Option<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[derive(Deserialize)]
struct Noted {
    note: String,
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        let mut names = Names::default();
        // A name that needs unescaping is none of ours, and fails to borrow.
        while let Some(name) = map.next_key::<&'de str>()? {
            match name {
                "event_id" => members.event_id = map.next_value()?,
                "decision_hash" => {
                    let text: Option<&'de str> = map.next_value()?;
                    members.decision_hash = text.and_then(|text| unhex(text.as_bytes()));
                    if text.is_some() && members.decision_hash.is_none() {
                        let problem = Problem::NotAnEvent("`decision_hash` is no hash".to_owned());
                        members.problem.get_or_insert(problem);
                    }
                }
                "checkpoint" => {
                    members.note = map.next_value::<Option<Noted>>()?.map(|noted| noted.note);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if names.add(name) {
                members.problem.get_or_insert_with(|| Problem::Twice(name.to_owned()));
            }
            if names.seen.len() > MEMBERS_MAX {
                members.problem.get_or_insert_with(|| Problem::NotAnEvent("too many members".to_owned()));
                names.seen.truncate(MEMBERS_MAX);
            }
        }
        if members.problem.is_none() {
            members.problem = misplaced(&names.seen);
        }
        Ok(members)
    }
}

/// Names so far, and a digest of each that makes most searches for doubles needless.
#[derive(Default)]
struct Names<'de> {
    seen: Vec<&'de str>,
    digests: [u64; 4],
}

impl<'de> Names<'de> {
    /// Whether it was there already.
    fn add(&mut self, name: &'de str) -> bool {
        let bytes = name.as_bytes();
        let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or(0));
        let digest =
            (7 * bytes.len() + byte(0) + 3 * byte(bytes.len() / 2) + 5 * byte(bytes.len().saturating_sub(2)))
                % 256;
        let bit = 1_u64 << (digest % 64);
        let Some(word) = self.digests.get_mut(digest / 64) else { return false };
        let is_double = *word & bit != 0 && self.seen.contains(&name);
        *word |= bit;
        self.seen.push(name);
        is_double
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
