//! The keys of the audit log's checkpoints, as a configuration names them.

use audit::notary::Signer;
use audit::note::{PublicKey, SigningKey};
use audit::secret::SecretSource;
use policy::problems::Problem;

use crate::config::raw::AuditConfig;

/// Where the private keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signing {
    key: SecretSource,
    previous: Option<SecretSource>,
}

impl Signing {
    /// Reads the keys.
    ///
    /// # Errors
    /// Names the setting and where the key is read from, never the key.
    pub(crate) fn resolve(&self) -> anyhow::Result<Signer> {
        let read = |source: &SecretSource, field: &str| {
            read(source).map_err(|why| anyhow::anyhow!("{field}: {why}"))
        };
        Ok(Signer {
            key: read(&self.key, "audit.signing_key")?,
            previous: self
                .previous
                .as_ref()
                .map(|previous| read(previous, "audit.previous_signing_key"))
                .transpose()?,
        })
    }
}

fn read(source: &SecretSource) -> Result<SigningKey, String> {
    let secret = source.resolve().map_err(|error| error.to_string())?;
    secret.expose().parse().map_err(|error| format!("what is in {} is no key: {error}", source.origin()))
}

/// Checks the section's keys; none where there is none, or a problem.
pub(super) fn signing(raw: &AuditConfig, problems: &mut Vec<Problem>) -> Option<Signing> {
    let mut source = |text: &Option<String>, path: &str| {
        let text = text.as_ref()?;
        let source = SecretSource::parse(text).map_err(|error| error.to_string());
        match source.and_then(|source| read(&source).map(|key| (source, key))) {
            Ok(found) => Some(found),
            Err(message) => {
                problems.push(Problem::new(path, message));
                None
            }
        }
    };
    let key = source(&raw.signing_key, "audit.signing_key");
    let previous = source(&raw.previous_signing_key, "audit.previous_signing_key");
    if raw.previous_signing_key.is_some() && raw.signing_key.is_none() {
        problems.push(Problem::new(
            "audit.previous_signing_key",
            "hands over to no key: give `audit.signing_key` too",
        ));
    }
    if let (Some((_, key)), Some((_, previous))) = (&key, &previous)
        && key.public() == previous.public()
    {
        problems.push(Problem::new(
            "audit.previous_signing_key",
            "is the same key as `audit.signing_key`: take it out",
        ));
    }
    public_keys(&raw.public_keys, problems);
    let (key, _) = key?;
    Some(Signing { key, previous: previous.map(|(source, _)| source) })
}

/// Reads public keys.
pub(super) fn public_keys(listed: &[String], problems: &mut Vec<Problem>) -> Vec<PublicKey> {
    let mut keys = Vec::with_capacity(listed.len());
    for (at, text) in listed.iter().enumerate() {
        match text.parse() {
            Ok(key) => keys.push(key),
            Err(error) => {
                let error: audit::note::KeyError = error;
                problems.push(Problem::new(format!("audit.public_keys[{at}]"), error.to_string()));
            }
        }
    }
    keys
}
