//! Secrets that only the name they are assigned to tells: `password = …`, `"api_key": "…"`, `Authorization: Bearer …`.
//! Found from the sign of assignment, looking back for the name. The value is the secret, the name stays.

use super::formats::{
    ALNUM, AMPERSAND, Alphabet, BASE64, COLON, DASH, DOT, EQUALS, SYMBOLS, UNDERSCORE, in_alphabet,
};
use super::secrets::claims_issuer;
use super::stand_in::{is_stand_in, is_uuid, is_words};
use super::view::{Attempt, Starts, Tail, View};

/// Bytes of a name, before its sign.
const NAME_BYTES_MAX: usize = 64;

/// Blanks, quotes and the like between a name and its sign, and between the sign and the value.
const GAP_BYTES_MAX: usize = 8;

/// Bytes of a value that judge it; a longer one is taken out as it comes.
const VALUE_BYTES_MAX: usize = 256;

/// Bytes of a password below which it is taken for a word.
const PASSWORD_BYTES_MIN: usize = 6;

/// Bytes of a key below which it is taken for a name.
const KEY_BYTES_MIN: usize = 16;

/// Bits per character below which a key is taken for words. Base64 of random bytes has above 4 at this length,
/// hexadecimal digits above 3.
const KEY_ENTROPY_MIN: f64 = 3.0;

/// What a value may be made of.
const VALUE: Alphabet = ALNUM | DASH | UNDERSCORE | DOT | BASE64 | EQUALS | SYMBOLS;

/// What a name says of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Chosen by people: short, and any mixture proves it.
    Password,
    /// Made by machines: long and random.
    Key,
    /// The same where identifiers are more likely than keys that look like them.
    KeyNoUuid,
    /// A user name and password with a colon between.
    Pair,
}

/// The value after a sign of assignment: `=`, `:`, or `,` between two quoted texts.
pub(super) fn at(view: &View<'_>, sign: usize) -> Attempt {
    let Some(kind) = name_kind(view, sign) else { return Attempt::No };
    let mut start = view.run_max(sign, 4, |byte| matches!(byte, b'=' | b':' | b'>' | b','));
    for _ in 0..2 {
        start = view
            .run_max(start, GAP_BYTES_MAX, |byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'`'));
        // The scheme of an `Authorization` header.
        for scheme in [&b"Bearer "[..], b"Basic ", b"Token ", b"token "] {
            match view.starts_with(start, scheme) {
                Starts::Yes => start += scheme.len(),
                Starts::Unknown => return Attempt::More,
                Starts::No => {}
            }
        }
    }
    let is_quoted = matches!(view.before(start), Some(b'"' | b'\''));
    let alphabet = match kind {
        Kind::Pair => VALUE | COLON,
        _ if is_quoted => VALUE | AMPERSAND,
        _ => VALUE,
    };
    let len = view.run_max(start, VALUE_BYTES_MAX, |byte| in_alphabet(byte, alphabet)) - start;
    let known = view.slice(start, start + len);
    let is_long = len == VALUE_BYTES_MAX;
    if view.unknown(start + len) && !is_long {
        return Attempt::More;
    }
    // A full stop or the like at the end is the sentence's.
    let trimmed = if is_long { 0 } else { known.iter().rev().take_while(|byte| is_closing(**byte)).count() };
    let value = known.get(..known.len() - trimmed).unwrap_or_default();
    let is_elided = known.ends_with(b"..");
    let is_call = !is_long && matches!(view.get(start + len), Some(b'(' | b'[' | b'{' | b'<'));
    if is_call || is_elided && !is_long || !is_secret(kind, value) {
        return Attempt::No;
    }
    if !is_long {
        return Attempt::Found { start, end: start + value.len() };
    }
    let end = view.run(start, |byte| in_alphabet(byte, alphabet));
    if view.unknown(end) {
        return Attempt::Open { start, tail: Tail::Token { alphabet, dots: 0 } };
    }
    Attempt::Found { start, end }
}

fn is_closing(byte: u8) -> bool {
    matches!(byte, b'.' | b'?' | b'!')
}

/// What the name before a sign says.
fn name_kind(view: &View<'_>, sign: usize) -> Option<Kind> {
    if view.get(sign) == Some(b',') && !matches!(view.before(sign), Some(b'"' | b'\'')) {
        return None;
    }
    let before = view.back(sign, GAP_BYTES_MAX);
    let gap = before
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b' ' | b'"' | b'\'' | b'\\' | b'`' | b':' | b'?' | b']' | b')'))
        .count();
    let end = sign - gap;
    // A placeholder is no name, though it may read like one.
    if gap > 0 && view.get(end) == Some(b']') {
        return None;
    }
    let name = name_before(view, end);
    if name.eq_ignore_ascii_case(b"value") {
        // `<add key="Password" value="…" />`
        let end = end - name.len();
        let before = view.back(end, GAP_BYTES_MAX);
        let gap = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'"' | b'\'')).count();
        return if gap < 2 { None } else { kind_of(name_before(view, end - gap)) };
    }
    // Bundler's credentials of a host: `BUNDLE_GEMS__EXAMPLE__COM`.
    if name.starts_with(b"BUNDLE_") && memchr::memmem::find(name, b"__").is_some() {
        return Some(Kind::Pair);
    }
    if name == NPM_TOKEN && !follows_registry(view, end - name.len()) {
        return Some(Kind::KeyNoUuid);
    }
    kind_of(name)
}

/// npm's setting, which it takes only after the registry that it is for: `//registry.npmjs.org/:_authToken=…`
/// (<https://docs.npmjs.com/cli/v11/configuring-npm/npmrc#auth-related-configuration>).
const NPM_TOKEN: &[u8] = b"_authToken";

/// Bytes of a registry before it.
const REGISTRY_BYTES_MAX: usize = 40;

fn follows_registry(view: &View<'_>, name: usize) -> bool {
    let before = view.back(name, REGISTRY_BYTES_MAX);
    let Some(registry) = before.strip_suffix(b"/:") else { return false };
    let Some(slashes) = memchr::memmem::find(registry, b"//") else {
        // A long one begins further back.
        return before.len() == REGISTRY_BYTES_MAX && !registry.contains(&b' ');
    };
    registry.get(slashes + 2).is_some_and(u8::is_ascii_alphanumeric)
}

fn name_before<'t>(view: &View<'t>, end: usize) -> &'t [u8] {
    let name = view.back(end, NAME_BYTES_MAX);
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let len = name.iter().rev().take_while(is_name).count();
    name.get(name.len() - len..).unwrap_or_default()
}

/// Endings of names of secrets, in small letters without separators, with what they say.
static ENDINGS: &[(&str, Kind)] = &[
    ("password", Kind::Password),
    ("passwd", Kind::Password),
    ("passphrase", Kind::Password),
    ("passwort", Kind::Password),
    ("contraseña", Kind::Password),
    ("pwd", Kind::Password),
    ("secret", Kind::Key),
    ("secrets", Kind::Key),
    ("token", Kind::Key),
    ("tokens", Kind::Key),
    ("apikey", Kind::Key),
    ("apikeys", Kind::Key),
    ("apisecret", Kind::Key),
    ("accesskey", Kind::Key),
    ("secretkey", Kind::Key),
    ("privatekey", Kind::Key),
    ("clientkey", Kind::Key),
    ("authkey", Kind::Key),
    ("encryptionkey", Kind::Key),
    ("signingkey", Kind::Key),
    ("masterkey", Kind::Key),
    ("accountkey", Kind::Key),
    ("storagekey", Kind::Key),
    ("sharedkey", Kind::Key),
    ("subscriptionkey", Kind::Key),
    ("servicekey", Kind::Key),
    ("licensekey", Kind::Key),
    ("deploykey", Kind::Key),
    ("sessionkey", Kind::Key),
    ("auth", Kind::Key),
    ("authorization", Kind::Key),
    ("credential", Kind::Key),
    ("credentials", Kind::Key),
    ("login", Kind::Key),
];

/// Words in names of tokens that are no secrets: places in a list.
static HARMLESS: &[&str] = &["page", "next", "continu", "cursor", "public", "sync", "webtoken"];

fn kind_of(name: &[u8]) -> Option<Kind> {
    let mut small = [0u8; NAME_BYTES_MAX];
    let mut len = 0;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        *small.get_mut(len)? = byte.to_ascii_lowercase();
        len += 1;
    }
    let small = small.get(..len)?;
    let digits = small.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let small = small.get(..len - digits)?;
    // Most names before a sign end otherwise.
    if !matches!(small.last(), Some(b'd' | b'e' | b't' | b's' | b'n' | b'y' | b'h' | b'l' | b'a')) {
        return None;
    }
    let (_, kind) = ENDINGS.iter().find(|(ending, _)| small.ends_with(ending.as_bytes()))?;
    let harmless = HARMLESS.iter().any(|word| memchr::memmem::find(small, word.as_bytes()).is_some());
    (!harmless).then_some(*kind)
}

/// Parts of values that stand for a secret and are none.
static STAND_INS: &[&str] =
    &["xxxx", "your", "example", "placeholder", "changeme", "redacted", "****", "...."];

/// The cheap questions come first: most values are none, and a hostile text has one every few bytes.
fn is_secret(kind: Kind, value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let is_mixed = || has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    let may_be = match kind {
        Kind::Pair => memchr::memchr(b':', value).is_some_and(|colon| colon > 0 && colon + 1 < value.len()),
        Kind::Password => {
            let symbol = || value.iter().any(|byte| in_alphabet(*byte, SYMBOLS));
            value.len() >= PASSWORD_BYTES_MIN
                && (has(u8::is_ascii_digit) || has(u8::is_ascii_alphabetic) && symbol())
        }
        Kind::KeyNoUuid => value.len() >= KEY_BYTES_MIN && is_mixed() && !is_uuid(value),
        Kind::Key => value.len() >= KEY_BYTES_MIN && is_mixed(),
    };
    if !may_be || refers(value) || is_stand_in(value) || holds_stand_in(value) {
        return false;
    }
    match kind {
        Kind::Pair | Kind::Password => true,
        Kind::Key | Kind::KeyNoUuid => {
            entropy(value) >= KEY_ENTROPY_MIN && !(is_words(value) || claims_issuer(value))
        }
    }
}

/// A variable, a path, an address.
fn refers(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'$' | b'%' | b'/' | b'&' | b'.' | b'-' | b'=' | b'*' | b'#'))
        || memchr::memmem::find(value, b"://").is_some()
}

fn holds_stand_in(value: &[u8]) -> bool {
    let mut small = [0; VALUE_BYTES_MAX];
    let Some(small) = small.get_mut(..value.len()) else { return false };
    small.copy_from_slice(value);
    small.make_ascii_lowercase();
    STAND_INS.iter().any(|part| memchr::memmem::find(small, part.as_bytes()).is_some())
}

/// Shannon's, in bits per byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0u32; 128];
    for byte in value {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    let len = value.len() as f64;
    let share = |count: &u32| f64::from(*count) / len;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

/// Bytes of a key that stands in for a user name and password below which it is taken for a name.
const KEY_ALONE_BYTES_MIN: usize = 10;

/// The user name and password that `curl` is given: `-u user:password`.
pub(super) fn command_line(view: &View<'_>, dash: usize) -> Attempt {
    if !matches!(view.before(dash), Some(b' ' | b'\t')) {
        return Attempt::No;
    }
    let mut undecided = false;
    for flag in [&b"-u "[..], b"--user ", b"--user=", b"--proxy-user "] {
        match view.starts_with(dash, flag) {
            Starts::Unknown => undecided = true,
            Starts::Yes if memchr::memmem::find(view.back(dash, 96), b"curl").is_some() => {
                let start = view
                    .run(dash + flag.len(), |byte| matches!(byte, b'"' | b'\''))
                    .min(dash + flag.len() + 1);
                let goes_on = |byte: u8| !byte.is_ascii_whitespace() && byte != b'"';
                let end = view.run_max(start, VALUE_BYTES_MAX, goes_on);
                if end - start == VALUE_BYTES_MAX {
                    return Attempt::No;
                }
                if view.unknown(end) {
                    return Attempt::More;
                }
                let pair = view.slice(start, end);
                let colon = memchr::memchr(b':', pair);
                let password = colon.and_then(|colon| pair.get(colon + 1..)).unwrap_or_default();
                let password = password.strip_prefix(b"'").unwrap_or(password);
                let user = pair.get(..colon.unwrap_or(0)).unwrap_or_default();
                // An API key may stand for the user, with no password.
                let proves = if password.is_empty() { user } else { password };
                let long_enough = !password.is_empty() || user.len() >= KEY_ALONE_BYTES_MIN;
                // A placeholder, of ours or of whoever wrote the example.
                let refers = pair.iter().any(|byte| matches!(byte, b'[' | b'{' | b'<'));
                let found = long_enough && !refers && pair.is_ascii() && is_secret(Kind::Password, proves);
                return if found { Attempt::Found { start, end } } else { Attempt::No };
            }
            _ => {}
        }
    }
    if undecided { Attempt::More } else { Attempt::No }
}
