//! Finds the members of a stored event's text (format: [`crate::event`]) without building anything: what goes to
//! the wire is cut from that text, so that numbers, order and escapes stay as they were hashed. Checks the
//! shape it needs and no more; it is not a JSON validator.

use std::ops::Range;

/// The contract's fourteen fields, in order: the first members of every stored text.
pub(crate) const POLICY_FIELDS: [&str; 14] = [
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

/// A JSON `null`, where a member is missing.
const NULL: &str = "null";

/// The members of a stored event, each value as its raw JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members<'a> {
    /// The fourteen, as one piece: `"policy_id":…,…,"created_at":…`.
    pub(crate) policy: &'a str,
    pub(crate) policy_id: &'a str,
    pub(crate) policy_user: &'a str,
    pub(crate) decision: &'a str,
    pub(crate) reason_code: &'a str,
    pub(crate) project_id: &'a str,
    pub(crate) created_at: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) policy_revision: &'a str,
    pub(crate) data_classification: &'a str,
    pub(crate) stage: &'a str,
    pub(crate) redactions: &'a str,
    pub(crate) escalation_id: &'a str,
    pub(crate) usage: &'a str,
    pub(crate) request: &'a str,
    pub(crate) decision_hash: Option<&'a str>,
    pub(crate) chain: &'a str,
    pub(crate) seq: &'a str,
    pub(crate) prev_hash: &'a str,
    pub(crate) hash: &'a str,
    /// Members that only some events have (`gap`, `stable`, later ones), as name and value, in their order.
    pub(crate) more: Vec<(&'a str, &'a str)>,
}

impl<'a> Members<'a> {
    /// Cuts a text into its members; `None` where it is not a stored event.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let mut scan = Scan::new(text)?;
        let mut policy_id = NULL;
        let mut policy_user = NULL;
        let mut decision = NULL;
        let mut reason_code = NULL;
        let mut project_id = NULL;
        let mut created_at = NULL;
        let start = scan.at;
        for name in POLICY_FIELDS {
            let value = scan.expect(name)?;
            match name {
                "policy_id" => policy_id = value,
                "policy_user" => policy_user = value,
                "decision" => decision = value,
                "reason_code" => reason_code = value,
                "project_id" => project_id = value,
                "created_at" => created_at = value,
                _ => {}
            }
        }
        let policy = text.get(start..scan.value_end)?;
        let mut members = Members {
            policy,
            policy_id,
            policy_user,
            decision,
            reason_code,
            project_id,
            created_at,
            event_id: NULL,
            event_type: NULL,
            request_id: NULL,
            policy_revision: NULL,
            data_classification: NULL,
            stage: NULL,
            redactions: NULL,
            escalation_id: NULL,
            usage: NULL,
            request: NULL,
            decision_hash: None,
            chain: NULL,
            seq: NULL,
            prev_hash: NULL,
            hash: NULL,
            more: Vec::new(),
        };
        while let Some((name, value)) = scan.next()? {
            members.set(text.get(name)?, text.get(value)?);
        }
        let placed = members.event_id.starts_with('"') && members.event_type.starts_with('"');
        (placed && members.seq != NULL && members.hash != NULL).then_some(members)
    }

    fn set(&mut self, name: &'a str, value: &'a str) {
        let slot = match name {
            "event_id" => &mut self.event_id,
            "event_type" => &mut self.event_type,
            "request_id" => &mut self.request_id,
            "policy_revision" => &mut self.policy_revision,
            "data_classification" => &mut self.data_classification,
            "stage" => &mut self.stage,
            "redactions" => &mut self.redactions,
            "escalation_id" => &mut self.escalation_id,
            "usage" => &mut self.usage,
            "request" => &mut self.request,
            "chain" => &mut self.chain,
            "seq" => &mut self.seq,
            "prev_hash" => &mut self.prev_hash,
            "hash" => &mut self.hash,
            "decision_hash" => {
                self.decision_hash = Some(value);
                return;
            }
            _ => {
                self.more.push((name, value));
                return;
            }
        };
        *slot = value;
    }
}

/// Every top-level member of an object as ranges of name and value; `None` where it is not an object.
pub(crate) fn ranges(text: &str) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let mut scan = Scan::new(text)?;
    let mut found = Vec::new();
    while let Some(member) = scan.next()? {
        found.push(member);
    }
    Some(found)
}

/// What a JSON string literal says, where it needs no unescaping; `None` for `null` and all else.
pub(crate) fn plain(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"').filter(|inner| !inner.contains('\\'))
}

/// What a JSON string literal says; `None` for `null` and all else.
pub(crate) fn unquote(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    match plain(raw) {
        Some(inner) => Some(inner.into()),
        None => serde_json::from_str::<String>(raw).ok().map(Into::into),
    }
}

/// Walks the members of one object written without blanks.
struct Scan<'a> {
    text: &'a str,
    /// Where the next member's name starts (its quote).
    at: usize,
    /// Just behind the last value.
    value_end: usize,
    done: bool,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Option<Self> {
        text.starts_with('{').then_some(Self { text, at: 1, value_end: 1, done: false })
    }

    /// The next member's value, if it has this name.
    fn expect(&mut self, name: &str) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        rest.strip_prefix('"')?.strip_prefix(name)?.strip_prefix("\":")?;
        let (_, value) = self.next()??;
        self.text.get(value)
    }

    /// Name and value of the next member; `Some(None)` behind the last, `None` where the text breaks off.
    fn next(&mut self) -> Option<Option<(Range<usize>, Range<usize>)>> {
        if self.done {
            return Some(None);
        }
        let bytes = self.text.as_bytes();
        let name_end = string_end(bytes, self.at)?;
        if bytes.get(name_end) != Some(&b':') {
            return None;
        }
        let value = name_end + 1;
        let value_end = value_end(bytes, value)?;
        let name = self.at + 1..name_end - 1;
        match bytes.get(value_end)? {
            b',' => self.at = value_end + 1,
            b'}' if value_end + 1 == bytes.len() => self.done = true,
            _ => return None,
        }
        self.value_end = value_end;
        Some(Some((name, value..value_end)))
    }
}

/// Just behind the string that starts at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let found = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        match bytes.get(found)? {
            b'"' => return Some(found + 1),
            // The escaped byte cannot end the string; of `\uXXXX` the rest is plain.
            _ => from = found + 2,
        }
    }
}

/// Just behind the value that starts at `at`.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => container_end(bytes, at),
        _ => {
            let length = bytes.get(at..)?.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            (length > 0).then_some(at + length)
        }
    }
}

fn container_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
