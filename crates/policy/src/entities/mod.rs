//! Personal data and secrets: what types there are, and the search for them in a text or a part of a stream.
//! What is done about a find (placeholders, counts) is up to `masker`, `input` and `output`. Each scanner judges
//! one place; here it is decided which places are worth one.

mod assigned;
mod checks;
mod codes;
mod context;
mod crypto;
mod email;
mod formats;
mod iban;
mod ipv6;
mod national;
mod numbers;
mod phone;
mod secrets;
mod stand_in;
mod types;
mod view;

use std::sync::LazyLock;

pub(crate) use types::EntitySet;
pub use types::EntityType;
pub(crate) use view::Tail;

use view::{Attempt, View, is_word, is_word_at};

use crate::matching::ByteTable;
use crate::matching::blocks::{self, BLOCK};

/// Bytes before the undecided part of a stream that scanners may look back on: the longest such look is at the
/// part of an e-mail address before its `@`, or at the line that ends a private key.
pub(crate) const CONTEXT_BYTES: usize = 128;

/// An entity found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) start: usize,
    /// The end of the text for one that goes on beyond it.
    pub(crate) end: usize,
    pub(crate) entity: EntityType,
    /// How it goes on.
    pub(crate) tail: Option<Tail>,
}

/// Appends the entities of `text[from..]` that begin before the returned place, in order and not overlapping.
/// From that place on nothing is decided yet. Looking back ends at `floor`. Without `more` to come the
/// returned place is the end of the text.
pub(crate) fn find(
    text: &str,
    wanted: EntitySet,
    from: usize,
    floor: usize,
    more: bool,
    found: &mut Vec<Entity>,
) -> usize {
    let openings = &*OPENINGS;
    let mut view = View { text, bytes: text.as_bytes(), wanted, floor, more };
    let mut at = from;
    let mut mail = email::next(&view, from);
    let mut credentials = credentials_start(&view, from);
    let mut places = Candidates::default();
    while at < text.len() {
        let mail_start = mail.map_or(usize::MAX, |mail| mail.start);
        if at != mail_start && at != credentials {
            let next = places.next(&view, at, openings);
            let due = [mail_start, credentials].into_iter().filter(|due| (at..next).contains(due)).min();
            match due {
                // Within a word that is none of an address, as far as it is looked back on.
                Some(due) if view.get(due).is_some_and(is_word) && view.before(due).is_some_and(is_word) => {
                    at = view.run(due, is_word);
                    mail = email::next_after(&view, mail);
                    continue;
                }
                Some(due) => at = due,
                None => at = next,
            }
        }
        let Some(byte) = view.get(at) else { break };
        let place = PLACES.get(byte);
        let mut best = Typed::none(&view);
        if let Some(candidate) = mail.filter(|mail| mail.start == at) {
            best = best.or(EntityType::EmailAddress, email::at(&view, candidate));
        }
        if at == credentials {
            best = best.or(EntityType::Secret, secrets::credentials(&view, at));
        }
        let word = matches!(place, Place::Letter | Place::Digit) && !view.before(at).is_some_and(is_word);
        match place {
            Place::Letter if word => best = best.longer(letters(&view, at, openings)),
            Place::Digit if word => best = best.longer(digits(&view, at, openings)),
            Place::PhoneMark => best = best.or(EntityType::PhoneNumber, phone::marked(&view, at)),
            Place::Dash => {
                best = best
                    .or(EntityType::Secret, secrets::private_key(&view, at))
                    .or(EntityType::Secret, assigned::command_line(&view, at));
            }
            Place::Sign => best = best.or(EntityType::Secret, assigned::at(&view, at)),
            Place::Colon => {
                if view.from(at).starts_with(b"://") {
                    credentials = at + 3;
                }
                if view.get(at + 1) == Some(b':') || view.unknown(at + 1) {
                    best = best.or(EntityType::IpAddress, ipv6::at(&view, at));
                }
                best = best.or(EntityType::Secret, assigned::at(&view, at));
            }
            _ => {}
        }
        match best.attempt {
            Attempt::More if more => return unfinished_mail(&view, from).min(at),
            Attempt::Found { start, end } => {
                found.push(Entity { start, end, entity: best.entity, tail: None });
                at = end;
                view.floor = end;
                // Without an `@` ahead there is none from here either.
                if mail.is_some_and(|mail| mail.start < at) {
                    mail = email::next(&view, at);
                }
            }
            Attempt::Open { start, tail } => {
                let end = text.len();
                found.push(Entity { start, end, entity: best.entity, tail: Some(tail) });
                return end;
            }
            Attempt::No | Attempt::More => {
                let next = match place {
                    Place::Letter | Place::Digit => view.run(at, is_word),
                    _ => at + 1,
                };
                if mail.is_some_and(|mail| mail.start < next) {
                    mail = email::next_after(&view, mail);
                }
                at = next;
            }
        }
    }
    if more { unfinished_mail(&view, from) } else { text.len() }
}

/// The places of a text, but for those of addresses and credentials, that are worth a scanner. All others are passed over.
#[derive(Default)]
struct Candidates {
    /// Which block the masks are of, counted from 1.
    block: usize,
    starts: u64,
    digits: u64,
    marks: u64,
}

impl Candidates {
    /// The first such place at or after `at`, or the end of the text.
    fn next(&mut self, view: &View<'_>, mut at: usize, openings: &Openings) -> usize {
        while at < view.bytes.len() {
            let block = at / BLOCK;
            let base = block * BLOCK;
            if self.block != block + 1 {
                self.read(view, base);
                self.block = block + 1;
            }
            let offset = at - base;
            // Nothing before the floor counts.
            let starts =
                self.starts | u64::from(at == view.floor && view.get(at).is_some_and(is_word)) << offset;
            let left = (starts | self.marks) >> offset << offset;
            for bit in blocks::bits(left) {
                let is_letter = (self.digits | self.marks) >> bit & 1 == 0;
                if !(is_letter && openings.is_prose(view, base + bit)) {
                    return base + bit;
                }
            }
            at = base + BLOCK;
        }
        view.bytes.len()
    }

    fn read(&mut self, view: &View<'_>, base: usize) {
        let bytes = view.slice(base, view.bytes.len().min(base + BLOCK));
        view::work::add(bytes.len());
        let goes_on = base > 0 && is_word_at(view, base - 1);
        self.starts = blocks::starts(blocks::mask(bytes, is_word), goes_on);
        self.digits = blocks::mask(bytes, |byte| byte.is_ascii_digit());
        self.marks = blocks::mask(bytes, |byte| matches!(byte, b'+' | b'(' | b':' | b'-' | b'=' | b','));
    }
}

/// Where an e-mail address may have begun at the end of the text, or that end.
fn unfinished_mail(view: &View<'_>, from: usize) -> usize {
    email::unfinished(view).map_or(view.bytes.len(), |start| start.max(from))
}

/// The prefix that names a secret's issuer; empty for one without.
pub(crate) fn secret_prefix(secret: &str) -> &str {
    secrets::issuer_prefix(secret)
}

/// Continues an entity that went on beyond the text it was found in: where it ends, `None` if that is beyond
/// this text too. `from` is where this part of it begins, with context before it.
pub(crate) fn tail_end(text: &str, from: usize, tail: &mut Tail, more: bool) -> Option<usize> {
    let view = View { text, bytes: text.as_bytes(), wanted: EntitySet::default(), floor: 0, more };
    let from = match tail {
        Tail::Token { .. } => from,
        // The line that ends a key may have begun before.
        Tail::PrivateKey => from.saturating_sub(secrets::KEY_END_BYTES_MAX),
    };
    secrets::tail_end(&view, from, tail)
}

/// What a byte can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Plain,
    Letter,
    Digit,
    PhoneMark,
    Colon,
    Dash,
    /// What stands between a name and its value, besides a colon.
    Sign,
}

const PLACES: ByteTable<Place> = {
    let mut table = ByteTable::all(Place::Plain);
    let mut byte = 0u8;
    while byte < 128 {
        table.set(
            byte,
            match byte {
                b'0'..=b'9' => Place::Digit,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => Place::Letter,
                b'+' | b'(' => Place::PhoneMark,
                b':' => Place::Colon,
                b'-' => Place::Dash,
                b'=' | b',' => Place::Sign,
                _ => Place::Plain,
            },
        );
        byte += 1;
    }
    table
};

/// An attempt with the type it was made for.
#[derive(Clone, Copy, Debug)]
struct Typed {
    wanted: EntitySet,
    entity: EntityType,
    attempt: Attempt,
}

impl Typed {
    fn none(view: &View<'_>) -> Self {
        Self { wanted: view.wanted, entity: EntityType::Secret, attempt: Attempt::No }
    }

    fn more(view: &View<'_>) -> Self {
        Self { attempt: Attempt::More, ..Self::none(view) }
    }

    /// With another attempt, unless its type is not looked for.
    fn or(self, entity: EntityType, attempt: Attempt) -> Self {
        if self.wanted.has(entity) { self.longer(Self { entity, attempt, ..self }) } else { self }
    }

    /// The longer of the two, the first if they are equal; undecided if one is.
    fn longer(self, other: Self) -> Self {
        if longer(self.attempt, other.attempt) == self.attempt { self } else { other }
    }
}

fn longer(first: Attempt, second: Attempt) -> Attempt {
    let reach = |attempt| match attempt {
        Attempt::No => 0,
        Attempt::Found { end, .. } => end,
        Attempt::Open { .. } => usize::MAX - 1,
        Attempt::More => usize::MAX,
    };
    if reach(second) > reach(first) { second } else { first }
}

fn longest_typed(view: &View<'_>, attempts: impl IntoIterator<Item = (EntityType, Attempt)>) -> Typed {
    attempts.into_iter().fold(Typed::none(view), |best, (entity, attempt)| best.or(entity, attempt))
}

/// What may begin with a letter.
fn letters(view: &View<'_>, at: usize, openings: &Openings) -> Typed {
    let best = opened(view, at, openings);
    if best.attempt == Attempt::More {
        return best;
    }
    let mut best = best.longer(codes::at(view, at)).or(EntityType::Secret, codes::marked_secret(view, at));
    if view.get(at).is_some_and(|byte| byte.is_ascii_hexdigit())
        && view.get(at + 1).is_none_or(|byte| byte.is_ascii_hexdigit() || byte == b':')
    {
        best = best
            .or(EntityType::IpAddress, ipv6::at(view, at))
            .or(EntityType::Secret, secrets::mailchimp(view, at));
    }
    best
}

/// What is known by its first letters.
fn opened(view: &View<'_>, at: usize, openings: &Openings) -> Typed {
    let mut best = Typed::none(view);
    let Some(candidates) = openings.at(view, at) else { return Typed::more(view) };
    for (prefix, opening) in candidates {
        if view.starts_with(at, prefix) == view::Starts::No {
            continue;
        }
        best = match opening {
            Opening::Secret(token) => best.or(EntityType::Secret, secrets::token(view, at, *token)),
            Opening::Iban => best.or(EntityType::IbanCode, iban::at(view, at)),
        };
    }
    best
}

/// What may begin with a digit.
fn digits(view: &View<'_>, at: usize, openings: &Openings) -> Typed {
    numbers::at(view, at)
        .or(EntityType::IpAddress, ipv6::at(view, at))
        .or(EntityType::Secret, secrets::telegram(view, at))
        .or(EntityType::Secret, secrets::facebook(view, at))
        .or(EntityType::Secret, secrets::mailchimp(view, at))
        .longer(codes::at(view, at))
        .or(EntityType::Secret, codes::marked_secret(view, at))
        .longer(opened(view, at, openings))
}

/// Where a user name and password may begin if `://` lies across, or ends at, `from`.
fn credentials_start(view: &View<'_>, from: usize) -> usize {
    (from.saturating_sub(3).max(view.floor)..from)
        .find(|at| view.from(*at).starts_with(b"://"))
        .map_or(usize::MAX, |at| at + 3)
}

/// What may begin with two letters: the rest of its beginning, and what it is.
#[derive(Clone, Copy, Debug)]
enum Opening {
    Secret(secrets::Token),
    Iban,
}

/// The openings by their first two bytes. Most words begin with two that begin nothing, and cost one look.
struct Openings {
    /// Place of the bucket, by `first << 7 | second`; 0 is the empty one.
    index: Vec<u8>,
    buckets: Vec<Vec<(&'static [u8], Opening)>>,
}

static OPENINGS: LazyLock<Openings> = LazyLock::new(|| {
    let mut openings = Openings { index: vec![0; 1 << 14], buckets: vec![Vec::new()] };
    for (prefix, token) in secrets::tokens() {
        openings.add(prefix, Opening::Secret(token));
    }
    for country in iban::countries() {
        openings.add(country, Opening::Iban);
    }
    openings
});

impl Openings {
    /// What may begin at a letter; `None` where too little of the text is there to say.
    fn at(&self, view: &View<'_>, at: usize) -> Option<&[(&'static [u8], Opening)]> {
        let Some(&[first, second, _]) = view.bytes.get(at..at + 3) else {
            // Every second byte is part of a word, but for that of `s-s4t2ud-`.
            let goes_on = view.get(at + 1).is_none_or(|byte| is_word(byte) || byte == b'-');
            if view.more && goes_on {
                return None;
            }
            return Some(match view.bytes.get(at..at + 2) {
                Some(&[first, second]) => self.bucket(first, second),
                _ => &[],
            });
        };
        Some(self.bucket(first, second))
    }

    /// Whether the word at a letter begins as words of prose do and nothing that is looked for does. Most words do, and
    /// this is all that is asked of them.
    fn is_prose(&self, view: &View<'_>, at: usize) -> bool {
        let Some(&[first, second, third, fourth, fifth, _, seventh]) =
            view.bytes.get(at..at + 7).and_then(|bytes| bytes.first_chunk::<7>())
        else {
            return false;
        };
        let begins = match (second, third) {
            (b' ', _) => true,
            (b'a'..=b'z', b' ') => !fourth.is_ascii_digit(),
            (b'a'..=b'z', b'a'..=b'z') => !seventh.is_ascii_digit(),
            _ => false,
        };
        let is_marked = matches!(fifth, b'.' | b'Q');
        let may_be_discord = matches!(first, b'M' | b'N' | b'O');
        let is_hex = first.is_ascii_hexdigit() && second.is_ascii_hexdigit();
        let opens = self.index.get(Self::place(first, second)) != Some(&0);
        begins && !(is_marked || may_be_discord || is_hex || opens)
    }

    fn bucket(&self, first: u8, second: u8) -> &[(&'static [u8], Opening)] {
        let bucket = self.index.get(Self::place(first, second)).copied().unwrap_or_default();
        self.buckets.get(usize::from(bucket)).map(Vec::as_slice).unwrap_or_default()
    }

    fn add(&mut self, prefix: &'static [u8], opening: Opening) {
        let &[first, second, ..] = prefix else { return };
        let next = u8::try_from(self.buckets.len());
        debug_assert!(next.is_ok(), "more beginnings than an index of one byte can tell apart");
        let (Some(bucket), Ok(next)) = (self.index.get_mut(Self::place(first, second)), next) else { return };
        if *bucket == 0 {
            *bucket = next;
            self.buckets.push(Vec::new());
        }
        if let Some(bucket) = self.buckets.get_mut(usize::from(*bucket)) {
            bucket.push((prefix, opening));
        }
    }

    /// Past the index for what is not ASCII.
    fn place(first: u8, second: u8) -> usize {
        if first.is_ascii() && second.is_ascii() {
            usize::from(first) << 7 | usize::from(second)
        } else {
            usize::MAX
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes looked at while a text is searched, whole or in pieces.
    fn work(text: &str, piece_bytes: usize) -> u64 {
        view::work::take();
        let wanted: EntitySet = EntityType::ALL.iter().copied().collect();
        let mut found = Vec::new();
        let (mut from, mut floor, mut end, mut tail) = (0, 0, 0, None);
        while end < text.len() {
            end = text.len().min(end + piece_bytes);
            let (seen, more) = (&text[..end], end < text.len());
            if let Some(mut open) = tail.take() {
                floor = tail_end(seen, floor, &mut open, more).unwrap_or(seen.len());
                if floor == seen.len() {
                    tail = Some(open);
                }
                from = floor;
                continue;
            }
            found.clear();
            // As `Scan` does, which keeps no more than this much context.
            let start = from.max(floor).saturating_sub(CONTEXT_BYTES);
            let decided = find(
                &seen[start..],
                wanted,
                from.max(floor) - start,
                floor.saturating_sub(start),
                more,
                &mut found,
            );
            from = start + decided;
            if let Some(last) = found.iter().rfind(|entity| entity.start < decided) {
                floor = start + last.end;
                tail = last.tail;
            }
        }
        view::work::take()
    }

    proptest::proptest! {
        #[test]
        fn prose_is_nothing_that_is_looked_for(
            text in "[A-Za-z_]([a-z]{1,2}|[a-z]? )[A-Za-z0-9 .:~Q_-]{4,60}",
            more in proptest::bool::ANY,
        ) {
            let wanted = EntityType::ALL.iter().copied().collect();
            let view = View { text: &text, bytes: text.as_bytes(), wanted, floor: 0, more };
            if OPENINGS.is_prose(&view, 0) {
                let attempt = letters(&view, 0, &OPENINGS).attempt;
                // A word that may go on is waited for; whatever follows, it is none.
                proptest::prop_assert!(matches!(attempt, Attempt::No | Attempt::More));
                proptest::prop_assert!(attempt == Attempt::No || more);
            }
        }
    }

    /// Texts of near-matches: each makes some scanner look far and find nothing, or find much.
    const ADVERSARIAL: [&str; 36] = [
        "1",
        "1 ",
        "1-",
        "12 ",
        "123 456 ",
        "1.2.3.",
        "10.1.2.3 ",
        "+1",
        "(1",
        "@",
        "a@",
        "a.",
        "a@b.",
        "password=",
        "password: ",
        "password=a1b2c3d4,",
        "password=x password=",
        "secret:=:=",
        "token=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
        "sk-",
        "sk-proj-",
        "sk-ant-",
        "eyJ",
        "eyJ-",
        "eyJ.",
        "SG.",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "://a:b",
        "::",
        "a:",
        "GB82 WEST ",
        "AB 12 34 56 ",
        "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.",
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo",
        "curl -u ",
    ];

    #[test]
    fn a_search_is_linear_in_any_text() {
        for unit in ADVERSARIAL {
            for piece_bytes in [usize::MAX / 2, 64] {
                let cost = |bytes: usize| work(&unit.repeat(bytes / unit.len()), piece_bytes);
                let (small, large) = (cost(5_000), cost(20_000));
                // Four times the text: four times the work, and a little for the ends.
                assert!(large <= small * 5, "{unit:?} in {piece_bytes}: {small} became {large}");
                assert!(large / 20_000 < 400, "{unit:?} in {piece_bytes}: {} a byte", large / 20_000);
            }
        }
    }
}
