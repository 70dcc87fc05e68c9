//! An export request over HTTP or gRPC. A unary gRPC call is one POST over HTTP/2 whose status comes in the trailers, so both
//! share the client; waits and retries are the delivery engine's.

use std::sync::Arc;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::answer::{self, Verdict};
use super::body::OtlpBody;
use super::config::{Otlp, OtlpCompression, OtlpProtocol};
use super::encode::Envelope;
use crate::delivery::{Destination, Parcel, Partial, SendOutcome, Then};
use crate::export::ExportError;
use crate::export::http::{Credential, Http, NoAnswer, detail};
use crate::secret::{Secret, SecretError};

/// Answers are some bytes, with a message where something was refused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An OTLP destination, ready to send.
pub struct OtlpDestination {
    config: Otlp,
    envelope: Arc<Envelope>,
    http: Http,
    headers: Vec<(HeaderName, Credential)>,
}

impl OtlpDestination {
    /// Reads the headers' values and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: Otlp) -> Result<Self, ExportError> {
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, source) in &config.headers {
            let credential =
                Credential::new(source.clone(), Box::new(|secret: &Secret| secret.expose().to_owned()))?;
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|error| ExportError::Client(error.to_string()))?;
            headers.push((name, credential));
        }
        let timeout = config.limits.timeout;
        let http = match config.protocol {
            OtlpProtocol::Http => Http::new(&config.endpoint, timeout, own_headers(&config), "`endpoint`")?,
            OtlpProtocol::Grpc => Http::http2(&config.endpoint, timeout, own_headers(&config), "`endpoint`")?,
        };
        let envelope = Arc::new(Envelope::new(&config.resource));
        Ok(Self { config, envelope, http, headers })
    }

    /// Sends a body once.
    async fn post(&self, body: bytes::Bytes) -> Result<Verdict, NoAnswer> {
        let headers: HeaderMap =
            self.headers.iter().map(|(name, credential)| (name.clone(), credential.header())).collect();
        let answer = self.http.post(headers, body, ANSWER_BYTES_MAX).await?;
        let show = |said: &str| self.shown(said);
        let origin = self.origin();
        Ok(match self.config.protocol {
            OtlpProtocol::Http => answer::http(&answer, &origin, &show),
            OtlpProtocol::Grpc => answer::grpc(&answer, &origin, &show),
        })
    }

    fn shown(&self, said: &str) -> String {
        let hide = |said: String, (_, credential): &(HeaderName, Credential)| {
            said.replace(credential.secret().expose(), "(hidden)")
        };
        detail(&self.headers.iter().fold(said.to_owned(), hide))
    }

    /// Where the credentials come from, in words.
    fn origin(&self) -> String {
        match self.headers.as_slice() {
            [] => "`headers` (there are none)".to_owned(),
            headers => {
                let named = headers
                    .iter()
                    .map(|(name, credential)| format!("`headers.{name}` ({})", credential.origin()));
                named.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl Destination for OtlpDestination {
    type Builder = OtlpBody;

    fn begin(&self, _now_ms: i64) -> Result<OtlpBody, String> {
        Ok(OtlpBody::new(Arc::clone(&self.envelope), &self.config))
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        match self.post(parcel.body).await {
            Ok(Verdict::Taken) => SendOutcome::Delivered,
            Ok(Verdict::PartlyRejected(partial)) => {
                let detail = self.shown(&partial.message);
                let reason = format!(
                    "the collector rejected {} of the {} events of a request and does not say which{detail}: by the protocol \
                     none of them may be sent again",
                    partial.rejected,
                    parcel.seqs.len()
                );
                let dead = parcel.seqs.into_iter().map(|seq| (seq, reason.clone())).collect();
                SendOutcome::Partial(Partial {
                    again: Vec::new(),
                    dead,
                    then: Then::Retry(None),
                    why: reason,
                })
            }
            Ok(Verdict::Retry(after, why)) => SendOutcome::Retry { after, why },
            Ok(Verdict::TooLarge(why)) => SendOutcome::TooLarge { why },
            Ok(Verdict::Rejected(why)) => SendOutcome::Rejected { why },
            Ok(Verdict::Hold(why)) => SendOutcome::Hold { why },
            Err(no_answer) => no_answer.into(),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        for (_, credential) in &self.headers {
            credential.reload().await?;
        }
        Ok(())
    }
}

fn own_headers(config: &Otlp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let is_compressed = config.compression == OtlpCompression::Gzip;
    match config.protocol {
        OtlpProtocol::Http => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            if is_compressed {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        OtlpProtocol::Grpc => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if is_compressed {
                headers.insert(HeaderName::from_static("grpc-encoding"), HeaderValue::from_static("gzip"));
            }
        }
    }
    headers
}
