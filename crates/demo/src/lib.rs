//! The counterparts of a gateway, built in: a small OpenAI-compatible [`model`], a strict Datadog Logs [`intake`], and
//! for tests a Splunk collector ([`hec`]), Elasticsearch's [`bulk`] endpoint and Azure's log ingestion ([`azure`]). `quickstart`,
//! the tests and the benchmarks share them. Nothing here knows the gateway, its policies or its audit events, so that all judge
//! what they are sent as a stranger would.

pub mod azure;
pub mod bulk;
pub mod hec;
pub mod intake;
pub mod model;

#[cfg(test)]
mod exchange;
mod packed;
mod reply;
mod server;

pub use server::WaitError;
