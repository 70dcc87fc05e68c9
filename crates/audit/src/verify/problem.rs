//! What can be wrong with a log, and where.

use uuid::Uuid;

/// What is wrong with an event, or with the log from it on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not an object on one line.
    #[error("it is not a JSON object on one line: {0}")]
    NotAnEvent(String),
    /// The contract's members are not where they belong.
    #[error("member {index} is `{found}`, where `{wanted}` belongs")]
    Members {
        /// Position in the object, from 0.
        index: usize,
        /// The member found.
        found: String,
        /// The member that belongs there.
        wanted: &'static str,
    },
    /// A member stands there twice.
    #[error("member `{0}` stands there twice")]
    Twice(String),
    /// It does not end with a well-formed link.
    #[error("it does not end with `chain`, `seq`, `prev_hash` and `hash`")]
    NoLink,
    /// Events are missing, repeated or out of order.
    #[error("it says seq {found}, where {wanted} belongs: events are missing, repeated or out of order")]
    Seq {
        /// The event's.
        found: u64,
        /// The one after its predecessor's.
        wanted: u64,
    },
    /// Of two events with one seq, one is not the log's.
    #[error("another event with the same seq came before: one of them was put in")]
    Twin,
    /// A repetition that can no longer be held against the first.
    #[error("it repeats an event from too far back to be held against it: sort the events by `seq`")]
    TooFarBack,
    /// It is of another chain than its predecessor.
    #[error("it is of chain {found}, the log of chain {wanted}")]
    Chain {
        /// The event's.
        found: Uuid,
        /// The log's.
        wanted: Uuid,
    },
    /// It does not follow on its predecessor.
    #[error("its `prev_hash` is {found}, the event before has {wanted}: one of them was changed")]
    PrevHash {
        /// The event's.
        found: String,
        /// The predecessor's.
        wanted: String,
    },
    /// Its text is not what was hashed.
    #[error("its `hash` is {found}, its text has {computed}: it was changed")]
    Hash {
        /// The event's.
        found: String,
        /// Of the text as it is.
        computed: String,
    },
    /// The decision record that it closes is not in the store, or another.
    #[error("no decision record of event {event_id} has the hash {wanted}: it was changed or removed")]
    Decision {
        /// The event's id.
        event_id: Uuid,
        /// `decision_hash`.
        wanted: String,
    },
    /// The log ends before what a checkpoint says was there.
    #[error(
        "it is missing: the log ends with seq {head}, and a checkpoint was made of {size} events: its tail was cut off, \
         or it is an older copy"
    )]
    CutTail {
        /// Events that the checkpoint is about.
        size: u64,
        /// Last event that is here.
        head: u64,
    },
    /// The log is not what a checkpoint was made of, although its chain holds.
    #[error(
        "the events up to seq {to} are not those that a checkpoint was made of, and nothing vouches for them from here \
         on: the log was rewritten, or is an older copy that went on"
    )]
    Rewritten {
        /// Events that the checkpoint is about.
        to: u64,
    },
    /// A checkpoint does not belong here.
    #[error("{0}")]
    Checkpoint(String),
    /// A signature that its key did not make.
    #[error(
        "the checkpoint's signature by `{0}` is not of what it says: it was changed, or the key is another one"
    )]
    Signature(String),
    /// A signature of nobody known, after one of somebody known.
    #[error(
        "the checkpoint is signed by {0}, which was not given and which no key that was given hands over to: give \
         its --public-key too, if that key is yours"
    )]
    UnknownKey(String),
    /// No checkpoint vouches for the log.
    #[error("nothing in the log is signed by a key that was given")]
    Unsigned,
    /// The proof that was given for it is of another event.
    #[error("the proof of this seq is of the hash {proven}, the event has {found}: it was changed")]
    Proof {
        /// What the proof is about.
        proven: String,
        /// The event's.
        found: String,
    },
    /// There is no proof of it.
    #[error("no proof of it was given: make one with `audit prove --seq`")]
    NoProof,
}

/// The first event that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq}: {problem}")]
pub struct VerifyError {
    /// The seq that belongs there; of a rewritten log the first that nothing vouches for.
    pub seq: u64,
    /// What is wrong.
    pub problem: Problem,
}
