//! Policy as data and judge: the policy document, the compiled [`Revision`], and the pure functions that
//! judge a request's texts and a model's answer, whole or streamed. Deliberately absent: async, files,
//! sockets, the clock, randomness, and any knowledge of an API's message format.

pub mod document;
mod effects;
pub mod entities;
pub mod finds;
pub mod input;
pub mod masker;
mod matching;
pub mod moderation;
pub mod output;
mod pair;
mod partial;
pub mod problems;
mod redaction;
mod revision;
mod rewrite;
pub mod rollout;
mod scan;
mod subject;
mod unscanned;
mod validate;
mod verdict;
mod windows;
mod wording;

pub use document::{Category, PolicyDocument};
pub use effects::{Fired, RuleEffect};
pub use entities::EntityType;
pub use input::{Edit, InputVerdict, Role, Text, TextEdits, apply_edits, evaluate_input};
pub use masker::Masker;
pub use moderation::{CategoryMode, Moderated, Moderator, Outcome, Scored, Scorer, Source};
pub use output::{Flow, OutputFindings, OutputMode, OutputScan, Released, scan_text, scan_text_into};
pub use pair::Pair;
pub use problems::{Problem, read_all};
pub use redaction::{Redaction, RedactionAction};
pub use revision::Revision;
pub use subject::{Off, Subject};
pub use unscanned::Unscanned;
pub use verdict::{Decision, ReasonCode, Redactions, Stage, Verdict, conclude};
pub use windows::WINDOW_CHARS;

/// Characters that a match can have, together with what it depends on: a term as normalised, an entity with its context. A
/// longer entity (a private key) is recognised by its beginning and masked to its end.
pub const REACH_CHARS_MAX: usize = matching::terms::TERM_CHARS_MAX;
