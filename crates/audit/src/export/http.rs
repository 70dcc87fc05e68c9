//! Requests to destinations that speak HTTP: the client, credentials in headers, bounded reading of answers, and what
//! can go wrong before there is an answer. What an answer means is each destination's own.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, Response, Url};

use super::ExportError;
use crate::delivery::SendOutcome;
use crate::egress;
use crate::secret::{Secret, SecretError, SecretSource};

/// A connection that is not there by then will not be; the rest of the timeout is for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below the idle timeout of the load balancers that are common before such endpoints (60 s).
const POOL_IDLE: Duration = Duration::from_secs(45);
/// Longest part of an error text from outside that is shown.
const DETAIL_CHARS_MAX: usize = 160;

/// Why there is no answer, with the fix where there is one. Holds no secret and no part of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The host has no address.
    #[error("the host `{host}` cannot be resolved ({cause}): check {fields}, and this machine's DNS")]
    Dns {
        /// Of the endpoint.
        host: String,
        /// What the system said.
        cause: String,
        /// The fields of the configuration that name the host.
        fields: &'static str,
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
    /// The certificate's time is over (or this machine's clock is wrong).
    #[error(
        "the TLS connection to `{host}` failed ({cause}): renew the certificate there, or check this machine's clock"
    )]
    Expired {
        /// Host and port of the endpoint.
        host: String,
        /// What TLS said.
        cause: String,
    },
    /// No trust.
    #[error(
        "the TLS connection to `{host}` failed ({cause}): behind a proxy that inspects TLS, or with a certificate of your \
         own CA, add the CA to the system's certificates or to `SSL_CERT_FILE`"
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
}

impl From<NoAnswer> for SendOutcome {
    /// Whatever keeps answers away may pass.
    fn from(no_answer: NoAnswer) -> Self {
        Self::Retry { after: None, why: no_answer.to_string() }
    }
}

/// An answer that was read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All of them.
    pub headers: HeaderMap,
    /// What came behind the body; empty but with gRPC.
    pub trailers: HeaderMap,
    /// `None` where it is longer than the destination's answers are, or did not arrive with a status that says enough.
    pub body: Option<Vec<u8>>,
}

impl Answer {
    /// Whether the status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How long the destination asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?;
        retry_after(value, SystemTime::now())
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.as_deref()?).ok()
    }

    /// What the body seems to be, for a message about an answer that is not the destination's: never its content.
    pub fn kind(&self) -> String {
        let Some(body) = &self.body else { return "a long body".to_owned() };
        if body.trim_ascii().is_empty() {
            return "an empty body".to_owned();
        }
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|value| value.split(';').next()).unwrap_or("no content type");
        let kind: String = kind.chars().take(60).collect();
        match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
            Ok(_) => format!("other JSON (`{kind}`)"),
            Err(_) => format!("a body that is not JSON (`{kind}`)"),
        }
    }
}

/// What a status means wherever nothing better is known: `None` for a success. `why` says what happened.
pub fn by_status(status: u16, after: Option<Duration>, why: String) -> Option<SendOutcome> {
    match status {
        200..=299 => None,
        400 => Some(SendOutcome::Rejected { why }),
        413 => Some(SendOutcome::TooLarge { why }),
        408 | 425 | 429 | 500..=599 => Some(SendOutcome::Retry { after, why }),
        _ => Some(SendOutcome::Hold { why }),
    }
}

/// Words on a status that mean the same with every destination; the fix where there is one.
pub fn advice(status: u16) -> &'static str {
    match status {
        400 => "it does not accept something in the body",
        407 => "the proxy wants credentials: put them into `HTTPS_PROXY`",
        408 => "it waited too long for the body",
        413 => "the body is too large for it or for a proxy before it",
        429 => "it asks for fewer requests",
        300..=399 => "redirects are not followed: give the final URL as `endpoint`",
        500..=599 => "it is in trouble itself",
        _ => "check `endpoint`, and proxies before it",
    }
}

/// A client for one endpoint.
#[derive(Debug)]
pub struct Http {
    client: Client,
    endpoint: Url,
    timeout: Duration,
    fields: &'static str,
}

impl Http {
    /// Sets up the client. It follows no redirects. Proxies are taken from the environment, but not for this machine
    /// itself. `fields` names the configuration's fields that hold the host, as in "`endpoint` or `site`".
    ///
    /// # Errors
    /// No TLS provider, no certificates.
    pub fn new(
        endpoint: &Url,
        timeout: Duration,
        headers: HeaderMap,
        fields: &'static str,
    ) -> Result<Self, ExportError> {
        Self::with(endpoint, timeout, headers, fields, ClientBuilder::http1_only)
    }

    /// The same over HTTP/2 and nothing else: for gRPC.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub fn http2(
        endpoint: &Url,
        timeout: Duration,
        headers: HeaderMap,
        fields: &'static str,
    ) -> Result<Self, ExportError> {
        Self::with(endpoint, timeout, headers, fields, ClientBuilder::http2_prior_knowledge)
    }

    fn with(
        endpoint: &Url,
        timeout: Duration,
        headers: HeaderMap,
        fields: &'static str,
        version: fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, ExportError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(ExportError::Client("no TLS provider is installed in this process".to_owned()));
        }
        let mut builder = Client::builder()
            .user_agent(concat!("policy-gateway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .pool_idle_timeout(POOL_IDLE)
            .default_headers(headers);
        if endpoint.scheme() == "http" {
            // Nothing to verify: a container without any CA certificate will do.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(endpoint) {
            builder = builder.no_proxy();
        }
        let builder = egress::guard_here(version(builder));
        let client = builder.build().map_err(|error| ExportError::Client(root_cause(&error)))?;
        Ok(Self { client, endpoint: endpoint.clone(), timeout, fields })
    }

    /// Where requests go.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Sends a body to the endpoint, and reads the answer up to `answer_bytes_max`.
    ///
    /// # Errors
    /// [`NoAnswer`]; also where a success breaks off in its middle, since the body may have been lost with it.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        answer_bytes_max: usize,
    ) -> Result<Answer, NoAnswer> {
        self.request(Method::POST, &self.endpoint, headers, body, answer_bytes_max).await
    }

    /// The same with another method or URL (of the same host).
    ///
    /// # Errors
    /// As [`Http::post`].
    pub async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        answer_bytes_max: usize,
    ) -> Result<Answer, NoAnswer> {
        let request = self.client.request(method, url.clone()).headers(headers).body(body);
        let answer = request.send().await.map_err(|error| self.no_answer(error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let (body, trailers) = match read_some(answer, answer_bytes_max).await {
            Ok(read) => read,
            Err(error) if status.is_success() => return Err(self.no_answer(error)),
            // The status says enough where the body does not arrive.
            Err(_) => (None, HeaderMap::new()),
        };
        Ok(Answer { status: status.as_u16(), headers, trailers, body })
    }

    fn no_answer(&self, error: reqwest::Error) -> NoAnswer {
        let error = error.without_url();
        let name = self.endpoint.host_str().unwrap_or_default();
        let port = self.endpoint.port_or_known_default();
        let host = port.map_or(name.to_owned(), |port| format!("{name}:{port}"));
        let cause = root_cause(&error);
        if error.is_timeout() {
            NoAnswer::Timeout { host, seconds: self.timeout.as_secs() }
        } else if error.is_dns() {
            NoAnswer::Dns { host: name.to_owned(), cause, fields: self.fields }
        } else if let Some(cause) = tls_cause(&error) {
            if cause.contains("expired") || cause.contains("not valid yet") {
                NoAnswer::Expired { host, cause }
            } else {
                NoAnswer::Tls { host, cause }
            }
        } else if error.is_connect() {
            NoAnswer::Connect { host, cause }
        } else {
            NoAnswer::Cut { host, cause }
        }
    }
}

/// Makes a header's value of a secret.
pub type Form = Box<dyn Fn(&Secret) -> String + Send + Sync>;

/// A secret in the form of a header's value, read anew on demand.
pub struct Credential {
    source: SecretSource,
    form: Arc<Form>,
    held: RwLock<Held>,
}

struct Held {
    secret: Secret,
    header: HeaderValue,
}

impl Held {
    fn read(source: &SecretSource, form: &Form) -> Result<Self, SecretError> {
        let secret = source.resolve()?;
        let mut header = HeaderValue::from_str(&form(&secret))
            .map_err(|_| SecretError::NotPrintable { origin: source.origin() })?;
        // Keeps it out of the debug output of every layer below.
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }
}

impl Credential {
    /// Reads the secret; `form` makes the header's value of it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn new(source: SecretSource, form: Form) -> Result<Self, SecretError> {
        let held = RwLock::new(Held::read(&source, &form)?);
        Ok(Self { source, form: Arc::new(form), held })
    }

    /// The header's value, as last read.
    pub fn header(&self) -> HeaderValue {
        self.held.read().unwrap_or_else(PoisonError::into_inner).header.clone()
    }

    /// The secret itself, as last read.
    pub fn secret(&self) -> Secret {
        self.held.read().unwrap_or_else(PoisonError::into_inner).secret.clone()
    }

    /// Where the secret comes from, in words.
    pub fn origin(&self) -> String {
        self.source.origin()
    }

    /// Reads the secret anew; the old one stays in use on an error.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn reload(&self) -> Result<(), SecretError> {
        let (source, form) = (self.source.clone(), Arc::clone(&self.form));
        let origin = source.origin();
        let read = tokio::task::spawn_blocking(move || Held::read(&source, &form)).await;
        let held = read.map_err(|_| SecretError::Empty { origin })??;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// A text from outside in brackets, to be shown behind a status: without the secret, and only up to where a piece of
    /// the body might be quoted. Empty where nothing is left.
    pub fn detail(&self, said: &str) -> String {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        detail(&said.replace(held.secret.expose(), "(hidden)"))
    }
}

/// As [`Credential::detail`], where there is no secret to hide.
pub fn detail(said: &str) -> String {
    // A quoted piece of the body would be a piece of an event.
    let said: String = said
        .chars()
        .take_while(|c| !matches!(c, '"' | '\'' | '`' | '{' | '['))
        .filter(|c| !c.is_control())
        .take(DETAIL_CHARS_MAX)
        .collect();
    if said.trim().is_empty() { String::new() } else { format!(" ({})", said.trim()) }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The answer's body, or `None` where it is longer than that; and its trailers.
async fn read_some(
    answer: Response,
    bytes_max: usize,
) -> Result<(Option<Vec<u8>>, HeaderMap), reqwest::Error> {
    let mut body = http::Response::<reqwest::Body>::from(answer).into_body();
    let (mut text, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => text.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
        if text.len() > bytes_max {
            return Ok((None, trailers));
        }
    }
    Ok((Some(text), trailers))
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
