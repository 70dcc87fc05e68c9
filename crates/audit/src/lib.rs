//! Evidence: the audit event, its two durable records, the hash chain, the traits of the log that
//! `store` implements, and delivery to destinations. Deliberately absent: SQL, HTTP handlers, and
//! any field that could hold prompt or answer text.

pub mod delivery;
pub mod egress;
pub mod event;
pub mod export;
pub mod log;
pub mod outbox;
pub mod seal;
pub mod secret;
mod stored;
#[cfg(test)]
mod testing;
pub mod usage;
pub mod verify;
