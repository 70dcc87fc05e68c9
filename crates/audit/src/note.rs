//! Signed notes and their Ed25519 keys, in the formats of C2SP's signed-note (<https://c2sp.org/signed-note>), which Go's
//! `sumdb/note` reads too. What a note says is none of this file's business; see `checkpoint` for that.
//!
//! - A note is its text, a blank line, and one line per signature: `— NAME BASE64(id ‖ signature)`.
//! - A public key is written `NAME+ID+BASE64(0x01 ‖ key)`, a private one `PRIVATE+KEY+NAME+ID+BASE64(0x01 ‖ seed)`, the id
//!   being the first four bytes, in hex, of `SHA-256(NAME ‖ "\n" ‖ 0x01 ‖ key)`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// C2SP's number of Ed25519.
const ALGORITHM: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";
/// A name stands in every signature.
const NAME_BYTES_MAX: usize = 100;
/// More signatures than that are no note of ours.
const SIGNATURES_MAX: usize = 16;

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the shape of a public key.
    #[error("it is not a public key: one reads `NAME+ID+KEY`, as `audit keygen` prints it")]
    NotPublic,
    /// Not the shape of a private key.
    #[error("it is not a private key: one reads `PRIVATE+KEY+NAME+ID+KEY`, as `audit keygen` writes it")]
    NotPrivate,
    /// The id is not that of the key.
    #[error("its id is not that of its name and key: it was mistyped or cut off")]
    Id,
    /// It does not fit a line of a note.
    #[error("a key's name has 1 to {NAME_BYTES_MAX} visible ASCII characters, none of them `+`")]
    Name,
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl PublicKey {
    fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyError> {
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
            return Err(KeyError::Name);
        }
        let mut hasher = Sha256::new();
        hasher.update(name.as_bytes());
        hasher.update([b'\n', ALGORITHM]);
        hasher.update(key);
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, ..] = digest;
        Ok(Self { name: name.to_owned(), id: [a, b, c, d], key })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it made this signature of the text.
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(text.as_bytes(), signature).is_ok()
    }

    fn id_hex(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}+{}", self.name, self.id_hex(), encoded(&self.key))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // The key's base64 may have a `+` of its own.
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::NotPublic);
        };
        let public = Self::new(name, decoded(key).ok_or(KeyError::NotPublic)?)?;
        if public.id_hex() == id { Ok(public) } else { Err(KeyError::Id) }
    }
}

fn encoded(key: &[u8; 32]) -> String {
    let mut bytes = vec![ALGORITHM];
    bytes.extend_from_slice(key);
    STANDARD.encode(bytes)
}

fn decoded(text: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok()?;
    bytes.strip_prefix(&[ALGORITHM])?.try_into().ok()
}

/// A key that signs. Nothing shows it but [`SigningKey::generate`].
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a key from `seed`, 32 random bytes, and its text for whoever keeps it.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn generate(name: &str, seed: &[u8; 32]) -> Result<(Self, String), KeyError> {
        let key = Self::from_seed(name, seed)?;
        let text = format!("{PRIVATE}{name}+{}+{}", key.public.id_hex(), encoded(seed));
        Ok((key, text))
    }

    fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotPrivate)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotPrivate)?;
        Ok(Self { pair, public: PublicKey::new(name, key)? })
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, text: &str) -> Signature {
        let bytes = self.pair.sign(text.as_bytes()).as_ref().to_vec();
        Signature { name: self.public.name.clone(), id: self.public.id, bytes }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey(hidden, of {})", self.public)
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.trim().strip_prefix(PRIVATE).ok_or(KeyError::NotPrivate)?.splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::NotPrivate);
        };
        let key = Self::from_seed(name, &decoded(seed).ok_or(KeyError::NotPrivate)?)?;
        if key.public.id_hex() == id { Ok(key) } else { Err(KeyError::Id) }
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Whether a key signed a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// It did.
    Yes,
    /// There is no signature of its name and id.
    No,
    /// There is one, and it is not of this text.
    Badly,
}

/// A text and its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Signs a text, which ends with a line end.
    pub fn sign(text: String, keys: &[&SigningKey]) -> Self {
        let signatures = keys.iter().map(|key| key.sign(&text)).collect();
        Self { text, signatures }
    }

    /// What it says, with the last line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the key signed it.
    pub fn signed_by(&self, key: &PublicKey) -> Signed {
        let mut own =
            self.signatures.iter().filter(|one| one.name == key.name && one.id == key.id).peekable();
        if own.peek().is_none() {
            return Signed::No;
        }
        if own.all(|one| key.verifies(&self.text, &one.bytes)) { Signed::Yes } else { Signed::Badly }
    }

    /// Names of whoever claims to have signed it.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|one| one.name.as_str())
    }

    /// Reads a note; `None` where the text is none.
    pub fn parse(note: &str) -> Option<Self> {
        let at = note.rfind("\n\n")?;
        let (text, lines) = (note.get(..=at)?, note.get(at + 2..)?.strip_suffix('\n')?);
        if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return None;
        }
        let signatures: Vec<Signature> = lines.split('\n').map(Signature::parse).collect::<Option<_>>()?;
        (signatures.len() <= SIGNATURES_MAX).then(|| Self { text: text.to_owned(), signatures })
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let is_name = !name.is_empty() && !name.contains('+') && !name.contains(char::is_whitespace);
        (is_name && !bytes.is_empty()).then(|| Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let signature = STANDARD.encode([&id[..], bytes].concat());
            writeln!(formatter, "— {name} {signature}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's `golang.org/x/mod/sumdb/note`.
    const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NEUMANN_PRIVATE: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key(name: &str, byte: u8) -> (SigningKey, String) {
        SigningKey::generate(name, &[byte; 32]).unwrap()
    }

    #[test]
    fn gos_own_example_is_read_and_made() {
        let public: PublicKey = NEUMANN.parse().unwrap();
        assert_eq!(public.to_string(), NEUMANN);
        let private: SigningKey = NEUMANN_PRIVATE.parse().unwrap();
        assert_eq!(private.public(), &public);
        let written = format!("{TEXT}\n{LINE}");
        let note = Note::parse(&written).unwrap();
        assert_eq!((note.text(), note.signed_by(&public)), (TEXT, Signed::Yes));
        assert_eq!(Note::sign(TEXT.to_owned(), &[&private]).to_string(), written);
    }

    #[test]
    fn a_key_is_what_was_written() {
        let (key, text) = key("prod", 7);
        let read: SigningKey = text.parse().unwrap();
        assert_eq!(read.public(), key.public());
        let public = key.public().to_string();
        assert_eq!(public.parse::<PublicKey>().unwrap(), *key.public());
        let shown = format!("{key:?}");
        assert!(!shown.contains(text.rsplit('+').next().unwrap()), "{shown}");
        assert_eq!(text.parse::<PublicKey>().unwrap_err(), KeyError::NotPublic);
        assert_eq!(public.parse::<SigningKey>().unwrap_err(), KeyError::NotPrivate);
        let other = public.replacen("prod", "test", 1);
        assert_eq!(other.parse::<PublicKey>().unwrap_err(), KeyError::Id);
        for name in ["", "a b", "a+b", "ä", "a\n", &"x".repeat(101)] {
            assert_eq!(SigningKey::generate(name, &[1; 32]).unwrap_err(), KeyError::Name, "{name}");
        }
    }

    #[test]
    fn any_change_of_a_note_is_seen() {
        let (old, _) = key("prod", 1);
        let (new, _) = key("prod", 2);
        let (other, _) = key("other", 3);
        let note = Note::sign("log\n12\n".to_owned(), &[&old, &new]);
        let written = note.to_string();
        assert_eq!(Note::parse(&written).unwrap(), note);
        assert_eq!(note.signed_by(old.public()), Signed::Yes);
        assert_eq!(note.signed_by(new.public()), Signed::Yes);
        assert_eq!(note.signed_by(other.public()), Signed::No);
        for at in 0..written.len() {
            let mut bytes = written.clone().into_bytes();
            bytes[at] ^= 1;
            let Some(changed) = String::from_utf8(bytes).ok().and_then(|text| Note::parse(&text)) else {
                continue;
            };
            let signed = [old.public(), new.public()].map(|key| changed.signed_by(key));
            assert!(signed.contains(&Signed::Badly) || signed.contains(&Signed::No), "byte {at}");
        }
    }

    #[test]
    fn what_is_no_note_is_none() {
        for text in [
            "",
            "\n\n",
            "text\n",
            "text\n\n",
            "text\n\n— name\n",
            "text\n\n— name !!!!\n",
            "a\tb\n\n— n AAAAAAA=\n",
        ] {
            assert_eq!(Note::parse(text), None, "{text:?}");
        }
        assert_eq!(Note::parse(&format!("{TEXT}\n{}", LINE.trim_end())), None);
    }
}
