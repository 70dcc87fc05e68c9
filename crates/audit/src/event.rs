//! The audit event and the texts it is stored as. What is stored is the JSON text itself: hashes are
//! over its bytes, so nothing downstream re-serialises an event to check it.
//!
//! # Durable format
//!
//! An event is one JSON object on one line. Its members come in this order: the fourteen contract
//! fields, then the fields of [`AuditEvent`] in declaration order, then those that the log's writer adds:
//!
//! ```text
//! {"policy_id":…, …13 more…, "event_id":…, …, "request":…, "decision_hash":…,
//!  "chain":"<uuid>","seq":7,"prev_hash":"<64 hex>","hash":"<64 hex>"}
//! ```
//!
//! `hash` is the RFC 6962 leaf hash, `SHA-256(0x00 ‖ text)`, of the event's text without its last member
//! (that is, the text up to `,"hash":`, closed by `}`). `prev_hash` is the `hash` of the event with the
//! preceding `seq`, or 64 zeros for the first. A *decision record* has the same shape but for `chain`, `seq`,
//! `prev_hash` and `hash`, which only closing records get; its leaf hash is the closing record's `decision_hash`.

mod limits;

use std::collections::BTreeMap;

use policy::Decision;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use limits::{AlertInfo, AlertOf, Amount, BucketId, Measure, QuotaCharge, QuotaScope};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// A request that passed authentication and was judged.
    Enforcement,
    /// Messages judged without a model call.
    Simulation,
    /// A policy document saved, promoted, rolled back or aborted.
    Revision,
    /// A candidate taken back by itself.
    Rollback,
    /// A request refused for its quota, or a quota threshold crossed.
    Quota,
    /// A request past authentication that failed before it was judged.
    Error,
    /// A change through the management API.
    Admin,
    /// A signed statement of the log's head.
    Checkpoint,
    /// A sign of life.
    Heartbeat,
    /// Requests refused, or served unrecorded, while the log could not be written.
    Gap,
}

impl EventType {
    /// The wire name, as in `"event_type"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforcement => "enforcement",
            Self::Simulation => "simulation",
            Self::Revision => "revision",
            Self::Rollback => "rollback",
            Self::Quota => "quota",
            Self::Error => "error",
            Self::Admin => "admin",
            Self::Checkpoint => "checkpoint",
            Self::Heartbeat => "heartbeat",
            Self::Gap => "gap",
        }
    }
}

/// How a policy revision applied to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutMode {
    /// The stable revision was applied.
    Enforced,
    /// The candidate was judged beside it and only logged.
    Shadow,
    /// The candidate was applied.
    Canary,
    /// The candidate was taken back and is cooling down.
    Rollback,
}

impl RolloutMode {
    /// The wire name, as in `x-policy-rollout-mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Rollback => "rollback",
        }
    }
}

/// How the request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer was given in full: the model's, a refusal or an error of ours.
    Completed,
    /// The upstream failed, refused or timed out.
    UpstreamError,
    /// The client went away first.
    ClientGone,
    /// The gateway stopped before the request ended.
    Interrupted,
}

/// Tokens as the upstream counted them, over every upstream call of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Their sum, as the upstream reports it.
    pub total_tokens: u64,
    /// Cost in US dollars by the configured pricing.
    pub cost_usd: f64,
}

/// Times in milliseconds, with a fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyMs {
    /// From the request's head to the last byte of the answer.
    pub total: f64,
    /// Spent waiting on the upstream.
    pub upstream: f64,
    /// The rest: what the gateway itself cost.
    pub gateway: f64,
}

/// The request as seen from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestInfo {
    /// The route's path, for example `/v1/chat/completions`.
    pub route: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Status of the answer; null while open.
    pub http_status: Option<u16>,
    /// The `code` of the error body, where the answer was an error.
    pub error_code: Option<String>,
    /// Null while open.
    pub latency_ms: Option<LatencyMs>,
    /// Null while open.
    pub outcome: Option<Outcome>,
}

/// Where the judged text that set the decision stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request's messages.
    Input,
    /// The model's answer.
    Output,
}

/// How the answer was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanMode {
    /// Once it was there as a whole.
    #[default]
    Whole,
    /// As it passed.
    Stream,
}

/// What was read of a judged call, in bytes of decoded text. Counts, never text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// How the answer was read.
    pub mode: ScanMode,
    /// Judged in the request's messages.
    pub input_bytes: u64,
    /// Judged in the model's answer; 0 where the policy has no rule for answers and they pass unread.
    pub output_bytes: u64,
    /// What left of that, masks, placeholders and restored values included.
    pub released_bytes: u64,
    /// Parts that were not read, by kind: `image`, `audio`, `file`, `other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unscanned: BTreeMap<String, u64>,
    /// How texts scored by category; absent where none was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Moderation>,
}

/// How the texts of a call scored by moderation category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moderation {
    /// Who scored, with model or version.
    pub by: String,
    /// Texts, and windows of answers, that were scored.
    pub texts: u64,
    /// The highest score of each listed category, to three digits. No probabilities.
    pub scores: BTreeMap<String, f64>,
    /// Why some text has no score, in one word such as `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// What a [`EventType::Gap`] event counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Requests answered 503 because they could not be recorded.
    pub refused: u64,
    /// Requests served unrecorded under `on_unavailable: serve`.
    pub served: u64,
    /// When the first of them came, RFC 3339 UTC.
    pub since: String,
}

/// A signed statement of the log so far, on [`EventType::Checkpoint`] events. See [`crate::checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Events that it is about: those with a `seq` from 1 to this.
    pub size: u64,
    /// Root of the Merkle tree over their hashes, hex.
    pub root: String,
    /// The signed note that says so.
    pub note: String,
    /// The key that signed it, as `audit keygen` prints it.
    pub public_key: String,
}

/// What the stable revision came to, on the event of a call to which the candidate was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StableVerdict {
    /// Its number.
    pub policy_revision: u64,
    /// Its verdict.
    pub decision: Decision,
    /// Why.
    pub reason_code: String,
    /// The stage that set the decision.
    pub stage: Stage,
    /// Denylist terms found, in its policy document's spelling.
    pub denylist_hits: Vec<String>,
    /// Allowlist terms found, likewise.
    pub allowlist_hits: Vec<String>,
    /// Listed categories that fired.
    pub triggered_categories: Vec<String>,
    /// Redactions it would have made, by entity type.
    pub redactions: BTreeMap<String, u64>,
}

/// The numbers behind an [`EventType::Rollback`] event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollbackInfo {
    /// Length of the window.
    pub window_minutes: u64,
    /// Requests in it.
    pub requests: u64,
    /// Share of the candidate's decisions that are severe, 0 to 1.
    pub rate: f64,
    /// Share of stable's on the same requests.
    pub stable_rate: f64,
    /// The share from which on it is a spike.
    pub threshold: f64,
    /// When the candidate returns by itself, RFC 3339 UTC; null where it does not, or was not taken back.
    pub resume_at: Option<String>,
    /// Where single rules were tried out: what they name, in the policy's own spelling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// What was changed, on [`EventType::Revision`] and [`EventType::Admin`] events: names, numbers and digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeInfo {
    /// What it is a change of, as in `policy support-guardrails` or `key key_0123456789ab`.
    pub subject: String,
    /// The route of the management API that it came by, as in `PATCH projects/{id}`; absent where no request was behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The policy's stable revision until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_before: Option<u64>,
    /// Its stable revision from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_after: Option<u64>,
    /// Its candidate until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_before: Option<u64>,
    /// Its candidate from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_after: Option<u64>,
    /// Digest (SHA-256, hex) of what was changed until then: a policy's newest document, or what was known of a project, a
    /// key or a destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_before: Option<String>,
    /// The same from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_after: Option<String>,
}

/// One audit event. Field order is the stored and exported order.
///
/// INVARIANT: no field may hold prompt or answer text, or a fragment of either. `allowlist_hits` and
/// `denylist_hits` are the policy's own spellings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The policy that judged.
    pub policy_id: Option<String>,
    /// The verdict; null where nothing was judged.
    pub decision: Option<Decision>,
    /// What was applied: `allow` where `enforced` is false.
    pub effective_decision: Option<Decision>,
    /// `ALLOW`, `REDACT`, … or, where nothing was judged, the error code.
    pub reason_code: Option<String>,
    /// The end user, as the application named them.
    pub policy_user: Option<String>,
    /// The project of the key, or the one it named.
    pub project_id: Option<String>,
    /// The target, the project id unless the application named one.
    pub policy_target: Option<String>,
    /// Null where nothing was judged.
    pub rollout_mode: Option<RolloutMode>,
    /// Whether the decision was applied.
    pub enforced: bool,
    /// Listed categories that fired.
    pub triggered_categories: Vec<String>,
    /// Allowlist terms found, in the policy's spelling.
    pub allowlist_hits: Vec<String>,
    /// Denylist terms found, in the policy's spelling.
    pub denylist_hits: Vec<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// RFC 3339 UTC with milliseconds.
    pub created_at: String,

    /// UUIDv7; the same on the decision and the closing record, and at every destination.
    pub event_id: Uuid,
    /// What the event is about.
    pub event_type: EventType,
    /// The `x-request-id` of the answer.
    pub request_id: Option<String>,
    /// The public id of the key that the request came with; never the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Number of the revision that judged.
    pub policy_revision: Option<u64>,
    /// The policy's `org_controls.data_classification`.
    pub data_classification: Option<String>,
    /// The stage that set the decision.
    pub stage: Option<Stage>,
    /// Redactions made, by entity type.
    pub redactions: BTreeMap<String, u64>,
    /// The review ticket.
    pub escalation_id: Option<Uuid>,
    /// What was scanned; on judged calls only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// Present where a candidate was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<StableVerdict>,
    /// Present on [`EventType::Rollback`] events only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackInfo>,
    /// Present on [`EventType::Gap`] events only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Present on [`EventType::Checkpoint`] events only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointInfo>,
    /// Who changed something: the name of an admin token, or the file that did. On events of changes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What they changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeInfo>,
    /// What the call takes of quotas and rate limits; absent where none applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quota: Vec<QuotaCharge>,
    /// Present where the event tells that a share of a limit is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertInfo>,
    /// Null where no upstream answered.
    pub usage: Option<Usage>,
    /// Null where no request is behind the event.
    pub request: Option<RequestInfo>,
    /// Leaf hash, in hex, of the decision record that this event closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_hash: Option<String>,
}

impl AuditEvent {
    /// The event's JSON text.
    ///
    /// # Panics
    /// Never: every field serialises; should one ever not, the text is `{}`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(1024);
        match serde_json::to_writer(&mut text, self) {
            Ok(()) => text,
            Err(_) => b"{}".to_vec(),
        }
    }

    /// An event about nothing in particular: no decision, no request, empty lists.
    pub fn blank(event_id: Uuid, event_type: EventType, created_at: String) -> Self {
        Self {
            policy_id: None,
            decision: None,
            effective_decision: None,
            reason_code: None,
            policy_user: None,
            project_id: None,
            policy_target: None,
            rollout_mode: None,
            enforced: false,
            triggered_categories: Vec::new(),
            allowlist_hits: Vec::new(),
            denylist_hits: Vec::new(),
            model: None,
            created_at,
            event_id,
            event_type,
            request_id: None,
            key_id: None,
            policy_revision: None,
            data_classification: None,
            stage: None,
            redactions: BTreeMap::new(),
            escalation_id: None,
            scan: None,
            stable: None,
            rollback: None,
            gap: None,
            checkpoint: None,
            actor: None,
            change: None,
            quota: Vec::new(),
            alert: None,
            usage: None,
            request: None,
            decision_hash: None,
        }
    }
}

/// What the log's writer adds to a closing record, and where a reader finds an event's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Id of the chain: one per gateway instance (store).
    pub chain: Uuid,
    /// Position in the chain, from 1, without holes.
    pub seq: u64,
    /// Hash of the preceding event, hex.
    pub prev_hash: String,
    /// Hash of this event, hex.
    pub hash: String,
}

/// An event as read back from the log: the event and its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainedEvent {
    /// The event itself.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// Its place.
    #[serde(flatten)]
    pub link: Link,
}

/// RFC 6962 §2.1 leaf hash of a record's text.
pub fn leaf_hash(text: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0u8]);
    hasher.update(text);
    hasher.finalize().into()
}

/// Reads what [`hex`] writes; `None` for anything else.
pub fn unhex(text: &[u8]) -> Option<Hash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(hash)
}

/// Lower-case hexadecimal.
pub fn hex(hash: &Hash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in hash {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_from_before_scan_was_recorded_are_read_and_written_as_they_were() {
        let text = AuditEvent::blank(Uuid::nil(), EventType::Enforcement, "t".into()).to_json();
        assert!(!String::from_utf8(text.clone()).unwrap().contains("scan"));
        let event: AuditEvent = serde_json::from_slice(&text).unwrap();
        assert_eq!((event.scan.as_ref(), event.to_json()), (None, text));
    }

    #[test]
    fn a_scan_tells_mode_and_bytes() {
        let mut scan = Scan {
            mode: ScanMode::Stream,
            input_bytes: 1,
            output_bytes: 2,
            released_bytes: 3,
            unscanned: BTreeMap::new(),
            moderation: None,
        };
        let text = serde_json::to_string(&scan).unwrap();
        insta::assert_snapshot!(text, @r#"{"mode":"stream","input_bytes":1,"output_bytes":2,"released_bytes":3}"#);
        assert_eq!(serde_json::from_str::<Scan>(&text).unwrap(), scan);
        scan.unscanned = BTreeMap::from([("image".to_owned(), 2), ("file".to_owned(), 1)]);
        let text = serde_json::to_string(&scan).unwrap();
        assert!(text.ends_with(r#","unscanned":{"file":1,"image":2}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Scan>(&text).unwrap(), scan);
        scan.unscanned.clear();
        scan.moderation = Some(Moderation {
            by: "embedded/1".into(),
            texts: 2,
            scores: BTreeMap::from([("hate".to_owned(), 0.125)]),
            unavailable: Some("timeout".into()),
        });
        let text = serde_json::to_string(&scan).unwrap();
        insta::assert_snapshot!(text, @r#"{"mode":"stream","input_bytes":1,"output_bytes":2,"released_bytes":3,"moderation":{"by":"embedded/1","texts":2,"scores":{"hate":0.125},"unavailable":"timeout"}}"#);
        assert_eq!(serde_json::from_str::<Scan>(&text).unwrap(), scan);
    }
}
