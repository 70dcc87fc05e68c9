//! What is known of texts that came before, for as long as the process lives. Texts are known by a digest under a key
//! that is never written anywhere: not even who reads the memory's map learns a text that they cannot guess and try.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use policy::{Scored, Source};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What a text is known by.
pub(super) type Key = [u8; 32];

/// Outcomes by key, the least recently used of them forgotten first, in halves.
#[derive(Debug)]
pub(super) struct Cache {
    salt: [[u8; 16]; 2],
    kept: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Scored>,
    old: HashMap<Key, Scored>,
}

impl Default for Cache {
    fn default() -> Self {
        let salt = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()];
        Self { salt, kept: Mutex::default() }
    }
}

impl Cache {
    /// What a text is known by, from this source and to this scorer.
    pub(super) fn key(&self, scorer: &str, text: &str, source: Source) -> Key {
        let source = match source {
            Source::Application => 0,
            Source::User => 1,
            Source::Tool => 2,
            Source::Answer => 3,
        };
        let mut digest = Sha256::new();
        digest.update(self.salt.as_flattened());
        digest.update([source]);
        digest.update((scorer.len() as u64).to_le_bytes());
        digest.update(scorer.as_bytes());
        digest.update(text.as_bytes());
        digest.finalize().into()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Scored> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scored) = kept.young.get(key) {
            return Some(*scored);
        }
        let scored = kept.old.remove(key)?;
        kept.young.insert(*key, scored);
        Some(scored)
    }

    /// Keeps an outcome among at most so many.
    pub(super) fn keep(&self, key: Key, scored: Scored, entries: usize) {
        if entries == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.young.len() >= entries.div_ceil(2) {
            kept.old = std::mem::take(&mut kept.young);
        }
        kept.young.insert(key, scored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let cache = Cache::default();
        let key = |number: u32| cache.key("s", &number.to_string(), Source::User);
        for number in 0..100 {
            cache.keep(key(number), Scored::CLEAN, 10);
            assert!(cache.get(&key(0)).is_some(), "{number}");
        }
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(99)).is_some());
        let kept = cache.kept.lock().unwrap();
        assert!(kept.young.len() + kept.old.len() <= 12, "{} {}", kept.young.len(), kept.old.len());
    }

    #[test]
    fn a_key_tells_scorer_source_and_process_apart() {
        let cache = Cache::default();
        let keys = [
            cache.key("a", "b", Source::User),
            cache.key("a", "b", Source::Tool),
            cache.key("ab", "", Source::User),
            Cache::default().key("a", "b", Source::User),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
        }
        cache.keep(keys[0], Scored::CLEAN, 0);
        assert!(cache.get(&keys[0]).is_none());
    }
}
