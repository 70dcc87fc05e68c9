//! `/v1/chat/completions`: request, answer, streamed chunk, and the answers that the gateway makes itself.

pub mod answer;
pub mod chunk;
pub mod made;
pub mod request;
