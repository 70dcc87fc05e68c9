//! The placeholders of one request: `[EMAIL_1]` and so on, one number per distinct value of a type, the same
//! in the request and its answer. Values live here in memory and nowhere else. Finding them is `entities`' job.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::entities::EntityType;

/// Bytes of a value that tell it from others; longer values (private keys, long tokens) are told apart by
/// their beginnings, so that a stream need not hold them.
const VALUE_BYTES_MAX: usize = 512;

/// Digits of a placeholder's number that are read when looking for placeholders already in use.
const NUMBER_DIGITS_MAX: usize = 9;

/// Numbers the values replaced in one request. `Debug` shows counts, never values.
#[derive(Clone, Default)]
pub struct Masker {
    numbers: BTreeMap<(EntityType, Box<str>), u32>,
    next: BTreeMap<EntityType, u32>,
    taken: BTreeSet<(EntityType, u32)>,
}

impl Masker {
    /// Nothing replaced yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the placeholders that a text already holds, so that their numbers are not given to other values.
    pub fn note_existing(&mut self, text: &str) {
        for (at, _) in text.match_indices('[') {
            let rest = text.get(at + 1..).unwrap_or_default();
            let Some((name, rest)) = rest.split_once('_') else { break };
            let Some(entity) = EntityType::from_placeholder(name) else { continue };
            let digits = rest.bytes().take(NUMBER_DIGITS_MAX).take_while(u8::is_ascii_digit).count();
            if rest.as_bytes().get(digits) == Some(&b']')
                && let Some(Ok(number)) = rest.get(..digits).map(str::parse)
            {
                self.taken.insert((entity, number));
            }
        }
    }

    /// Appends the placeholder of a value as found in a text.
    pub(crate) fn write_placeholder(&mut self, entity: EntityType, value: &str, out: &mut String) {
        let number = self.number(entity, value);
        out.push('[');
        out.push_str(entity.placeholder());
        out.push('_');
        out.push_str(&number.to_string());
        out.push(']');
    }

    fn number(&mut self, entity: EntityType, value: &str) -> u32 {
        let key = (entity, identity(entity, value));
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

/// What makes two spellings one value: a card number with and without blanks is the same card.
fn identity(entity: EntityType, value: &str) -> Box<str> {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = value.get(..end).unwrap_or_default();
    match entity {
        EntityType::EmailAddress | EntityType::IpAddress => value.to_lowercase().into(),
        EntityType::CreditCard | EntityType::UsSsn | EntityType::PhoneNumber => {
            value.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect::<String>().into()
        }
        EntityType::IbanCode => value
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect::<String>()
            .into(),
        EntityType::Secret => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholder(masker: &mut Masker, entity: EntityType, value: &str) -> String {
        let mut out = String::new();
        masker.write_placeholder(entity, value, &mut out);
        out
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
}
