//! A list of terms, compiled, and the search for all of them in a text or a part of a stream. Terms are
//! walked down a trie from the places where one can begin; a place is ruled out, nearly always, by its first
//! four bytes. ASCII texts are searched as they stand, others in their normal form.

use std::sync::Arc;

use super::blocks::{self, BLOCK, is_word};
use super::boundary::{Before, is_boundary};
use super::bytes::{ByteTable, FOLDED};
use super::normal::{Normal, is_closed, normalise};
use super::trie::{Step, Trie};

/// Characters that a term may have in normal form. Every rule has a stated reach: it bounds what a stream
/// holds back.
pub(crate) const TERM_CHARS_MAX: usize = 512;

/// Bytes of the original that one match may span. A term of [`TERM_CHARS_MAX`] characters of four bytes takes
/// half of it; the rest is for dropped characters and runs of white space within. Bounds what a stream holds.
pub(crate) const MATCH_BYTES_MAX: usize = 4096;

/// Part of a word in ASCII: no term that begins with a letter or digit can begin after it.
const WORD: u8 = 1;
/// First byte of a character beyond ASCII.
const LEAD: u8 = 2;
/// First byte of a term that needs no boundary before it.
const SYMBOL: u8 = 4;

/// A compiled list of terms.
#[derive(Debug)]
pub(crate) struct Terms {
    /// As the policy spells them, in its order, each once.
    spellings: Vec<Arc<str>>,
    /// Indices into `spellings`, by group: the terms with one normal form.
    groups: Vec<Group>,
    trie: Trie,
    places: ByteTable<u8>,
    prefixes: Prefixes,
    /// Whether `places` tells more than whether a byte is part of a word or leads a character.
    has_symbols: bool,
    ascii_only: bool,
}

#[derive(Debug)]
struct Group {
    members: Vec<u32>,
    /// Whether the last character is a letter or digit, so that a boundary must follow.
    word_end: bool,
}

/// A term found: all of the original that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Which group of spellings.
    pub(crate) group: u32,
}

/// A text, or the undecided part of a stream, to be searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'t> {
    pub(crate) text: &'t str,
    /// What stands before it.
    pub(crate) before: Before,
    /// Whether more may follow.
    pub(crate) more: bool,
}

impl Terms {
    pub(crate) fn new<'t>(terms: impl IntoIterator<Item = &'t str>) -> Self {
        let mut spellings: Vec<Arc<str>> = Vec::new();
        let mut normal: Vec<(String, u32)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for term in terms {
            let form = normalise(term);
            if !form.is_empty() && seen.insert(term) {
                normal.push((form, u32::try_from(spellings.len()).unwrap_or(u32::MAX)));
                spellings.push(term.into());
            }
        }
        normal.sort();
        let mut groups: Vec<Group> = Vec::new();
        let mut forms: Vec<String> = Vec::new();
        for (form, member) in normal {
            if forms.last() == Some(&form) {
                groups.extend_last(member);
                continue;
            }
            let word_end = form.chars().next_back().is_some_and(char::is_alphanumeric);
            groups.push(Group { members: vec![member], word_end });
            forms.push(form);
        }
        let mut places = ByteTable::all(0u8);
        for byte in 0..=u8::MAX {
            let word = is_word(byte);
            places.set(
                byte,
                if word {
                    WORD
                } else if byte >= 0xc0 {
                    LEAD
                } else {
                    0
                },
            );
        }
        for form in &forms {
            if let (Some(c), Some(&byte)) = (form.chars().next(), form.as_bytes().first())
                && !c.is_alphanumeric()
            {
                places.set(byte, places.get(byte) | SYMBOL);
            }
        }
        let has_symbols = (0..128).any(|byte| places.get(byte) & SYMBOL != 0);
        let ascii_only = forms.iter().all(|form| form.is_ascii());
        Self {
            trie: Trie::new(&forms),
            prefixes: Prefixes::new(&forms),
            spellings,
            groups,
            places,
            has_symbols,
            ascii_only,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// The group of the terms with this normal form.
    pub(crate) fn group_of(&self, form: &str) -> Option<u32> {
        let is_it = |group: &Group| {
            let member = group.members.first().and_then(|member| self.spellings.get(*member as usize));
            member.is_some_and(|term| normalise(term) == form)
        };
        self.groups.iter().position(is_it).and_then(|group| u32::try_from(group).ok())
    }

    /// The normal form of each group, in the order of the groups.
    pub(crate) fn forms(&self) -> impl Iterator<Item = (String, u32)> {
        let spelling = |group: &Group| {
            let member = group.members.first().and_then(|member| self.spellings.get(*member as usize));
            member.map_or_else(String::new, |term| normalise(term))
        };
        self.groups.iter().map(spelling).zip(0..)
    }

    /// All spellings, in the policy's order.
    pub(crate) fn spellings(&self) -> &[Arc<str>] {
        &self.spellings
    }

    /// The spellings of groups, in the policy's order, each once.
    pub(crate) fn spellings_of(&self, groups: impl IntoIterator<Item = u32>) -> Vec<Arc<str>> {
        let mut members: Vec<u32> = groups
            .into_iter()
            .filter_map(|group| self.groups.get(group as usize))
            .flat_map(|group| group.members.iter().copied())
            .collect();
        members.sort_unstable();
        members.dedup();
        members.into_iter().filter_map(|member| self.spellings.get(member as usize)).cloned().collect()
    }

    /// Appends every occurrence of every term that begins before the returned place, in order of their
    /// beginnings. From that place on nothing is decided yet: that part is to be searched again with what
    /// follows. Without `more` to come it is the end of the text.
    pub(crate) fn find(&self, part: Part<'_>, scratch: &mut Normal, found: &mut Vec<Found>) -> usize {
        if self.is_empty() || part.text.is_empty() {
            return part.text.len();
        }
        if part.text.is_ascii() {
            self.find_in(part, &Plain, self.unknown_from(part), part.text.len(), found)
        } else {
            scratch.read(part.text, part.more);
            let normal = Part { text: &scratch.text, ..part };
            self.find_in(normal, &*scratch, scratch.text.len(), part.text.len(), found)
        }
    }

    /// What stands before `part.text[at..]`. `scratch` is as [`Self::find`] left it for the same part.
    pub(crate) fn before_at(part: Part<'_>, scratch: &Normal, at: usize) -> Before {
        if part.text.is_ascii() {
            part.before.at(part.text, at)
        } else {
            part.before.at(&scratch.text, scratch.normal_start(at))
        }
    }

    fn find_in<P: Places>(
        &self,
        part: Part<'_>,
        places: &P,
        unknown_from: usize,
        original_len: usize,
        found: &mut Vec<Found>,
    ) -> usize {
        let Part { text, before, more } = part;
        let hay = text.as_bytes();
        let mut accepted: Vec<(usize, u32)> = Vec::new();
        for at in self.candidates(hay) {
            if !self.prefixes.may_start(hay, at) {
                continue;
            }
            accepted.clear();
            let mut undecided = self.walk(hay, at, unknown_from, more, &mut accepted);
            if accepted.is_empty() && !undecided {
                continue;
            }
            let word_start =
                text.get(at..).and_then(|rest| rest.chars().next()).is_some_and(char::is_alphanumeric);
            if word_start && is_boundary(before, text, at, more) != Some(true) {
                continue;
            }
            let start = places.original_start(at);
            undecided &= original_len - start <= MATCH_BYTES_MAX;
            for &(end, group) in &accepted {
                let word_end = self.groups.get(group as usize).is_some_and(|group| group.word_end);
                let original_end = places.original_end(end);
                match if word_end { is_boundary(before, text, end, more) } else { Some(true) } {
                    _ if original_end - start > MATCH_BYTES_MAX => {}
                    Some(true) => found.push(Found { start, end: original_end, group }),
                    Some(false) => {}
                    None => undecided = true,
                }
            }
            if undecided {
                // What was found here is found again once the rest is known.
                found.retain(|found| found.start < start);
                return start;
            }
        }
        if unknown_from < hay.len() && self.may_start_at(hay, unknown_from) {
            return unknown_from;
        }
        places.finished(original_len)
    }

    /// Where a term can begin, as far as a byte and the one before it tell.
    fn candidates<'t>(&'t self, hay: &'t [u8]) -> impl Iterator<Item = usize> + 't {
        let mut goes_on = false;
        hay.chunks(BLOCK).enumerate().flat_map(move |(block, bytes)| {
            let words = blocks::mask(bytes, is_word);
            let others = if self.has_symbols {
                blocks::mask(bytes, |byte| self.places.get(byte) & (LEAD | SYMBOL) != 0)
            } else {
                blocks::mask(bytes, |byte| byte >= 0xc0)
            };
            let starts = blocks::starts(words, goes_on);
            goes_on = words >> (BLOCK - 1) == 1;
            blocks::bits(starts | others).map(move |bit| block * BLOCK + bit)
        })
    }

    /// Follows the text down the trie. True if it ends, or becomes unknown, while some term may still follow.
    fn walk(
        &self,
        hay: &[u8],
        start: usize,
        unknown_from: usize,
        more: bool,
        accepted: &mut Vec<(usize, u32)>,
    ) -> bool {
        let mut at = start;
        let mut place = self.trie.root();
        loop {
            let Some(&byte) = hay.get(at) else { return more };
            if at >= unknown_from {
                return true;
            }
            let folded = FOLDED.get(byte);
            at += 1;
            if folded == b' ' {
                while hay.get(at).is_some_and(|byte| FOLDED.get(*byte) == b' ') {
                    at += 1;
                }
            }
            match self.trie.step(&mut place, folded) {
                Step::Dead => return false,
                Step::On => {}
                Step::Term { group, leaf } => {
                    accepted.push((at, group));
                    if leaf {
                        return false;
                    }
                }
            }
        }
    }

    /// Where an ASCII part becomes uncertain: a mark may yet follow its last character, and belong to it. After
    /// a letter that matters only to terms beyond ASCII: a mark that composes makes another letter, any other
    /// is dropped, and a term that ends in a letter waits for what follows in any case.
    fn unknown_from(&self, part: Part<'_>) -> usize {
        let hay = part.text.as_bytes();
        match hay.last() {
            Some(last)
                if part.more && !is_closed(*last) && !(self.ascii_only && last.is_ascii_alphabetic()) =>
            {
                hay.len() - 1
            }
            _ => hay.len(),
        }
    }

    /// Whether a term might begin with the unknown character at the end.
    fn may_start_at(&self, hay: &[u8], at: usize) -> bool {
        let word = |at: usize| hay.get(at).is_some_and(|byte| self.places.get(*byte) & WORD != 0);
        !(word(at) && at.checked_sub(1).is_some_and(word))
    }
}

trait ExtendLast {
    fn extend_last(&mut self, member: u32);
}

impl ExtendLast for Vec<Group> {
    fn extend_last(&mut self, member: u32) {
        if let Some(group) = self.last_mut() {
            group.members.push(member);
        }
    }
}

/// How places in the searched text map to the original.
trait Places {
    fn original_start(&self, at: usize) -> usize;
    fn original_end(&self, at: usize) -> usize;
    /// How much of the original has been searched.
    fn finished(&self, original_len: usize) -> usize;
}

/// The searched text is the original.
struct Plain;

impl Places for Plain {
    fn original_start(&self, at: usize) -> usize {
        at
    }
    fn original_end(&self, at: usize) -> usize {
        at
    }
    fn finished(&self, original_len: usize) -> usize {
        original_len
    }
}

impl Places for Normal {
    fn original_start(&self, at: usize) -> usize {
        Self::original_start(self, at)
    }
    fn original_end(&self, at: usize) -> usize {
        Self::original_end(self, at)
    }
    fn finished(&self, _original_len: usize) -> usize {
        self.finished
    }
}

/// Rules out most places by their first four folded bytes: a set with false positives and no false negatives.
#[derive(Debug)]
struct Prefixes {
    bits: Vec<u64>,
    shift: u32,
    /// First bytes, `| 0x20`, of terms shorter than four bytes.
    short: ByteTable<bool>,
}

impl Prefixes {
    /// Bits in the set per term: one place in sixteen passes by chance.
    const BITS_PER_TERM: usize = 16;
    /// 128 KiB: beyond it the set would not stay in a core's cache.
    const BITS_MAX: usize = 1 << 20;

    fn new(forms: &[String]) -> Self {
        let bits = (forms.len() * Self::BITS_PER_TERM).next_power_of_two().clamp(1 << 10, Self::BITS_MAX);
        let mut prefixes = Self {
            bits: vec![0; bits / 64],
            shift: 32 - bits.trailing_zeros(),
            short: ByteTable::all(false),
        };
        for form in forms {
            match form.as_bytes() {
                [a, b, c, d, ..] => {
                    let (word, bit) = prefixes.place(u32::from_le_bytes([*a, *b, *c, *d]) | 0x2020_2020);
                    if let Some(word) = prefixes.bits.get_mut(word) {
                        *word |= bit;
                    }
                }
                [first, ..] => prefixes.short.set(first | 0x20, true),
                [] => {}
            }
        }
        prefixes
    }

    fn may_start(&self, hay: &[u8], at: usize) -> bool {
        let Some(&[a, b, c, d]) = hay.get(at..at + 4) else { return true };
        if self.short.get(a | 0x20) {
            return true;
        }
        let quad = u32::from_le_bytes([a, b, c, d]);
        // A blank among the four may stand for a run: fold it as the walk does.
        let key = if [a, b, c, d].iter().any(|byte| *byte <= b' ') {
            let Some(quad) = fold_four(hay, at) else { return true };
            quad
        } else {
            quad
        };
        let (word, bit) = self.place(key | 0x2020_2020);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(&self, key: u32) -> (usize, u64) {
        let hash = key.wrapping_mul(0x9e37_79b1) >> self.shift;
        ((hash / 64) as usize, 1 << (hash % 64))
    }
}

/// The first four folded bytes from a place on; `None` if the text ends before.
fn fold_four(hay: &[u8], mut at: usize) -> Option<u32> {
    let mut quad = 0u32;
    for index in 0..4 {
        let folded = FOLDED.get(*hay.get(at)?);
        at += 1;
        if folded == b' ' {
            while FOLDED.get(*hay.get(at)?) == b' ' {
                at += 1;
            }
        }
        quad |= u32::from(folded) << (8 * index);
    }
    Some(quad)
}
