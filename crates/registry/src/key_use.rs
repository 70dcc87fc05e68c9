//! When keys were last presented: to the minute, noted without a lock or the disk by the call itself, and kept now and
//! then by whoever asks what changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Uses closer together are one.
const MINUTE_MS: i64 = 60_000;

/// When a key was last presented. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct LastUse(Arc<Times>);

#[derive(Debug, Default)]
struct Times {
    /// Unix milliseconds; 0 for never.
    last_ms: AtomicI64,
    /// What of that is kept.
    kept_ms: AtomicI64,
}

impl LastUse {
    /// It is presented now (Unix milliseconds). Some nanoseconds, and a write at most once a minute.
    pub fn touch(&self, now_ms: i64) {
        if now_ms.saturating_sub(self.0.last_ms.load(Ordering::Relaxed)) >= MINUTE_MS {
            self.0.last_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    fn restore(&self, kept_ms: i64) {
        self.0.last_ms.fetch_max(kept_ms, Ordering::Relaxed);
        self.0.kept_ms.fetch_max(kept_ms, Ordering::Relaxed);
    }
}

impl PartialEq for LastUse {
    /// It is no part of what a key is.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUse {}

/// The last uses of all keys, by public id: one snapshot after the other has the same.
#[derive(Clone, Debug, Default)]
pub struct KeyUses(Arc<Mutex<HashMap<String, LastUse>>>);

impl KeyUses {
    /// That of a key.
    pub fn of(&self, key_id: &str) -> LastUse {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match uses.get(key_id) {
            Some(known) => known.clone(),
            None => uses.entry(key_id.to_owned()).or_default().clone(),
        }
    }

    /// As it was kept.
    pub(crate) fn restore(&self, key_id: &str, kept_ms: i64) {
        self.of(key_id).restore(kept_ms);
    }

    /// When a key was last presented, in Unix milliseconds.
    pub fn last_ms(&self, key_id: &str) -> Option<i64> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.get(key_id).map(|known| known.0.last_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// What is not kept yet.
    pub(crate) fn unkept(&self) -> Vec<(String, i64)> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unkept = |(id, used): (&String, &LastUse)| {
            let last_ms = used.0.last_ms.load(Ordering::Relaxed);
            (last_ms > used.0.kept_ms.load(Ordering::Relaxed)).then(|| (id.clone(), last_ms))
        };
        uses.iter().filter_map(unkept).collect()
    }

    /// That these are kept now.
    pub(crate) fn kept(&self, uses: &[(String, i64)]) {
        for (id, ms) in uses {
            self.restore(id, *ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_within_a_minute_are_one_and_what_is_kept_is_not_told_again() {
        let uses = KeyUses::default();
        let key = uses.of("key_1");
        assert_eq!((uses.last_ms("key_1"), uses.unkept()), (None, vec![]));
        key.touch(100_000);
        key.touch(159_999);
        assert_eq!(uses.last_ms("key_1"), Some(100_000));
        let unkept = uses.unkept();
        assert_eq!(unkept, [("key_1".to_owned(), 100_000)]);
        uses.kept(&unkept);
        assert_eq!(uses.unkept(), []);
        uses.of("key_1").touch(160_000);
        assert_eq!(uses.unkept(), [("key_1".to_owned(), 160_000)]);
        uses.restore("key_2", 5);
        assert_eq!((uses.last_ms("key_2"), uses.unkept().len()), (Some(5), 1));
    }
}
