//! The categories of an answer. They need context, so that an answer is judged in windows of so many characters, each read
//! with what stands before it, and let go after its verdict. Comes after the scan for terms and entities and sees what
//! that lets go, so that no value that is replaced is scored, by whomever.
//!
//! INVARIANT: windows are cut by characters of what the scan lets go, in order, whatever pieces it comes in; so a stream
//! and a whole text come to the same, however either was cut.

use crate::moderation::Source;
use crate::output::{OutputFindings, OutputMode, Released};
use crate::revision::Revision;
use crate::subject::Subject;
use crate::verdict::Decision;

/// Characters of an answer that are judged together for their categories, and let go together.
pub const WINDOW_CHARS: usize = 200;
/// Characters before a window that are read with it, so that nothing hides at a cut.
const BEFORE_CHARS: usize = 100;

/// A part of a window, as the scan let it go.
#[derive(Debug)]
enum Part {
    /// Bytes of `text`.
    Kept(usize),
    /// Bytes of the answer, and bytes of `text` in their place.
    Replaced { bytes: usize, with: usize },
}

/// The windows of one text of an answer.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// What stands before the window, and the window so far.
    text: String,
    /// Where in it the window begins.
    start: usize,
    chars: usize,
    parts: Vec<Part>,
    stopped: bool,
    /// Bytes let go, masks included.
    released: u64,
    findings: OutputFindings,
}

impl Windows {
    /// Bytes of the window that waits.
    pub(crate) fn held(&self) -> usize {
        self.text.len() - self.start
    }

    /// Bytes let go.
    pub(crate) fn released_bytes(&self) -> u64 {
        self.released
    }

    /// Whether nothing more will be let go.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What was found since it was last taken.
    pub(crate) fn take_findings(&mut self) -> OutputFindings {
        std::mem::take(&mut self.findings)
    }
}

/// Takes what a scan lets go, and lets go of it what its categories allow.
pub(crate) struct Gate<'a, R> {
    pub(crate) windows: &'a mut Windows,
    pub(crate) revision: &'a Revision,
    pub(crate) subject: &'a Subject,
    pub(crate) mode: OutputMode,
    pub(crate) out: &'a mut R,
}

impl<R: Released> Gate<'_, R> {
    /// No more comes: the last window is shorter.
    pub(crate) fn finish(&mut self) {
        if !self.windows.stopped {
            self.close();
        }
    }

    fn close(&mut self) {
        let windows = &mut *self.windows;
        let ruling = if windows.chars == 0 {
            None
        } else {
            Some(self.revision.moderate(self.subject, &windows.text, Source::Answer))
        };
        let mut action = Decision::Allow;
        if let Some(ruling) = ruling {
            action = ruling.action;
            windows.findings.merge(
                self.revision,
                &OutputFindings {
                    fired: ruling.fired,
                    triggered_categories: ruling.triggered,
                    moderated: ruling.moderated,
                    changed: action > Decision::Allow,
                    ..OutputFindings::default()
                },
            );
        }
        if self.mode == OutputMode::Stop && action > Decision::Rewrite {
            windows.stopped = true;
            windows.parts.clear();
            windows.start = windows.text.len();
            return;
        }
        if action > Decision::Allow {
            let bytes = windows.parts.drain(..).map(|part| match part {
                Part::Kept(bytes) | Part::Replaced { bytes, .. } => bytes,
            });
            let mask = self.revision.mask();
            self.out.replaced(bytes.sum(), mask);
            windows.released += mask.len() as u64;
        } else {
            let mut at = windows.start;
            windows.released += (windows.text.len() - at) as u64;
            for part in windows.parts.drain(..) {
                let (Part::Kept(length) | Part::Replaced { with: length, .. }) = part;
                let text = windows.text.get(at..at + length).unwrap_or_default();
                at += length;
                match part {
                    Part::Kept(_) => self.out.kept(text),
                    Part::Replaced { bytes, .. } => self.out.replaced(bytes, text),
                }
            }
        }
        let before = windows.text.char_indices().rev().nth(BEFORE_CHARS - 1).map_or(0, |(at, _)| at);
        windows.text.drain(..before);
        windows.start = windows.text.len();
        windows.chars = 0;
    }

    fn close_if_full(&mut self) {
        if self.windows.chars >= WINDOW_CHARS {
            self.close();
        }
    }
}

impl<R: Released> Released for Gate<'_, R> {
    fn kept(&mut self, mut text: &str) {
        while !text.is_empty() && !self.windows.stopped {
            let room = WINDOW_CHARS.saturating_sub(self.windows.chars);
            let (end, chars) = match text.char_indices().nth(room) {
                Some((end, _)) => (end, room),
                None => (text.len(), text.chars().count()),
            };
            let (piece, rest) = text.split_at(end);
            self.windows.text.push_str(piece);
            self.windows.chars += chars;
            self.windows.parts.push(Part::Kept(piece.len()));
            text = rest;
            self.close_if_full();
        }
    }

    fn replaced(&mut self, bytes: usize, with: &str) {
        if self.windows.stopped {
            return;
        }
        self.windows.text.push_str(with);
        self.windows.chars += with.chars().count();
        self.windows.parts.push(Part::Replaced { bytes, with: with.len() });
        self.close_if_full();
    }

    fn is_stopped(&self) -> bool {
        self.windows.stopped
    }
}

/// What was let go of a whole text, kept until it is known whether any of it changed.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(Option<usize>, String)>);

impl Kept {
    /// Passes it on.
    pub(crate) fn pass(&self, out: &mut impl Released) {
        for (replaced, text) in &self.0 {
            match replaced {
                None => out.kept(text),
                Some(bytes) => out.replaced(*bytes, text),
            }
        }
    }
}

impl Released for Kept {
    fn kept(&mut self, text: &str) {
        self.0.push((None, text.to_owned()));
    }

    fn replaced(&mut self, bytes: usize, with: &str) {
        self.0.push((Some(bytes), with.to_owned()));
    }
}
