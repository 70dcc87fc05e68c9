//! The real binary from outside: `serve` between a client and the demo model, delivering to the demo intake.

mod chat;
mod delivery;
mod errors;
mod faults;
mod privacy;
mod stream;
mod support;
