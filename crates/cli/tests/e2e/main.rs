//! The real binary from outside: `serve` between a client and the demo model, delivering to the demo intake.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::field_reassign_with_default,
    reason = "this whole binary is a test"
)]

mod administration;
mod answers;
mod budget;
mod chat;
mod delivery;
mod destinations;
mod errors;
mod escalation;
mod faults;
mod management;
mod moderation;
mod privacy;
mod quota;
mod rollout;
mod rules;
mod stream;
mod support;
mod usage;
