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
    /// A payment card number with a valid check digit.
    CreditCard "CREDIT_CARD" "CARD" true;
    /// An international bank account number with a valid checksum.
    IbanCode "IBAN_CODE" "IBAN" true;
    /// A United States bank's routing number, with its checksum.
    AbaRoutingNumber "ABA_ROUTING_NUMBER" "ABA" true;
    /// A bank's BIC after a word that says so.
    SwiftCode "SWIFT_CODE" "SWIFT" false;
    /// A Bitcoin or Ethereum address with its checksum.
    Crypto "CRYPTO" "CRYPTO" true;
    /// An e-mail address.
    EmailAddress "EMAIL_ADDRESS" "EMAIL" true;
    /// A telephone number.
    PhoneNumber "PHONE_NUMBER" "PHONE" true;
    /// An IPv4 or IPv6 address.
    IpAddress "IP_ADDRESS" "IP" true;
    /// A network card's address.
    MacAddress "MAC_ADDRESS" "MAC" true;
    /// A United States social security number.
    UsSsn "US_SSN" "SSN" true;
    /// A United States individual taxpayer number.
    UsItin "US_ITIN" "ITIN" true;
    /// A United States health provider's number, with its check digit.
    UsNpi "US_NPI" "NPI" true;
    /// A United States passport number after a word that says so.
    UsPassport "US_PASSPORT" "PASSPORT" true;
    /// A United States driving licence number after a word that says so.
    UsDriverLicense "US_DRIVER_LICENSE" "LICENSE" false;
    /// A British health service number, with its check digit.
    UkNhs "UK_NHS" "NHS" true;
    /// A British national insurance number.
    UkNino "UK_NINO" "NINO" true;
    /// A Canadian social insurance number, with its check digit.
    CaSin "CA_SIN" "SIN" true;
    /// A Brazilian taxpayer number, with its check digits.
    BrCpf "BR_CPF" "CPF" true;
    /// A Brazilian company number, with its check digits.
    BrCnpj "BR_CNPJ" "CNPJ" true;
    /// A Spanish tax number, with its check letter.
    EsNif "ES_NIF" "NIF" true;
    /// A Spanish foreigner's number, with its check letter.
    EsNie "ES_NIE" "NIE" true;
    /// An Italian fiscal code, with its check letter.
    ItFiscalCode "IT_FISCAL_CODE" "CF" true;
    /// A German tax identification number, with its check digit.
    DeTaxId "DE_TAX_ID" "STEUERID" true;
    /// A Polish person's number, with its check digit.
    PlPesel "PL_PESEL" "PESEL" true;
    /// A Dutch citizen's number, with its checksum.
    NlBsn "NL_BSN" "BSN" true;
    /// A French social security number, with its check digits.
    FrNir "FR_NIR" "NIR" true;
    /// An Indian Aadhaar number, with its check digit.
    InAadhaar "IN_AADHAAR" "AADHAAR" true;
    /// An Indian permanent account number.
    InPan "IN_PAN" "PAN" true;
    /// An Australian tax file number, with its checksum.
    AuTfn "AU_TFN" "TFN" true;
    /// An Australian business number, with its checksum.
    AuAbn "AU_ABN" "ABN" true;
    /// A Singaporean identity number, with its check letter.
    SgNricFin "SG_NRIC_FIN" "NRIC" true;
    /// A South Korean resident's number.
    KrRrn "KR_RRN" "RRN" true;
    /// A vehicle identification number.
    Vin "VIN" "VIN" true;
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

    pub(crate) fn insert(&mut self, entity: EntityType) {
        self.0 |= 1 << entity as u8;
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
