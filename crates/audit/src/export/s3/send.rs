//! Writing an object once, and only once. The key and the bytes are functions of the batch, so an object that is there already
//! is the one of an earlier try, whose answer was lost; that is checked before it is believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, AwsCredentialProvider, Checksum};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, Extensions, GetOptions, ObjectStore, PutMode, PutOptions,
    PutPayload, RetryConfig, StaticCredentialProvider,
};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::config::{S3, S3Credentials, S3ObjectLock};
use super::encode::{Note, S3Body, content_type, key, other_key, suffix};
use super::meaning::{self, Names, Put};
use super::wire::{Heard, Wire};
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::http::{Http, detail};
use crate::secret::SecretError;

/// Of the lines, beside the object: how a later try recognises it.
const DIGEST: &str = "sha256";
/// For readers of the bucket.
const EVENTS: &str = "events";
/// What the AWS tools read credentials from. Nothing else of the environment is looked at: bucket, region and endpoint are the
/// configuration's.
const AMBIENT: [&str; 11] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// An S3 destination, ready to send.
pub struct S3Destination {
    config: S3,
    wire: Wire,
    credentials: RwLock<AwsCredentialProvider>,
    /// Where the keys come from, in words.
    origin: String,
    /// Whether the store knows `If-None-Match`, as far as is known.
    conditional: AtomicBool,
}

impl S3Destination {
    /// Reads the keys and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: S3) -> Result<Self, ExportError> {
        let wire = Wire(Arc::new(http(&config)?));
        let credentials = match &config.credentials {
            S3Credentials::Ambient => ambient(&config, &wire)?,
            given => fixed(given)?,
        };
        let origin = match &config.credentials {
            S3Credentials::Static { access_key_id, .. } => access_key_id.origin(),
            S3Credentials::Ambient => {
                "the environment (`AWS_…`), web identity, container or instance".to_owned()
            }
        };
        let (credentials, conditional) = (RwLock::new(credentials), AtomicBool::new(true));
        Ok(Self { config, wire, credentials, origin, conditional })
    }

    /// A handle on the bucket, whose requests carry (and sign) these headers too. It holds no connection of its own.
    fn bucket(&self, headers: HeaderMap) -> Result<AmazonS3, SendOutcome> {
        let credentials = Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner));
        let options = ClientOptions::new().with_default_headers(headers);
        let builder = builder(&self.config, &self.wire).with_credentials(credentials);
        builder.with_client_options(options).build().map_err(|error| SendOutcome::Hold {
            why: format!("the bucket cannot be addressed: {}", detail(&error.to_string())),
        })
    }

    async fn put(&self, key: &str, note: &Note, body: Bytes, now_ms: i64, mode: PutMode) -> Put {
        let headers = put_headers(&self.config, now_ms).map_err(|why| SendOutcome::Hold { why });
        let bucket = match headers.and_then(|headers| self.bucket(headers)) {
            Ok(bucket) => bucket,
            Err(outcome) => return Put::Failed(outcome),
        };
        let kind = content_type(self.config.format, self.config.compression);
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, kind.to_owned()),
            (Attribute::Metadata(DIGEST.into()), note.sha256.clone()),
            (Attribute::Metadata(EVENTS.into()), note.events.to_string()),
        ]);
        let heard = Heard::default();
        let options = PutOptions { mode, attributes, extensions: heard_by(&heard), ..PutOptions::default() };
        match bucket.put_opts(&Path::from(key), PutPayload::from_bytes(body), options).await {
            Ok(_) => Put::Written,
            Err(error) => meaning::of_put(heard.take(), &detail(&error.to_string()), &self.names()),
        }
    }

    /// Whether the object under this key holds the lines of the note. Keys that may only write cannot tell: then it counts
    /// as another one.
    async fn is_same(&self, key: &str, note: &Note) -> Result<bool, SendOutcome> {
        let bucket = self.bucket(HeaderMap::new())?;
        let heard = Heard::default();
        let options = GetOptions { head: true, extensions: heard_by(&heard), ..GetOptions::default() };
        match bucket.get_opts(&Path::from(key), options).await {
            Ok(found) => {
                let digest = found.attributes.get(&Attribute::Metadata(DIGEST.into()));
                Ok(digest.is_some_and(|digest| **digest == *note.sha256))
            }
            Err(error) => {
                match meaning::of_failure(heard.take(), &detail(&error.to_string()), &self.names()) {
                    outcome @ SendOutcome::Retry { .. } => Err(outcome),
                    _ => Ok(false),
                }
            }
        }
    }

    /// Writes the object of a batch, if it is not there.
    async fn write(&self, parcel: Parcel) -> SendOutcome {
        let Ok(note) = serde_json::from_str::<Note>(&parcel.note) else {
            return SendOutcome::Retry { after: None, why: "the object's note is not readable".to_owned() };
        };
        let suffix = suffix(self.config.format, self.config.compression);
        let (prefix, first, last, now_ms) = (&self.config.prefix, parcel.first, parcel.last, parcel.now_ms);
        let own = key(prefix, &note, first, last, suffix);
        if !self.conditional.load(Ordering::Relaxed) {
            return self.overwrite(&own, &note, parcel.body, now_ms).await;
        }
        match self.put(&own, &note, parcel.body.clone(), now_ms, PutMode::Create).await {
            Put::Written => SendOutcome::Delivered,
            Put::Exists => match self.is_same(&own, &note).await {
                Ok(true) => SendOutcome::Delivered,
                Ok(false) => self.write_beside(&note, parcel, suffix).await,
                Err(outcome) => outcome,
            },
            Put::Unconditional => {
                self.conditional.store(false, Ordering::Relaxed);
                tracing::warn!(
                    bucket = self.config.bucket,
                    "the store knows no conditional puts: objects are written over with the same bytes instead"
                );
                self.overwrite(&own, &note, parcel.body, now_ms).await
            }
            Put::Failed(outcome) => outcome,
        }
    }

    /// The bounds are the same and the lines are not: the destination's filters changed between two tries, or this cannot be
    /// told. A key with the lines' digest in it keeps both.
    async fn write_beside(&self, note: &Note, parcel: Parcel, suffix: &str) -> SendOutcome {
        let other = other_key(&self.config.prefix, note, parcel.first, parcel.last, suffix);
        match self.put(&other, note, parcel.body, parcel.now_ms, PutMode::Create).await {
            Put::Written | Put::Exists => SendOutcome::Delivered,
            Put::Unconditional => SendOutcome::Retry {
                after: None,
                why: "S3 answers that it does not know conditional puts".to_owned(),
            },
            Put::Failed(outcome) => outcome,
        }
    }

    async fn overwrite(&self, key: &str, note: &Note, body: Bytes, now_ms: i64) -> SendOutcome {
        match self.put(key, note, body, now_ms, PutMode::Overwrite).await {
            Put::Written => SendOutcome::Delivered,
            Put::Exists => SendOutcome::Retry { after: None, why: "S3 answers 412 without a condition".to_owned() },
            Put::Unconditional => SendOutcome::Hold {
                why: "S3 answers that it does not know something in the request: check `sse`, `object_lock` and `endpoint`"
                    .to_owned(),
            },
            Put::Failed(outcome) => outcome,
        }
    }

    fn names(&self) -> Names<'_> {
        Names { bucket: &self.config.bucket, region: &self.config.region, origin: &self.origin }
    }
}

impl Destination for S3Destination {
    type Builder = S3Body;

    fn begin(&self, _now_ms: i64) -> Result<S3Body, String> {
        let limits = &self.config.limits;
        S3Body::new(self.config.compression, limits.batch_events_max, limits.batch_bytes_max)
            .map_err(|error| format!("the object cannot be compressed: {error}"))
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        self.write(parcel).await
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        if matches!(self.config.credentials, S3Credentials::Ambient) {
            // Those renew themselves.
            return Ok(());
        }
        let given = self.config.credentials.clone();
        let read = tokio::task::spawn_blocking(move || fixed(&given)).await;
        let origin = self.origin.clone();
        let fresh = read.map_err(|_| SecretError::Empty { origin })??;
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn keeps_bounds(&self) -> bool {
        true
    }
}

fn http(config: &S3) -> Result<Http, ExportError> {
    // Keys from the environment may have to be asked for over TLS, whatever the store itself speaks.
    let needs_tls = matches!(config.credentials, S3Credentials::Ambient);
    let url = match &config.endpoint {
        Some(endpoint) if endpoint.scheme() == "https" || !needs_tls => endpoint.clone(),
        _ => {
            let url = format!("https://s3.{}.amazonaws.com", config.region);
            Url::parse(&url).map_err(|error| ExportError::Client(error.to_string()))?
        }
    };
    Http::new(&url, config.limits.timeout, HeaderMap::new(), "`endpoint` or `region`")
}

fn builder(config: &S3, wire: &Wire) -> AmazonS3Builder {
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retries)
        .with_http_connector(wire.clone());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(address(endpoint, config));
    }
    builder
}

/// The crate takes an endpoint with the bucket in its host as it is.
fn address(endpoint: &Url, config: &S3) -> String {
    let mut endpoint = endpoint.clone();
    if !config.path_style {
        let host = format!("{}.{}", config.bucket, endpoint.host_str().unwrap_or_default());
        if endpoint.set_host(Some(&host)).is_err() {
            tracing::debug!(host, "the bucket's name cannot stand in a host");
        }
    }
    endpoint.as_str().trim_end_matches('/').to_owned()
}

fn fixed(credentials: &S3Credentials) -> Result<AwsCredentialProvider, SecretError> {
    let S3Credentials::Static { access_key_id, secret_access_key, session_token } = credentials else {
        return Err(SecretError::Empty { origin: "the configuration".to_owned() });
    };
    let token = session_token.as_ref().map(|token| token.resolve()).transpose()?;
    let credential = AwsCredential {
        key_id: access_key_id.resolve()?.expose().to_owned(),
        secret_key: secret_access_key.resolve()?.expose().to_owned(),
        token: token.map(|token| token.expose().to_owned()),
    };
    Ok(Arc::new(StaticCredentialProvider::new(credential)))
}

fn ambient(config: &S3, wire: &Wire) -> Result<AwsCredentialProvider, ExportError> {
    let mut builder = builder(config, wire);
    for name in AMBIENT {
        let (Ok(key), Ok(value)) = (name.to_ascii_lowercase().parse(), std::env::var(name)) else { continue };
        builder = builder.with_config(key, value);
    }
    let store = builder.build().map_err(|error| ExportError::Client(detail(&error.to_string())))?;
    Ok(Arc::clone(store.credentials()))
}

fn heard_by(heard: &Heard) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(heard.clone());
    extensions
}

/// Who encrypts the object, and until when it is locked.
fn put_headers(config: &S3, now_ms: i64) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| format!("`{name}` cannot carry its value"))?;
        headers.insert(HeaderName::from_static(name), value);
        Ok::<(), String>(())
    };
    if let Some(sse) = config.sse {
        set("x-amz-server-side-encryption", sse.as_str())?;
    }
    if let Some(kms_key_id) = &config.kms_key_id {
        set("x-amz-server-side-encryption-aws-kms-key-id", kms_key_id)?;
    }
    if let Some(lock) = config.object_lock {
        set("x-amz-object-lock-mode", lock.mode.as_str())?;
        set("x-amz-object-lock-retain-until-date", &retain_until(lock, now_ms)?)?;
    }
    Ok(headers)
}

fn retain_until(lock: S3ObjectLock, now_ms: i64) -> Result<String, String> {
    let days = i64::try_from(lock.retain_days).unwrap_or(i64::MAX);
    let until_ms = now_ms.saturating_add(days.saturating_mul(DAY_MS));
    let until = jiff::Timestamp::from_millisecond(until_ms);
    let until = until.map_err(|_| "the end of `object_lock.retain_days` is no date".to_owned())?;
    Ok(format!("{until:.0}"))
}
