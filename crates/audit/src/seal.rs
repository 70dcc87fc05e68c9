//! Keeping what the store holds for somebody unreadable at rest: XChaCha20-Poly1305 under a key derived from a secret and a
//! purpose, bound to what it belongs to. The sealed form is the nonce (24 bytes) and the ciphertext.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::Secret;

const NONCE_BYTES: usize = 24;

/// Encrypts and decrypts.
#[derive(Clone)]
pub struct Sealer(XChaCha20Poly1305);

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealer(hidden)")
    }
}

/// It cannot be encrypted or decrypted: no randomness, another key, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealError;

impl Sealer {
    /// Each purpose has a key of its own.
    pub fn new(secret: &Secret, purpose: &[u8]) -> Self {
        let mut mac = hmac(secret.expose().as_bytes());
        mac.update(purpose);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        Self(XChaCha20Poly1305::new(&Key::from(key)))
    }

    /// Encrypts `content`, which opens beside the same `owner` only.
    ///
    /// # Errors
    /// [`SealError`] where the system has no random bytes to give.
    pub fn seal(&self, owner: &[u8], content: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let payload = Payload { msg: content, aad: owner };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Sealer::seal`] gave.
    ///
    /// # Errors
    /// [`SealError`] where it is another's, another key's, or changed.
    pub fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let payload = Payload { msg: sealed, aad: owner };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError)
    }
}

/// HMAC-SHA256 with a key of any length.
fn hmac(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        // HMAC takes keys of every length; the empty one stands in for an error that cannot be.
        Err(_) => Hmac::<Sha256>::new(&Default::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(&Secret::new(key.to_owned(), "a test").unwrap(), b"test 1")
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_owner_and_purpose_only() {
        let one = sealer("0123456789abcdef");
        let sealed = one.seal(b"ticket 1", b"my secret prompt").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, one.seal(b"ticket 1", b"my secret prompt").unwrap(), "no nonce twice");
        assert_eq!(one.open(b"ticket 1", &sealed).unwrap(), b"my secret prompt");
        assert_eq!(one.open(b"ticket 2", &sealed), Err(SealError));
        assert_eq!(sealer("fedcba9876543210").open(b"ticket 1", &sealed), Err(SealError));
        let secret = Secret::new("0123456789abcdef".to_owned(), "a test").unwrap();
        assert_eq!(Sealer::new(&secret, b"test 2").open(b"ticket 1", &sealed), Err(SealError));
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(one.open(b"ticket 1", &changed), Err(SealError));
        assert_eq!(one.open(b"ticket 1", b"short"), Err(SealError));
    }
}
