//! Configuration of an `s3` destination: what may be written, and the checked form. Nothing outside is read here; secrets
//! stay sources.

use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::send::S3Destination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// An object is a request and a fee, so batches are larger here and wait longer than elsewhere; all that flies is still
/// some tens of megabytes. Five seconds bound what a reader of the bucket lacks on a quiet day.
const BOUNDS: Bounds = Bounds {
    events: (10_000, 100_000),
    bytes: (8_000_000, 64_000_000),
    linger_ms: (5000, 300_000),
    timeout_seconds: 60,
};
/// What S3-compatible stores call their only region, more often than not.
const REGION: &str = "us-east-1";
/// S3 takes keys of 1,024 bytes; ours add about 130.
const PREFIX_BYTES_MAX: usize = 800;
/// A hundred years, S3's own limit.
const RETAIN_DAYS_MAX: u64 = 36_500;

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum S3Name {
    /// `s3`.
    #[serde(rename = "s3")]
    S3,
}

/// What an object holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum S3Format {
    /// The stored texts, one a line: what `audit verify` reads.
    #[default]
    Jsonl,
}

/// How objects are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum S3Compression {
    /// Read by everything.
    #[default]
    Gzip,
    /// Smaller and faster.
    Zstd,
    /// None.
    None,
}

/// Who encrypts at rest, with which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum S3Encryption {
    /// With a key of S3's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key in KMS: `kms_key_id`, or the account's own for S3.
    #[serde(rename = "aws:kms")]
    Kms,
    /// The same, twice.
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl S3Encryption {
    /// Value of `x-amz-server-side-encryption`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsDsse => "aws:kms:dsse",
        }
    }
}

/// Who may delete a locked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum S3LockMode {
    /// Those with a permission of their own for it.
    Governance,
    /// Nobody, the account's root included.
    Compliance,
}

impl S3LockMode {
    /// Value of `x-amz-object-lock-mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Object Lock of every object. The bucket must have been made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: S3LockMode,
    /// Days from the time of writing, 1 to 36,500.
    #[schemars(range(min = 1, max = 36_500))]
    pub retain_days: u64,
}

/// A destination of kind `s3`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawS3 {
    /// Always `s3`.
    pub destination: S3Name,
    /// Name of the bucket.
    pub bucket: String,
    /// What every key starts with, such as `policy-gateway/`. Default: nothing.
    pub prefix: Option<String>,
    /// Region of the bucket. Needed unless `endpoint` is given.
    pub region: Option<String>,
    /// URL of an S3-compatible store, such as `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path of the URL rather than in its host. Default: true with `endpoint`.
    pub path_style: Option<bool>,
    /// Access key id. Default: from the environment as the AWS tools read it (`AWS_ACCESS_KEY_ID`, web identity, container,
    /// instance).
    pub access_key_id: Option<String>,
    /// Its secret: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a 403), or the secret itself.
    pub secret_access_key: Option<String>,
    /// Session token of temporary keys, likewise.
    pub session_token: Option<String>,
    /// What objects hold: `jsonl` (default).
    pub format: Option<S3Format>,
    /// How they are compressed. Default: `gzip` (level 1).
    pub compression: Option<S3Compression>,
    /// Server-side encryption: `AES256`, `aws:kms` or `aws:kms:dsse`. Default: as the bucket is set.
    pub sse: Option<S3Encryption>,
    /// Id or ARN of the KMS key, with `sse: aws:kms`.
    pub kms_key_id: Option<String>,
    /// Object Lock: `{mode: COMPLIANCE, retain_days: 400}`. Default: as the bucket is set.
    pub object_lock: Option<S3ObjectLock>,
    /// Most events in one object, 1 to 100,000. Default: 10,000.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one object, 1,000 to 64,000,000. Default: 8,000,000.
    #[schemars(range(min = 1000, max = 64_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for an object to fill, 0 to 300,000. Default: 5000.
    #[schemars(range(max = 300_000))]
    pub linger_ms: Option<u64>,
    /// Objects in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one object, connection included, 1 to 300. Default: 60.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
}

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq)]
pub enum S3Credentials {
    /// As the AWS tools find them: environment, web identity, container, instance.
    Ambient,
    /// Given.
    Static {
        /// Access key id.
        access_key_id: SecretSource,
        /// Its secret.
        secret_access_key: SecretSource,
        /// Of temporary keys.
        session_token: Option<SecretSource>,
    },
}

/// An `s3` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// What every key starts with.
    pub prefix: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Of an S3-compatible store.
    pub endpoint: Option<Url>,
    /// Where the bucket can be reached, for people; holds no secret.
    pub shown: String,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// Where the keys come from.
    pub credentials: S3Credentials,
    /// What objects hold.
    pub format: S3Format,
    /// How they are compressed.
    pub compression: S3Compression,
    /// Server-side encryption.
    pub sse: Option<S3Encryption>,
    /// KMS key.
    pub kms_key_id: Option<String>,
    /// Object Lock.
    pub object_lock: Option<S3ObjectLock>,
    /// Batch sizes, waits and timeouts.
    pub limits: Limits,
}

impl Kind for S3 {
    const NAME: &'static str = "s3";
    type Raw = RawS3;
    type Sender = S3Destination;

    fn read(raw: &RawS3, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        raw.validate(path_prefix)
    }

    fn endpoint(&self) -> &str {
        &self.shown
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        match &self.credentials {
            S3Credentials::Ambient => Vec::new(),
            S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
                let mut secrets =
                    vec![("access_key_id", access_key_id), ("secret_access_key", secret_access_key)];
                secrets.extend(session_token.as_ref().map(|token| ("session_token", token)));
                secrets
            }
        }
    }

    fn borrows_credentials(&self) -> Option<&'static str> {
        (self.credentials == S3Credentials::Ambient).then_some("access_key_id")
    }

    fn sender(&self) -> Result<S3Destination, ExportError> {
        S3Destination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("event id {event_id} in the newest object of today's `{}date=…/`", self.prefix)
    }
}

impl RawS3 {
    /// Checks everything and fills in the defaults.
    ///
    /// # Errors
    /// Every problem, with its path under `path_prefix`.
    pub fn validate(&self, path_prefix: &str) -> Result<S3, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let bucket = self.bucket(&mut check);
        let prefix = self.prefix(&mut check);
        let endpoint = self.endpoint(&mut check);
        let region = self.region(&mut check);
        let credentials = self.credentials(&mut check);
        if self.kms_key_id.is_some() && !matches!(self.sse, Some(S3Encryption::Kms | S3Encryption::KmsDsse)) {
            check.problem("kms_key_id", "needs `sse: aws:kms`");
        }
        let kms_key_id = self.kms_key_id.as_deref().map(|id| check.text("kms_key_id", id, 2048));
        if let Some(lock) = &self.object_lock {
            check.number("object_lock.retain_days", Some(lock.retain_days), 1, 1, RETAIN_DAYS_MAX);
        }
        let limits = check.limits(sizes!(self), &BOUNDS);
        let shown = match &endpoint {
            Some(endpoint) => format!("{}/{bucket}/{prefix}", endpoint.as_str().trim_end_matches('/')),
            None => format!("https://{bucket}.s3.{region}.amazonaws.com/{prefix}"),
        };
        let made = credentials.map(|credentials| S3 {
            bucket,
            prefix,
            region,
            path_style: self.path_style.unwrap_or(endpoint.is_some()),
            endpoint,
            shown,
            credentials,
            format: self.format.unwrap_or_default(),
            compression: self.compression.unwrap_or_default(),
            sse: self.sse,
            kms_key_id,
            object_lock: self.object_lock,
            limits,
        });
        check.finish(made)
    }

    fn bucket(&self, check: &mut Check<'_>) -> String {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.bytes().all(fits) {
            check.problem(
                "bucket",
                "is not the name of a bucket: 3 to 63 letters, digits, `-` and `.`, without `s3://`",
            );
        }
        self.bucket.clone()
    }

    /// Keys are written as they are read, so the prefix holds only what needs no escaping anywhere.
    fn prefix(&self, check: &mut Check<'_>) -> String {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.'()=/".contains(&byte);
        let dots = prefix.split('/').any(|part| part == "." || part == "..");
        let empty = prefix.starts_with('/') || prefix.contains("//");
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(fits) || dots || empty {
            check.problem(
                "prefix",
                "must be letters, digits and `!-_.'()=/`, without `/` at its start, `//`, `.` or `..`: for example \
                 `policy-gateway/`",
            );
        }
        prefix.to_owned()
    }

    fn endpoint(&self, check: &mut Check<'_>) -> Option<Url> {
        let example = "https://minio.example.com:9000";
        let url = check.url("endpoint", self.endpoint.as_deref()?, example)?;
        if url.path() != "/" {
            check.problem(
                "endpoint",
                &format!("must not hold a path, the bucket has its own field: `{example}`"),
            );
            return None;
        }
        Some(url)
    }

    fn region(&self, check: &mut Check<'_>) -> String {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match &self.region {
            Some(region) if region.is_empty() || !region.bytes().all(fits) => {
                check.problem(
                    "region",
                    &format!("`{region}` is not a region: give for example `eu-central-1`"),
                );
                REGION.to_owned()
            }
            Some(region) => region.clone(),
            None if self.endpoint.is_some() => REGION.to_owned(),
            None => {
                check.problem("region", "is missing: give the bucket's region, for example `eu-central-1`");
                REGION.to_owned()
            }
        }
    }

    fn credentials(&self, check: &mut Check<'_>) -> Option<S3Credentials> {
        match (&self.access_key_id, &self.secret_access_key) {
            (None, None) => {
                if self.session_token.is_some() {
                    check.problem("session_token", "needs `access_key_id` and `secret_access_key`");
                }
                Some(S3Credentials::Ambient)
            }
            (Some(id), Some(secret)) => {
                let access_key_id = check.secret("access_key_id", id);
                let secret_access_key = check.secret("secret_access_key", secret);
                let session_token = match &self.session_token {
                    Some(token) => Some(check.secret("session_token", token)?),
                    None => None,
                };
                Some(S3Credentials::Static {
                    access_key_id: access_key_id?,
                    secret_access_key: secret_access_key?,
                    session_token,
                })
            }
            (Some(_), None) => {
                check.problem("secret_access_key", "is missing: `access_key_id` is given");
                None
            }
            (None, Some(_)) => {
                check.problem("access_key_id", "is missing: `secret_access_key` is given");
                None
            }
        }
    }
}
