//! Personal data and secrets: what types there are, and the search for them in a text or a part of a stream.
//! What is done about a find (placeholders, counts) is up to `masker`, `input` and `output`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A type of personal data or secret that redaction knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntityType {
    /// An e-mail address.
    EmailAddress,
    /// A telephone number.
    PhoneNumber,
    /// A payment card number with a valid check digit.
    CreditCard,
    /// A United States social security number.
    UsSsn,
    /// An international bank account number with a valid checksum.
    IbanCode,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A credential in a well-known format: an API key, a token, a private key, a password in a URL.
    Secret,
}

impl EntityType {
    const ALL: [Self; 7] = [
        Self::EmailAddress,
        Self::PhoneNumber,
        Self::CreditCard,
        Self::UsSsn,
        Self::IbanCode,
        Self::IpAddress,
        Self::Secret,
    ];

    /// The name in events, as in `"redactions": {"EMAIL_ADDRESS": 1}`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::PhoneNumber => "PHONE_NUMBER",
            Self::CreditCard => "CREDIT_CARD",
            Self::UsSsn => "US_SSN",
            Self::IbanCode => "IBAN_CODE",
            Self::IpAddress => "IP_ADDRESS",
            Self::Secret => "SECRET",
        }
    }

    /// The name in placeholders, as in `[EMAIL_1]`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::EmailAddress => "EMAIL",
            Self::PhoneNumber => "PHONE",
            Self::CreditCard => "CARD",
            Self::UsSsn => "SSN",
            Self::IbanCode => "IBAN",
            Self::IpAddress => "IP",
            Self::Secret => "SECRET",
        }
    }

    pub(crate) fn from_placeholder(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.placeholder() == name)
    }
}
