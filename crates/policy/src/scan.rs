//! One left-to-right search for denied terms and entities together, over whole texts and parts of streams
//! alike: what was found, and up to where that is final. What becomes of a find is up to `input` and `output`.

use std::cmp::Reverse;

use crate::entities::{self, Entity, EntityType, Tail};
use crate::matching::terms::{Found, Part, Terms};
use crate::matching::{Before, Normal};
use crate::revision::Revision;
use crate::subject::Subject;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A term of the denylist: its group.
    Term(u32),
    /// Personal data or a secret.
    Entity(EntityType),
}

/// A find: bytes of the text. Finds may overlap; of those that begin together, the longest stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) what: What,
}

/// A search, with what it remembers from one part of a stream to the next. Places are bytes of the text it is
/// given; [`Scan::forget`] says that the text has lost its beginning.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// What stands before the undecided part, for word boundaries.
    before: Before,
    /// Where the last entity ended: scanners do not look back beyond it, nor begin before it.
    floor: usize,
    /// An entity that went on beyond the text.
    tail: Option<Tail>,
    /// Whether that entity stays in the text.
    leaves_tail: bool,
    /// Up to where the last run found an entity from before to go on; 0 if there was none.
    pub(crate) tail_end: usize,
    /// The finds that are final, but for entities that stay in the text.
    pub(crate) spans: Vec<Span>,
    /// Those.
    pub(crate) left: Vec<Span>,
    normal: Normal,
    terms: Vec<Found>,
    entities: Vec<Entity>,
}

impl Scan {
    /// Searches `text[from..]`; `from` is what the call before returned. Leaves in `spans` the finds that begin
    /// before the returned place, which is the end of the text unless `more` may follow.
    pub(crate) fn run(
        &mut self,
        revision: &Revision,
        subject: &Subject,
        text: &str,
        from: usize,
        more: bool,
    ) -> usize {
        self.spans.clear();
        self.left.clear();
        let entities_decided = self.find_entities(revision, text, from, more);
        let part = Part { text: text.get(from..).unwrap_or_default(), before: self.before, more };
        let decided = (from + self.find_terms(&revision.denylist, part)).min(entities_decided);
        if !revision.denylist.is_empty() && more {
            self.before = Terms::before_at(part, &self.normal, decided - from);
        }
        self.keep_decided(revision, subject, from, decided);
        decided
    }

    /// Starts over with a whole text, which is searched step by step: see [`crate::Pair`].
    pub(crate) fn begin(&mut self) {
        self.reset();
        self.spans.clear();
        self.left.clear();
    }

    pub(crate) fn whole_entities(&mut self, revision: &Revision, text: &str) {
        self.find_entities(revision, text, 0, false);
    }

    pub(crate) fn whole_terms(&mut self, terms: &Terms, text: &str) {
        self.find_terms(terms, Part { text, before: Before::START, more: false });
    }

    pub(crate) fn copy_entities(&mut self, other: &Self) {
        self.tail_end = other.tail_end;
        self.entities.clone_from(&other.entities);
    }

    pub(crate) fn copy_terms(&mut self, other: &Self) {
        self.terms.clone_from(&other.terms);
    }

    pub(crate) fn terms_mut(&mut self) -> &mut Vec<Found> {
        &mut self.terms
    }

    pub(crate) fn keep_whole(&mut self, revision: &Revision, subject: &Subject, text: &str) {
        self.keep_decided(revision, subject, 0, text.len());
    }

    /// Starts over with another text.
    pub(crate) fn reset(&mut self) {
        self.before = Before::START;
        self.floor = 0;
        self.tail = None;
    }

    /// The text has lost its first `bytes`.
    pub(crate) fn forget(&mut self, bytes: usize) {
        self.floor = self.floor.saturating_sub(bytes);
    }

    fn find_terms(&mut self, terms: &Terms, part: Part<'_>) -> usize {
        self.terms.clear();
        terms.find(part, &mut self.normal, &mut self.terms)
    }

    fn find_entities(&mut self, revision: &Revision, text: &str, from: usize, more: bool) -> usize {
        self.entities.clear();
        self.tail_end = 0;
        if !revision.redacts() {
            return text.len();
        }
        if let Some(tail) = &mut self.tail {
            let end = entities::tail_end(text, self.floor, tail, more);
            self.floor = end.unwrap_or(text.len());
            self.tail_end = if self.leaves_tail { 0 } else { self.floor };
            if end.is_none() {
                return text.len();
            }
            self.tail = None;
        }
        entities::find(text, revision.entities(), from.max(self.floor), self.floor, more, &mut self.entities)
    }

    /// Keeps what begins before `decided`; the rest is found again, with what follows.
    fn keep_decided(&mut self, revision: &Revision, subject: &Subject, from: usize, decided: usize) {
        for found in &self.terms {
            let (start, end) = (from + found.start, from + found.end);
            let what = What::Term(found.group);
            if start < decided && !revision.is_off(subject, what) {
                self.spans.push(Span { start, end, what });
            }
        }
        for entity in self.entities.iter().filter(|entity| entity.start < decided) {
            self.floor = entity.end;
            self.tail = entity.tail;
            let is_off = revision.is_off(subject, What::Entity(entity.entity));
            self.leaves_tail = is_off || revision.leaves_entity(subject, entity.entity);
            if is_off {
                continue;
            }
            let span = Span { start: entity.start, end: entity.end, what: What::Entity(entity.entity) };
            let list = if self.leaves_tail { &mut self.left } else { &mut self.spans };
            list.push(span);
        }
        if self.spans.len() > 1 {
            self.spans.sort_unstable_by_key(|span| (span.start, Reverse(span.end), span.what));
        }
    }
}
