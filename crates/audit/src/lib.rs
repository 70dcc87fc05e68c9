//! Evidence: the audit event, its two durable records, the hash chain, the Merkle tree over it with signed checkpoints and
//! proofs, the traits of the log that `store` implements, and delivery to destinations. Deliberately absent: SQL, HTTP handlers, and
//! any field that could hold prompt or answer text.

pub mod checkpoint;
pub mod delivery;
pub mod egress;
pub mod event;
pub mod export;
pub mod log;
pub mod merkle;
pub mod notary;
pub mod note;
pub mod outbox;
pub mod proof;
pub mod seal;
pub mod secret;
mod stored;
#[cfg(test)]
mod testing;
pub mod usage;
pub mod verify;
