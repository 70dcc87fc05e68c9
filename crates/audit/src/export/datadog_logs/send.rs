//! One request to the intake, and what its answer means. Batching and compression are in the body's builder, waits and
//! retries in the delivery engine.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::compress::Compressor;
use super::config::DatadogLogs;
use super::encode::LogEncoder;
use crate::delivery::{BodyBuilder, Destination, Encoded, Push, SendOutcome};
use crate::export::ExportError;
use crate::outbox::StoredEvent;
use crate::secret::{Secret, SecretError, SecretSource};

/// The header that carries the key.
const API_KEY: HeaderName = HeaderName::from_static("dd-api-key");
/// Says who sends, for Datadog's support (Datadog's agent and Vector do the same).
const ORIGIN: HeaderName = HeaderName::from_static("dd-evp-origin");
/// Its version.
const ORIGIN_VERSION: HeaderName = HeaderName::from_static("dd-evp-origin-version");
/// Answers of the intake are some hundred bytes; more than this is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A connection that is not there by then will not be; the rest of the timeout is for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below the idle timeout of the load balancers that are common before such endpoints (60 s).
const POOL_IDLE: Duration = Duration::from_secs(45);
/// Logs are compressed in pieces of about this size: below it the calls show, above it the processor's cache does.
const COMPRESS_STEP: usize = 16 * 1024;
/// Longest part of an error text from outside that is shown.
const DETAIL_CHARS_MAX: usize = 160;

/// Why a request did not go through, with the fix where there is one. Holds no secret and no part of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The host has no address.
    #[error(
        "the host `{host}` cannot be resolved ({cause}): check `endpoint` or `site`, and this machine's DNS"
    )]
    Dns {
        /// Of the endpoint.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// No connection.
    #[error(
        "no connection to `{host}` ({cause}): check the network, a firewall, or a proxy in `HTTPS_PROXY`"
    )]
    Connect {
        /// Host and port of the endpoint.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// No trust.
    #[error(
        "the TLS connection to `{host}` failed ({cause}): behind a proxy that inspects TLS, add its CA to the system's \
         certificates or to `SSL_CERT_FILE`"
    )]
    Tls {
        /// Host and port of the endpoint.
        host: String,
        /// What TLS said.
        cause: String,
    },
    /// No answer in time.
    #[error("no answer from `{host}` within {seconds} s")]
    Timeout {
        /// Host and port of the endpoint.
        host: String,
        /// The configured timeout.
        seconds: u64,
    },
    /// The connection broke off.
    #[error("the connection to `{host}` broke off ({cause})")]
    Cut {
        /// Host and port of the endpoint.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// The intake, or something before it, refuses.
    #[error("the intake answers {status}{detail}: {}", advice(*.status, .origin, .path))]
    Status {
        /// HTTP status.
        status: u16,
        /// ` (title: detail)` of the answer, or empty.
        detail: String,
        /// Where the key comes from.
        origin: String,
        /// Path of the endpoint.
        path: String,
        /// The answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// It answers well, but not as Datadog does.
    #[error(
        "the endpoint answers {status} with {found}, which is not Datadog's answer (202 and `{{}}`): check `endpoint`, and \
         whether a proxy or a login page answers in its place"
    )]
    NotIntake {
        /// HTTP status.
        status: u16,
        /// What came instead.
        found: String,
    },
}

fn advice(status: u16, origin: &str, path: &str) -> String {
    match status {
        400 => "it does not accept something in the body".to_owned(),
        401 => format!(
            "no key arrived: check `api_key` ({origin}), and proxies that strip the `DD-API-KEY` header"
        ),
        403 => {
            format!("it does not know the key from {origin}: check the key, and that it belongs to this site")
        }
        404 => {
            format!("there is no `{path}`: the intake's path is `/api/v2/logs`; check `endpoint` or `site`")
        }
        407 => "the proxy wants credentials: put them into `HTTPS_PROXY`".to_owned(),
        408 => "it waited too long for the body".to_owned(),
        413 => "the body is too large for it or for a proxy before it".to_owned(),
        429 => "it asks for fewer requests".to_owned(),
        300..=399 => "redirects are not followed: give the final URL as `endpoint`".to_owned(),
        500..=599 => "it is in trouble itself".to_owned(),
        _ => "check `endpoint`, and proxies before it".to_owned(),
    }
}

impl From<Failure> for SendOutcome {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string();
        match failure {
            Failure::Dns { .. }
            | Failure::Connect { .. }
            | Failure::Tls { .. }
            | Failure::Timeout { .. }
            | Failure::Cut { .. } => Self::Retry { after: None, why },
            Failure::NotIntake { .. } => Self::Hold { why },
            Failure::Status { status, retry_after, .. } => match status {
                400 => Self::Rejected { why },
                413 => Self::TooLarge { why },
                408 | 429 | 500..=599 => Self::Retry { after: retry_after, why },
                _ => Self::Hold { why },
            },
        }
    }
}

/// A Datadog Logs destination, ready to send.
pub struct DatadogDestination {
    config: DatadogLogs,
    encoder: Arc<LogEncoder>,
    client: Client,
    key: RwLock<Key>,
}

struct Key {
    secret: Secret,
    header: HeaderValue,
}

impl Key {
    fn of(source: &SecretSource) -> Result<Self, SecretError> {
        let secret = source.resolve()?;
        let mut header = HeaderValue::from_str(secret.expose())
            .map_err(|_| SecretError::NotPrintable { origin: source.origin() })?;
        // Keeps it out of the debug output of every layer below.
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }
}

impl DatadogDestination {
    /// Reads the key and sets up the client. Proxies are taken from the environment, but not for this machine itself.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: DatadogLogs) -> Result<Self, ExportError> {
        let key = Key::of(&config.api_key)?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(ExportError::Client("no TLS provider is installed in this process".to_owned()));
        }
        let mut builder = Client::builder()
            .user_agent(concat!("policy-gateway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .pool_idle_timeout(POOL_IDLE)
            .default_headers(headers(&config));
        if config.endpoint.scheme() == "http" {
            // Nothing to verify: a container without any CA certificate will do.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&config.endpoint) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| ExportError::Client(root_cause(&error)))?;
        let encoder = Arc::new(LogEncoder::new(&config.service, &config.ddsource, &config.tags));
        Ok(Self { config, encoder, client, key: RwLock::new(key) })
    }

    /// Sends a body once.
    ///
    /// # Errors
    /// [`Failure`]: why the intake did not take it, as far as can be told from here.
    pub async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let request = self.client.post(self.config.endpoint.clone()).header(API_KEY, self.key_header());
        let answer = request.body(body).send().await.map_err(|error| self.transport(error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.refused(answer).await);
        }
        let headers = answer.headers().clone();
        // Cut in its middle, an answer counts for nothing: the body may have been lost with it.
        let text = read_some(answer).await.map_err(|error| self.transport(error))?;
        match found_instead(status, &headers, text.as_deref()) {
            None => Ok(()),
            Some(found) => Err(Failure::NotIntake { status: status.as_u16(), found }),
        }
    }

    async fn refused(&self, answer: Response) -> Failure {
        let status = answer.status().as_u16();
        let retry_after =
            answer.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
        // The status says enough where the body does not arrive.
        let detail = match read_some(answer).await {
            Ok(Some(text)) => self.detail(&text),
            Ok(None) | Err(_) => String::new(),
        };
        let origin = self.config.api_key.origin();
        Failure::Status { status, detail, origin, path: self.config.endpoint.path().to_owned(), retry_after }
    }

    /// What Datadog's error body says, in brackets; nothing of any other body is shown.
    fn detail(&self, text: &[u8]) -> String {
        #[derive(Deserialize)]
        struct Answer {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Entry {
            Text(String),
            Error { title: Option<String>, detail: Option<String> },
        }
        let Ok(Answer { errors }) = serde_json::from_slice::<Answer>(text) else { return String::new() };
        let said = match errors.into_iter().next() {
            Some(Entry::Text(text)) => text,
            Some(Entry::Error { title, detail }) => {
                [title, detail].into_iter().flatten().collect::<Vec<_>>().join(": ")
            }
            None => return String::new(),
        };
        let said = match self.key.read() {
            Ok(key) => said.replace(key.secret.expose(), "(hidden)"),
            Err(_) => return String::new(),
        };
        // A quoted piece of the body would be a piece of an event.
        let said: String = said
            .chars()
            .take_while(|c| !matches!(c, '"' | '\'' | '`' | '{' | '['))
            .filter(|c| !c.is_control())
            .take(DETAIL_CHARS_MAX)
            .collect();
        if said.trim().is_empty() { String::new() } else { format!(" ({})", said.trim()) }
    }

    fn transport(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        let endpoint = &self.config.endpoint;
        let name = endpoint.host_str().unwrap_or_default();
        let host = endpoint.port_or_known_default().map_or(name.to_owned(), |port| format!("{name}:{port}"));
        let cause = root_cause(&error);
        if error.is_timeout() {
            Failure::Timeout { host, seconds: self.config.timeout.as_secs() }
        } else if error.is_dns() {
            Failure::Dns { host: name.to_owned(), cause }
        } else if let Some(cause) = tls_cause(&error) {
            Failure::Tls { host, cause }
        } else if error.is_connect() {
            Failure::Connect { host, cause }
        } else {
            Failure::Cut { host, cause }
        }
    }

    fn key_header(&self) -> HeaderValue {
        self.key.read().unwrap_or_else(PoisonError::into_inner).header.clone()
    }
}

impl Destination for DatadogDestination {
    type Builder = DatadogBody;

    fn begin(&self, now_ms: i64) -> Result<DatadogBody, String> {
        DatadogBody::new(Arc::clone(&self.encoder), &self.config, now_ms)
            .map_err(|error| format!("the body cannot be compressed: {error}"))
    }

    async fn send(&self, body: Bytes) -> SendOutcome {
        match self.post(body).await {
            Ok(()) => SendOutcome::Delivered,
            Err(failure) => failure.into(),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        let source = self.config.api_key.clone();
        let origin = source.origin();
        let read = tokio::task::spawn_blocking(move || Key::of(&source)).await;
        let key = read.map_err(|_| SecretError::Empty { origin })??;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

/// A JSON array of logs, compressed as it grows.
pub struct DatadogBody {
    encoder: Arc<LogEncoder>,
    compressor: Compressor,
    now_ms: i64,
    events_max: usize,
    bytes_max: usize,
    events: usize,
    bytes: usize,
    /// The last logs, each with its separator before it, not compressed yet.
    logs: Vec<u8>,
    failed: Option<io::Error>,
}

impl DatadogBody {
    /// An empty body, to be sent about `now_ms` (epoch milliseconds).
    ///
    /// # Errors
    /// The compression's.
    pub fn new(encoder: Arc<LogEncoder>, config: &DatadogLogs, now_ms: i64) -> io::Result<Self> {
        Ok(Self {
            encoder,
            compressor: Compressor::new(config.compression)?,
            now_ms,
            events_max: config.batch_events_max,
            bytes_max: config.batch_bytes_max,
            events: 0,
            bytes: 0,
            logs: Vec::with_capacity(COMPRESS_STEP + COMPRESS_STEP / 4),
            failed: None,
        })
    }

    fn compress(&mut self) {
        if let Err(error) = self.compressor.write(&self.logs) {
            self.failed = Some(error);
        }
        self.logs.clear();
    }
}

impl BodyBuilder for DatadogBody {
    fn push(&mut self, event: &StoredEvent) -> Push {
        if self.events >= self.events_max {
            return Push::Full;
        }
        let start = self.logs.len();
        self.logs.push(if self.events == 0 { b'[' } else { b',' });
        if let Err(error) = self.encoder.encode(&event.text, self.now_ms, &mut self.logs) {
            self.logs.truncate(start);
            return Push::Unfit(error.to_string());
        }
        let log_bytes = self.logs.len() - start;
        // One more byte for the closing bracket. A first event goes in whatever its size: alone it is under the
        // intake's limits.
        if self.events > 0 && self.bytes + log_bytes + 1 > self.bytes_max {
            self.logs.truncate(start);
            return Push::Full;
        }
        self.events += 1;
        self.bytes += log_bytes;
        if self.logs.len() >= COMPRESS_STEP {
            self.compress();
        }
        Push::Taken
    }

    fn finish(mut self) -> Result<Encoded, String> {
        self.logs.push(b']');
        self.compress();
        let closed = match self.failed {
            Some(error) => Err(error),
            None => self.compressor.finish(),
        };
        let body = closed.map_err(|error| format!("the body cannot be compressed: {error}"))?;
        let bytes_uncompressed = u64::try_from(self.bytes + 1).unwrap_or(u64::MAX);
        Ok(Encoded { body: Bytes::from(body), bytes_uncompressed })
    }
}

fn headers(config: &DatadogLogs) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(encoding) = config.compression.header() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    headers.insert(ORIGIN, HeaderValue::from_static("policy-gateway"));
    headers.insert(ORIGIN_VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    headers
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The answer's body, or `None` where it is longer than an intake's would be.
async fn read_some(mut answer: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(text))
}

/// What a 2xx answer holds instead of Datadog's (202, formerly 200, with `{}` or nothing); `None` where it is that.
fn found_instead(status: StatusCode, headers: &HeaderMap, text: Option<&[u8]>) -> Option<String> {
    if !matches!(status.as_u16(), 200 | 202) {
        return Some("that status".to_owned());
    }
    let Some(text) = text else { return Some("a long body".to_owned()) };
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(object) if !object.contains_key("errors") => None,
        Ok(_) => Some("a list of `errors`".to_owned()),
        Err(_) => {
            let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let kind = kind.and_then(|value| value.split(';').next()).unwrap_or("no content type");
            Some(format!("a body that is not JSON (`{}`)", kind.chars().take(60).collect::<String>()))
        }
    }
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3).
pub(super) fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(now).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The last error of the chain: what the system said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What TLS said, if it was TLS that failed.
fn tls_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.to_string());
    }
    // An I/O error hides what it wraps from `source`.
    if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return tls_cause(wrapped);
    }
    error.source().and_then(tls_cause)
}
