//! Puts the values of a request back into its answer: a placeholder that stands for one is replaced, whether the model
//! wrote it or the scan of the answer did. Comes after judging, so that what is put back is judged no more. Which
//! placeholder stands for what is the masker's knowledge.

use policy::{Edit, Masker, Released, Revision};

/// What a scan let go, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    text: String,
    /// Ends within `text`; for what was replaced, the bytes that it stands for.
    ends: Vec<(usize, Option<usize>)>,
}

impl Released for Pieces {
    fn kept(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push((self.text.len(), None));
    }

    fn replaced(&mut self, bytes: usize, with: &str) {
        self.text.push_str(with);
        self.ends.push((self.text.len(), Some(bytes)));
    }
}

/// What a scan changed in a whole text.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    at: usize,
    pub(crate) edits: Vec<Edit>,
}

impl Released for Edits {
    fn kept(&mut self, text: &str) {
        self.at += text.len();
    }

    fn replaced(&mut self, bytes: usize, with: &str) {
        let range = self.at..self.at + bytes;
        self.at = range.end;
        self.edits.push(Edit { range, with: with.to_owned() });
    }
}

/// Restores one growing text.
#[derive(Debug, Default)]
pub(crate) struct Restorer {
    /// Where the scan puts what it lets go.
    pub(crate) pieces: Pieces,
    /// The beginning of a placeholder, held until it is one or cannot become one.
    held: String,
    has_restored: bool,
}

impl Restorer {
    /// One where the policy restores.
    pub(crate) fn of(revision: &Revision) -> Option<Self> {
        revision.restores().then(Self::default)
    }

    /// Whether any value was put back.
    pub(crate) fn has_restored(&self) -> bool {
        self.has_restored
    }

    /// Restores a whole text that was judged: the edits with the values put back.
    pub(crate) fn whole(mut self, text: &str, masked: &[Edit], masker: &Masker) -> Vec<Edit> {
        let mut at = 0;
        for edit in masked {
            self.pieces.kept(text.get(at..edit.range.start).unwrap_or_default());
            self.pieces.replaced(edit.range.len(), &edit.with);
            at = edit.range.end;
        }
        self.pieces.kept(text.get(at..).unwrap_or_default());
        let mut restored = Edits::default();
        self.pass(masker, true, &mut restored);
        restored.edits.retain(|edit| text.get(edit.range.clone()) != Some(edit.with.as_str()));
        restored.edits
    }

    /// Passes on what the scan let go. `is_last`: no more comes, so nothing is held.
    pub(crate) fn pass(&mut self, masker: &Masker, is_last: bool, out: &mut impl Released) {
        let pieces = std::mem::take(&mut self.pieces);
        let mut at = 0;
        for (end, replaced) in &pieces.ends {
            let text = pieces.text.get(at..*end).unwrap_or_default();
            at = *end;
            let Some(bytes) = *replaced else {
                self.kept(text, masker, out);
                continue;
            };
            self.let_go(out);
            match masker.restore_lookup(text) {
                Some(value) => {
                    self.has_restored = true;
                    out.replaced(bytes, value);
                }
                None => out.replaced(bytes, text),
            }
        }
        if is_last {
            self.let_go(out);
        }
        let Pieces { mut text, mut ends } = pieces;
        text.clear();
        ends.clear();
        self.pieces = Pieces { text, ends };
    }

    fn kept(&mut self, text: &str, masker: &Masker, out: &mut impl Released) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.held.is_empty() {
                let opening = memchr::memchr(b'[', rest.as_bytes()).unwrap_or(rest.len());
                let (before, from) = rest.split_at(opening);
                if !before.is_empty() {
                    out.kept(before);
                }
                rest = from.strip_prefix('[').map_or(from, |after| {
                    self.held.push('[');
                    after
                });
                continue;
            }
            let Some(next) = rest.chars().next() else { return };
            self.held.push(next);
            if masker.restore_lookup(&self.held).is_some() {
                self.restore(masker, out);
            } else if !masker.may_restore(&self.held) {
                // The character may itself begin one.
                self.held.pop();
                self.let_go(out);
                if next != '[' {
                    out.kept(rest.get(..next.len_utf8()).unwrap_or_default());
                } else {
                    self.held.push('[');
                }
            }
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }

    fn restore(&mut self, masker: &Masker, out: &mut impl Released) {
        let held = std::mem::take(&mut self.held);
        if let Some(value) = masker.restore_lookup(&held) {
            self.has_restored = true;
            out.replaced(held.len(), value);
        }
    }

    fn let_go(&mut self, out: &mut impl Released) {
        if !self.held.is_empty() {
            out.kept(&self.held);
            self.held.clear();
        }
    }
}
