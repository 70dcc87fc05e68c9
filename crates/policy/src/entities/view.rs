//! What a scanner sees of a text: its bytes, where looking back ends, and whether more may follow. Scanners
//! ask only bounded questions, so that a stream can answer them from what it keeps.

use super::types::EntitySet;

/// A text, or a part of a stream with some context before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'t> {
    pub(super) text: &'t str,
    pub(super) bytes: &'t [u8],
    /// The types that are looked for.
    pub(super) wanted: EntitySet,
    /// Scanners look back no further: the end of the entity before, which is no longer there for a reader.
    pub(super) floor: usize,
    /// Whether more text may follow.
    pub(super) more: bool,
}

/// What a scanner concludes about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// No entity begins here.
    No,
    /// One does, and covers these bytes.
    Found { start: usize, end: usize },
    /// One does, and goes on beyond the text: it is to be taken out until its tail ends.
    Open { start: usize, tail: Tail },
    /// Depends on what follows the text.
    More,
}

/// How an entity that has been recognised goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With characters of an alphabet (see `alphabet`), and so many full stops.
    Token { alphabet: u16, dots: u8 },
    /// Up to the line that ends a private key.
    PrivateKey,
}

impl<'t> View<'t> {
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        work::add(1);
        self.bytes.get(at).copied()
    }

    /// The byte before a place, unless looking back ends there.
    pub(super) fn before(&self, at: usize) -> Option<u8> {
        if at > self.floor { self.get(at - 1) } else { None }
    }

    pub(super) fn from(&self, at: usize) -> &'t [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &'t [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// At most `len` bytes before a place, no further back than the floor.
    pub(super) fn back(&self, at: usize, len: usize) -> &'t [u8] {
        work::add(len);
        self.slice(at.saturating_sub(len).max(self.floor), at)
    }

    /// Where the run of bytes that satisfy `is` ends.
    pub(super) fn run(&self, start: usize, is: impl Fn(u8) -> bool) -> usize {
        self.run_mut(start, is)
    }

    /// [`Self::run`] with a test that keeps count.
    pub(super) fn run_mut(&self, start: usize, mut is: impl FnMut(u8) -> bool) -> usize {
        let len = self.from(start).iter().take_while(|byte| is(**byte)).count();
        work::add(len + 1);
        start + len
    }

    /// [`Self::run`] over so many bytes at most.
    pub(super) fn run_max(&self, start: usize, max: usize, is: impl Fn(u8) -> bool) -> usize {
        let len = self.from(start).iter().take(max).take_while(|byte| is(**byte)).count();
        work::add(len + 1);
        start + len
    }

    /// Whether the text ends at a place and more may follow.
    pub(super) fn unknown(&self, at: usize) -> bool {
        self.more && at >= self.bytes.len()
    }

    /// `Yes` if the text at a place begins with `prefix`; `Unknown` if it ends while it still does.
    pub(super) fn starts_with(&self, at: usize, prefix: &[u8]) -> Starts {
        let rest = self.from(at);
        if rest.starts_with(prefix) {
            Starts::Yes
        } else if self.more && rest.len() < prefix.len() && prefix.starts_with(rest) {
            Starts::Unknown
        } else {
            Starts::No
        }
    }
}

/// Answer of [`View::starts_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    Yes,
    No,
    Unknown,
}

pub(super) use crate::matching::blocks::is_word;

/// Whether a word goes on at a place: then what ends there is no entity of its own.
pub(super) fn is_word_at(view: &View<'_>, at: usize) -> bool {
    view.get(at).is_some_and(is_word)
}

/// Counts the bytes that scanners ask for, in tests: a search must stay linear whatever the text.
pub(super) mod work {
    #[cfg(test)]
    thread_local! {
        static BYTES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Adds bytes looked at.
    #[cfg_attr(not(test), expect(unused_variables, reason = "counted in tests only"))]
    #[inline]
    pub(in super::super) fn add(bytes: usize) {
        #[cfg(test)]
        BYTES.set(BYTES.get() + bytes as u64);
    }

    /// What was counted since the last call.
    #[cfg(test)]
    pub(in super::super) fn take() -> u64 {
        BYTES.replace(0)
    }
}
