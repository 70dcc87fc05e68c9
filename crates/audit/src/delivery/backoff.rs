//! How long to wait before trying again: doubling with full jitter, or what the destination asked for. Pure but for
//! the seed of the jitter.

use std::time::Duration;

/// First ceiling of the wait.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Last ceiling of the wait. Low, because after an outage the lag is what people look at.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is honoured: a mistaken date must not silence the audit trail for hours.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// A held destination is tried so often.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A small random generator (xorshift64*): waits need spread, not secrecy.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    /// Seeded by the system; by a constant where it has no randomness to give.
    pub(super) fn new() -> Self {
        Self::seeded(getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15))
    }

    /// With a known seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Evenly spread from zero to `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros((self.next() >> 11) % micros.saturating_add(1))
    }

    /// The wait after the `attempts`-th try failed (from 1), unless the destination named one.
    pub(super) fn wait(&mut self, attempts: u32, after: Option<Duration>) -> Duration {
        match after {
            // Zero says "now": the usual backoff keeps that from becoming a storm.
            Some(after) if !after.is_zero() => after.min(RETRY_AFTER_MAX),
            _ => self.up_to(ceiling(attempts)),
        }
    }
}

/// Longest wait after the `attempts`-th failed try.
pub(super) fn ceiling(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_250_ms_to_5_s() {
        let ceilings: Vec<_> = (1..=7).map(|attempts| ceiling(attempts).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(ceiling(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn jitter_fills_the_whole_range_and_stays_in_it() {
        let mut jitter = Jitter::seeded(7);
        let waits: Vec<_> = (0..1000).map(|_| jitter.wait(3, None)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(100)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(900)));
    }

    #[test]
    fn what_the_destination_asks_for_is_honoured_within_reason() {
        let mut jitter = Jitter::seeded(7);
        assert_eq!(jitter.wait(1, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(jitter.wait(1, Some(Duration::from_secs(86_400))), RETRY_AFTER_MAX);
        assert!(jitter.wait(1, Some(Duration::ZERO)) <= BACKOFF_MIN);
    }
}
