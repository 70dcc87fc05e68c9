//! Numbers that states and banks give out and that are written in digits alone. Each is a line: how it is written, its
//! check, and whether a word before it must say what it is, where the digits alone would be anything.

use super::checks;
use super::context;
use super::numbers::{Group, Groups};
use super::types::{EntitySet, EntityType};
use super::view::{View, is_word_at};

/// Whether a word before must say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Word,
}

struct Form {
    entity: EntityType,
    /// Lengths of the groups (`a` for ten, and so on) with the separators between.
    written: &'static [u8],
    needs: Needs,
    check: fn(&[u8]) -> bool,
}

const fn form(entity: EntityType, written: &'static [u8], check: fn(&[u8]) -> bool) -> Form {
    Form { entity, written, needs: Needs::Nothing, check }
}

const fn named(entity: EntityType, written: &'static [u8], check: fn(&[u8]) -> bool) -> Form {
    Form { entity, written, needs: Needs::Word, check }
}

/// Of two that fit alike, the first.
static FORMS: &[Form] = &[
    form(EntityType::UsItin, b"3-2-4", checks::us_itin),
    form(EntityType::UsItin, b"3 2 4", checks::us_itin),
    named(EntityType::UsItin, b"9", checks::us_itin),
    form(EntityType::UsSsn, b"3-2-4", checks::us_ssn),
    form(EntityType::UsSsn, b"3 2 4", checks::us_ssn),
    named(EntityType::UsSsn, b"9", checks::us_ssn),
    named(EntityType::UsSsn, b"3.2.4", checks::us_ssn),
    form(EntityType::UsNpi, b"4-3-3", checks::us_npi),
    named(EntityType::UsNpi, b"a", checks::us_npi),
    form(EntityType::AbaRoutingNumber, b"4-4-1", checks::aba),
    named(EntityType::AbaRoutingNumber, b"9", checks::aba),
    form(EntityType::UkNhs, b"3 3 4", checks::uk_nhs),
    form(EntityType::UkNhs, b"3-3-4", checks::uk_nhs),
    named(EntityType::UkNhs, b"a", checks::uk_nhs),
    form(EntityType::CaSin, b"3-3-3", checks::ca_sin),
    named(EntityType::CaSin, b"3 3 3", checks::ca_sin),
    named(EntityType::CaSin, b"9", checks::ca_sin),
    form(EntityType::BrCpf, b"3.3.3-2", checks::br_cpf),
    named(EntityType::BrCpf, b"b", checks::br_cpf),
    form(EntityType::BrCnpj, b"2.3.3/4-2", checks::br_cnpj),
    named(EntityType::BrCnpj, b"e", checks::br_cnpj),
    form(EntityType::AuAbn, b"2 3 3 3", checks::au_abn),
    named(EntityType::AuAbn, b"b", checks::au_abn),
    form(EntityType::DeTaxId, b"2 3 3 3", checks::de_tax_id),
    named(EntityType::DeTaxId, b"b", checks::de_tax_id),
    named(EntityType::PlPesel, b"b", checks::pl_pesel),
    named(EntityType::NlBsn, b"9", checks::nl_bsn),
    named(EntityType::NlBsn, b"3 3 3", checks::nl_bsn),
    named(EntityType::NlBsn, b"3.3.3", checks::nl_bsn),
    named(EntityType::NlBsn, b"4.2.3", checks::nl_bsn),
    form(EntityType::FrNir, b"1 2 2 2 3 3 2", checks::fr_nir),
    form(EntityType::FrNir, b"d 2", checks::fr_nir),
    form(EntityType::FrNir, b"f", checks::fr_nir),
    form(EntityType::InAadhaar, b"4 4 4", checks::in_aadhaar),
    form(EntityType::InAadhaar, b"4-4-4", checks::in_aadhaar),
    named(EntityType::InAadhaar, b"c", checks::in_aadhaar),
    named(EntityType::AuTfn, b"3 3 3", checks::au_tfn),
    named(EntityType::AuTfn, b"3-3-3", checks::au_tfn),
    named(EntityType::AuTfn, b"9", checks::au_tfn),
    form(EntityType::KrRrn, b"6-7", checks::kr_rrn),
    named(EntityType::KrRrn, b"d", checks::kr_rrn),
    named(EntityType::UsPassport, b"9", checks::any),
    named(EntityType::UsDriverLicense, b"7", checks::any),
    named(EntityType::UsDriverLicense, b"8", checks::any),
    named(EntityType::UsDriverLicense, b"9", checks::any),
];

/// Digits of the longest.
const DIGITS_MAX: usize = 15;

/// A number found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub(super) entity: EntityType,
    pub(super) end: usize,
    /// Whether a word before says what it is.
    pub(super) is_named: bool,
}

/// The number at a place: one that a word before names, else the longest, else the first.
pub(super) fn at(view: &View<'_>, start: usize, groups: &Groups) -> Option<Number> {
    // The middle of a longer number in groups.
    let is_inner = view.before(start) == Some(b' ')
        && start > view.floor + 1
        && view.before(start - 1).is_some_and(|byte| byte.is_ascii_digit());
    let mut words: Option<EntitySet> = None;
    let mut best: Option<Number> = None;
    for form in FORMS {
        if !view.wanted.has(form.entity) {
            continue;
        }
        let Some(some) = written(groups, form.written) else { continue };
        let Some(end) = some.last().map(|group| group.end) else { continue };
        if is_word_at(view, end) || is_inner && some.len() > 1 {
            continue;
        }
        let mut digits = [0u8; DIGITS_MAX];
        if !digits_of(view, some, &mut digits).is_some_and(|digits| (form.check)(digits)) {
            continue;
        }
        let is_named = words.get_or_insert_with(|| context::named(view, start)).has(form.entity);
        if form.needs == Needs::Word && !is_named {
            continue;
        }
        let number = Number { entity: form.entity, end, is_named };
        if best.is_none_or(|best| (is_named, end) > (best.is_named, best.end)) {
            best = Some(number);
        }
    }
    best
}

/// The first groups, if they are written like this and no further group belongs to them.
fn written<'g>(groups: &'g Groups, pattern: &[u8]) -> Option<&'g [Group]> {
    let count = pattern.len().div_ceil(2);
    let some = groups.all().get(..count)?;
    let mut places = pattern.chunks(2);
    let mut separator = 0;
    for group in some {
        let place = places.next()?;
        let len = char::from(*place.first()?).to_digit(16)? as usize;
        if group.len() != len || group.separator != separator {
            return None;
        }
        separator = place.get(1).copied().unwrap_or(0);
    }
    let joined = match groups.separator_after(count) {
        // After a stroke stands another number: what becomes of that must not bring this one to light.
        None | Some(b'/') => false,
        Some(b' ') => count > 1 && some.last().is_some_and(|group| group.separator == b' '),
        Some(_) => true,
    };
    (!joined).then_some(some)
}

fn digits_of<'d>(view: &View<'_>, groups: &[Group], digits: &'d mut [u8; DIGITS_MAX]) -> Option<&'d [u8]> {
    let mut len = 0;
    for group in groups {
        for byte in view.slice(group.start, group.end) {
            *digits.get_mut(len)? = byte - b'0';
            len += 1;
        }
    }
    digits.get(..len)
}
