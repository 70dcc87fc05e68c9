//! Counters of quotas and rate limits, as they are kept over a restart: raised with the closing records, in the same
//! transaction. What they mean, and whether anything is left, is in `quota`.

use std::collections::BTreeMap;

use audit::event::{BucketId, QuotaCharge};
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::reader::Reader;

/// Rows of past windows that a commit takes away at most: more than it adds, and no long commit when a day ends.
const EVICT_MAX: u32 = 512;

/// What was used of a limit in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaCounter {
    /// What is counted together.
    pub bucket: BucketId,
    /// When the window began, Unix time in seconds.
    pub start_s: i64,
    /// When it ends.
    pub end_s: i64,
    /// Requests that were counted.
    pub requests: u64,
    /// Tokens that were counted.
    pub tokens: u64,
}

/// The charges of one commit, summed up by row.
#[derive(Debug)]
pub(crate) struct Charges {
    now_s: i64,
    sums: BTreeMap<(i64, BucketId), Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    start_s: i64,
    requests: u64,
    tokens: u64,
}

impl Charges {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self { now_s: now_ms.div_euclid(1000), sums: BTreeMap::new() }
    }

    /// Adds a record's charges; those of a window that is over would count for nothing.
    pub(crate) fn add(&mut self, charges: &[QuotaCharge]) {
        for charge in charges {
            if charge.end_s > self.now_s && (charge.requests > 0 || charge.tokens > 0) {
                let sum = self.sums.entry((charge.end_s, charge.bucket)).or_default();
                sum.start_s = charge.start_s;
                sum.requests = sum.requests.saturating_add(charge.requests);
                sum.tokens = sum.tokens.saturating_add(charge.tokens);
            }
        }
    }

    /// Raises the counters within the running transaction.
    pub(crate) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        if self.sums.is_empty() {
            return Ok(());
        }
        let mut raise = db.prepare_cached(
            "INSERT INTO quota_counters(end_s, bucket, start_s, requests, tokens) VALUES(?1, ?2, ?3, ?4, ?5)
             ON CONFLICT(end_s, bucket) DO UPDATE SET requests = requests + ?4, tokens = tokens + ?5",
        )?;
        for ((end_s, bucket), sum) in &self.sums {
            raise.execute(params![end_s, bucket.0, sum.start_s, signed(sum.requests), signed(sum.tokens)])?;
        }
        db.prepare_cached(
            "DELETE FROM quota_counters WHERE (end_s, bucket) IN
             (SELECT end_s, bucket FROM quota_counters WHERE end_s <= ?1 ORDER BY end_s, bucket LIMIT ?2)",
        )?
        .execute(params![self.now_s, EVICT_MAX])
        .map(drop)
    }
}

/// Half the range, so that a row of two of the largest charges is still a number that SQLite adds exactly.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

impl Reader {
    /// Every counter of a window that is not over at `now_s` (Unix time in seconds), in no order of meaning. A million
    /// of them never stand in memory together.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub fn quota_counters(&self, now_s: i64, mut each: impl FnMut(QuotaCounter)) -> Result<(), StoreError> {
        let sql = "SELECT bucket, start_s, end_s, requests, tokens FROM quota_counters WHERE end_s > ?1";
        let mut read = || {
            let mut select = self.db.prepare_cached(sql)?;
            let mut rows = select.query([now_s])?;
            while let Some(row) = rows.next()? {
                each(QuotaCounter {
                    bucket: BucketId(row.get(0)?),
                    start_s: row.get(1)?,
                    end_s: row.get(2)?,
                    requests: row.get::<_, i64>(3)?.cast_unsigned(),
                    tokens: row.get::<_, i64>(4)?.cast_unsigned(),
                });
            }
            Ok(())
        };
        read().map_err(self.failed())
    }
}
