//! What the desk needs of the store: tickets, the content that a policy opted to keep, and notices that wait to be sent.
//! Every write is durable when its future resolves; an ending is one commit with its event, the erasure of the content
//! and the notice about it.

use audit::event::AuditEvent;
use audit::outbox::BoxFuture;
use uuid::Uuid;

use crate::ticket::{Ruling, State, Ticket};

/// The store did not do it. The text is plain and without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketsError {
    /// As many tickets are open as may be.
    #[error("{0} reviews are open already: decide some (`policy-gateway escalation list`)")]
    Full(u64),
    /// It cannot be read or written.
    #[error("{0}")]
    Store(String),
}

/// Why a ticket was not decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// There is no such ticket.
    #[error("there is no escalation `{0}`")]
    Unknown(Uuid),
    /// It ended before.
    #[error("escalation `{id}` is {} already: a decision is final", .state.as_str())]
    Ended {
        /// The ticket.
        id: Uuid,
        /// How it ended.
        state: State,
    },
    /// The store did not do it.
    #[error("{0}")]
    Store(String),
}

/// A ticket to be opened, unless one for its fingerprint still means something.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The ticket.
    pub ticket: Ticket,
    /// The judged messages, encrypted.
    pub content: Option<Vec<u8>>,
    /// Tickets that may be open at once.
    pub open_max: u64,
}

/// A ticket, and its content where there is any to be had.
pub type WithContent = (Ticket, Option<Vec<u8>>);

/// Which tickets, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketFilter {
    /// Only in this state.
    pub state: Option<State>,
    /// Only of this policy.
    pub policy_id: Option<String>,
    /// Only of this project.
    pub project_id: Option<String>,
    /// Only with a lower number: where the last page ended.
    pub before: Option<u64>,
    /// At most so many, 1 or more.
    pub limit: usize,
}

/// What a notice tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// A ticket was opened.
    Opened,
    /// Nobody decided in time.
    Expired,
    /// A candidate was taken back by itself.
    RolledBack,
}

impl NoticeKind {
    /// The name in ids, bodies and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Expired => "expired",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A notice that waits to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its number in the store.
    pub id: i64,
    /// What it tells.
    pub kind: NoticeKind,
    /// The e-mail address or URL, as the policy had it when that happened.
    pub path: String,
    /// Tries that failed.
    pub attempts: u32,
    /// When it is to be tried, Unix milliseconds.
    pub next_ms: i64,
    /// What it is about.
    pub about: About,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// A request that waits for a person.
    Ticket(Box<Ticket>),
    /// A candidate that was taken back: the event that tells of it.
    Rollback(Box<AuditEvent>),
}

impl About {
    /// Id of the ticket or of the event.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Ticket(ticket) => ticket.id,
            Self::Rollback(event) => event.event_id,
        }
    }

    /// The policy.
    pub fn policy_id(&self) -> &str {
        match self {
            Self::Ticket(ticket) => &ticket.case.policy_id,
            Self::Rollback(event) => event.policy_id.as_deref().unwrap_or_default(),
        }
    }
}

/// What became of a try to send a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It arrived; the notice is over.
    Yes,
    /// It did not.
    No {
        /// When to try again, Unix milliseconds.
        next_ms: i64,
        /// Why, without content or secrets.
        error: String,
    },
}

/// The store, as the desk sees it.
pub trait Tickets: Send + Sync + 'static {
    /// Opens the ticket and queues its notice; or gives the one that still means something for the fingerprint.
    fn open(&self, opening: Opening) -> BoxFuture<'_, Result<Ticket, TicketsError>>;

    /// Ends an open ticket as a reviewer says.
    fn decide(&self, id: Uuid, ruling: Ruling) -> BoxFuture<'_, Result<Ticket, DecideError>>;

    /// Ends the open tickets whose time is over, and gives them. Not necessarily all at once: ask until none comes.
    fn expire(&self, now_ms: i64) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>>;

    /// Every ticket that means something at this time, or is open.
    fn live(&self, now_ms: i64) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>>;

    /// Tickets that match, newest first.
    fn list(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>>;

    /// One ticket, and its encrypted content where there is any.
    fn find(&self, id: Uuid) -> BoxFuture<'_, Result<Option<WithContent>, TicketsError>>;

    /// Notices that wait, those due first first, at most `limit`.
    fn notices(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Notice>, TicketsError>>;

    /// Notes what became of a try.
    fn sent(&self, notice: i64, sent: Sent) -> BoxFuture<'_, Result<(), TicketsError>>;
}
