//! Judging a model's answer, whole or streamed, with one and the same left-to-right matcher: what may leave,
//! what leaves changed, and what is held until it is known. Calling the model again, or ending the stream
//! towards the client, is the caller's business.

use std::sync::Arc;

use crate::document::Category;
use crate::masker::Masker;
use crate::matching::{Before, Normal, terms::Part};
use crate::revision::Revision;
use crate::verdict::Redactions;

/// What happens at the first denied term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// It is covered by a mask, and the text goes on.
    Mask,
    /// The text before it is released, and nothing after.
    Stop,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Flow {
    /// More may be pushed.
    Continue,
    /// Stopped at a denied term: nothing more will ever be released.
    Stop,
}

/// What was found in an answer, so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputFindings {
    /// Denylist terms found, in the policy's spelling and order, each once.
    pub denylist_hits: Vec<Arc<str>>,
    /// Entities replaced, by type.
    pub redactions: Redactions,
    /// Listed categories that fired.
    pub triggered_categories: Vec<Category>,
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
        self.changed |= other.changed;
    }
}

/// The scan of one channel of streamed text: one choice's content, for example.
#[derive(Debug)]
pub struct OutputScan {
    revision: Arc<Revision>,
    mode: OutputMode,
    findings: OutputFindings,
    buffer: String,
    scanned: u64,
    released: u64,
    stopped: bool,
}

impl OutputScan {
    /// A scan of a channel that has had no text yet.
    pub fn new(revision: Arc<Revision>, mode: OutputMode) -> Self {
        Self {
            revision,
            mode,
            findings: OutputFindings::default(),
            buffer: String::new(),
            scanned: 0,
            released: 0,
            stopped: false,
        }
    }

    /// Takes the next piece of text and appends to `released` what may now leave.
    pub fn push(&mut self, chunk: &str, masker: &mut Masker, released: &mut String) -> Flow {
        let _ = (masker, released);
        self.scanned += chunk.len() as u64;
        self.buffer.push_str(chunk);
        if self.stopped { Flow::Stop } else { Flow::Continue }
    }

    /// Says that no more text comes and appends the rest of what may leave.
    pub fn finish(&mut self, masker: &mut Masker, released: &mut String) -> Flow {
        let text = std::mem::take(&mut self.buffer);
        let (changed, findings) = scan_text(&self.revision, &text, self.mode, masker);
        let out = changed.as_deref().unwrap_or(&text);
        self.released += out.len() as u64;
        released.push_str(out);
        self.stopped = self.mode == OutputMode::Stop && !findings.denylist_hits.is_empty();
        self.findings = findings;
        if self.stopped { Flow::Stop } else { Flow::Continue }
    }

    /// Bytes pushed and neither released nor taken out yet.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// What was found so far.
    pub fn findings(&self) -> &OutputFindings {
        &self.findings
    }

    /// Bytes of text pushed.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned
    }

    /// Bytes of text released.
    pub fn released_bytes(&self) -> u64 {
        self.released
    }
}

/// Judges a whole text. The first value is what may leave, `None` for the text as it is.
pub fn scan_text(
    revision: &Revision,
    text: &str,
    mode: OutputMode,
    masker: &mut Masker,
) -> (Option<String>, OutputFindings) {
    let _ = masker;
    let mut found = Vec::new();
    let part = Part { text, before: Before::START, more: false };
    revision.denylist.find(part, &mut Normal::default(), &mut found);
    if found.is_empty() {
        return (None, OutputFindings::default());
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for found in &found {
        if found.start >= at {
            out.push_str(text.get(at..found.start).unwrap_or_default());
            if mode == OutputMode::Stop {
                break;
            }
            out.push_str("███");
        }
        at = at.max(found.end);
    }
    if mode == OutputMode::Mask {
        out.push_str(text.get(at..).unwrap_or_default());
    }
    let denylist_hits = revision.denylist.spellings_of(found.iter().map(|found| found.group));
    (Some(out), OutputFindings { denylist_hits, changed: true, ..OutputFindings::default() })
}
