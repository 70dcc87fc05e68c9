//! Requests to the collector: bodies, and questions after bodies that were received. What answers mean is in `answer`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use uuid::Uuid;

use super::answer::{Question, Said, judge};
use super::config::{AckMode, SplunkHec};
use super::encode::HecEncoder;
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::body::{Body, LINES, Room};
use crate::export::http::{Answer, Credential, Http};
use crate::secret::SecretError;

/// Names this sender's acknowledgements; a GUID of our choice.
const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");
/// Answers are some hundred bytes; those to questions after acknowledgements grow with what is asked.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Indexing takes a second or more; asking more often only costs.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);

/// A Splunk destination, ready to send.
pub struct SplunkDestination {
    config: SplunkHec,
    encoder: Arc<HecEncoder>,
    http: Http,
    token: Credential,
    /// Where acknowledgements are asked after.
    ack_url: Url,
    /// A new one for each run: acknowledgements of an earlier run are not asked after, those bodies are sent again.
    channel: HeaderValue,
    /// Whether the collector takes a channel from this token: not, once it said that acknowledgement is off.
    with_channel: RwLock<bool>,
}

impl SplunkDestination {
    /// Reads the token and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: SplunkHec) -> Result<Self, ExportError> {
        let token =
            Credential::new(config.token.clone(), Box::new(|token| format!("Splunk {}", token.expose())))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let http = Http::new(&config.endpoint, config.limits.timeout, headers, "`endpoint`")?;
        let encoder = Arc::new(HecEncoder::new(&config));
        let id = Uuid::new_v4().to_string();
        let channel = HeaderValue::from_str(&id).map_err(|error| ExportError::Client(error.to_string()))?;
        let mut ack_url = config.endpoint.clone();
        let base = config.endpoint.path().trim_end_matches("/event/1.0").trim_end_matches("/event");
        ack_url.set_path(&format!("{base}/ack"));
        ack_url.query_pairs_mut().append_pair("channel", &id);
        let with_channel = RwLock::new(config.ack != AckMode::Off);
        Ok(Self { config, encoder, http, token, ack_url, channel, with_channel })
    }

    fn headers(&self, encoded: bool) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, self.token.header())]);
        if let Some(encoding) = self.config.compression.header().filter(|_| encoded) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if *self.with_channel.read().unwrap_or_else(PoisonError::into_inner) {
            headers.insert(CHANNEL, self.channel.clone());
        }
        headers
    }

    async fn post(&self, parcel: &Parcel) -> SendOutcome {
        match self.http.post(self.headers(true), parcel.body.clone(), ANSWER_BYTES_MAX).await {
            Ok(answer) => {
                if self.is_without_acks(&answer) {
                    *self.with_channel.write().unwrap_or_else(PoisonError::into_inner) = false;
                    return match self
                        .http
                        .post(self.headers(true), parcel.body.clone(), ANSWER_BYTES_MAX)
                        .await
                    {
                        Ok(answer) => self.judge(&answer, parcel),
                        Err(no_answer) => no_answer.into(),
                    };
                }
                self.judge(&answer, parcel)
            }
            Err(no_answer) => no_answer.into(),
        }
    }

    /// With `ack: auto`, a token without acknowledgement is no fault.
    fn is_without_acks(&self, answer: &Answer) -> bool {
        self.config.ack == AckMode::Auto
            && answer.status == 400
            && answer.json::<Said>().is_some_and(|said| said.code == 14)
    }

    fn judge(&self, answer: &Answer, parcel: &Parcel) -> SendOutcome {
        judge(
            answer,
            &Question {
                seqs: &parcel.seqs,
                ack: self.config.ack,
                ack_within: self.config.ack_within,
                token: &self.token,
                index: self.config.index.as_deref(),
                path: self.config.endpoint.path(),
            },
        )
    }

    /// Asks after acknowledgements.
    async fn ask(&self, ids: &[u64]) -> Result<BTreeMap<String, bool>, String> {
        #[derive(Deserialize)]
        struct Acks {
            acks: BTreeMap<String, bool>,
        }
        let body = Bytes::from(serde_json::json!({ "acks": ids }).to_string());
        let headers = self.headers(false);
        let answer = self.http.request(Method::POST, &self.ack_url, headers, body, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|no_answer| no_answer.to_string())?;
        if let Some(Acks { acks }) = answer.json().filter(|_| answer.is_success()) {
            return Ok(acks);
        }
        let detail = answer
            .json::<Said>()
            .map(|said| format!(", code {}{}", said.code, self.token.detail(&said.text)));
        let detail = detail.unwrap_or_else(|| format!(" with {}", answer.kind()));
        Err(format!(
            "Splunk does not answer after acknowledgements (`{}`): {}{detail}",
            self.ack_url.path(),
            answer.status
        ))
    }
}

impl Destination for SplunkDestination {
    type Builder = Body<HecEncoder>;

    fn begin(&self, now_ms: i64) -> Result<Body<HecEncoder>, String> {
        let room = Room {
            events_max: self.config.limits.batch_events_max,
            bytes_max: self.config.limits.batch_bytes_max,
        };
        Body::new(Arc::clone(&self.encoder), self.config.compression, LINES, room, now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        self.post(&parcel).await
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        self.token.reload().await?;
        // Another token may have acknowledgement on.
        *self.with_channel.write().unwrap_or_else(PoisonError::into_inner) = self.config.ack != AckMode::Off;
        Ok(())
    }

    async fn confirm(&self, tokens: Vec<String>) -> Result<Vec<bool>, String> {
        let ids: Vec<u64> = tokens.iter().filter_map(|token| token.parse().ok()).collect();
        let acks = self.ask(&ids).await?;
        Ok(tokens.iter().map(|token| acks.get(token).copied().unwrap_or(false)).collect())
    }

    fn confirm_every(&self) -> Duration {
        CONFIRM_EVERY
    }
}
