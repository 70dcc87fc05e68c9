//! What one call holds in a ledger, from before it starts until it is known what it came to.

use std::fmt;
use std::sync::Arc;

use audit::event::{QuotaCharge, QuotaScope};

use crate::ledger::{Claim, Held, Level, Need, QuotaLedger, Refused};

/// A call's hold on its limits. Dropped before it was settled it gives everything back: whatever ended the call, it did
/// not come to a record.
pub struct Reservation {
    ledger: Arc<dyn QuotaLedger>,
    held: Held,
    /// Tokens that were held when `held.levels` was taken.
    tokens_then: u64,
    settled: bool,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reservation")
            .field("held", &self.held)
            .field("settled", &self.settled)
            .finish()
    }
}

impl Reservation {
    /// Reserves one request and tokens of each claim.
    ///
    /// # Errors
    /// [`Refused`] by the first claim that has too little left; then nothing is held.
    pub fn new(
        ledger: Arc<dyn QuotaLedger>,
        claims: Vec<Claim>,
        need: Need,
        now_s: i64,
    ) -> Result<Self, Refused> {
        let held = ledger.reserve(claims, need, now_s)?;
        Ok(Self { tokens_then: held.tokens, ledger, held, settled: false })
    }

    /// Tokens held.
    pub fn tokens(&self) -> u64 {
        self.held.tokens
    }

    /// Holds up to so many tokens more. Gives how many it got.
    pub fn extend(&mut self, tokens: u64) -> u64 {
        self.ledger.extend(&mut self.held, tokens)
    }

    /// What the call came to. Said again, the last word counts.
    pub fn settle(&mut self, requests: u64, tokens: u64) {
        self.settled = true;
        self.ledger.set(&mut self.held, requests, tokens);
    }

    /// Whether it was settled.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// What is held, or what it came to, for the event.
    pub fn charges(&self) -> Vec<QuotaCharge> {
        self.held.charges()
    }

    /// How each limit stands by what this call is known to take, leaving out what others took since.
    pub fn levels(&self) -> impl Iterator<Item = Level> + '_ {
        self.held.levels.iter().map(|level| {
            let mut level = *level;
            if let Some(room) = &mut level.requests {
                room.left = room.left.saturating_add(1).saturating_sub(self.held.requests).min(room.max);
            }
            if let Some(room) = &mut level.tokens {
                let left = room.left.saturating_add(self.tokens_then);
                room.left = left.saturating_sub(self.held.tokens).min(room.max);
            }
            level
        })
    }

    /// Whose limit leaves the fewest tokens: the one that a call is cut off by.
    pub fn tightest_on_tokens(&self) -> Option<QuotaScope> {
        let left = |level: &Level| level.tokens.map(|room| (room.left, level.scope));
        self.held.levels.iter().filter_map(left).min_by_key(|(left, _)| *left).map(|(_, scope)| scope)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.ledger.set(&mut self.held, 0, 0);
        }
    }
}
