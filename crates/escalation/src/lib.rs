//! Reviews: the ticket that an escalated request opens, who may pass meanwhile, when nobody decides in time, and how
//! reviewers hear of it. The store keeps tickets behind [`tickets::Tickets`]; the data plane asks [`desk::Desk`].
//! Deliberately absent: SQL, HTTP handlers, judging, and any prompt or answer text in the clear at rest.

pub mod config;
pub mod desk;
pub mod fingerprint;
pub mod notify;
pub mod ticket;
pub mod tickets;

pub use config::Channels;
pub use desk::{Desk, DeskError, Held};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use ticket::{Case, Ruling, Standing, State, Ticket, Verdict};
pub use tickets::Tickets;
