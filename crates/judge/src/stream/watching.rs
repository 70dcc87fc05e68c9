//! A revision that judges a stream beside the one that acts. Nothing waits for what it says, so that it reads each text in
//! large pieces: that costs a fraction of reading it as it comes.

use std::sync::Arc;

use policy::{Masker, OutputFindings, OutputMode, OutputScan, Released, Revision, Subject};

/// A text is read once so much of it has come; it bounds what a text keeps in memory.
const PIECE_BYTES: usize = 16 * 1024;

/// Who judges beside: the same for all texts of an answer.
#[derive(Clone, Debug)]
pub(super) struct Watching {
    pub(super) revision: Arc<Revision>,
    pub(super) subject: Subject,
    /// As the request left it.
    pub(super) masker: Masker,
}

/// One growing text, as it sees it.
#[derive(Debug)]
pub(super) struct Watched {
    scan: OutputScan,
    masker: Masker,
    unread: String,
}

impl Watched {
    pub(super) fn new(watching: &Watching) -> Self {
        let revision = Arc::clone(&watching.revision);
        Self {
            scan: OutputScan::new(revision, &watching.subject, OutputMode::Mask),
            masker: watching.masker.clone(),
            unread: String::new(),
        }
    }

    pub(super) fn push(&mut self, piece: &str) {
        self.unread.push_str(piece);
        if self.unread.len() >= PIECE_BYTES {
            // It masks and goes on; it never stops.
            let _ = self.scan.push(&self.unread, &mut self.masker, &mut Nowhere);
            self.unread.clear();
        }
    }

    /// What it found, with nothing more to come.
    pub(super) fn finish(mut self) -> OutputFindings {
        let _ = self.scan.push(&self.unread, &mut self.masker, &mut Nowhere);
        let _ = self.scan.finish(&mut self.masker, &mut Nowhere);
        self.scan.findings().clone()
    }
}

/// Where a text goes that nobody gets.
struct Nowhere;

impl Released for Nowhere {
    fn kept(&mut self, _text: &str) {}

    fn replaced(&mut self, _bytes: usize, _with: &str) {}
}
