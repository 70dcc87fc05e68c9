//! The two counterparts of a gateway, built in: a small OpenAI-compatible [`model`] and a strict Datadog
//! Logs [`intake`]. `quickstart`, the tests and the benchmarks share them. Nothing here knows the gateway,
//! its policies or its audit events, so that both judge what they are sent as a stranger would.

pub mod intake;
pub mod model;

#[cfg(test)]
mod exchange;
mod reply;
mod server;

pub use server::WaitError;
