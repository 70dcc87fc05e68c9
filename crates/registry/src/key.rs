//! Keys that applications present: their format, the digest that stands for them, and what is known of one. The key
//! itself is never kept.

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::key_use::LastUse;
use crate::plan::{PRIORITY_DEFAULT, Plan};
use crate::project::Project;

/// What every key starts with, so that secret scanners and our own redaction recognise one.
const PREFIX: &str = "ak_";
/// Longest part after the prefix: far more than any entropy needs, and it bounds the work before a key is known.
const BODY_BYTES_MAX: usize = 200;
/// Hex digits of the digest in the public id: 48 bits tell the keys of one installation apart.
const ID_HEX_DIGITS: usize = 12;

/// A key as a request sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Public id (`key_` and the first hex digits of the digest); safe to log and to export.
    pub id: String,
    /// As its owner named it.
    pub name: Option<String>,
    /// The project that it belongs to.
    pub project: Arc<Project>,
    /// Unix time in milliseconds from which it is refused; none means never.
    pub expires_at_ms: Option<i64>,
    /// The plan that it is on: its own, or its project's.
    pub plan: Option<Arc<Plan>>,
    /// When it was last presented.
    pub used: LastUse,
}

impl Key {
    /// Who goes first: 0 to [`crate::plan::PRIORITY_MAX`].
    pub fn priority(&self) -> u8 {
        self.plan.as_ref().map_or(PRIORITY_DEFAULT, |plan| plan.priority)
    }
}

/// Why a presented key is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be one of ours.
    #[error("a key starts with `ak_`, followed by 1 to 200 letters, digits, `_` or `-`")]
    Malformed,
    /// No project has it.
    #[error("the key is not known")]
    Unknown,
    /// It was taken back.
    #[error("the key was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
}

/// A text that cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key starts with `ak_`, followed by 1 to 200 letters, digits, `_` or `-`")]
pub struct KeyFormatError;

/// SHA-256 of a key. Its first digits name the key; what is kept and compared is made of it with a secret, see
/// [`KeySecret`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

/// What stands for a key where it is kept and compared: HMAC-SHA256 of its digest under the store's own secret. A look-up
/// by it tells nothing by its time, as nobody outside can say where a guess would fall.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyedDigest([u8; 32]);

/// The store's own 32 random bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySecret([u8; 32]);

/// What is known of a key that is to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStandIn {
    /// The digest of one that a file declares.
    Digest(KeyDigest),
    /// What was kept of one that the management API made.
    Keyed {
        /// Its public id.
        id: String,
        /// Stands for it.
        digest: KeyedDigest,
    },
}

impl From<KeyDigest> for KeyStandIn {
    fn from(digest: KeyDigest) -> Self {
        Self::Digest(digest)
    }
}

impl KeyStandIn {
    /// The public id.
    pub fn id(&self) -> String {
        match self {
            Self::Digest(digest) => digest.id(),
            Self::Keyed { id, .. } => id.clone(),
        }
    }

    /// What it is looked up by.
    pub fn keyed(&self, secret: &KeySecret) -> KeyedDigest {
        match self {
            Self::Digest(digest) => secret.keyed(digest),
            Self::Keyed { digest, .. } => *digest,
        }
    }
}

impl KeySecret {
    /// With these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What stands for the key.
    pub fn keyed(&self, digest: &KeyDigest) -> KeyedDigest {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let keyed = mac.map(|mac| mac.chain_update(digest.0).finalize().into_bytes().into());
        // HMAC takes keys of every length: there is no error.
        KeyedDigest(keyed.unwrap_or_default())
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeySecret(hidden)")
    }
}

impl fmt::Debug for KeyedDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyedDigest(hidden)")
    }
}

impl KeyDigest {
    /// The digest of a key in its full text.
    ///
    /// # Errors
    /// [`KeyFormatError`] where the text does not have the form of a key.
    pub fn of(key: &str) -> Result<Self, KeyFormatError> {
        let body = key.strip_prefix(PREFIX).ok_or(KeyFormatError)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if body.is_empty() || body.len() > BODY_BYTES_MAX || !body.bytes().all(plain) {
            return Err(KeyFormatError);
        }
        Ok(Self(Sha256::digest(key.as_bytes()).into()))
    }

    /// The public id, as in [`Key::id`].
    pub fn id(&self) -> String {
        let mut id = String::with_capacity(4 + ID_HEX_DIGITS);
        id.push_str("key_");
        id.extend(self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(ID_HEX_DIGITS).map(hex_digit));
        id
    }
}

impl KeyedDigest {
    /// As hex, to be kept.
    pub fn to_hex(&self) -> String {
        audit::event::hex(&self.0)
    }

    /// From what [`KeyedDigest::to_hex`] gave.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// A key that nobody has: 264 random bits.
///
/// # Errors
/// Where the system has no random bytes to give.
pub(crate) fn new_key() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; 33];
    getrandom::fill(&mut bytes)?;
    let mut key = String::from(PREFIX);
    for three in bytes.chunks_exact(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in [18, 12, 6, 0] {
            let digit = usize::try_from(bits >> place & 63).unwrap_or_default();
            key.push(ALPHABET.get(digit).copied().map_or('A', char::from));
        }
    }
    Ok(key)
}

/// The first characters of a key, for people to recognise it by: 24 bits of its 264.
pub(crate) fn prefix_of(key: &str) -> String {
    key.chars().take(PREFIX.len() + 4).collect()
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KeyDigest").field(&self.id()).finish()
    }
}

/// A hasher for [`KeyedDigest`] maps: a digest is already uniform, its first bytes serve as they are. Only the
/// operator inserts, so that nobody can crowd a bucket.
pub(crate) type DigestBuildHasher = BuildHasherDefault<DigestHasher>;

/// See [`DigestBuildHasher`].
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length prefix of an array says nothing.
    fn write_usize(&mut self, _: usize) {}
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_in_the_form_of_a_key_have_a_digest() {
        let longest = format!("ak_{}", "a".repeat(BODY_BYTES_MAX));
        for good in ["ak_a", "ak_Ab9_-", longest.as_str()] {
            assert!(KeyDigest::of(good).is_ok(), "{good}");
        }
        let too_long = format!("{longest}a");
        for bad in ["", "ak_", "sk_abc", "AK_abc", "ak_a b", "ak_ä", "ak_a\n", " ak_a", too_long.as_str()] {
            assert_eq!(KeyDigest::of(bad), Err(KeyFormatError), "{bad}");
        }
    }

    #[test]
    fn a_new_key_is_a_key_of_its_own_and_its_digest_can_be_kept() {
        let (one, other) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 3 + 44);
        let digest = KeyDigest::of(&one).unwrap();
        let keyed = KeySecret::new([7; 32]).keyed(&digest);
        assert_ne!(keyed.0, digest.0);
        assert_ne!(keyed, KeySecret::new([8; 32]).keyed(&digest), "another store's secret");
        assert_ne!(keyed, KeySecret::new([7; 32]).keyed(&KeyDigest::of(&other).unwrap()));
        assert_eq!(KeyedDigest::from_hex(&keyed.to_hex()), Some(keyed));
        assert_eq!(prefix_of(&one), one[..7]);
        for bad in ["", "0", &"z".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert_eq!(KeyedDigest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_id_is_stable_and_tells_nothing_of_the_key() {
        let digest = KeyDigest::of("ak_example").unwrap();
        // printf ak_example | sha256sum
        assert_eq!(digest.id(), KeyDigest::of("ak_example").unwrap().id());
        assert_eq!(digest.id().len(), 16);
        assert!(!digest.id().contains("example"));
        assert_eq!(format!("{digest:?}"), format!("KeyDigest({:?})", digest.id()));
    }
}
