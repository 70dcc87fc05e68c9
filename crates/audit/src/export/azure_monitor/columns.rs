//! The columns of the Log Analytics table: what each is called there, its type, and where it comes from. The stream declaration
//! and the table in `deploy/azure/` are made from the same list (a test compares them), since a column that the data
//! collection rule does not declare is dropped without a word.

/// The type of a column, by Azure's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// RFC 3339.
    DateTime,
    /// Text.
    String,
    /// Signed, 64 bits.
    Long,
    /// Floating point.
    Real,
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Dynamic,
}

impl ColumnType {
    /// As in a stream declaration; a table calls it `dateTime` and is otherwise the same.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DateTime => "datetime",
            Self::String => "string",
            Self::Long => "long",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::Dynamic => "dynamic",
        }
    }
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A member of the stored event, by the path of names to it.
    Member(&'static [&'static str]),
    /// The event's time as Azure takes it.
    TimeGenerated,
    /// Whether that is not the event's own.
    Late,
    /// One line for people.
    Message,
    /// `info`, `notice`, `warn` or `error`.
    Severity,
    /// All members without a column of their own, as one object.
    Rest,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the table.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnType,
    /// Its source.
    pub source: Source,
}

const fn member(name: &'static str, kind: ColumnType, path: &'static [&'static str]) -> Column {
    Column { name, kind, source: Source::Member(path) }
}

const fn made(name: &'static str, kind: ColumnType, source: Source) -> Column {
    Column { name, kind, source }
}

/// All columns, in their order on the wire.
pub const COLUMNS: &[Column] = {
    use ColumnType::{Boolean, DateTime, Dynamic, Long, Real, String};
    &[
        made("TimeGenerated", DateTime, Source::TimeGenerated),
        member("PolicyId", String, &["policy_id"]),
        member("Decision", String, &["decision"]),
        member("EffectiveDecision", String, &["effective_decision"]),
        member("ReasonCode", String, &["reason_code"]),
        member("PolicyUser", String, &["policy_user"]),
        member("ProjectId", String, &["project_id"]),
        member("PolicyTarget", String, &["policy_target"]),
        member("RolloutMode", String, &["rollout_mode"]),
        member("Enforced", Boolean, &["enforced"]),
        member("TriggeredCategories", Dynamic, &["triggered_categories"]),
        member("AllowlistHits", Dynamic, &["allowlist_hits"]),
        member("DenylistHits", Dynamic, &["denylist_hits"]),
        member("Model", String, &["model"]),
        member("CreatedAt", DateTime, &["created_at"]),
        member("EventId", String, &["event_id"]),
        member("EventType", String, &["event_type"]),
        made("Message", String, Source::Message),
        made("Severity", String, Source::Severity),
        made("Late", Boolean, Source::Late),
        member("RequestId", String, &["request_id"]),
        member("PolicyRevision", Long, &["policy_revision"]),
        member("DataClassification", String, &["data_classification"]),
        member("Stage", String, &["stage"]),
        member("Redactions", Dynamic, &["redactions"]),
        member("EscalationId", String, &["escalation_id"]),
        member("Stable", Dynamic, &["stable"]),
        member("Actor", String, &["actor"]),
        member("PromptTokens", Long, &["usage", "prompt_tokens"]),
        member("CompletionTokens", Long, &["usage", "completion_tokens"]),
        member("TotalTokens", Long, &["usage", "total_tokens"]),
        member("CostUsd", Real, &["usage", "cost_usd"]),
        member("Route", String, &["request", "route"]),
        member("Stream", Boolean, &["request", "stream"]),
        member("HttpStatus", Long, &["request", "http_status"]),
        member("ErrorCode", String, &["request", "error_code"]),
        member("Outcome", String, &["request", "outcome"]),
        member("LatencyMs", Real, &["request", "latency_ms", "total"]),
        member("UpstreamLatencyMs", Real, &["request", "latency_ms", "upstream"]),
        member("GatewayLatencyMs", Real, &["request", "latency_ms", "gateway"]),
        member("Chain", String, &["chain"]),
        member("Seq", Long, &["seq"]),
        member("PrevHash", String, &["prev_hash"]),
        member("Hash", String, &["hash"]),
        member("DecisionHash", String, &["decision_hash"]),
        made("Details", Dynamic, Source::Rest),
    ]
};
