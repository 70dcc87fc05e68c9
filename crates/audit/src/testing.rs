//! Stand-ins for the tests of this crate: an outbox in memory.
