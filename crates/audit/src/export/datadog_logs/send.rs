//! One request to the intake, and what its answer means. Batching and compression are in the body's builder, waits and
//! retries in the delivery engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::config::DatadogLogs;
use super::encode::LogEncoder;
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::body::{ARRAY, Body, Room};
use crate::export::http::{self, Answer, Credential, Http, NoAnswer};
use crate::secret::SecretError;

/// The header that carries the key.
const API_KEY: HeaderName = HeaderName::from_static("dd-api-key");
/// Says who sends, for Datadog's support (Datadog's agent and Vector do the same).
const ORIGIN: HeaderName = HeaderName::from_static("dd-evp-origin");
/// Its version.
const ORIGIN_VERSION: HeaderName = HeaderName::from_static("dd-evp-origin-version");
/// Answers of the intake are some hundred bytes; more than this is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a request did not go through, with the fix where there is one. Holds no secret and no part of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
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
        401 => format!(
            "no key arrived: check `api_key` ({origin}), and proxies that strip the `DD-API-KEY` header"
        ),
        403 => {
            format!("it does not know the key from {origin}: check the key, and that it belongs to this site")
        }
        404 => {
            format!("there is no `{path}`: the intake's path is `/api/v2/logs`; check `endpoint` or `site`")
        }
        _ => http::advice(status).to_owned(),
    }
}

impl From<Failure> for SendOutcome {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string();
        match failure {
            Failure::NoAnswer(no_answer) => no_answer.into(),
            Failure::NotIntake { .. } => Self::Hold { why },
            Failure::Status { status, retry_after, .. } => {
                http::by_status(status, retry_after, why).unwrap_or(Self::Delivered)
            }
        }
    }
}

/// A Datadog Logs destination, ready to send.
pub struct DatadogDestination {
    config: DatadogLogs,
    encoder: Arc<LogEncoder>,
    http: Http,
    key: Credential,
}

/// A JSON array of logs.
pub type DatadogBody = Body<LogEncoder>;

/// An empty body, to be sent about `now_ms` (epoch milliseconds).
///
/// # Errors
/// The compression's, in words.
pub fn body(encoder: Arc<LogEncoder>, config: &DatadogLogs, now_ms: i64) -> Result<DatadogBody, String> {
    let room = Room { events_max: config.batch_events_max, bytes_max: config.batch_bytes_max };
    Body::new(encoder, config.compression, ARRAY, room, now_ms)
}

impl DatadogDestination {
    /// Reads the key and sets up the client. Proxies are taken from the environment, but not for this machine itself.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: DatadogLogs) -> Result<Self, ExportError> {
        let key = Credential::new(config.api_key.clone(), Box::new(|key| key.expose().to_owned()))?;
        let http = Http::new(&config.endpoint, config.timeout, headers(&config), "`endpoint` or `site`")?;
        let encoder = Arc::new(LogEncoder::new(&config.service, &config.ddsource, &config.tags));
        Ok(Self { config, encoder, http, key })
    }

    /// Sends a body once.
    ///
    /// # Errors
    /// [`Failure`]: why the intake did not take it, as far as can be told from here.
    pub async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let headers = HeaderMap::from_iter([(API_KEY, self.key.header())]);
        let answer = self.http.post(headers, body, ANSWER_BYTES_MAX).await?;
        if !answer.is_success() {
            return Err(Failure::Status {
                status: answer.status,
                detail: self.detail(&answer),
                origin: self.key.origin(),
                path: self.config.endpoint.path().to_owned(),
                retry_after: answer.retry_after(),
            });
        }
        match found_instead(&answer) {
            None => Ok(()),
            Some(found) => Err(Failure::NotIntake { status: answer.status, found }),
        }
    }

    /// What Datadog's error body says, in brackets; nothing of any other body is shown.
    fn detail(&self, answer: &Answer) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Entry {
            Text(String),
            Error { title: Option<String>, detail: Option<String> },
        }
        let Some(Errors { errors }) = answer.json() else { return String::new() };
        let said = match errors.into_iter().next() {
            Some(Entry::Text(text)) => text,
            Some(Entry::Error { title, detail }) => {
                [title, detail].into_iter().flatten().collect::<Vec<_>>().join(": ")
            }
            None => return String::new(),
        };
        self.key.detail(&said)
    }
}

impl Destination for DatadogDestination {
    type Builder = DatadogBody;

    fn begin(&self, now_ms: i64) -> Result<DatadogBody, String> {
        body(Arc::clone(&self.encoder), &self.config, now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        match self.post(parcel.body).await {
            Ok(()) => SendOutcome::Delivered,
            Err(failure) => failure.into(),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        self.key.reload().await
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

/// What a 2xx answer holds instead of Datadog's (202, formerly 200, with `{}` or nothing); `None` where it is that.
fn found_instead(answer: &Answer) -> Option<String> {
    if !matches!(answer.status, 200 | 202) {
        return Some("that status".to_owned());
    }
    if answer.body.as_ref().is_some_and(|body| body.trim_ascii().is_empty()) {
        return None;
    }
    match answer.json::<serde_json::Map<String, serde_json::Value>>() {
        Some(object) if !object.contains_key("errors") => None,
        Some(_) => Some("a list of `errors`".to_owned()),
        None => Some(answer.kind()),
    }
}
