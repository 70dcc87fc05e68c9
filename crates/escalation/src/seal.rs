//! Keeping the judged messages of a ticket unreadable at rest: XChaCha20-Poly1305 under a key derived from the
//! configuration's `secrets_key`, bound to the ticket's id. The stored form is the nonce (24 bytes) and the ciphertext.

use std::fmt;

use audit::secret::Secret;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hmac::Mac;
use uuid::Uuid;

use crate::fingerprint::hmac;

const NONCE_BYTES: usize = 24;
/// What the key is for: another use of `secrets_key` derives another key.
const PURPOSE: &[u8] = b"policy-gateway escalation content 1";

/// Encrypts and decrypts.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealer(hidden)")
    }
}

/// The content cannot be encrypted or decrypted: no randomness, another key, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealError;

impl Sealer {
    pub(crate) fn new(secret: &Secret) -> Self {
        let mut mac = hmac(secret.expose().as_bytes());
        mac.update(PURPOSE);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        Self(XChaCha20Poly1305::new(&Key::from(key)))
    }

    pub(crate) fn seal(&self, id: Uuid, content: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let payload = Payload { msg: content, aad: id.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(crate) fn open(&self, id: Uuid, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let payload = Payload { msg: sealed, aad: id.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(&Secret::new(key.to_owned(), "a test").unwrap())
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_ticket_only() {
        let (sealer, id) = (sealer("0123456789abcdef"), Uuid::now_v7());
        let sealed = sealer.seal(id, b"my secret prompt").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, sealer.seal(id, b"my secret prompt").unwrap(), "no nonce twice");
        assert_eq!(sealer.open(id, &sealed).unwrap(), b"my secret prompt");
        assert_eq!(sealer.open(Uuid::now_v7(), &sealed), Err(SealError));
        assert_eq!(super::tests::sealer("fedcba9876543210").open(id, &sealed), Err(SealError));
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(sealer.open(id, &changed), Err(SealError));
        assert_eq!(sealer.open(id, b"short"), Err(SealError));
    }
}
