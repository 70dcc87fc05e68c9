//! Datadog Logs, over its HTTP intake (v2). Facts about the intake are from Datadog's documentation, "Send logs" in
//! the API reference (<https://docs.datadoghq.com/api/latest/logs/#send-logs>): at most 5 MB uncompressed and
//! 1,000 entries per request, 1 MB per log, answers 202 with `{}`; a log time over 18 h old is dropped unseen.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod send_tests;
mod tags;
#[cfg(test)]
mod tests;

pub use crate::export::shrink::EncodeError;
pub use config::{DatadogLogs, DatadogName, RawDatadogLogs};
pub use encode::{LOG_BYTES_MAX, LogEncoder};
pub use send::{DatadogBody, DatadogDestination, Failure, body};
