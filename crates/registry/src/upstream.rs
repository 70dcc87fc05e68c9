//! Upstreams: where a model is served. How one is called is the gateway's business.

use std::time::Duration;

use audit::secret::Secret;

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamKind {
    /// OpenAI's API.
    OpenAi,
}

/// A model provider's endpoint.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Names it in entitlements, logs and metrics.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// `http` or `https` URL without query, fragment, user info or trailing slash; with OpenAI's API it ends with
    /// `/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`; none: no such header.
    pub api_key: Option<Secret>,
    /// Models that it serves; `*` stands for every model.
    pub models: Vec<String>,
    /// How long the head of an answer may take, more than zero.
    pub timeout: Duration,
    /// How long connecting (TLS included) may take, more than zero.
    pub connect_timeout: Duration,
}
