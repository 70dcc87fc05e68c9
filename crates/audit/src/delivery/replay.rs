//! Sending again what was sent or given up before, on request. Beside the destination's task and apart from its cursor:
//! a replay neither waits for it nor moves it, it only takes dead letters off that went through.

use std::collections::BTreeSet;

use serde::Serialize;

use super::backoff::Jitter;
use super::batch::{Batch, confirm, encode};
use super::clock::Clock;
use super::destination::{Destination, Limits, Partial, Receipt, SendOutcome, Then};
use super::ledger::Ledger;
use super::screen::Screen;
use crate::outbox::{DeadLetter, Outbox, OutboxError, StoredEvent};

/// A person waits for a replay: it gives up after so many tries of one batch (about half a minute).
const TRIES_MAX: u32 = 10;
/// Dead letters looked at in one go.
const DEAD_PAGE: usize = 500;

/// What to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every event with `from <= seq <= to`, as far as the log still has it.
    Range {
        /// First seq.
        from: u64,
        /// Last seq.
        to: u64,
    },
    /// The dead letters.
    Dead,
}

/// An event that the destination rejected in a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its place in the chain.
    pub seq: u64,
    /// What the destination said.
    pub reason: String,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Events that the destination took.
    pub delivered: u64,
    /// Of these, dead letters that are settled now.
    pub resolved: u64,
    /// Events that the destination's filters or sampling left out.
    pub skipped: u64,
    /// Events that it rejected; dead letters among them stay dead letters.
    pub rejected: Vec<Rejected>,
    /// Why the replay ended before it was through; `None` where it was through.
    pub stopped: Option<String>,
    /// The last seq that was dealt with.
    pub last_seq: Option<u64>,
}

/// Why a replay did not start.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No destination has this id.
    #[error("no destination has the id `{0}`")]
    Unknown(String),
    /// The range is empty.
    #[error("the range is empty: `from` ({from}) must be 1 or more and not after `to` ({to})")]
    Range {
        /// As asked for.
        from: u64,
        /// As asked for.
        to: u64,
    },
    /// The destination cannot be set up.
    #[error(transparent)]
    Export(#[from] crate::export::ExportError),
    /// The log cannot be read.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// One replay under way.
pub(super) struct Replay<'a, D> {
    pub(super) destination: &'a D,
    pub(super) outbox: &'a dyn Outbox,
    pub(super) clock: &'a dyn Clock,
    pub(super) ledger: &'a Ledger,
    pub(super) limits: &'a Limits,
    pub(super) screen: &'a Screen,
    pub(super) jitter: Jitter,
}

impl<D: Destination> Replay<'_, D> {
    pub(super) async fn run(mut self, selection: Selection) -> Result<ReplayReport, ReplayError> {
        let mut report = ReplayReport::default();
        match selection {
            Selection::Range { from, to } if from == 0 || from > to => Err(ReplayError::Range { from, to }),
            Selection::Range { from, to } => {
                self.range(from, to, &mut report).await?;
                Ok(report)
            }
            Selection::Dead => {
                self.dead(&mut report).await?;
                Ok(report)
            }
        }
    }

    async fn range(&mut self, from: u64, to: u64, report: &mut ReplayReport) -> Result<(), ReplayError> {
        let dead = self.dead_seqs(from, to).await?;
        let mut after = from - 1;
        while after < to && report.stopped.is_none() {
            let most = usize::try_from(to - after).unwrap_or(usize::MAX).min(self.limits.batch_events_max);
            let mut events = self.outbox.read_after(after, most, self.limits.batch_bytes_max).await?;
            events.retain(|event| event.seq <= to);
            let Some(last) = events.last() else { break };
            after = last.seq;
            self.send_all(events, self.screen.clone(), &dead, report).await?;
        }
        Ok(())
    }

    async fn dead(&mut self, report: &mut ReplayReport) -> Result<(), ReplayError> {
        let mut after = 0;
        while report.stopped.is_none() {
            let most = DEAD_PAGE.min(self.limits.batch_events_max);
            let letters = self.outbox.dead_letters(self.ledger.id(), after, most).await?;
            let Some(last) = letters.last() else { break };
            after = last.seq;
            let dead = letters.iter().map(|letter| letter.seq).collect();
            let events =
                letters.into_iter().map(|DeadLetter { seq, text, .. }| StoredEvent { seq, text }).collect();
            // They were for this destination when they were given up.
            self.send_all(events, self.screen.opened(), &dead, report).await?;
        }
        Ok(())
    }

    async fn dead_seqs(&self, from: u64, to: u64) -> Result<BTreeSet<u64>, OutboxError> {
        let mut seqs = BTreeSet::new();
        let mut after = from - 1;
        loop {
            let letters = self.outbox.dead_letters(self.ledger.id(), after, DEAD_PAGE).await?;
            let Some(last) = letters.last() else { return Ok(seqs) };
            after = last.seq;
            seqs.extend(letters.iter().map(|letter| letter.seq).filter(|seq| *seq <= to));
            if after >= to {
                return Ok(seqs);
            }
        }
    }

    /// Sends events in as many bodies as it takes.
    async fn send_all(
        &mut self,
        events: Vec<StoredEvent>,
        screen: Screen,
        dead: &BTreeSet<u64>,
        report: &mut ReplayReport,
    ) -> Result<(), OutboxError> {
        let mut stack: Vec<Batch> = Batch::of(events, None).into_iter().collect();
        while let Some(batch) = stack.pop() {
            let mut delivered = Vec::new();
            let sent = self.send(batch, &screen, &mut delivered).await;
            report.delivered += to_u64(delivered.len());
            delivered.retain(|seq| dead.contains(seq));
            if !delivered.is_empty() {
                report.resolved += to_u64(delivered.len());
                self.ledger.resolve_dead(delivered).await?;
            }
            match sent {
                Sent::Through(batch, over) => {
                    stack.extend(over);
                    report.skipped += to_u64(batch.skipped.len());
                    report.rejected.extend(unfit(&batch));
                    report.last_seq = Some(batch.last);
                }
                Sent::Halves(first, rest) => {
                    stack.extend(rest);
                    stack.push(first);
                }
                Sent::Rejected(batch, reason) => {
                    report.rejected.extend(unfit(&batch));
                    let events = batch.events.iter();
                    report
                        .rejected
                        .extend(events.map(|event| Rejected { seq: event.seq, reason: reason.clone() }));
                    report.last_seq = Some(batch.last);
                }
                Sent::Stopped(why) => {
                    report.stopped = Some(why);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends a batch until the destination has said something final of it; adds the seqs that it took to `delivered`.
    async fn send(&mut self, mut batch: Batch, screen: &Screen, delivered: &mut Vec<u64>) -> Sent {
        loop {
            batch.attempts += 1;
            let (encoded, over);
            let now_ms = self.clock.now_ms();
            (batch, encoded, over) = match encode(self.destination, screen, now_ms, batch, usize::MAX).await {
                Ok(done) => done,
                Err((error, _)) => return Sent::Stopped(error),
            };
            let Some(encoded) = encoded else { return Sent::Through(batch, over) };
            let parcel = batch.parcel(encoded, self.clock.now_ms());
            let limit = self.limits.timeout;
            let sent = tokio::time::timeout(limit, self.destination.send(parcel)).await;
            let (after, why) = match sent {
                Ok(SendOutcome::Delivered) => {
                    delivered.extend(batch.settle(&[], &[]));
                    return Sent::Through(batch, over);
                }
                Ok(SendOutcome::Received(receipt)) => match self.until_safe(receipt).await {
                    Ok(()) => {
                        delivered.extend(batch.settle(&[], &[]));
                        return Sent::Through(batch, over);
                    }
                    Err(why) => (None, why),
                },
                Ok(SendOutcome::Partial(Partial { again, dead, then, why })) => {
                    delivered.extend(batch.settle(&again, &dead));
                    match then {
                        _ if batch.events.is_empty() => return Sent::Through(batch, over),
                        Then::Hold => return Sent::Stopped(why),
                        Then::Retry(after) => (after, why),
                    }
                }
                Ok(SendOutcome::TooLarge { .. } | SendOutcome::Rejected { .. }) if batch.events.len() > 1 => {
                    let half = batch.events.len().div_ceil(2);
                    let (first, rest) = batch.split(half);
                    return Sent::Halves(first, over.into_iter().chain(rest).collect());
                }
                Ok(SendOutcome::Rejected { why } | SendOutcome::TooLarge { why }) => {
                    return Sent::Rejected(batch, why);
                }
                Ok(SendOutcome::Hold { why }) => return Sent::Stopped(why),
                Ok(SendOutcome::Retry { after, why }) => (after, why),
                Err(_) => (None, format!("no answer within {} s", limit.as_secs())),
            };
            if batch.attempts >= TRIES_MAX {
                return Sent::Stopped(format!("given up after {TRIES_MAX} tries: {why}"));
            }
            tokio::time::sleep(self.jitter.wait(batch.attempts, after)).await;
            if let Some(over) = over {
                batch.last = over.last;
                batch.events.extend(over.events);
            }
        }
    }

    /// Waits until a body that was received is safe.
    async fn until_safe(&self, receipt: Receipt) -> Result<(), String> {
        let until = tokio::time::Instant::now() + receipt.within;
        loop {
            tokio::time::sleep(self.destination.confirm_every()).await;
            let answer = confirm(self.destination, vec![receipt.token.clone()], self.limits.timeout).await;
            if answer.as_ref().is_ok_and(|safe| safe.first() == Some(&true)) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                let why = "a body was received but not acknowledged in time";
                return Err(answer.err().unwrap_or_else(|| why.to_owned()));
            }
        }
    }
}

enum Sent {
    /// What is left of it: dead letters and skipped events; and what did not fit.
    Through(Batch, Option<Batch>),
    /// The lower half, and what comes behind it, the last on top.
    Halves(Batch, Vec<Batch>),
    /// No event of it, for this reason.
    Rejected(Batch, String),
    Stopped(String),
}

fn unfit(batch: &Batch) -> Vec<Rejected> {
    batch.dead.iter().map(|letter| Rejected { seq: letter.seq, reason: letter.reason.clone() }).collect()
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
