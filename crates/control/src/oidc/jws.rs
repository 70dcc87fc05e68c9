//! Signatures: a compact JWS (RFC 7515) of one of three algorithms, and the keys (RFC 7517) that go with them. `none` and
//! secrets shared with the issuer are not among them: a public key must never be taken for a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token: beyond it lies no identity.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest key id.
const KEY_ID_BYTES_MAX: usize = 256;
/// Coordinates and keys of these curves.
const CURVE_BYTES: usize = 32;

/// Why a token counts for nothing, for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) String);

/// What signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key of the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jwk {
    id: Option<String>,
    key: PublicKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicKey {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct RawJwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// A key that signatures can be checked with; none for any other.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let raw = RawJwk::deserialize(value).ok()?;
        if raw.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |field: Option<String>| URL_SAFE_NO_PAD.decode(field?).ok();
        let point = |field: Option<String>| bytes(field).filter(|bytes| bytes.len() == CURVE_BYTES);
        let key = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => {
                PublicKey::Rsa { modulus: trimmed(bytes(raw.n)?), exponent: trimmed(bytes(raw.e)?) }
            }
            ("EC", Some("P-256")) => PublicKey::P256([vec![4], point(raw.x)?, point(raw.y)?].concat()),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(point(raw.x)?),
            _ => return None,
        };
        let jwk = Self { id: raw.kid, key };
        let fits = raw.alg.is_none_or(|alg| Algorithm::named(&alg) == Some(jwk.algorithm()));
        fits.then_some(jwk)
    }

    fn algorithm(&self) -> Algorithm {
        match self.key {
            PublicKey::Rsa { .. } => Algorithm::Rs256,
            PublicKey::P256(_) => Algorithm::Es256,
            PublicKey::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.key {
            PublicKey::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            PublicKey::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        checked.is_ok()
    }
}

/// A number without the zeros before it.
fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// A token whose signature is not checked yet: nothing in it counts.
pub(super) struct Parsed<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// Whether a text looks like a JSON Web Token: three parts.
pub(crate) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Takes a token apart.
pub(super) fn parse(token: &str) -> Result<Parsed<'_>, Unusable> {
    let wrong = |what: &str| Unusable(format!("the token is no JSON Web Token: {what}"));
    if token.len() > TOKEN_BYTES_MAX {
        return Err(wrong("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| wrong("it has not three parts"))?;
    let (header, payload) = signed.split_once('.').ok_or_else(|| wrong("it has not three parts"))?;
    let decoded = URL_SAFE_NO_PAD.decode(header).map_err(|_| wrong("its header is not base64url"))?;
    let header: Header = serde_json::from_slice(&decoded).map_err(|_| wrong("its header is none"))?;
    let Some(algorithm) = Algorithm::named(&header.alg) else {
        return Err(Unusable(
            "the token is signed in a way that is not taken: RS256, ES256 and EdDSA are; `none` and HS256 never".to_owned(),
        ));
    };
    if header.crit.is_some() {
        return Err(wrong("its header asks for extensions (`crit`), and there are none"));
    }
    if header.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
        return Err(wrong("its key id is too long"));
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong("its signature is not base64url"))?;
    Ok(Parsed { algorithm, key_id: header.kid, signed, payload, signature })
}

impl Parsed<'_> {
    /// The key that should have signed it. A token that names none is the only fitting key's.
    pub(super) fn key(&self, keys: &[Jwk]) -> Option<Jwk> {
        let mut fitting = keys.iter().filter(|key| key.algorithm() == self.algorithm);
        match &self.key_id {
            Some(id) => fitting.find(|key| key.id.as_ref() == Some(id)).cloned(),
            None => {
                let only = fitting.next()?;
                fitting.next().is_none().then(|| only.clone())
            }
        }
    }

    /// That there is no such key.
    pub(super) fn unknown_key(&self) -> Unusable {
        let message = match &self.key_id {
            Some(_) => "the token's key id (`kid`) is none of its issuer's keys for that algorithm",
            None => "the token names no key (`kid`), and its issuer has not just one",
        };
        Unusable(message.to_owned())
    }

    /// What it says, once the key has signed it.
    pub(super) fn verify(&self, key: &Jwk) -> Result<Map<String, Value>, Unusable> {
        if key.algorithm() != self.algorithm || !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return Err(Unusable("the token's signature is not its issuer's".to_owned()));
        }
        let payload = URL_SAFE_NO_PAD.decode(self.payload).ok();
        let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        claims.ok_or_else(|| Unusable("what the token says is no JSON object".to_owned()))
    }
}
