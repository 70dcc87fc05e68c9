//! From a stored event to an OTLP log record, and from records to an export request. The attributes carry the same names as
//! the Datadog log's members, with dots: `policy.decision`, `event.seq`, `request.latency_ms.total`, `audit.hash`.

use serde_json::{Map, Value};

use super::proto;
use crate::export::values::Values;
use crate::stored::POLICY_FIELDS;

/// The semantic convention's name for an id that a reader may drop duplicates by.
const RECORD_UID: &str = "log.record.uid";
/// What produced the records.
const SCOPE: &str = "policy-gateway.audit";

/// Appends the log record of a stored event, as a field of `ScopeLogs`. On an error `out` is as before.
///
/// # Errors
/// In words, where the text is not an event.
pub(super) fn log_record(text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let malformed = || "the stored text is not an audit event".to_owned();
    let mut values = Values::of(text).ok_or_else(malformed)?;
    let created = values.created_ns().and_then(|ns| u64::try_from(ns).ok()).ok_or_else(malformed)?;
    let observed = created.saturating_add(values.took_ns());
    let (severity, severity_text) = severity(values.severity);
    let event_id = values.take("event_id");
    let event_type = values.take("event_type");
    let name = format!("policy.{}", event_type.as_str().ok_or_else(malformed)?);
    // LogRecord: fields 1, 2, 3, 5, 6 (repeated), 11 and 12.
    proto::message(2, out, |out| {
        proto::fixed64(1, created, out);
        proto::integer(2, severity, out);
        proto::bytes(3, severity_text.as_bytes(), out);
        proto::message(5, out, |out| proto::bytes(1, values.message.as_bytes(), out));
        proto::attribute(6, RECORD_UID, &event_id, out);
        for field in POLICY_FIELDS {
            flatten(&format!("policy.{field}"), &values.take(field), out);
        }
        flatten("event.id", &event_id, out);
        flatten("event.type", &event_type, out);
        for (name, value) in &values.rest() {
            flatten(&attribute_name(name), value, out);
        }
        proto::fixed64(11, observed, out);
        proto::bytes(12, name.as_bytes(), out);
    });
    Ok(())
}

fn attribute_name(member: &str) -> String {
    match member {
        "request" | "usage" => member.to_owned(),
        "chain" | "prev_hash" | "hash" | "decision_hash" => format!("audit.{member}"),
        _ => format!("event.{member}"),
    }
}

/// Objects become one attribute a member, since few backends search in nested ones; nulls and empty objects none at all.
fn flatten(name: &str, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                flatten(&format!("{name}.{member}"), value, out);
            }
        }
        value => proto::attribute(6, name, value, out),
    }
}

/// `SeverityNumber` and its short name, by the log data model's table.
fn severity(name: &str) -> (u64, &'static str) {
    match name {
        "error" => (17, "ERROR"),
        "warn" => (13, "WARN"),
        "notice" => (10, "INFO2"),
        _ => (9, "INFO"),
    }
}

/// What stands around the records of every request.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// `ResourceLogs.resource`, as a field.
    resource: Vec<u8>,
    /// `ScopeLogs.scope`, as a field.
    scope: Vec<u8>,
}

impl Envelope {
    /// For these resource attributes.
    pub(super) fn new(resource: &Map<String, Value>) -> Self {
        let mut envelope = Self { resource: Vec::new(), scope: Vec::new() };
        proto::message(1, &mut envelope.resource, |out| {
            for (name, value) in resource {
                proto::attribute(1, name, value, out);
            }
        });
        proto::message(1, &mut envelope.scope, |out| {
            proto::bytes(1, SCOPE.as_bytes(), out);
            proto::bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), out);
        });
        envelope
    }

    /// An `ExportLogsServiceRequest` of these records.
    pub(super) fn close(&self, records: &[u8]) -> Vec<u8> {
        let mut request = Vec::with_capacity(records.len() + self.overhead());
        proto::message(1, &mut request, |out| {
            out.extend_from_slice(&self.resource);
            proto::message(2, out, |out| {
                out.extend_from_slice(&self.scope);
                out.extend_from_slice(records);
            });
        });
        request
    }

    /// Bytes that a request has beside its records, at most.
    pub(super) fn overhead(&self) -> usize {
        self.resource.len() + self.scope.len() + 24
    }
}
