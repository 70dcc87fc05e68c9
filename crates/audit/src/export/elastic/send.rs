//! Bulk requests. What answers mean is in `answer`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{self, HeaderMap, HeaderValue};

use super::answer::{Question, judge};
use super::config::{Elastic, ElasticAuth};
use super::encode::BulkEncoder;
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::body::{Body, LINES, Room};
use crate::export::http::{Credential, Http};
use crate::secret::SecretError;

/// An item's answer is some 250 bytes, more with an error: 20,000 of them, and then some.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// An Elasticsearch or OpenSearch destination, ready to send.
pub struct ElasticDestination {
    config: Elastic,
    encoder: Arc<BulkEncoder>,
    http: Http,
    credential: Credential,
    data_stream: String,
}

impl ElasticDestination {
    /// Reads the credential and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: Elastic) -> Result<Self, ExportError> {
        let credential = match config.auth.clone() {
            ElasticAuth::ApiKey(source) => {
                Credential::new(source, Box::new(|key| format!("ApiKey {}", key.expose())))?
            }
            ElasticAuth::Basic { username, password } => Credential::new(
                password,
                Box::new(move |password| {
                    format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose())))
                }),
            )?,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(encoding) = config.compression.header() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let http = Http::new(&config.endpoint, config.limits.timeout, headers, "`endpoint`")?;
        let (encoder, data_stream) = (Arc::new(BulkEncoder::new(&config)), config.data_stream());
        Ok(Self { config, encoder, http, credential, data_stream })
    }
}

impl Destination for ElasticDestination {
    type Builder = Body<BulkEncoder>;

    fn begin(&self, now_ms: i64) -> Result<Body<BulkEncoder>, String> {
        let limits = &self.config.limits;
        let room = Room { events_max: limits.batch_events_max, bytes_max: limits.batch_bytes_max };
        Body::new(Arc::clone(&self.encoder), self.config.compression, LINES, room, now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, self.credential.header())]);
        let answer = match self.http.post(headers, parcel.body, ANSWER_BYTES_MAX).await {
            Ok(answer) => answer,
            Err(no_answer) => return no_answer.into(),
        };
        let field = match self.config.auth {
            ElasticAuth::ApiKey(_) => "api_key",
            ElasticAuth::Basic { .. } => "password",
        };
        let question = Question {
            seqs: &parcel.seqs,
            credential: &self.credential,
            field,
            data_stream: &self.data_stream,
        };
        judge(&answer, &question)
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        self.credential.reload().await
    }
}
