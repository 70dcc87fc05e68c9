//! The command line from outside: what it prints, where, and the exit code. Traffic through a gateway is the subject of
//! the `e2e` tests beside this; here a gateway runs only for what commands and signals do to it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "this whole binary is a test"
)]

mod administration;
mod bench;
mod datadog;
mod docs;
mod evidence;
mod exports;
mod managing;
mod moderation;
mod plain;
mod policies;
mod process;
mod serving;
mod usage;
