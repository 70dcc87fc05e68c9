//! The store as its users see it: through `AuditLog`, `Outbox` and `Reader`.

mod append;
mod events;
