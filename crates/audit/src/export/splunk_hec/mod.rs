//! Splunk, over the HTTP Event Collector. Facts from Splunk's documentation ("Format events for HTTP Event Collector",
//! "About HTTP Event Collector indexer acknowledgment", "Troubleshoot HTTP Event Collector"): bodies are JSON objects one
//! behind the other, no array; a 200 with code 0 means received, before the indexing pipeline; with
//! acknowledgement on for the token, `ackId` is asked after, `true` is said once and `false` means not yet, failed or
//! never heard of.

mod answer;
mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

pub use config::{AckMode, RawSplunkHec, SplunkHec};
pub use encode::{EVENT_BYTES_MAX, HecEncoder};
pub use send::SplunkDestination;
