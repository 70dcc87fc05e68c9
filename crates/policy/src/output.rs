//! Judging a model's answer, whole or streamed, with one and the same left-to-right matcher: what may leave,
//! what leaves changed, and what is held until it is known. Calling the model again, or ending the stream
//! towards the client, is the caller's business.

use std::sync::Arc;

use crate::document::Category;
use crate::effects::Fired;
use crate::entities::CONTEXT_BYTES;
use crate::masker::{From, Masker};
use crate::moderation::Moderated;
use crate::revision::Revision;
use crate::scan::{Scan, Span, What};
use crate::subject::Subject;
use crate::unscanned::Unscanned;
use crate::verdict::{Decision, Redactions};
use crate::windows::{Gate, Kept, Windows};

/// Decided bytes kept beyond the context before they are moved out of the way.
const DECIDED_BYTES_MAX: usize = 1024;

/// What happens at a find that may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// It is covered by a mask or placeholder, whatever its rule, and the text goes on.
    Mask,
    /// As its rule says: covered by `rewrite`; by what is more severe, the text before it is released, and nothing
    /// after.
    Stop,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Flow {
    /// More may be pushed.
    Continue,
    /// Stopped at a find: nothing more will ever be released.
    Stop,
}

/// Takes what a scan lets go. Every byte that was pushed is accounted for in order, once: as kept or as replaced.
pub trait Released {
    /// The next part of the text, as it was pushed.
    fn kept(&mut self, text: &str);
    /// `with` stands in place of the next `bytes` of the text. Where they are more of what a mask or placeholder
    /// stands for already, it is empty.
    fn replaced(&mut self, bytes: usize, with: &str);
    /// Whether nothing more is taken.
    fn is_stopped(&self) -> bool {
        false
    }
}

impl Released for String {
    fn kept(&mut self, text: &str) {
        self.push_str(text);
    }

    fn replaced(&mut self, _bytes: usize, with: &str) {
        self.push_str(with);
    }
}

/// What was found in an answer, so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputFindings {
    /// What the finds come to.
    pub fired: Fired,
    /// Denylist terms found, in the policy's spelling and order, each once.
    pub denylist_hits: Vec<Arc<str>>,
    /// Entities taken out, by type.
    pub redactions: Redactions,
    /// Listed categories that fired.
    pub triggered_categories: Vec<Category>,
    /// What scoring said.
    pub moderated: Moderated,
    /// Parts that were not read.
    pub unscanned: Unscanned,
    /// Whether what is released differs from what was pushed.
    pub changed: bool,
}

impl OutputFindings {
    /// Adds the findings of another channel of the same answer.
    pub fn merge(&mut self, revision: &Revision, other: &Self) {
        self.denylist_hits = revision.denylist_union(&self.denylist_hits, &other.denylist_hits);
        for (entity, count) in &other.redactions {
            *self.redactions.entry(*entity).or_default() += count;
        }
        self.triggered_categories.extend(&other.triggered_categories);
        self.triggered_categories.sort_unstable();
        self.triggered_categories.dedup();
        self.moderated.merge(&other.moderated);
        self.changed |= other.changed;
        self.fired.merge(&other.fired);
        self.unscanned.merge(&other.unscanned);
    }

    /// Whether the answer holds what the policy forbids. An entity that is merely replaced is not that.
    pub fn violates(&self) -> bool {
        self.fired.decision() > Decision::Allow
    }

    /// Whether the answer cannot go on, not even with what was found taken out.
    pub fn stops(&self) -> bool {
        self.fired.decision() > Decision::Rewrite
    }

    /// The same in a call that a reviewer may have let pass.
    pub fn stops_in(&self, subject: &Subject) -> bool {
        self.stops() && !(subject.granted && self.fired.decision() == Decision::Escalate)
    }
}

/// The scan of one channel of streamed text: one choice's content, for example.
///
/// What it holds back is the longest end of the text that could still become part of a denied term or an
/// entity: in plain prose at most the last word; with categories, the window that is not full yet. It never holds more
/// than a few KiB, whatever is pushed.
#[derive(Debug)]
pub struct OutputScan {
    revision: Arc<Revision>,
    subject: Subject,
    scan: Scan,
    release: Release,
    /// Where categories are judged.
    windows: Option<Box<Windows>>,
    /// Context, then what is held.
    buffer: String,
    /// Where in the buffer the held part begins.
    undecided: usize,
    scanned: u64,
    released: u64,
}

impl OutputScan {
    /// A scan of a channel that has had no text yet.
    pub fn new(revision: Arc<Revision>, subject: &Subject, mode: OutputMode) -> Self {
        Self {
            windows: revision.moderates(subject).then(Box::default),
            revision,
            subject: subject.clone(),
            scan: Scan::default(),
            release: Release::new(mode),
            buffer: String::new(),
            undecided: 0,
            scanned: 0,
            released: 0,
        }
    }

    /// Takes the next piece of text and appends to `released` what may now leave.
    pub fn push(&mut self, chunk: &str, masker: &mut Masker, released: &mut impl Released) -> Flow {
        self.scanned += chunk.len() as u64;
        if self.release.stopped || chunk.is_empty() {
            return self.flow();
        }
        if !self.revision.has_output_rules() {
            self.released += chunk.len() as u64;
            released.kept(chunk);
            return Flow::Continue;
        }
        self.buffer.push_str(chunk);
        self.advance(true, masker, released)
    }

    /// Says that no more text comes and appends the rest of what may leave.
    pub fn finish(&mut self, masker: &mut Masker, released: &mut impl Released) -> Flow {
        if self.release.stopped {
            return Flow::Stop;
        }
        self.advance(false, masker, released)
    }

    /// Bytes pushed that are neither released nor taken out yet.
    pub fn held(&self) -> usize {
        let scanning = self.buffer.len().saturating_sub(self.undecided.max(self.release.covered));
        scanning + self.windows.as_ref().map_or(0, |windows| windows.held())
    }

    /// What was found so far.
    pub fn findings(&self) -> &OutputFindings {
        &self.release.findings
    }

    /// Bytes of text pushed.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned
    }

    /// Bytes of text released, masks and placeholders included.
    pub fn released_bytes(&self) -> u64 {
        self.released
    }

    fn advance(&mut self, more: bool, masker: &mut Masker, released: &mut impl Released) -> Flow {
        let decided = self.scan.run(&self.revision, &self.subject, &self.buffer, self.undecided, more);
        self.pass(decided, more, masker, released);
        self.undecided = decided;
        if self.release.stopped || !more {
            self.buffer.clear();
            self.undecided = 0;
            return self.flow();
        }
        let spare = self.undecided.saturating_sub(CONTEXT_BYTES);
        if spare > DECIDED_BYTES_MAX {
            self.forget(spare);
        }
        Flow::Continue
    }

    /// Lets go what is decided, through the windows where there are any.
    fn pass(&mut self, decided: usize, more: bool, masker: &mut Masker, released: &mut impl Released) {
        let (revision, subject) = (&*self.revision, &self.subject);
        let from = self.undecided;
        let (scan, text, mode) = (&self.scan, &self.buffer, self.release.mode);
        let Some(windows) = &mut self.windows else {
            self.released +=
                self.release.pass(revision, subject, scan, text, from, decided, masker, released);
            return;
        };
        let mut gate = Gate { windows, revision, subject, mode, out: released };
        self.release.pass(revision, subject, scan, text, from, decided, masker, &mut gate);
        if !more || self.release.stopped {
            gate.finish();
        }
        self.release.stopped |= windows.is_stopped();
        self.released = windows.released_bytes();
        self.release.findings.merge(revision, &windows.take_findings());
    }

    /// Drops the beginning of the buffer, and with it nothing that is looked at again.
    fn forget(&mut self, spare: usize) {
        let bytes = self.buffer.floor_char_boundary(spare);
        self.buffer.drain(..bytes);
        self.undecided -= bytes;
        self.scan.forget(bytes);
        self.release.covered = self.release.covered.saturating_sub(bytes);
    }

    fn flow(&self) -> Flow {
        if self.release.stopped { Flow::Stop } else { Flow::Continue }
    }
}

/// Judges a whole text. The first value is what may leave, `None` for the text as it is.
pub fn scan_text(
    revision: &Revision,
    subject: &Subject,
    text: &str,
    mode: OutputMode,
    masker: &mut Masker,
) -> (Option<String>, OutputFindings) {
    let mut out = String::new();
    let findings = scan_text_into(revision, subject, text, mode, masker, &mut out);
    (findings.changed.then_some(out), findings)
}

/// The same, with what may leave going to `released` piece by piece; nothing goes there where nothing was found.
pub fn scan_text_into(
    revision: &Revision,
    subject: &Subject,
    text: &str,
    mode: OutputMode,
    masker: &mut Masker,
    released: &mut impl Released,
) -> OutputFindings {
    let mut scan = Scan::default();
    let decided = scan.run(revision, subject, text, 0, false);
    debug_assert_eq!(decided, text.len());
    Release::whole(revision, subject, &scan, text, mode, masker, released)
}

/// Turns finds into what may leave.
#[derive(Debug)]
pub(crate) struct Release {
    mode: OutputMode,
    findings: OutputFindings,
    /// Groups of the terms found, sorted; `findings` has their spellings.
    groups: Vec<u32>,
    /// Up to here the text is covered by a mask or placeholder that stands already.
    covered: usize,
    stopped: bool,
}

impl Release {
    fn new(mode: OutputMode) -> Self {
        Self { mode, findings: OutputFindings::default(), groups: Vec::new(), covered: 0, stopped: false }
    }

    /// Releases a whole text as the finds of `scan` allow; nothing where nothing was found.
    pub(crate) fn whole(
        revision: &Revision,
        subject: &Subject,
        scan: &Scan,
        text: &str,
        mode: OutputMode,
        masker: &mut Masker,
        out: &mut impl Released,
    ) -> OutputFindings {
        let mut release = Self::new(mode);
        if revision.moderates(subject) {
            let (mut windows, mut kept) = (Windows::default(), Kept::default());
            let mut gate = Gate { windows: &mut windows, revision, subject, mode, out: &mut kept };
            release.pass(revision, subject, scan, text, 0, text.len(), masker, &mut gate);
            gate.finish();
            release.findings.merge(revision, &windows.take_findings());
            if !scan.spans.is_empty() || release.findings.changed {
                kept.pass(out);
            }
            return release.findings;
        }
        if scan.spans.is_empty() {
            return OutputFindings::default();
        }
        release.pass(revision, subject, scan, text, 0, text.len(), masker, out);
        release.findings
    }

    /// Releases `text[from..to]` as the finds of `scan` allow. Gives the bytes released.
    #[expect(clippy::too_many_arguments, reason = "the two callers have no state in common to hold these")]
    fn pass(
        &mut self,
        revision: &Revision,
        subject: &Subject,
        scan: &Scan,
        text: &str,
        from: usize,
        to: usize,
        masker: &mut Masker,
        out: &mut impl Released,
    ) -> u64 {
        let mut at = from.max(self.covered);
        if scan.tail_end > at {
            out.replaced(scan.tail_end - at, "");
            at = scan.tail_end;
        }
        let mut released = 0;
        let mut with = String::new();
        for (index, span) in scan.spans.iter().enumerate() {
            if span.start > at {
                // What stands before goes first: where the sink ends there, what comes after is not told.
                let kept = text.get(at..span.start).unwrap_or_default();
                out.kept(kept);
                released += kept.len();
                at = span.start;
            }
            if out.is_stopped() {
                self.stopped = true;
                self.note(revision, groups(scan.spans.iter().take(index)));
                return released as u64;
            }
            let effect = revision.effect(subject, span.what);
            self.findings.fired.add(effect);
            // What a reviewer let pass stays, but for entities: those are replaced all the same.
            let is_granted = subject.granted && effect.action == Decision::Escalate;
            if effect.leaves() || (is_granted && matches!(span.what, What::Term(_))) {
                self.count(span.what);
                continue;
            }
            let stops = self.mode == OutputMode::Stop && effect.stops() && !is_granted;
            with.clear();
            if span.start >= at {
                match span.what {
                    _ if stops => {}
                    What::Term(_) => with.push_str(revision.mask()),
                    What::Entity(entity) => {
                        let value = text.get(span.start..span.end).unwrap_or_default();
                        masker.write(revision, From::Answer, entity, value, &mut with);
                    }
                }
                released += with.len();
                if !stops {
                    out.replaced(span.end - span.start, &with);
                }
            } else if span.end > at && !stops {
                out.replaced(span.end - at, "");
            }
            self.findings.changed = true;
            // A value of the request that is put back into the answer is not taken out of it.
            if masker.restore_lookup(&with).is_none() {
                self.count(span.what);
            }
            if stops {
                self.stopped = true;
                // What begins later may not be there yet, by the cut of the stream: it is not told.
                self.note(revision, groups(scan.spans.iter().take_while(|other| other.start <= span.start)));
                return released as u64;
            }
            at = at.max(span.end);
        }
        self.note(revision, groups(scan.spans.iter()));
        let kept = text.get(at..to).unwrap_or_default();
        if !kept.is_empty() {
            out.kept(kept);
        }
        self.covered = at.max(to);
        (released + kept.len()) as u64
    }

    fn count(&mut self, what: What) {
        if let What::Entity(entity) = what {
            *self.findings.redactions.entry(entity).or_default() += 1;
        }
    }

    fn note(&mut self, revision: &Revision, groups: impl Iterator<Item = u32>) {
        let before = self.groups.len();
        self.groups.extend(groups);
        if self.groups.len() > before {
            self.groups.sort_unstable();
            self.groups.dedup();
            self.findings.denylist_hits = revision.denylist.spellings_of(self.groups.iter().copied());
        }
    }
}

/// The groups of the terms among some finds.
fn groups<'s>(spans: impl Iterator<Item = &'s Span>) -> impl Iterator<Item = u32> {
    spans.filter_map(|span| match span.what {
        What::Term(group) => Some(group),
        What::Entity(_) => None,
    })
}
