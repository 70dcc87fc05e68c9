//! E-mail addresses. Found from their `@`; so only an `@`, or the run of characters at the end of a stream
//! that may yet get one, costs anything.

use super::view::{Attempt, View};
use crate::matching::CharInfo;

/// Bytes before the `@`. RFC 5321 §4.5.3.1.1: 64 octets.
const LOCAL_BYTES_MAX: usize = 64;

/// Bytes after the `@`. RFC 5321 §4.5.3.1.2: 255 octets.
const DOMAIN_BYTES_MAX: usize = 255;

/// Endings of file names such as `icon@2x.png`.
const FILE_ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "html"];

/// An `@` and where the run of characters before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) start: usize,
    at_sign: usize,
}

/// The next `@` from `from` on that has something before it.
pub(super) fn next(view: &View<'_>, from: usize) -> Option<Candidate> {
    memchr::memchr_iter(b'@', view.from(from))
        .map(|offset| from + offset)
        .find_map(|at_sign| Some(Candidate { start: local_start(view, at_sign)?, at_sign }))
}

/// The next after one that was none.
pub(super) fn next_after(view: &View<'_>, candidate: Option<Candidate>) -> Option<Candidate> {
    next(view, candidate?.at_sign + 1)
}

/// Where an address could begin whose `@` has not come yet.
pub(super) fn unfinished(view: &View<'_>) -> Option<usize> {
    local_start(view, view.bytes.len())
}

/// Whether an address begins at a candidate's start.
pub(super) fn at(view: &View<'_>, candidate: Candidate) -> Attempt {
    let Candidate { start, at_sign } = candidate;
    let domain_start = at_sign + 1;
    let mut end = domain_start;
    for c in view.text.get(domain_start..).unwrap_or_default().chars() {
        if !(is_domain_char(c) && end - domain_start < DOMAIN_BYTES_MAX) {
            break;
        }
        end += c.len_utf8();
    }
    if view.unknown(end) && end - domain_start < DOMAIN_BYTES_MAX {
        return Attempt::More;
    }
    let mut domain = view.text.get(domain_start..end).unwrap_or_default().trim_end_matches(['.', '-']);
    if view.slice(start, at_sign) == b"git" || domain.starts_with(['.', '-']) || domain.contains("..") {
        return Attempt::No;
    }
    // `a@x.org.` and `a@x.org.1` hold an address all the same.
    while let Some((rest, top)) = domain.rsplit_once('.') {
        if is_top(top) {
            return Attempt::Found { start, end: domain_start + domain.len() };
        }
        domain = rest.trim_end_matches('-');
    }
    Attempt::No
}

fn is_top(label: &str) -> bool {
    let letters = label.chars().count() >= 2 && label.chars().all(char::is_alphabetic);
    (letters || label.starts_with("xn--"))
        && !FILE_ENDINGS.iter().any(|ending| label.eq_ignore_ascii_case(ending))
}

fn is_domain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-') || is_letter_beyond_ascii(c)
}

/// A letter that begins a normalisation segment: a stream is never cut within one.
fn is_letter_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && c.is_alphanumeric() && CharInfo::of(c).starts_segment()
}

fn is_local_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'') || is_letter_beyond_ascii(c)
}

/// Looks back from `end` over what may stand before an `@`, to where that may begin.
fn local_start(view: &View<'_>, end: usize) -> Option<usize> {
    let mut start = end;
    let mut first = None;
    for c in view.text.get(view.floor..end).unwrap_or_default().chars().rev() {
        if !is_local_char(c) {
            break;
        }
        start -= c.len_utf8();
        if end - start > LOCAL_BYTES_MAX {
            return None;
        }
        if c.is_alphanumeric() || c == '_' {
            first = Some(start);
        }
    }
    first
}
