//! OTLP logs, over HTTP and gRPC: to an OpenTelemetry collector or anything that speaks its protocol
//! (<https://opentelemetry.io/docs/specs/otlp/>). The SDK's log processor is not used: it drops when its queue is full.

mod answer;
mod body;
mod config;
mod encode;
mod proto;
mod send;
#[cfg(test)]
mod send_tests;
#[cfg(test)]
mod tests;

pub use body::OtlpBody;
pub use config::{Otlp, OtlpCompression, OtlpName, OtlpProtocol, RawOtlp};
pub use send::OtlpDestination;
