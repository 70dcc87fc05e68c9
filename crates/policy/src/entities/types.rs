//! The types of personal data and secrets: names on the wire and in placeholders, and which are looked for where a
//! policy names none. How each is recognised is its scanner's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the types once: variant, wire name, placeholder, and whether the default set has it.
macro_rules! entity_types {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $placeholder:literal $default:literal;)+) => {
        /// A type of personal data or secret that redaction knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum EntityType {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl EntityType {
            /// All types.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in policies and events, as in `"redactions": {"EMAIL_ADDRESS": 1}`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The name in placeholders, as in `[EMAIL_1]`.
            pub fn placeholder(self) -> &'static str {
                match self { $(Self::$variant => $placeholder),+ }
            }

            /// Whether it is looked for where a policy names no types.
            pub fn is_default(self) -> bool {
                match self { $(Self::$variant => $default),+ }
            }
        }
    };
}

entity_types! {
    /// An e-mail address.
    EmailAddress "EMAIL_ADDRESS" "EMAIL" true;
    /// A telephone number.
    PhoneNumber "PHONE_NUMBER" "PHONE" true;
    /// A payment card number with a valid check digit.
    CreditCard "CREDIT_CARD" "CARD" true;
    /// A United States social security number.
    UsSsn "US_SSN" "SSN" true;
    /// An international bank account number with a valid checksum.
    IbanCode "IBAN_CODE" "IBAN" true;
    /// An IPv4 or IPv6 address.
    IpAddress "IP_ADDRESS" "IP" true;
    /// A credential: an API key, a token, a private key, a password in a URL or an assignment.
    Secret "SECRET" "SECRET" true;
}

impl EntityType {
    pub(crate) fn from_placeholder(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|entity| entity.placeholder() == name)
    }
}

/// A set of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntitySet(u64);

impl EntitySet {
    /// The types that are looked for where a policy names none.
    pub(crate) fn default_set() -> Self {
        EntityType::ALL.iter().copied().filter(|entity| entity.is_default()).collect()
    }

    pub(crate) const fn has(self, entity: EntityType) -> bool {
        self.0 >> entity as u8 & 1 == 1
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = EntityType> {
        EntityType::ALL.iter().copied().filter(move |entity| self.has(*entity))
    }
}

impl FromIterator<EntityType> for EntitySet {
    fn from_iter<I: IntoIterator<Item = EntityType>>(entities: I) -> Self {
        Self(entities.into_iter().fold(0, |set, entity| set | 1 << entity as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_placeholders_are_distinct_and_fit_the_set() {
        assert!(EntityType::ALL.len() <= 64);
        for entity in EntityType::ALL {
            assert_eq!(EntityType::from_placeholder(entity.placeholder()), Some(*entity));
            assert_eq!(serde_json::to_value(entity).unwrap(), entity.as_str());
            assert!(!entity.placeholder().contains('_'), "{entity:?}");
        }
    }
}
