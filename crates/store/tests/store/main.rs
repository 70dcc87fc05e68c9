//! The store as its users see it: through `AuditLog`, `Outbox` and `Reader`.

mod append;
mod blocked;
mod events;
mod model;
mod outbox;
mod query;
mod recovery;
mod retention;
mod tamper;
