//! What stands for a request in a ticket: a keyed hash, so that the same request is known again and nothing of it is
//! kept. The key never leaves the store's file and memory; without it a hash says nothing of short prompts.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

/// HMAC-SHA256 over policy, subject and content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&audit::event::hex(&self.0))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&audit::event::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let wrong = || serde::de::Error::custom("not 64 hex digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// Who a request is from, as far as grants go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The end user that the application named.
    User(&'a str),
    /// The key's id, where no user is named.
    Key(&'a str),
}

/// The store's key: 32 random bytes, made when the store is.
#[derive(Clone)]
pub struct FingerprintKey([u8; 32]);

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FingerprintKey(hidden)")
    }
}

impl FingerprintKey {
    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of a request: `content` is the canonical form of its judged messages. Every part carries its
    /// length, so that no two requests run together.
    pub fn fingerprint(&self, policy_id: &str, subject: Subject<'_>, content: &[u8]) -> Fingerprint {
        let (kind, name) = match subject {
            Subject::User(name) => (b"user", name),
            Subject::Key(id) => (b"key ", id),
        };
        let parts: [&[u8]; 4] = [policy_id.as_bytes(), kind, name.as_bytes(), content];
        let mut mac = hmac(&self.0);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        Fingerprint(mac.finalize().into_bytes().into())
    }
}

/// HMAC-SHA256 with a key of any length.
pub(crate) fn hmac(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        // HMAC takes keys of every length; the empty one stands in for an error that cannot be.
        Err(_) => Hmac::<Sha256>::new(&Default::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FingerprintKey {
        FingerprintKey::new([7; 32])
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let of = |policy: &str, subject: Subject<'_>, content: &str| {
            key().fingerprint(policy, subject, content.as_bytes())
        };
        let all = [
            of("p", Subject::User("u"), "text"),
            of("p2", Subject::User("u"), "text"),
            of("p", Subject::User("ut"), "ext"),
            of("p", Subject::Key("u"), "text"),
            of("p", Subject::User("u"), "text "),
            FingerprintKey::new([8; 32]).fingerprint("p", Subject::User("u"), b"text"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], of("p", Subject::User("u"), "text"));
    }

    #[test]
    fn it_is_the_hmac_of_rfc_4231() {
        let mut mac = hmac(b"Jefe");
        mac.update(b"what do ya want for nothing?");
        assert_eq!(
            audit::event::hex(&mac.finalize().into_bytes().into()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn it_reads_back_from_json() {
        let fingerprint = key().fingerprint("p", Subject::Key("k"), b"x");
        let text = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), fingerprint);
        for wrong in ["\"\"", "\"zz\"", "1"] {
            assert!(serde_json::from_str::<Fingerprint>(wrong).is_err());
        }
    }
}
