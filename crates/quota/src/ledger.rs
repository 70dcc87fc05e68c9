//! The ledger: how much of each limit is taken. Reserving is all or nothing over the limits of a call, under the locks of
//! all of them, so that of N+1 calls against N left exactly one is refused. In memory; what survives a restart is kept by
//! whoever feeds [`Ledger::load`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use audit::event::{BucketId, QuotaCharge, QuotaScope};

use crate::window::{Span, Window};

/// A limit that a call is subject to. 0 is no limit, but is counted all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub scope: QuotaScope,
    /// What is counted together.
    pub bucket: BucketId,
    /// Over what.
    pub window: Window,
    /// Requests in a window.
    pub requests_max: u64,
    /// Tokens in a window.
    pub tokens_max: u64,
}

/// What a call asks for, beside its one request. All zero where no limit is on tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Tokens without which it cannot start: those of the prompt, and one.
    pub tokens_min: u64,
    /// Tokens that it is likely to come to. Fewer are held where fewer are left.
    pub tokens: u64,
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

/// How much of a limit there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The limit.
    pub max: u64,
    /// What is left of it.
    pub left: u64,
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whose it is.
    pub scope: QuotaScope,
    /// When its window ends, Unix time in seconds.
    pub end_s: i64,
    /// Requests, where they are limited.
    pub requests: Option<Room>,
    /// Tokens, where they are limited.
    pub tokens: Option<Room>,
}

/// What a call holds: one request and some tokens of each claim, each in one window.
#[derive(Clone, Debug)]
pub struct Held {
    /// With the end of the window that it was counted in.
    pub claims: Vec<(Claim, Span)>,
    /// Requests held: 1, or 0 once given back.
    pub requests: u64,
    /// Tokens held.
    pub tokens: u64,
    /// How each claim stood just after.
    pub levels: Vec<Level>,
    /// Whether it is known what the call came to.
    pub is_settled: bool,
}

/// What of a claim is used in the running window, calls in flight left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The window.
    pub span: Span,
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

impl Held {
    /// The same as an event tells it.
    pub fn charges(&self) -> Vec<QuotaCharge> {
        let charge = |(claim, span): &(Claim, Span)| QuotaCharge {
            scope: claim.scope,
            bucket: claim.bucket,
            start_s: span.start_s,
            end_s: span.end_s,
            requests: self.requests,
            tokens: self.tokens,
        };
        self.claims.iter().map(charge).collect()
    }
}

/// A call that may not start, and the first of its limits that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit.
    pub scope: QuotaScope,
    /// Over what.
    pub window: Window,
    /// On what.
    pub what: What,
    /// How it stands.
    pub room: Room,
    /// What was asked of it at the least.
    pub needed: u64,
    /// Seconds until its window ends, 1 or more.
    pub retry_after_s: u64,
    /// How each of the limits stands.
    pub levels: Vec<Level>,
}

/// Where calls reserve. Several gateways would share one.
pub trait QuotaLedger: Send + Sync + 'static {
    /// Takes one request and up to `need.tokens` tokens of each claim, or nothing of any. Claims are checked in order.
    ///
    /// # Errors
    /// [`Refused`] by the first claim that has too little left.
    fn reserve(&self, claims: Vec<Claim>, need: Need, now_s: i64) -> Result<Held, Refused>;

    /// Takes up to so many more tokens of each claim. Gives how many it got; a window that is over limits nothing more.
    fn extend(&self, held: &mut Held, tokens: u64) -> u64;

    /// Changes what is held to what it came to, up or down.
    fn set(&self, held: &mut Held, requests: u64, tokens: u64);

    /// What is used of a claim, where anything is in its running window.
    fn taken(&self, claim: &Claim, now_s: i64) -> Option<Taken>;
}

/// Locks are per shard, so that calls of different users seldom wait for one another, and a table that grows is small.
const SHARDS: usize = 64;

/// A shard is swept at this many entries at the earliest.
const SWEEP_MIN: usize = 64;

/// A [`QuotaLedger`] of one process.
#[derive(Debug)]
pub struct Ledger {
    shards: Vec<Mutex<Shard>>,
}

type Counters = HashMap<BucketId, Counter, BuildHasherDefault<BucketHasher>>;

#[derive(Debug, Default)]
struct Shard {
    counters: Counters,
}

/// What is taken of a bucket in the window that ends at `end_s`; that says which window it is.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    end_s: i64,
    requests: u64,
    tokens: u64,
    /// The part of these that is held by calls in flight.
    held_requests: u32,
    held_tokens: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Ledger {
    /// Adds what was used before this process started, in a window that ends at `end_s`.
    pub fn load(&self, bucket: BucketId, end_s: i64, requests: u64, tokens: u64) {
        let Some(shard) = self.shards.get(shard_of(bucket)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = shard.counters.entry(bucket).or_default();
        if counter.end_s < end_s {
            *counter = Counter { end_s, ..Counter::default() };
        }
        if counter.end_s == end_s {
            counter.requests = counter.requests.saturating_add(requests);
            counter.tokens = counter.tokens.saturating_add(tokens);
        }
    }

    /// Buckets that it has a counter for, those of past windows included until they are swept.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).counters.len())
            .sum()
    }

    /// Whether it has no counter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// INVARIANT: locks are taken in the order of the shards, or two calls could wait for each other for ever.
    fn lock(&self, buckets: impl Iterator<Item = BucketId>) -> Locked<'_> {
        let mut indexes: Vec<usize> = buckets.map(shard_of).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let lock = |index: usize| {
            let shard = self.shards.get(index)?;
            Some((index, shard.lock().unwrap_or_else(PoisonError::into_inner)))
        };
        Locked(indexes.into_iter().filter_map(lock).collect())
    }
}

/// The shards of a call's claims, locked together.
struct Locked<'a>(Vec<(usize, MutexGuard<'a, Shard>)>);

impl Locked<'_> {
    fn shard(&mut self, bucket: BucketId) -> Option<&mut Shard> {
        let wanted = shard_of(bucket);
        self.0.iter_mut().find(|(index, _)| *index == wanted).map(|(_, shard)| &mut **shard)
    }

    /// The counter for a window that is running, emptied where it is that of an earlier one, and which window it is. A
    /// clock that was set back does not bring a past window back.
    fn running(&mut self, claim: &Claim, now_s: i64) -> Option<(&mut Counter, Span)> {
        let shard = self.shard(claim.bucket)?;
        shard.make_room(claim.bucket, now_s);
        let mut span = claim.window.span(now_s);
        let counter = shard.counters.entry(claim.bucket).or_default();
        if counter.end_s > span.end_s {
            span = claim.window.span(counter.end_s - 1);
        } else if counter.end_s < span.end_s {
            *counter = Counter { end_s: span.end_s, ..Counter::default() };
        }
        Some((counter, span))
    }

    /// The counter that was counted in, if its window is still the one.
    fn same(&mut self, claim: &Claim, span: Span) -> Option<&mut Counter> {
        let counter = self.shard(claim.bucket)?.counters.get_mut(&claim.bucket)?;
        (counter.end_s == span.end_s).then_some(counter)
    }
}

impl Shard {
    /// Before the table grows, the counters of windows that are over leave it.
    fn make_room(&mut self, bucket: BucketId, now_s: i64) {
        let is_full = self.counters.len() == self.counters.capacity();
        if is_full && self.counters.len() >= SWEEP_MIN && !self.counters.contains_key(&bucket) {
            self.counters.retain(|_, counter| counter.end_s > now_s);
            if self.counters.len() < self.counters.capacity() / 4 {
                let twice = 2 * self.counters.len();
                self.counters.shrink_to(twice);
            }
        }
    }
}

impl QuotaLedger for Ledger {
    fn reserve(&self, claims: Vec<Claim>, need: Need, now_s: i64) -> Result<Held, Refused> {
        let mut locked = self.lock(claims.iter().map(|claim| claim.bucket));
        let mut held = Held {
            claims: Vec::with_capacity(claims.len()),
            requests: 1,
            tokens: need.tokens,
            levels: Vec::new(),
            is_settled: false,
        };
        let mut refused = None;
        for claim in claims {
            let Some((counter, span)) = locked.running(&claim, now_s) else { continue };
            let requests = room(claim.requests_max, counter.requests);
            let tokens = room(claim.tokens_max, counter.tokens);
            held.levels.push(Level { scope: claim.scope, end_s: span.end_s, requests, tokens });
            let short = |room: Option<Room>, needed: u64| room.filter(|room| room.left < needed);
            let tokens_min = need.tokens_min.max(1);
            let found = short(requests, 1).map(|room| (What::Requests, room, 1));
            let found =
                found.or_else(|| short(tokens, tokens_min).map(|room| (What::Tokens, room, tokens_min)));
            if let (None, Some((what, room, needed))) = (&refused, found) {
                let retry_after_s = u64::try_from(span.end_s - now_s).unwrap_or(0).max(1);
                let (scope, window) = (claim.scope, claim.window);
                refused =
                    Some(Refused { scope, window, what, room, needed, retry_after_s, levels: Vec::new() });
            }
            held.tokens = held.tokens.min(tokens.map_or(u64::MAX, |room| room.left));
            held.claims.push((claim, span));
        }
        if let Some(refused) = refused {
            return Err(Refused { levels: held.levels, ..refused });
        }
        for ((claim, span), level) in held.claims.iter().zip(&mut held.levels) {
            let Some(counter) = locked.same(claim, *span) else { continue };
            counter.requests = counter.requests.saturating_add(1);
            counter.tokens = counter.tokens.saturating_add(held.tokens);
            counter.held_requests = counter.held_requests.saturating_add(1);
            counter.held_tokens = counter.held_tokens.saturating_add(held.tokens);
            let take = |room: &mut Option<Room>, taken: u64| {
                if let Some(room) = room {
                    room.left = room.left.saturating_sub(taken);
                }
            };
            take(&mut level.requests, 1);
            take(&mut level.tokens, held.tokens);
        }
        Ok(held)
    }

    fn extend(&self, held: &mut Held, tokens: u64) -> u64 {
        let mut locked = self.lock(held.claims.iter().map(|(claim, _)| claim.bucket));
        let mut granted = tokens;
        for (claim, span) in &held.claims {
            if let Some(counter) = locked.same(claim, *span)
                && let Some(room) = room(claim.tokens_max, counter.tokens)
            {
                granted = granted.min(room.left);
            }
        }
        for (claim, span) in &held.claims {
            if let Some(counter) = locked.same(claim, *span) {
                counter.tokens = counter.tokens.saturating_add(granted);
                counter.held_tokens = counter.held_tokens.saturating_add(granted);
            }
        }
        held.tokens = held.tokens.saturating_add(granted);
        granted
    }

    fn set(&self, held: &mut Held, requests: u64, tokens: u64) {
        let mut locked = self.lock(held.claims.iter().map(|(claim, _)| claim.bucket));
        for (claim, span) in &held.claims {
            if let Some(counter) = locked.same(claim, *span) {
                counter.requests = counter.requests.saturating_sub(held.requests).saturating_add(requests);
                counter.tokens = counter.tokens.saturating_sub(held.tokens).saturating_add(tokens);
                if !held.is_settled {
                    counter.held_requests = counter.held_requests.saturating_sub(1);
                    counter.held_tokens = counter.held_tokens.saturating_sub(held.tokens);
                }
            }
        }
        held.is_settled = true;
        held.requests = requests;
        held.tokens = tokens;
    }

    fn taken(&self, claim: &Claim, now_s: i64) -> Option<Taken> {
        let mut locked = self.lock(std::iter::once(claim.bucket));
        let counter = *locked.shard(claim.bucket)?.counters.get(&claim.bucket)?;
        let span = claim.window.span(counter.end_s - 1);
        (counter.end_s == span.end_s && now_s < span.end_s).then(|| Taken {
            span,
            requests: counter.requests.saturating_sub(u64::from(counter.held_requests)),
            tokens: counter.tokens.saturating_sub(counter.held_tokens),
        })
    }
}

fn room(max: u64, taken: u64) -> Option<Room> {
    (max > 0).then(|| Room { max, left: max.saturating_sub(taken) })
}

fn shard_of(bucket: BucketId) -> usize {
    let [.., last] = bucket.0;
    usize::from(last) % SHARDS
}

/// Bucket ids are digests already.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketHasher(u64);

impl Hasher for BucketHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>().filter(|_| bytes.len() == 16) {
            self.0 = u64::from_le_bytes(*head);
        }
    }
}

#[cfg(test)]
mod tests;
