//! Formats of the LLM APIs: requests, answers, streamed chunks, errors; where text stands in them and how it is
//! replaced in place. Pure: no async, sockets, clock or policy. What is not understood stays byte for byte.

pub mod arguments;
pub mod canonical;
pub mod chat;
pub mod error;
pub mod json;
pub mod moderation;
pub mod sse;
pub mod walk;
