//! Our side of the comparison: what the store holds for a destination, by the hour of the events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use audit::export::ExportConfig;
use audit::outbox::Cursor;
use jiff::Timestamp;
use serde::Deserialize;
use store::{Filter, Reader, Store};

/// An hour, in milliseconds.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Dead letters that are read at once.
const DEAD_PAGE: usize = 1000;

/// What the destination was to get of the events of one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour {
    /// All of them but what its filters leave out.
    pub(super) accepted: u64,
    /// Those that it said it has.
    pub(super) delivered: u64,
    /// Those still to come.
    pub(super) pending: u64,
    /// Those that it would not take.
    pub(super) dead: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// Everything of a period.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// By the start of the hour, in epoch milliseconds.
    pub(super) hours: BTreeMap<i64, Hour>,
    pub(super) chains: BTreeSet<String>,
}

/// An event that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) seq: u64,
    pub(super) event_id: String,
}

enum Standing {
    Delivered,
    Pending,
    Dead,
}

#[derive(Deserialize)]
struct Stored {
    event_id: String,
    created_at: Timestamp,
    chain: String,
}

/// The start of the hour that holds this time.
pub(super) fn hour_of(ms: i64) -> i64 {
    ms.div_euclid(HOUR_MS) * HOUR_MS
}

/// Counts the events made `from_ms` on and before `to_ms`.
pub(super) fn count(path: &Path, export: &ExportConfig, from_ms: i64, to_ms: i64) -> anyhow::Result<Ours> {
    let mut ours = Ours::default();
    each(path, export, from_ms, to_ms, |seq, event, standing| {
        let hour = ours.hours.entry(hour_of(event.created_at.as_millisecond())).or_default();
        hour.accepted += 1;
        match standing {
            Standing::Delivered => hour.delivered += 1,
            Standing::Pending => hour.pending += 1,
            Standing::Dead => hour.dead += 1,
        }
        if hour.first_seq == 0 {
            hour.first_seq = seq;
        }
        hour.last_seq = seq;
        ours.chains.insert(event.chain);
    })?;
    Ok(ours)
}

/// The events of a period that the destination said it has.
pub(super) fn delivered(
    path: &Path,
    export: &ExportConfig,
    from_ms: i64,
    to_ms: i64,
) -> anyhow::Result<Vec<Delivered>> {
    let mut found = Vec::new();
    each(path, export, from_ms, to_ms, |seq, event, standing| {
        if matches!(standing, Standing::Delivered) {
            found.push(Delivered { seq, event_id: event.event_id });
        }
    })?;
    Ok(found)
}

fn each(
    path: &Path,
    export: &ExportConfig,
    from_ms: i64,
    to_ms: i64,
    mut see: impl FnMut(u64, Stored, Standing),
) -> anyhow::Result<()> {
    let store = Store::open_read_only(path)?;
    let cursor = store.cursor(&export.id)?.with_context(|| {
        format!(
            "destination `{}` never ran with `{}`: nothing was to arrive there",
            export.id,
            path.display()
        )
    })?;
    let screen = export.screen()?;
    let dead = dead(&store, &export.id, &cursor)?;
    let filter = Filter { from_ms: Some(from_ms), to_ms: Some(to_ms), ..Filter::default() };
    for event in store.query(&filter) {
        let event = event?;
        if event.seq <= cursor.start || !screen.passes(&event.text) {
            continue;
        }
        let stored: Stored = serde_json::from_slice(&event.text)
            .with_context(|| format!("event {} cannot be read: run `audit verify`", event.seq))?;
        let standing = if event.seq > cursor.position {
            Standing::Pending
        } else if dead.contains(&event.seq) {
            Standing::Dead
        } else {
            Standing::Delivered
        };
        see(event.seq, stored, standing);
    }
    Ok(())
}

fn dead(store: &Reader, id: &str, cursor: &Cursor) -> anyhow::Result<BTreeSet<u64>> {
    let mut dead = BTreeSet::new();
    let mut after = 0;
    if cursor.dead == 0 {
        return Ok(dead);
    }
    loop {
        let page = store.dead_letters(id, after, DEAD_PAGE)?;
        let Some(last) = page.last() else { return Ok(dead) };
        after = last.seq;
        dead.extend(page.iter().map(|letter| letter.seq));
    }
}
