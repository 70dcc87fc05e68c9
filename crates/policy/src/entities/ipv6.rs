//! IPv6 addresses. Their notation is shared by clock times, ratios and the paths of programming languages; so
//! shortened ones must look like an address that is routed somewhere.

use std::net::Ipv6Addr;

use super::view::{Attempt, View, is_word, is_word_at};

/// Bytes of the longest notation: eight groups, the last two written as IPv4.
const BYTES_MAX: usize = 45;

/// An address at a place where a hexadecimal digit begins a word, or at `::`.
pub(super) fn at(view: &View<'_>, start: usize) -> Attempt {
    if view.before(start).is_some_and(|byte| is_word(byte) || matches!(byte, b':' | b'.')) {
        return Attempt::No;
    }
    let first = view.run(start, |byte| byte.is_ascii_hexdigit());
    if first - start > 4 {
        return Attempt::No;
    }
    if view.unknown(first) {
        return Attempt::More;
    }
    if view.get(first) != Some(b':') {
        return Attempt::No;
    }
    let end = view.run(first, |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    if end - start > BYTES_MAX + 1 {
        return Attempt::No;
    }
    if view.unknown(end) {
        return Attempt::More;
    }
    let mut text = view.text.get(start..end).unwrap_or_default().trim_end_matches('.');
    if let Some(rest) = text.strip_suffix(':').filter(|rest| !rest.ends_with(':')) {
        text = rest;
    }
    if !is_word_at(view, end) && text.parse().is_ok_and(|address| is_plausible(text, address)) {
        Attempt::Found { start, end: start + text.len() }
    } else {
        Attempt::No
    }
}

fn is_plausible(text: &str, address: Ipv6Addr) -> bool {
    if address.is_loopback() || address.is_unspecified() {
        return false;
    }
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    let [first, ..] = address.segments();
    // Global unicast, unique local, link local, multicast (RFC 4291 §2.4, RFC 4193).
    let routed = matches!(first, 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xff00..=0xffff);
    !text.contains("::") || routed || groups >= 3 || text.contains('.')
}
