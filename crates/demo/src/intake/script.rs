//! Faults on order: steps that the next requests to the intake run into, one request each. They come from
//! the Rust API or, as JSON, over HTTP.

use std::time::Duration;

use serde::Deserialize;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is handled as if there were no script; for a [`Step::latency`], or to let some pass in between.
    Handle,
    /// It is read and answered this HTTP status, from 200 to 599. Nothing is kept, whatever the status.
    Status {
        /// The status.
        status: u16,
    },
    /// The connection drops before the body is read.
    CutBeforeRead,
    /// The request is handled but for the answer: the connection drops instead. With `keep` the logs are kept,
    /// and a sender that tries again sends duplicates.
    CutAfterRead {
        /// Whether the logs are kept.
        keep: bool,
    },
    /// The request is read, and never answered nor kept.
    Hang,
    /// The request is answered as usual, and its logs are lost.
    AcceptThenLose,
}

/// An [`Act`] and how often it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub act: Act,
    /// To how many requests in a row; `u32::MAX` for ever, until the script is replaced.
    pub times: u32,
    /// Wait before the answer.
    pub latency: Duration,
    /// A `Retry-After` header for the answer, as sent: seconds or an HTTP date.
    pub retry_after: Option<String>,
}

impl Step {
    /// This act, once, without delay.
    pub fn new(act: Act) -> Self {
        Self { act, times: 1, latency: Duration::ZERO, retry_after: None }
    }

    /// Answer with this status.
    pub fn status(status: u16) -> Self {
        Self::new(Act::Status { status })
    }

    /// So many times in a row.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// For every request from then on, until the script is replaced.
    pub fn forever(self) -> Self {
        self.times(u32::MAX)
    }

    /// After this wait.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// With this `Retry-After`.
    pub fn retry_after(self, value: impl Into<String>) -> Self {
        Self { retry_after: Some(value.into()), ..self }
    }
}

/// A step as it comes over HTTP: `{"act": "status", "status": 429, "times": 3, "latency_ms": 10,
/// "retry_after": "1"}`. `"forever": true` stands in for `times`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepWire {
    act: String,
    status: Option<u16>,
    keep: Option<bool>,
    times: Option<u32>,
    #[serde(default)]
    forever: bool,
    #[serde(default)]
    latency_ms: u64,
    retry_after: Option<String>,
}

impl TryFrom<StepWire> for Step {
    type Error = String;

    fn try_from(wire: StepWire) -> Result<Self, String> {
        let act = match (wire.act.as_str(), wire.status) {
            ("status", Some(status)) => Act::Status { status },
            ("status", None) => return Err("act `status` needs a `status`".to_owned()),
            (_, Some(_)) => return Err("`status` belongs to the act `status`".to_owned()),
            ("handle", None) => Act::Handle,
            ("cut_before_read", None) => Act::CutBeforeRead,
            ("cut_after_read", None) => Act::CutAfterRead { keep: wire.keep.unwrap_or(false) },
            ("hang", None) => Act::Hang,
            ("accept_then_lose", None) => Act::AcceptThenLose,
            (other, None) => {
                return Err(format!(
                    "unknown act `{other}`: there are handle, status, cut_before_read, cut_after_read, hang, \
                     accept_then_lose"
                ));
            }
        };
        let times = if wire.forever { u32::MAX } else { wire.times.unwrap_or(1) };
        let latency = Duration::from_millis(wire.latency_ms);
        let step = Self { act, times, latency, retry_after: wire.retry_after };
        step.check()?;
        Ok(step)
    }
}

impl Step {
    /// Says what is wrong with a step, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Act::Status { status } = self.act
            && !(200..=599).contains(&status)
        {
            return Err(format!("status {status} is not from 200 to 599"));
        }
        match self.retry_after.as_deref().map(http::HeaderValue::from_str) {
            Some(Err(_)) => Err("`retry_after` is not a header value".to_owned()),
            _ => Ok(()),
        }
    }
}
