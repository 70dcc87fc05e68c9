//! Limits that hold exactly: calendar windows, what a call reserves of them before it starts and what it comes to in the
//! end, and the counting of tokens. Deliberately absent: SQL, HTTP, and the limits themselves, which are the policy's and
//! the plan's.
//!
//! Start at [`Reservation`]: one is made per call, from [`Claim`]s, in a [`QuotaLedger`].

mod bucket;
mod budget;
mod ledger;
mod reservation;
pub mod tokens;
mod window;

pub use bucket::{budget_bucket, key_bucket, project_bucket, user_bucket};
pub use budget::{Budgets, Spending};
pub use ledger::{Claim, Held, Ledger, Level, Need, QuotaLedger, Refused, Room, Taken, What};
pub use reservation::Reservation;
pub use window::{Span, Window};
