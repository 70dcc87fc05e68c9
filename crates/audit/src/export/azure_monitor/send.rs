//! A request to the Logs Ingestion API, and what its answer means. Waits and retries are the delivery engine's.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::config::{AzureCompression, AzureMonitor};
use super::encode;
use super::token::{NoToken, Tokens};
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::body::{ARRAY, Body, Encode, Room};
use crate::export::compress::Compression;
use crate::export::http::{Answer, Http, NoAnswer, advice, by_status, detail};
use crate::outbox::StoredEvent;
use crate::secret::SecretError;

/// Answers are empty, or an error of some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Makes the objects.
pub struct RowEncoder;

impl Encode for RowEncoder {
    fn encode(&self, event: &StoredEvent, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        encode::object(&event.text, now_ms, out)
    }
}

/// An Azure Monitor destination, ready to send.
pub struct AzureMonitorDestination {
    config: AzureMonitor,
    http: Http,
    tokens: Tokens,
}

/// Why the body did not arrive, as far as can be told from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    NoToken(#[from] NoToken),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl AzureMonitorDestination {
    /// Reads the secret and sets up the clients.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: AzureMonitor) -> Result<Self, ExportError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if config.compression == AzureCompression::Gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let http = Http::new(&config.endpoint, config.limits.timeout, headers, "`endpoint`")?;
        let tokens = Tokens::new(&config)?;
        Ok(Self { config, http, tokens })
    }

    async fn post(&self, body: Bytes) -> Result<Answer, Failure> {
        let token = self.tokens.header().await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.clone());
        let answer = self.http.post(headers, body, ANSWER_BYTES_MAX).await?;
        if answer.status == 401 {
            // Revoked, or its key was rolled: the next try asks for another.
            self.tokens.forget(&token).await;
        }
        Ok(answer)
    }

    fn meaning(&self, answer: &Answer) -> SendOutcome {
        let status = answer.status;
        if status == 204 || (answer.is_success() && is_blank(answer)) {
            return SendOutcome::Delivered;
        }
        if answer.is_success() {
            return SendOutcome::Hold {
                why: format!(
                    "the endpoint answers {status} with {}, which is not Azure's answer (204 and nothing): check `endpoint`, and \
                     whether a proxy or a login page answers in its place",
                    answer.kind()
                ),
            };
        }
        let why = format!("Azure answers {status}{}: {}", said(answer), self.advice(status));
        by_status(status, answer.retry_after(), why.clone()).unwrap_or(SendOutcome::Hold { why })
    }

    fn advice(&self, status: u16) -> String {
        match status {
            400 => "it does not accept something in the body; where it refuses every event, the stream's columns are not \
                    those of `deploy/azure/`"
                .to_owned(),
            401 => format!(
                "it does not take the token: check `cloud`, and the application's secret from {}",
                self.tokens.origin()
            ),
            403 => "the application may not write: give it the role Monitoring Metrics Publisher on the data collection rule \
                    (a new role takes up to 30 minutes to work)"
                .to_owned(),
            404 => "there is no such rule or stream: check `dcr_id` (the immutable id), `stream`, and that `endpoint` is in \
                    the rule's region (a new rule takes minutes to work)"
                .to_owned(),
            _ => advice(status).to_owned(),
        }
    }
}

fn is_blank(answer: &Answer) -> bool {
    answer.body.as_deref().is_some_and(|body| body.trim_ascii().is_empty())
}

/// The code of Azure's error, in brackets. Its message may quote the body, so it is not shown.
fn said(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    answer.json::<Refusal>().map(|refusal| detail(&refusal.error.code)).unwrap_or_default()
}

impl Destination for AzureMonitorDestination {
    type Builder = Body<RowEncoder>;

    fn begin(&self, now_ms: i64) -> Result<Body<RowEncoder>, String> {
        let compression = match self.config.compression {
            AzureCompression::Gzip => Compression::Gzip,
            AzureCompression::None => Compression::Identity,
        };
        let limits = &self.config.limits;
        let room = Room { events_max: limits.batch_events_max, bytes_max: limits.batch_bytes_max };
        Body::new(Arc::new(RowEncoder), compression, ARRAY, room, now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        match self.post(parcel.body).await {
            Ok(answer) => self.meaning(&answer),
            Err(Failure::NoToken(no_token)) => no_token.into(),
            Err(Failure::NoAnswer(no_answer)) => no_answer.into(),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        self.tokens.reload().await
    }
}
