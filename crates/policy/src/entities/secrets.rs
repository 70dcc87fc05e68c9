//! Secrets that are recognised wherever they stand: tokens by their issuer's prefix, keys after the name they
//! are assigned to, passwords in URLs, private keys. The issuers' formats are in `formats`.

use super::formats::{ALNUM, Alphabet, DASH, FORMATS, Format, HEX, Need, UNDERSCORE, UPPER, in_alphabet};
use super::stand_in::{is_example, is_stand_in, is_words};
use super::view::{Attempt, Starts, Tail, View, is_word_at};

/// Bytes after which a secret that goes on is taken out as it comes. Every rule has a stated reach: it bounds
/// what a stream holds back.
pub(super) const REACH_BYTES: usize = 512;

/// Bytes of a password with its user name in a URL.
const CREDENTIALS_BYTES_MAX: usize = 256;

/// A secret that begins with letters, by what tells it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    /// A prefix of `formats`.
    Format(&'static Format),
    Jwt,
    SendGrid,
    /// A key after one of the names in [`ASSIGNED`].
    Assigned(&'static Assigned),
}

/// All of them, each with the letters that it begins with: two or more.
pub(super) fn tokens() -> impl Iterator<Item = (&'static [u8], Token)> {
    let formats = FORMATS.iter().map(|format| (format.prefix, Token::Format(format)));
    let assigned = ASSIGNED.iter().map(|assigned| (assigned.0, Token::Assigned(assigned)));
    formats.chain(assigned).chain([(&b"eyJ"[..], Token::Jwt), (&b"SG."[..], Token::SendGrid)])
}

/// A token at a place where a letter begins a word.
pub(super) fn token(view: &View<'_>, start: usize, token: Token) -> Attempt {
    match token {
        Token::Format(format) => match view.starts_with(start, format.prefix) {
            Starts::No => Attempt::No,
            Starts::Unknown => Attempt::More,
            Starts::Yes => body(view, start, start + format.prefix.len(), format),
        },
        Token::Jwt => json_web_token(view, start),
        Token::SendGrid => send_grid(view, start),
        Token::Assigned(name) => assigned(view, start, name),
    }
}

/// The part of a token that names its issuer; empty for other secrets.
pub(super) fn issuer_prefix(secret: &str) -> &str {
    let known =
        FORMATS.iter().map(|format| format.prefix).filter(|prefix| secret.as_bytes().starts_with(prefix));
    secret.get(..known.map(<[u8]>::len).max().unwrap_or(0)).unwrap_or_default()
}

/// What follows a prefix.
fn body(view: &View<'_>, start: usize, body: usize, format: &Format) -> Attempt {
    // The digest in a file's name: `favicon.ico-0123…`.
    if matches!(format.prefix, [_, _, _, b'-']) && view.before(start) == Some(b'.') {
        return Attempt::No;
    }
    let is_body = |byte| in_alphabet(byte, format.alphabet);
    let max = match format.max {
        0 => REACH_BYTES - format.prefix.len(),
        max => usize::from(max) + 1,
    };
    let end = view.run_max(body, max, is_body);
    let is_long = end - body == max;
    if is_long && format.max > 0 {
        return Attempt::No;
    }
    if view.unknown(end) && !is_long {
        return Attempt::More;
    }
    let known = view.slice(body, end);
    let fits = known.len() >= usize::from(format.min)
        && has(known, format.need)
        && (format.alphabet == UPPER || !(is_stand_in(known) || is_example(known)));
    if is_long {
        // Known for one by its beginning; so a stream need not hold the rest.
        let end = if fits { view.run(end, is_body) } else { end };
        let tail = Tail::Token { alphabet: format.alphabet, dots: 0 };
        return match (fits, view.unknown(end)) {
            (false, _) => Attempt::No,
            (true, true) => Attempt::Open { start, tail },
            (true, false) => Attempt::Found { start, end },
        };
    }
    // A full stop at the end is the sentence's.
    let dots = view.slice(body, end).iter().rev().take_while(|byte| **byte == b'.').count();
    let long_enough = end - dots - body >= usize::from(format.min);
    if fits && long_enough && !is_word_at(view, end) {
        Attempt::Found { start, end: end - dots }
    } else {
        Attempt::No
    }
}

/// Digits in a token whose parts are numbers, and in one of its numbers.
const DIGITS_MIN: usize = 6;

fn has(body: &[u8], need: Need) -> bool {
    match need {
        Need::Nothing => true,
        Need::Digit => body.iter().any(u8::is_ascii_digit),
        Need::Digits => {
            body.iter().filter(|byte| byte.is_ascii_digit()).count() >= DIGITS_MIN && !body.ends_with(b"-")
        }
        Need::Number => {
            let mut runs = body.chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
            runs.any(|run| run.len() >= DIGITS_MIN) && !body.ends_with(b"-")
        }
        Need::Random => !is_words(body),
        Need::End(end) => body.ends_with(end),
    }
}

/// Whether a text begins as the tokens of a known issuer do. Their format says then what is one and what only looks so.
pub(super) fn claims_issuer(text: &[u8]) -> bool {
    let claims = |format: &Format| format.prefix.len() >= CLAIM_BYTES_MIN && text.starts_with(format.prefix);
    FORMATS.iter().any(claims)
}

/// Bytes of a prefix below which a random text may begin with it.
const CLAIM_BYTES_MIN: usize = 4;

/// Characters of the header or payload of a JSON web token below which it is none.
const JWT_PART_BYTES_MIN: usize = 10;

/// RFC 7519: `eyJ….eyJ….…`. It is known for one once its payload has begun.
fn json_web_token(view: &View<'_>, start: usize) -> Attempt {
    let header_end = match web_token_part(view, start, REACH_BYTES) {
        Ok(end) => end,
        Err(attempt) => return attempt,
    };
    if header_end - start >= REACH_BYTES {
        return Attempt::No;
    }
    if view.unknown(header_end) {
        return Attempt::More;
    }
    if header_end - start < JWT_PART_BYTES_MIN || view.get(header_end) != Some(b'.') {
        return Attempt::No;
    }
    if !is_json(view.slice(start, header_end)) {
        return Attempt::No;
    }
    let payload = header_end + 1;
    let end = match web_token_part(view, payload, usize::MAX) {
        Ok(end) => end,
        Err(attempt) => return attempt,
    };
    let open = |dots| Attempt::Open { start, tail: Tail::Token { alphabet: BASE64URL, dots } };
    if view.unknown(end) && end - start < REACH_BYTES {
        return Attempt::More;
    }
    if end.min(start + REACH_BYTES).saturating_sub(payload) < JWT_PART_BYTES_MIN {
        return Attempt::No;
    }
    if view.unknown(end) {
        return open(1);
    }
    if view.get(end) != Some(b'.') {
        return Attempt::Found { start, end };
    }
    let end = view.run(end + 1, |byte| in_alphabet(byte, BASE64URL));
    match view.unknown(end) {
        true if end - start < REACH_BYTES => Attempt::More,
        true => open(0),
        false => Attempt::Found { start, end },
    }
}

/// Whether base64 holds an object in JSON: printable, between braces.
fn is_json(base64: &[u8]) -> bool {
    let (mut bits, mut count) = (0u32, 0);
    let (mut last, mut is_printable) = (0u8, true);
    for byte in base64 {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            last = u8::try_from(bits >> count & 0xff).unwrap_or_default();
            is_printable &= last >= b' ' || last.is_ascii_whitespace();
        }
    }
    is_printable && last == b'}'
}

const BASE64URL: Alphabet = ALNUM | DASH | UNDERSCORE;

/// The end of a header or payload: base64 of JSON, so it begins with that of `{"`.
fn web_token_part(view: &View<'_>, start: usize, max: usize) -> Result<usize, Attempt> {
    match view.starts_with(start, b"eyJ") {
        Starts::Yes => Ok(view.run_max(start, max, |byte| in_alphabet(byte, BASE64URL))),
        Starts::Unknown => Err(Attempt::More),
        Starts::No => Err(Attempt::No),
    }
}

/// `SG.` and two parts of 22 and 43 characters, give or take.
fn send_grid(view: &View<'_>, start: usize) -> Attempt {
    let mut at = start;
    for (prefix, lengths) in [(&b"SG."[..], 16..=32), (b".", 16..=64)] {
        match view.starts_with(at, prefix) {
            Starts::Yes => {}
            Starts::Unknown => return Attempt::More,
            Starts::No => return Attempt::No,
        }
        let part = at + prefix.len();
        at = view.run_max(part, lengths.end() + 1, |byte| in_alphabet(byte, ALNUM | DASH | UNDERSCORE));
        if at - part > *lengths.end() {
            return Attempt::No;
        }
        if view.unknown(at) {
            return Attempt::More;
        }
        if at - part < *lengths.start() {
            return Attempt::No;
        }
    }
    Attempt::Found { start, end: at }
}

/// 32 hexadecimal digits and a data centre: `…-us12`.
pub(super) fn mailchimp(view: &View<'_>, start: usize) -> Attempt {
    let hex = view.run(start, |byte| in_alphabet(byte, HEX));
    if hex - start > 32 {
        return Attempt::No;
    }
    if view.unknown(hex) {
        return Attempt::More;
    }
    if hex - start < 32 {
        return Attempt::No;
    }
    match view.starts_with(hex, b"-us") {
        Starts::Yes => {}
        Starts::Unknown => return Attempt::More,
        Starts::No => return Attempt::No,
    }
    let end = view.run(hex + 3, |byte| byte.is_ascii_digit());
    match end - hex - 3 {
        3.. => Attempt::No,
        _ if view.unknown(end) => Attempt::More,
        1..=2 if !is_word_at(view, end) => Attempt::Found { start, end },
        _ => Attempt::No,
    }
}

/// A Telegram bot's token: its number, a colon, 35 characters.
pub(super) fn telegram(view: &View<'_>, start: usize) -> Attempt {
    let colon = view.run(start, |byte| byte.is_ascii_digit());
    if colon - start > 10 {
        return Attempt::No;
    }
    if view.unknown(colon) && colon > start {
        return Attempt::More;
    }
    if colon - start < 8 || view.get(colon) != Some(b':') {
        return Attempt::No;
    }
    let end = view.run_max(colon + 1, 36, |byte| in_alphabet(byte, ALNUM | DASH | UNDERSCORE));
    match end - colon - 1 {
        36.. => Attempt::No,
        _ if view.unknown(end) => Attempt::More,
        35 => Attempt::Found { start, end },
        _ => Attempt::No,
    }
}

/// A name, then the length and padding of its key in base64.
pub(super) type Assigned = (&'static [u8], usize, usize);

/// A Facebook app's token: its number, a bar, 27 characters.
pub(super) fn facebook(view: &View<'_>, start: usize) -> Attempt {
    let bar = view.run_max(start, 17, |byte| byte.is_ascii_digit());
    if bar - start > 16 {
        return Attempt::No;
    }
    if view.unknown(bar) {
        return Attempt::More;
    }
    if bar - start < 14 || view.get(bar) != Some(b'|') {
        return Attempt::No;
    }
    let end = view.run_max(bar + 1, 29, |byte| in_alphabet(byte, ALNUM | DASH | UNDERSCORE));
    match end - bar - 1 {
        29.. => Attempt::No,
        _ if view.unknown(end) => Attempt::More,
        26..=28 => Attempt::Found { start, end },
        _ => Attempt::No,
    }
}

/// Names after which a key without a prefix of its own is known by its length.
static ASSIGNED: [Assigned; 8] = [
    // <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>
    (b"aws_secret_access_key", 40, 0),
    (b"AWS_SECRET_ACCESS_KEY", 40, 0),
    (b"secret_access_key", 40, 0),
    (b"secretAccessKey", 40, 0),
    (b"SecretAccessKey", 40, 0),
    (b"aws_secret_key", 40, 0),
    // <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>
    (b"AccountKey", 86, 2),
    (b"SharedAccessKey", 43, 1),
];

/// Characters between a name and its value: `" = "`.
const ASSIGNMENT_BYTES_MAX: usize = 6;

/// A key that is known by the name it is assigned to. Only the key is the secret.
fn assigned(view: &View<'_>, name_start: usize, (name, len, padding): &Assigned) -> Attempt {
    match view.starts_with(name_start, name) {
        Starts::No => return Attempt::No,
        Starts::Unknown => return Attempt::More,
        Starts::Yes => {}
    }
    let name_end = name_start + name.len();
    let start = view.run(name_end, |byte| matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b'>'));
    let end = view.run(start, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let padded = view.run(end, |byte| byte == b'=');
    let (gap, key) = (start - name_end, end - start);
    if gap > ASSIGNMENT_BYTES_MAX || key > *len || padded - end > *padding {
        return Attempt::No;
    }
    if view.unknown(padded) {
        return Attempt::More;
    }
    if gap > 0 && key == *len && padded - end == *padding && !is_word_at(view, padded) {
        Attempt::Found { start, end: padded }
    } else {
        Attempt::No
    }
}

/// The user name and password after a URL's `://`: `user:password@`.
pub(super) fn credentials(view: &View<'_>, start: usize) -> Attempt {
    let end = view.run(start, |byte| {
        !matches!(byte, 0..=b' ' | b'/' | b'?' | b'#' | b'"' | b'<' | b'>' | b'\\' | b'`' | b'|')
    });
    let text = view.slice(start, end.min(start + CREDENTIALS_BYTES_MAX));
    let Some(colon) = text.iter().position(|byte| *byte == b':') else {
        let more = view.unknown(end) && end - start < CREDENTIALS_BYTES_MAX;
        return if more { Attempt::More } else { Attempt::No };
    };
    if text.get(..colon).is_some_and(|user| user.contains(&b'@')) {
        return Attempt::No;
    }
    if view.unknown(end) && end - start < CREDENTIALS_BYTES_MAX {
        return Attempt::More;
    }
    let Some(at_sign) = text.iter().rposition(|byte| *byte == b'@') else { return Attempt::No };
    let password = text.get(colon + 1..at_sign).unwrap_or_default();
    // A placeholder: `$PASSWORD`, `{password}`, `[SECRET_1]`, `****`.
    let placeholder = matches!(password.first(), None | Some(b'$' | b'{' | b'[' | b'*' | b'%'));
    let host = text.get(at_sign + 1).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'[');
    if placeholder || !host { Attempt::No } else { Attempt::Found { start, end: start + at_sign } }
}

const KEY_BEGIN: &[u8] = b"-----BEGIN ";
const KEY_END: &[u8] = b"-----END ";
/// Bytes of the label in `-----BEGIN RSA PRIVATE KEY-----`.
const KEY_LABEL_BYTES_MAX: usize = 64;
/// Bytes of base64 after the header line that make it a key and not talk about one.
const KEY_BODY_BYTES_MIN: usize = 16;
/// Bytes of white space between the two.
const KEY_GAP_BYTES_MAX: usize = 16;

/// A private key in PEM (RFC 7468) or PGP armour, to the line that ends it or to the end of the text.
pub(super) fn private_key(view: &View<'_>, start: usize) -> Attempt {
    match view.starts_with(start, KEY_BEGIN) {
        Starts::Yes => {}
        Starts::Unknown => return Attempt::More,
        Starts::No => return Attempt::No,
    }
    let label = start + KEY_BEGIN.len();
    let label_end = view.run(label, is_label);
    if label_end - label > KEY_LABEL_BYTES_MAX {
        return Attempt::No;
    }
    if view.unknown(label_end) {
        return Attempt::More;
    }
    if memchr::memmem::find(view.slice(label, label_end), b"PRIVATE KEY").is_none() {
        return Attempt::No;
    }
    match view.starts_with(label_end, b"-----") {
        Starts::Yes => {}
        Starts::Unknown => return Attempt::More,
        Starts::No => return Attempt::No,
    }
    // In JSON or code, line breaks may be written as `\n`.
    let gap = label_end + 5;
    let mut body = gap;
    loop {
        body = view.run(body, |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        match (view.get(body), view.get(body + 1)) {
            (Some(b'\\'), None) if view.more => return Attempt::More,
            (Some(b'\\'), Some(b'n' | b'r' | b't')) => body += 2,
            _ => break,
        }
        if body - gap > KEY_GAP_BYTES_MAX {
            return Attempt::No;
        }
    }
    if body - gap > KEY_GAP_BYTES_MAX {
        return Attempt::No;
    }
    let base64 = view.run(body, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    // `Proc-Type: 4,ENCRYPTED`, `Version: …`.
    let header = view.run(body, |byte| byte.is_ascii_alphabetic() || byte == b'-');
    let has_header = header > body && header - body < KEY_BODY_BYTES_MIN && view.get(header) == Some(b':');
    if base64 - body < KEY_BODY_BYTES_MIN && !has_header {
        let more = view.unknown(base64) || view.unknown(header);
        return if more && header - body < KEY_BODY_BYTES_MIN { Attempt::More } else { Attempt::No };
    }
    match tail_end(view, body, &mut Tail::PrivateKey) {
        Some(end) => Attempt::Found { start, end },
        None if view.bytes.len() - start < REACH_BYTES => Attempt::More,
        None => Attempt::Open { start, tail: Tail::PrivateKey },
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
}

/// Bytes before the end of a text that may be the beginning of the line that ends a key.
pub(super) const KEY_END_BYTES_MAX: usize = KEY_END.len() + KEY_LABEL_BYTES_MAX + 5;

/// Where an entity that goes on from `from` ends; `None` if that is beyond the text. A tail that counts goes on
/// counting from one text to the next.
pub(super) fn tail_end(view: &View<'_>, from: usize, tail: &mut Tail) -> Option<usize> {
    match tail {
        Tail::Token { alphabet, dots } => {
            let end = view.run_mut(from, |byte| {
                let dot = byte == b'.' && *dots > 0;
                *dots -= u8::from(dot);
                dot || in_alphabet(byte, *alphabet)
            });
            (!view.unknown(end)).then_some(end)
        }
        Tail::PrivateKey => {
            let Some(line) = memchr::memmem::find(view.from(from), KEY_END) else {
                return (!view.more).then_some(view.bytes.len());
            };
            let label = from + line + KEY_END.len();
            let label_end = view.run(label, is_label).min(label + KEY_LABEL_BYTES_MAX);
            let end = view.run(label_end, |byte| byte == b'-').min(label_end + 5);
            let complete = end == label_end + 5 || !view.unknown(end);
            complete.then_some(end)
        }
    }
}
