//! The gateway's own section of the configuration: `limits`. Every queue, body, window and timeout of the data
//! plane has its name here; the values are checked when the configuration is read.

use std::time::Duration;

use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest request body: an OpenAI request with images inline stays well under it.
const BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Request line and headers together; hyper itself stops at [`HEADER_BYTES_CAP`].
const HEADER_BYTES_MAX: u64 = 32 * 1024;
/// What `header_bytes_max` may be raised to: the read buffer that a connection may grow to.
pub const HEADER_BYTES_CAP: u64 = 256 * 1024;
/// Largest answer that is judged as a whole.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Longest single event of an upstream's stream.
const STREAM_EVENT_BYTES_MAX: u64 = 1024 * 1024;
/// A year: no timeout needs more, and it keeps sums far from overflow.
const SECONDS_CAP: u64 = 365 * 24 * 3600;

/// Limits of the data plane. All are optional.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest request body in bytes; over it 413. Default 10 MiB.
    pub body_bytes_max: Option<u64>,
    /// Request line and headers together in bytes; over it 431. Default 32 KiB, at most 256 KiB.
    pub header_bytes_max: Option<u64>,
    /// Time in seconds for a client to send its headers, and for an idle connection to be kept. Default 75.
    pub header_timeout_seconds: Option<u64>,
    /// Time in seconds for a client to send its body; over it 408. Default 30.
    pub body_timeout_seconds: Option<u64>,
    /// Time in seconds without progress after which a client that does not read its answer is cut off. Default 60.
    pub write_stall_seconds: Option<u64>,
    /// Connections open at once; further ones wait to be accepted. Default 8192.
    pub connections_max: Option<u64>,
    /// Requests in flight at once; further ones get 503 with `Retry-After`. Default 4096.
    pub requests_max: Option<u64>,
    /// Largest upstream answer in bytes that is judged as a whole; over it 502. Default 32 MiB.
    pub answer_bytes_max: Option<u64>,
    /// Largest single event in bytes of an upstream's stream; over it the stream ends with an error. Default 1 MiB.
    pub stream_event_bytes_max: Option<u64>,
    /// Time in seconds without a byte after which an upstream's stream is given up. Default 120.
    pub stream_idle_seconds: Option<u64>,
    /// Time in seconds that requests in flight get to finish after SIGTERM. Default 30.
    pub drain_seconds: Option<u64>,
}

/// [`LimitsConfig`] with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`LimitsConfig::body_bytes_max`].
    pub body_bytes_max: usize,
    /// See [`LimitsConfig::header_bytes_max`].
    pub header_bytes_max: usize,
    /// See [`LimitsConfig::header_timeout_seconds`].
    pub header_timeout: Duration,
    /// See [`LimitsConfig::body_timeout_seconds`].
    pub body_timeout: Duration,
    /// See [`LimitsConfig::write_stall_seconds`].
    pub write_stall: Duration,
    /// See [`LimitsConfig::connections_max`].
    pub connections_max: usize,
    /// See [`LimitsConfig::requests_max`].
    pub requests_max: usize,
    /// See [`LimitsConfig::answer_bytes_max`].
    pub answer_bytes_max: usize,
    /// See [`LimitsConfig::stream_event_bytes_max`].
    pub stream_event_bytes_max: usize,
    /// See [`LimitsConfig::stream_idle_seconds`].
    pub stream_idle: Duration,
    /// See [`LimitsConfig::drain_seconds`].
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: to_usize(BODY_BYTES_MAX),
            header_bytes_max: to_usize(HEADER_BYTES_MAX),
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            connections_max: 8192,
            requests_max: 4096,
            answer_bytes_max: to_usize(ANSWER_BYTES_MAX),
            stream_event_bytes_max: to_usize(STREAM_EVENT_BYTES_MAX),
            stream_idle: Duration::from_secs(120),
            drain: Duration::from_secs(30),
        }
    }
}

impl LimitsConfig {
    /// Fills in the defaults.
    ///
    /// # Errors
    /// Every value out of its range, with its path under `prefix` (`limits.body_bytes_max`).
    pub fn build(&self, prefix: &str) -> Result<Limits, Vec<Problem>> {
        let mut problems = Vec::new();
        let default = Limits::default();
        let mut number = |name: &str, value: Option<u64>, default: usize, max: u64| match value {
            None => default,
            Some(value) if (1..=max).contains(&value) => to_usize(value),
            Some(value) => {
                problems.push(Problem {
                    path: format!("{prefix}.{name}"),
                    message: format!("`{value}` is out of range: give a whole number from 1 to {max}"),
                });
                default
            }
        };
        let bytes_cap = 1 << 30;
        let seconds = |duration: Duration| to_usize(duration.as_secs());
        let limits = Limits {
            body_bytes_max: number("body_bytes_max", self.body_bytes_max, default.body_bytes_max, bytes_cap),
            header_bytes_max: number(
                "header_bytes_max",
                self.header_bytes_max,
                default.header_bytes_max,
                HEADER_BYTES_CAP,
            ),
            header_timeout: secs(number(
                "header_timeout_seconds",
                self.header_timeout_seconds,
                seconds(default.header_timeout),
                SECONDS_CAP,
            )),
            body_timeout: secs(number(
                "body_timeout_seconds",
                self.body_timeout_seconds,
                seconds(default.body_timeout),
                SECONDS_CAP,
            )),
            write_stall: secs(number(
                "write_stall_seconds",
                self.write_stall_seconds,
                seconds(default.write_stall),
                SECONDS_CAP,
            )),
            connections_max: number(
                "connections_max",
                self.connections_max,
                default.connections_max,
                1 << 20,
            ),
            requests_max: number("requests_max", self.requests_max, default.requests_max, 1 << 20),
            answer_bytes_max: number(
                "answer_bytes_max",
                self.answer_bytes_max,
                default.answer_bytes_max,
                bytes_cap,
            ),
            stream_event_bytes_max: number(
                "stream_event_bytes_max",
                self.stream_event_bytes_max,
                default.stream_event_bytes_max,
                bytes_cap,
            ),
            stream_idle: secs(number(
                "stream_idle_seconds",
                self.stream_idle_seconds,
                seconds(default.stream_idle),
                SECONDS_CAP,
            )),
            drain: secs(number("drain_seconds", self.drain_seconds, seconds(default.drain), SECONDS_CAP)),
        };
        if problems.is_empty() { Ok(limits) } else { Err(problems) }
    }
}

fn secs(value: usize) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(u64::MAX))
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        assert_eq!(LimitsConfig::default().build("limits").unwrap(), Limits::default());
    }

    #[test]
    fn every_value_out_of_range_is_reported_with_its_path() {
        let config = LimitsConfig {
            body_bytes_max: Some(0),
            header_bytes_max: Some(HEADER_BYTES_CAP + 1),
            drain_seconds: Some(5),
            ..LimitsConfig::default()
        };
        let paths: Vec<_> = config.build("limits").unwrap_err().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["limits.body_bytes_max", "limits.header_bytes_max"]);
    }
}
