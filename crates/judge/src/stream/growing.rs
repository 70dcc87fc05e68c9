//! One text of a streamed answer as it grows: plain text, or the JSON that a tool gets, whose keys, strings and numbers are
//! texts of their own. What is let go of JSON is JSON again: what stays keeps its spelling, what is replaced is escaped.

use std::sync::Arc;

use llm_api::arguments::{Escapes, Parts, Reader, Spelling};
use llm_api::json::{encode_str, escape_str};
use policy::{Flow, Masker, OutputFindings, OutputMode, OutputScan, Released, Revision, Subject};

use super::watching::{Watched, Watching};
use crate::restore::Restorer;

/// Raw text of a quoted string that is done with, before it is moved out of the way.
const SPENT_BYTES_MAX: usize = 4096;

/// What judges: the same for all texts of an answer.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) revision: Arc<Revision>,
    pub(super) subject: Subject,
    pub(super) mode: OutputMode,
    /// What judges beside, and is only told.
    pub(super) beside: Option<Box<Watching>>,
}

impl Rules {
    /// Whether a stream ends where this was found in a text that was judged whole.
    pub(super) fn stops(&self, findings: &OutputFindings) -> bool {
        self.mode == OutputMode::Stop && findings.stops_in(&self.subject)
    }
}

/// A growing text.
#[derive(Debug)]
pub(super) enum Growing {
    /// A text.
    Plain(Box<Text>),
    /// JSON.
    Arguments(Box<Arguments>),
}

impl Growing {
    pub(super) fn plain(rules: &Rules) -> Self {
        Self::Plain(Box::new(Text::new(rules)))
    }

    pub(super) fn arguments() -> Self {
        Self::Arguments(Box::default())
    }

    /// Takes the next piece and appends what may leave.
    pub(super) fn push(&mut self, rules: &Rules, piece: &str, masker: &mut Masker, out: &mut String) -> Flow {
        match self {
            Self::Plain(text) => text.push(piece, masker, out),
            Self::Arguments(arguments) => arguments.run(rules, Some(piece), masker, out),
        }
    }

    /// No more comes.
    pub(super) fn finish(&mut self, rules: &Rules, masker: &mut Masker, out: &mut String) -> Flow {
        match self {
            Self::Plain(text) => text.finish(masker, out),
            Self::Arguments(arguments) => arguments.run(rules, None, masker, out),
        }
    }

    /// Appends what was found.
    pub(super) fn findings(&self, revision: &Revision, all: &mut OutputFindings) {
        match self {
            Self::Plain(text) => all.merge(revision, text.scan.findings()),
            Self::Arguments(arguments) => {
                all.merge(revision, &arguments.findings);
                if let Some(open) = &arguments.open {
                    all.merge(revision, open.text.scan.findings());
                }
            }
        }
    }

    /// Appends what the revision beside found, no more to come.
    pub(super) fn findings_beside(&mut self, revision: &Revision, all: &mut OutputFindings) {
        let open = match self {
            Self::Plain(text) => text.beside.take(),
            Self::Arguments(arguments) => {
                all.merge(revision, &arguments.findings_beside);
                arguments.open.as_mut().and_then(|open| open.text.beside.take())
            }
        };
        if let Some(watched) = open {
            all.merge(revision, &watched.finish());
        }
    }

    /// How much was found; see [`crate::count`].
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Plain(text) => crate::count(text.scan.findings()),
            Self::Arguments(arguments) => {
                let open = arguments.open.as_ref().map_or(0, |open| crate::count(open.text.scan.findings()));
                crate::count(&arguments.findings) + open
            }
        }
    }

    /// Whether what leaves differs from what came.
    pub(super) fn is_changed(&self) -> bool {
        match self {
            Self::Plain(text) => text.is_changed(),
            Self::Arguments(arguments) => {
                arguments.is_changed || arguments.open.as_ref().is_some_and(|open| open.text.is_changed())
            }
        }
    }

    /// Bytes kept of what has not left yet.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.scan.held(),
            Self::Arguments(arguments) => {
                arguments.open.as_ref().map_or(0, |open| open.text.scan.held() + open.raw.text.capacity())
            }
        }
    }

    /// Bytes of text judged, and of what was let go of them.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Plain(text) => text.bytes(),
            Self::Arguments(arguments) => {
                let open = arguments.open.as_ref().map_or((0, 0), |open| open.text.bytes());
                (arguments.bytes.0 + open.0, arguments.bytes.1 + open.1)
            }
        }
    }
}

/// A text: scanned, and the request's own values put back where the policy says so.
#[derive(Debug)]
pub(super) struct Text {
    scan: OutputScan,
    restorer: Option<Restorer>,
    beside: Option<Box<Watched>>,
}

impl Text {
    fn new(rules: &Rules) -> Self {
        Self {
            scan: OutputScan::new(Arc::clone(&rules.revision), &rules.subject, rules.mode),
            restorer: Restorer::of(&rules.revision),
            beside: rules.beside.as_deref().map(|watching| Box::new(Watched::new(watching))),
        }
    }

    fn push(&mut self, piece: &str, masker: &mut Masker, out: &mut impl Released) -> Flow {
        if let Some(beside) = &mut self.beside {
            beside.push(piece);
        }
        let Some(restorer) = &mut self.restorer else { return self.scan.push(piece, masker, out) };
        let flow = self.scan.push(piece, masker, &mut restorer.pieces);
        restorer.pass(masker, flow == Flow::Stop, out);
        flow
    }

    fn finish(&mut self, masker: &mut Masker, out: &mut impl Released) -> Flow {
        let Some(restorer) = &mut self.restorer else { return self.scan.finish(masker, out) };
        let flow = self.scan.finish(masker, &mut restorer.pieces);
        restorer.pass(masker, true, out);
        flow
    }

    fn is_changed(&self) -> bool {
        self.scan.findings().changed || self.restorer.as_ref().is_some_and(Restorer::has_restored)
    }

    fn bytes(&self) -> (u64, u64) {
        (self.scan.scanned_bytes(), self.scan.released_bytes())
    }
}

/// JSON that a tool gets.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    reader: Reader,
    open: Option<Open>,
    /// Of the texts that are complete.
    findings: OutputFindings,
    /// Likewise, by the revision beside.
    findings_beside: OutputFindings,
    is_changed: bool,
    bytes: (u64, u64),
    stopped: bool,
}

/// The text that is being read.
#[derive(Debug)]
struct Open {
    text: Text,
    spelling: Spelling,
    raw: Raw,
}

impl Arguments {
    /// Reads the next piece, or, without one, the end.
    fn run(&mut self, rules: &Rules, piece: Option<&str>, masker: &mut Masker, out: &mut String) -> Flow {
        let mut reader = std::mem::take(&mut self.reader);
        let mut parts = Judged { arguments: self, rules, masker, out };
        match piece {
            Some(piece) => reader.push(piece, &mut parts),
            None => reader.finish(&mut parts),
        }
        self.reader = reader;
        if self.stopped { Flow::Stop } else { Flow::Continue }
    }
}

/// Judges the parts of arguments as they are read.
struct Judged<'a> {
    arguments: &'a mut Arguments,
    rules: &'a Rules,
    masker: &'a mut Masker,
    out: &'a mut String,
}

impl Parts for Judged<'_> {
    fn structure(&mut self, raw: &str) {
        if !self.arguments.stopped {
            self.out.push_str(raw);
        }
    }

    fn begin(&mut self, spelling: Spelling) {
        let text = Text::new(self.rules);
        self.arguments.open = Some(Open { text, spelling, raw: Raw::default() });
    }

    fn text(&mut self, text: &str, raw: &str) {
        if self.arguments.stopped {
            return;
        }
        let Some(open) = &mut self.arguments.open else { return };
        let flow = match open.spelling {
            Spelling::Plain => open.text.push(text, self.masker, self.out),
            Spelling::Quoted => {
                open.raw.add(text, raw);
                open.text.push(text, self.masker, &mut open.raw.to(self.out))
            }
            Spelling::Number => {
                let mut released = String::new();
                let mut flow = open.text.push(text, self.masker, &mut released);
                if flow == Flow::Continue {
                    flow = open.text.finish(self.masker, &mut released);
                }
                match flow {
                    // Half a number is another number.
                    Flow::Stop => {}
                    Flow::Continue if released == text => self.out.push_str(text),
                    Flow::Continue => self.out.push_str(&String::from_utf8_lossy(&encode_str(&released))),
                }
                flow
            }
        };
        self.arguments.stopped = flow == Flow::Stop;
    }

    fn end(&mut self) {
        let Some(mut open) = self.arguments.open.take() else { return };
        if !self.arguments.stopped {
            let flow = match open.spelling {
                Spelling::Plain => open.text.finish(self.masker, self.out),
                Spelling::Quoted => open.text.finish(self.masker, &mut open.raw.to(self.out)),
                Spelling::Number => Flow::Continue,
            };
            self.arguments.stopped = flow == Flow::Stop;
        }
        let arguments = &mut *self.arguments;
        arguments.findings.merge(&self.rules.revision, open.text.scan.findings());
        if let (Some(watching), Some(watched)) = (&self.rules.beside, open.text.beside.take()) {
            arguments.findings_beside.merge(&watching.revision, &watched.finish());
        }
        arguments.is_changed |= open.text.is_changed();
        let bytes = open.text.bytes();
        arguments.bytes = (arguments.bytes.0 + bytes.0, arguments.bytes.1 + bytes.1);
    }
}

/// The spelling of what a quoted text still holds back.
#[derive(Debug, Default)]
struct Raw {
    text: String,
    /// Up to here it is done with.
    at: usize,
    escapes: Escapes,
}

impl Raw {
    fn add(&mut self, text: &str, raw: &str) {
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
        } else if self.at > SPENT_BYTES_MAX {
            self.text.drain(..self.at);
            self.at = 0;
        }
        self.text.push_str(raw);
        self.escapes.add(text, raw);
    }

    fn to<'a>(&'a mut self, out: &'a mut String) -> Respelled<'a> {
        Respelled { raw: self, out }
    }
}

/// Writes what is let go of a quoted text.
struct Respelled<'a> {
    raw: &'a mut Raw,
    out: &'a mut String,
}

impl Released for Respelled<'_> {
    fn kept(&mut self, text: &str) {
        let end = self.raw.at + self.raw.escapes.advance(text.len());
        self.out.push_str(self.raw.text.get(self.raw.at..end).unwrap_or_default());
        self.raw.at = end;
    }

    fn replaced(&mut self, bytes: usize, with: &str) {
        self.raw.at += self.raw.escapes.advance(bytes);
        self.out.push_str(&String::from_utf8_lossy(&escape_str(with)));
    }
}
