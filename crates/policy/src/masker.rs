//! What is written in place of the values of one request: `[EMAIL_1]` and so on, one number per distinct value of a
//! type, the same in the request and its answer; or a hash, or a part. Values that are to be put back live here, in
//! memory, and nowhere else. Finding them is `entities`' job.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::entities::EntityType;
use crate::partial;
use crate::redaction::RedactionAction;
use crate::revision::Revision;

/// Bytes of a value that tell it from others; longer values (private keys, long tokens) are told apart by
/// their beginnings, so that a stream need not hold them.
const VALUE_BYTES_MAX: usize = 512;

/// Digits of a placeholder's number that are read when looking for placeholders already in use.
const NUMBER_DIGITS_MAX: usize = 9;

/// Bytes of a keyed hash that are written, as twice as many digits.
const HASH_BYTES: usize = 6;

/// Numbers the values replaced in one request. `Debug` shows counts, never values.
#[derive(Clone, Default)]
pub struct Masker {
    /// By a digest of the value, so that no value is kept for this.
    numbers: BTreeMap<(EntityType, [u8; 32]), u32>,
    next: BTreeMap<EntityType, u32>,
    taken: BTreeSet<(EntityType, u32)>,
    /// The values of the request, as first spelled there, where its policy puts them back into the answer.
    originals: BTreeMap<(EntityType, u32), Zeroizing<String>>,
}

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Request,
    Answer,
}

impl Masker {
    /// Nothing replaced yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the placeholders that a text already holds, so that their numbers are not given to other values.
    pub fn note_existing(&mut self, text: &str) {
        for (at, _) in text.match_indices('[') {
            if let Some((entity, number)) = placeholder(text.get(at..).unwrap_or_default()) {
                self.taken.insert((entity, number));
            }
        }
    }

    /// The value of the request that a placeholder stands for, as first spelled there. `None` for any other text, for
    /// values that were first seen in the answer, and under a policy without `restore`.
    pub fn restore_lookup(&self, placeholder: &str) -> Option<&str> {
        let name_end = placeholder.len().checked_sub(1)?;
        let key = self::placeholder(placeholder)?;
        let is_whole = placeholder.find(']') == Some(name_end);
        let value = self.originals.get(&key).filter(|_| is_whole)?;
        Some(value.as_str())
    }

    /// Whether a text is the beginning of a placeholder for which [`Masker::restore_lookup`] has a value.
    pub fn may_restore(&self, beginning: &str) -> bool {
        let Some(beginning) = beginning.strip_prefix('[') else { return false };
        EntityType::ALL.iter().any(|entity| {
            let has = |numbers: RangeInclusive<u32>| {
                let (from, to) = numbers.into_inner();
                self.originals.range((*entity, from)..=(*entity, to)).next().is_some()
            };
            match beginning.strip_prefix(entity.placeholder()) {
                None => entity.placeholder().starts_with(beginning) && has(0..=u32::MAX),
                Some("") => has(0..=u32::MAX),
                Some(rest) => rest.strip_prefix('_').is_some_and(|rest| match rest.strip_suffix(']') {
                    Some(digits) => number_of(digits).is_some_and(|number| has(number..=number)),
                    None if rest.is_empty() => has(0..=u32::MAX),
                    None => number_of(rest).is_some_and(|number| longer(number).any(has)),
                }),
            }
        })
    }

    /// Appends what stands for a value found in a text.
    pub(crate) fn write(
        &mut self,
        revision: &Revision,
        from: From,
        entity: EntityType,
        value: &str,
        out: &mut String,
    ) {
        match revision.redaction_action(entity) {
            RedactionAction::Hash => {
                out.push('[');
                out.push_str(entity.placeholder());
                out.push('_');
                write_hash(revision.hash_key(), entity, value, out);
                out.push(']');
            }
            RedactionAction::Partial => partial::write(entity, value, out),
            RedactionAction::Mask | RedactionAction::Refuse | RedactionAction::Escalate => {
                let number = self.number(entity, value);
                if from == From::Request && revision.restores() {
                    let original = || Zeroizing::new(value.to_owned());
                    self.originals.entry((entity, number)).or_insert_with(original);
                }
                out.push('[');
                out.push_str(entity.placeholder());
                out.push('_');
                out.push_str(&number.to_string());
                out.push(']');
            }
        }
    }

    fn number(&mut self, entity: EntityType, value: &str) -> u32 {
        let key = (entity, Sha256::digest(identity(entity, value).as_bytes()).into());
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let next = self.next.entry(entity).or_insert(1);
        while self.taken.contains(&(entity, *next)) {
            *next += 1;
        }
        let number = *next;
        *next += 1;
        self.numbers.insert(key, number);
        number
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("values", &self.numbers.len()).finish_non_exhaustive()
    }
}

/// The placeholder at the beginning of a text: `[EMAIL_1]`.
fn placeholder(text: &str) -> Option<(EntityType, u32)> {
    let rest = text.strip_prefix('[')?;
    let name_len = rest.bytes().take_while(u8::is_ascii_uppercase).count();
    let entity = EntityType::from_placeholder(rest.get(..name_len)?)?;
    let rest = rest.get(name_len..)?.strip_prefix('_')?;
    let digits = rest.bytes().take(NUMBER_DIGITS_MAX).take_while(u8::is_ascii_digit).count();
    let number = rest.get(..digits)?.parse().ok()?;
    (rest.as_bytes().get(digits) == Some(&b']')).then_some((entity, number))
}

/// A number as placeholders have it: without a leading zero.
fn number_of(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_number)
}

/// The numbers that a number is or begins, by their count of digits.
fn longer(number: u32) -> impl Iterator<Item = RangeInclusive<u32>> {
    let first = (number, number);
    let next = |(from, to): &(u32, u32)| {
        Some((from.checked_mul(10)?, to.checked_mul(10).and_then(|to| to.checked_add(9)).unwrap_or(u32::MAX)))
    };
    std::iter::successors(Some(first), next).map(|(from, to)| from..=to)
}

/// The first digits of HMAC-SHA256 over the type and the value.
fn write_hash(key: &[u8; 32], entity: EntityType, value: &str, out: &mut String) {
    use std::fmt::Write as _;
    // A key of any length is fine for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return };
    mac.update(entity.as_str().as_bytes());
    mac.update(&[0]);
    mac.update(identity(entity, value).as_bytes());
    for byte in mac.finalize().into_bytes().iter().take(HASH_BYTES) {
        let _ = write!(out, "{byte:02x}");
    }
}

/// What makes two spellings one value: a card number with and without blanks is the same card.
fn identity(entity: EntityType, value: &str) -> Zeroizing<String> {
    let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or_default();
    Zeroizing::new(match entity {
        EntityType::Secret => value.to_owned(),
        EntityType::EmailAddress | EntityType::IpAddress => value.to_lowercase(),
        EntityType::PhoneNumber => value.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect(),
        _ => value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::PolicyDocument;

    fn revision(redaction: &Value) -> Revision {
        let document = json!({"policy_id": "p", "rules": {"redact": true, "redaction": redaction}});
        Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap()
    }

    fn written(masker: &mut Masker, revision: &Revision, entity: EntityType, value: &str) -> String {
        let mut out = String::new();
        masker.write(revision, From::Request, entity, value, &mut out);
        out
    }

    fn placeholder(masker: &mut Masker, entity: EntityType, value: &str) -> String {
        written(masker, &revision(&json!({})), entity, value)
    }

    #[test]
    fn one_number_per_distinct_value_of_a_type() {
        let mut masker = Masker::new();
        assert_eq!(placeholder(&mut masker, EntityType::EmailAddress, "a@x.org"), "[EMAIL_1]");
        assert_eq!(placeholder(&mut masker, EntityType::EmailAddress, "b@x.org"), "[EMAIL_2]");
        assert_eq!(placeholder(&mut masker, EntityType::EmailAddress, "A@X.org"), "[EMAIL_1]");
        assert_eq!(placeholder(&mut masker, EntityType::CreditCard, "4111 1111 1111 1111"), "[CARD_1]");
        assert_eq!(placeholder(&mut masker, EntityType::CreditCard, "4111111111111111"), "[CARD_1]");
    }

    #[test]
    fn numbers_in_use_are_skipped() {
        let mut masker = Masker::new();
        masker.note_existing("[EMAIL_1] and [EMAIL_3], [EMAIL_x] [[IP_1] [SECRET_99999999999] [");
        assert_eq!(placeholder(&mut masker, EntityType::EmailAddress, "a@x.org"), "[EMAIL_2]");
        assert_eq!(placeholder(&mut masker, EntityType::EmailAddress, "b@x.org"), "[EMAIL_4]");
        assert_eq!(placeholder(&mut masker, EntityType::IpAddress, "10.0.0.1"), "[IP_2]");
    }

    #[test]
    fn debug_hides_values() {
        let mut masker = Masker::new();
        placeholder(&mut masker, EntityType::Secret, "hunter2");
        assert!(!format!("{masker:?}").contains("hunter2"));
    }

    #[test]
    fn a_placeholder_of_the_request_leads_back_to_its_value_as_first_spelled() {
        let restoring = revision(&json!({"restore": true}));
        let mut masker = Masker::new();
        assert_eq!(written(&mut masker, &restoring, EntityType::EmailAddress, "Bob@X.org"), "[EMAIL_1]");
        assert_eq!(written(&mut masker, &restoring, EntityType::EmailAddress, "bob@x.org"), "[EMAIL_1]");
        assert_eq!(masker.restore_lookup("[EMAIL_1]"), Some("Bob@X.org"));
        for other in
            ["[EMAIL_2]", "[IP_1]", "EMAIL_1", "[EMAIL_1", "[EMAIL_1] ", "[email_1]", "[EMAIL_01", ""]
        {
            assert_eq!(masker.restore_lookup(other), None, "{other}");
        }
        for beginning in ["[", "[E", "[EMAIL", "[EMAIL_", "[EMAIL_1", "[EMAIL_1]"] {
            assert!(masker.may_restore(beginning), "{beginning}");
        }
        for other in ["", "E", "[e", "[I", "[EMAILS", "[EMAIL_2", "[EMAIL_10", "[EMAIL_1] "] {
            assert!(!masker.may_restore(other), "{other}");
        }
        // A value of the model's own is numbered on, and never put back.
        let mut out = String::new();
        masker.write(&restoring, From::Answer, EntityType::EmailAddress, "eve@x.org", &mut out);
        assert_eq!((out.as_str(), masker.restore_lookup("[EMAIL_2]")), ("[EMAIL_2]", None));
        let mut masker = Masker::new();
        written(&mut masker, &revision(&json!({})), EntityType::EmailAddress, "bob@x.org");
        assert_eq!(masker.restore_lookup("[EMAIL_1]"), None);
    }

    #[test]
    fn any_beginning_of_a_placeholder_in_use_may_be_restored_and_nothing_else() {
        let restoring = revision(&json!({"restore": true}));
        let mut masker = Masker::new();
        for number in 1..=120 {
            written(&mut masker, &restoring, EntityType::EmailAddress, &format!("{number}@x.org"));
        }
        for number in 1..=120 {
            let placeholder = format!("[EMAIL_{number}]");
            for end in 1..=placeholder.len() {
                assert!(masker.may_restore(&placeholder[..end]), "{}", &placeholder[..end]);
            }
        }
        for other in [
            "[EMAIL_0",
            "[EMAIL_121",
            "[EMAIL_01",
            "[EMAIL_]",
            "[EMAIL_+1",
            "[EMAIL_1]]",
            "[EMAIL_4294967295",
            "[EMAIL_99999999999",
            "[EMAIL__",
        ] {
            assert!(!masker.may_restore(other), "{other}");
        }
    }

    #[test]
    fn a_hash_tells_values_apart_and_depends_on_the_salt() {
        let hash = |salt: &str, entity, value: &str| {
            let revision = revision(&json!({"action": "hash", "hash_salt": salt}));
            written(&mut Masker::new(), &revision, entity, value)
        };
        let bob = hash("one", EntityType::EmailAddress, "bob@x.org");
        assert!(
            bob.starts_with("[EMAIL_") && bob.ends_with(']') && bob.len() == "[EMAIL_]".len() + 12,
            "{bob}"
        );
        assert_eq!(hash("one", EntityType::EmailAddress, "BOB@x.org"), bob);
        assert_ne!(hash("one", EntityType::EmailAddress, "eve@x.org"), bob);
        assert_ne!(hash("two", EntityType::EmailAddress, "bob@x.org"), bob);
        assert_ne!(hash("one", EntityType::Secret, "bob@x.org")[8..], bob[7..]);
    }
}
