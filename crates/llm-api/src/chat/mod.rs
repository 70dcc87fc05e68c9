//! `/v1/chat/completions`: request, answer, streamed chunks, and the answers that the gateway makes itself.

pub mod answer;
pub mod assembly;
pub mod chunk;
pub mod made;
pub mod request;
