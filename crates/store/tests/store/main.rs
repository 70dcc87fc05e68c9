//! The store as its users see it: through `AuditLog`, `Outbox` and `Reader`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

mod append;
mod blocked;
mod counters;
mod escalations;
mod events;
mod marks;
mod model;
mod outbox;
mod query;
mod recovery;
mod retention;
mod rollouts;
mod state;
mod tamper;
mod tree;
mod usage;
