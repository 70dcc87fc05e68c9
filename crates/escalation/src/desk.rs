//! The desk that the data plane asks about an escalated request, and that reviewers decide at. What means something now
//! is in memory, loaded at the start: only a request that nothing is known of waits for the disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::delivery::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Channels;
use crate::fingerprint::{Fingerprint, FingerprintKey, Subject};
use crate::ticket::{Case, Ruling, Standing, State, Ticket, Verdict};
use crate::tickets::{DecideError, Opening, TicketFilter, Tickets, TicketsError, WithContent};

/// Tickets open at once: far more than people can work through, about 10 MB of memory.
pub const OPEN_MAX: u64 = 10_000;
/// Longest reason of a decision: a paragraph.
pub const REASON_BYTES_MAX: usize = 2_000;
/// Longest sleep of the expiry worker, so that a wall clock that was set is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The store is asked again so soon after it failed.
const RETRY: Duration = Duration::from_secs(5);

/// Why the desk could not say where a request stands. Nothing may be let through then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The store did not take the ticket.
    #[error(transparent)]
    Tickets(#[from] TicketsError),
    /// The policy keeps the content of escalations, and it could not be encrypted.
    #[error("the content could not be encrypted: check `secrets_key`")]
    Seal,
}

/// The ticket of a request, and what it means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The ticket's id.
    pub id: Uuid,
    /// Never [`Standing::Over`].
    pub standing: Standing,
}

/// Counters since the start, and the queue as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskStats {
    /// Tickets that wait for a decision.
    pub open: u64,
    /// Tickets opened.
    pub opened: u64,
    /// Tickets approved.
    pub approved: u64,
    /// Tickets denied.
    pub denied: u64,
    /// Tickets whose time was over.
    pub expired: u64,
    /// Requests that passed by a grant.
    pub passed: u64,
    /// Notices that arrived.
    pub notices: u64,
    /// Tries to send a notice that failed.
    pub notice_failures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    opened: AtomicU64,
    approved: AtomicU64,
    denied: AtomicU64,
    expired: AtomicU64,
    passed: AtomicU64,
    pub(crate) notices: AtomicU64,
    pub(crate) notice_failures: AtomicU64,
}

/// See the module.
pub struct Desk {
    pub(crate) tickets: Arc<dyn Tickets>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) channels: ArcSwap<Channels>,
    pub(crate) counts: Counts,
    /// A notice was queued.
    pub(crate) posted: Notify,
    key: FingerprintKey,
    index: Mutex<HashMap<Fingerprint, Arc<Ticket>>>,
    /// Tickets in the index that may let a request pass, now or by their default.
    lenient: AtomicUsize,
    /// The first expiry may be another.
    changed: Notify,
}

impl Desk {
    /// Loads what means something.
    ///
    /// # Errors
    /// [`TicketsError`] where the store cannot be read.
    pub async fn open(
        tickets: Arc<dyn Tickets>,
        key: FingerprintKey,
        clock: Arc<dyn Clock>,
        channels: Channels,
    ) -> Result<Arc<Self>, TicketsError> {
        let live = tickets.live(clock.now_ms()).await?;
        let desk = Self {
            tickets,
            clock,
            channels: ArcSwap::from_pointee(channels),
            counts: Counts::default(),
            posted: Notify::new(),
            key,
            index: Mutex::default(),
            lenient: AtomicUsize::new(0),
            changed: Notify::new(),
        };
        for ticket in live {
            desk.learn(ticket);
        }
        Ok(Arc::new(desk))
    }

    /// Puts other channels in force, for notices from now on.
    pub fn set_channels(&self, channels: Channels) {
        self.channels.store(Arc::new(channels));
        self.posted.notify_one();
    }

    /// What stands for a request; `content` is the canonical form of its judged messages.
    pub fn fingerprint(&self, policy_id: &str, subject: Subject<'_>, content: &[u8]) -> Fingerprint {
        self.key.fingerprint(policy_id, subject, content)
    }

    /// Whether any request could pass by a ticket now. Where not, there is no need to ask for a certain one.
    pub fn may_grant(&self) -> bool {
        self.lenient.load(Ordering::Relaxed) > 0
    }

    /// Where a request stands, as far as is known without the disk.
    pub fn held(&self, fingerprint: &Fingerprint) -> Option<Held> {
        let ticket = self.lock().get(fingerprint).cloned()?;
        held(&ticket, self.clock.now_ms())
    }

    /// Where an escalated request stands; one that nothing is known of gets a ticket, which is durable when this
    /// resolves. `content` is kept, encrypted. Cancel safe: a ticket may be opened all the same, and is found by the
    /// next request of its kind.
    ///
    /// # Errors
    /// [`DeskError`]: nothing may be let through.
    pub async fn enter(
        &self,
        fingerprint: Fingerprint,
        case: Case,
        content: Option<&[u8]>,
    ) -> Result<Held, DeskError> {
        if let Some(held) = self.held(&fingerprint) {
            return Ok(held);
        }
        let id = Uuid::now_v7();
        let content = content.map(|content| self.seal(id, content)).transpose()?;
        let ticket = Ticket::open(id, fingerprint, case, self.clock.now_ms());
        let ticket = self.tickets.open(Opening { ticket, content, open_max: OPEN_MAX }).await?;
        if ticket.id == id {
            add(&self.counts.opened);
            self.posted.notify_one();
        }
        // Another one of the same requests may have been decided meanwhile: `learn` keeps the newest word.
        let id = ticket.id;
        let was = held(&ticket, self.clock.now_ms());
        self.learn(ticket);
        self.changed.notify_one();
        let now = self.held(&fingerprint).filter(|held| held.id == id);
        Ok(now.or(was).unwrap_or(Held { id, standing: Standing::Open }))
    }

    fn seal(&self, id: Uuid, content: &[u8]) -> Result<Vec<u8>, DeskError> {
        let channels = self.channels.load();
        let sealer = channels.sealer.as_ref().ok_or(DeskError::Seal)?;
        sealer.seal(id.as_bytes(), content).map_err(|_| DeskError::Seal)
    }

    /// Says that the store has a notice to be sent.
    pub fn posted(&self) {
        self.posted.notify_one();
    }

    /// Counts a request that passed by a grant.
    pub fn passed(&self) {
        add(&self.counts.passed);
    }

    /// Ends a ticket as a reviewer says.
    ///
    /// # Errors
    /// [`DecideError`].
    pub async fn decide(
        &self,
        id: Uuid,
        verdict: Verdict,
        actor: &str,
        reason: &str,
    ) -> Result<Ticket, DecideError> {
        let at_ms = self.clock.now_ms();
        let ruling = Ruling { verdict, actor: actor.to_owned(), reason: reason.to_owned(), at_ms };
        let ticket = self.tickets.decide(id, ruling).await?;
        add(if verdict == Verdict::Approve { &self.counts.approved } else { &self.counts.denied });
        self.learn(ticket.clone());
        Ok(ticket)
    }

    /// Tickets that match, newest first.
    ///
    /// # Errors
    /// [`TicketsError`].
    pub async fn list(&self, filter: TicketFilter) -> Result<Vec<Ticket>, TicketsError> {
        self.tickets.list(filter).await
    }

    /// One ticket and, where it is wanted and kept, the content that was judged: JSON, an array of messages.
    ///
    /// # Errors
    /// [`TicketsError`], also where the content cannot be decrypted.
    pub async fn find(&self, id: Uuid, with_content: bool) -> Result<Option<WithContent>, TicketsError> {
        let Some((ticket, sealed)) = self.tickets.find(id).await? else { return Ok(None) };
        let Some(sealed) = sealed.filter(|_| with_content) else { return Ok(Some((ticket, None))) };
        let channels = self.channels.load();
        let opened = channels.sealer.as_ref().and_then(|sealer| sealer.open(id.as_bytes(), &sealed).ok());
        match opened {
            Some(content) => Ok(Some((ticket, Some(content)))),
            None => Err(TicketsError::Store(format!(
                "the content of escalation `{id}` cannot be decrypted: was `secrets_key` changed?"
            ))),
        }
    }

    /// Counters and the queue.
    pub fn stats(&self) -> DeskStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let open = self.lock().values().filter(|ticket| ticket.state == State::Open).count();
        DeskStats {
            open: open as u64,
            opened: count(&counts.opened),
            approved: count(&counts.approved),
            denied: count(&counts.denied),
            expired: count(&counts.expired),
            passed: count(&counts.passed),
            notices: count(&counts.notices),
            notice_failures: count(&counts.notice_failures),
        }
    }

    /// Ends tickets as their time comes and sends notices, until `stop`. What was not sent then is sent after the next
    /// start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let expiry = async {
            loop {
                let wait = match self.expire_due().await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::warn!(%error, "reviews that are over could not be closed: trying again");
                        RETRY
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.changed.notified() => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = expiry => {}
            () = self.send_notices() => {}
        }
    }

    /// Ends the tickets whose time is over, forgets what means nothing any more, and says when to look again.
    ///
    /// # Errors
    /// [`TicketsError`].
    pub async fn expire_due(&self) -> Result<Duration, TicketsError> {
        let now_ms = self.clock.now_ms();
        while self.lock().values().any(|ticket| ticket.expire(now_ms).is_some()) {
            let ended = self.tickets.expire(now_ms).await?;
            if ended.is_empty() {
                break;
            }
            for ticket in ended {
                add(&self.counts.expired);
                self.learn(ticket);
            }
            self.posted.notify_one();
        }
        let mut index = self.lock();
        index.retain(|_, ticket| ticket.state == State::Open || ticket.standing(now_ms) != Standing::Over);
        self.count_lenient(&index);
        let next = index.values().map(|ticket| match ticket.state {
            State::Open => ticket.expires_ms,
            _ => ticket.over_ms(),
        });
        let wait = next.min().map_or(LOOK_EVERY, |next| millis(next.saturating_sub(now_ms)));
        Ok(wait.clamp(Duration::from_millis(1), LOOK_EVERY))
    }

    /// Takes the newest word on a request.
    fn learn(&self, ticket: Ticket) {
        let mut index = self.lock();
        let known = index.get(&ticket.fingerprint);
        if known.is_none_or(|known| ticket.is_newer_than(known)) {
            index.insert(ticket.fingerprint, Arc::new(ticket));
        }
        self.count_lenient(&index);
    }

    fn count_lenient(&self, index: &HashMap<Fingerprint, Arc<Ticket>>) {
        let lenient = |ticket: &&Arc<Ticket>| {
            let ended = ticket.expire(ticket.expires_ms);
            ended.as_ref().unwrap_or(ticket).ending.as_ref().is_some_and(|ending| ending.passes)
        };
        self.lenient.store(index.values().filter(lenient).count(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Arc<Ticket>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(ticket: &Ticket, now_ms: i64) -> Option<Held> {
    match ticket.standing(now_ms) {
        Standing::Over => None,
        standing => Some(Held { id: ticket.id, standing }),
    }
}

pub(crate) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
