//! Calls to upstreams: one pooled client for all of them, requests built from the judged body alone, faults named
//! for the caller. What an answer means is not decided here.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use registry::Upstream;

use crate::error_reply::Failure;

/// Kept shorter than what servers commonly grant (nginx 75 s), so that a pooled connection is rarely a dead one.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Headers of the client that mean something to an upstream; no other one is passed on.
const PASSED_HEADERS: [HeaderName; 4] = [
    USER_AGENT,
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The client that every upstream call goes through.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl UpstreamClient {
    /// Reads the system's certificates once.
    ///
    /// # Errors
    /// Where the system has none: https upstreams could not be verified.
    pub(crate) fn new(connect_timeout: Duration) -> std::io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(Self { client })
    }

    /// Sends a request and waits for the head of the answer, at most the upstream's timeout.
    ///
    /// # Errors
    /// [`Failure::Upstream`] or [`Failure::UpstreamTimeout`].
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        accept: &'static str,
    ) -> Result<Response<Incoming>, Failure> {
        let request = request(upstream, method, path, headers, body, accept)?;
        match tokio::time::timeout(upstream.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                tracing::warn!(upstream = upstream.name, error = %chain(&error), "upstream call failed");
                Err(failure(upstream, &error))
            }
            Err(_) => {
                tracing::warn!(upstream = upstream.name, timeout = ?upstream.timeout, "upstream timed out");
                Err(Failure::UpstreamTimeout { upstream: upstream.name.clone(), timeout: upstream.timeout })
            }
        }
    }
}

fn request(
    upstream: &Upstream,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
    accept: &'static str,
) -> Result<Request<Full<Bytes>>, Failure> {
    let broken = |problem: &str| Failure::Upstream {
        upstream: upstream.name.clone(),
        problem: format!("is configured wrongly: {problem}"),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", upstream.base_url))
        .header(ACCEPT, HeaderValue::from_static(accept))
        .body(Full::new(body))
        .map_err(|_| broken("`base_url` is no URL"))?;
    let out = request.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for name in &PASSED_HEADERS {
        if let Some(value) = headers.get(name) {
            out.insert(name, value.clone());
        }
    }
    if let Some(key) = &upstream.api_key {
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
            .map_err(|_| broken("`api_key` has characters that a header cannot carry"))?;
        value.set_sensitive(true);
        out.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What a failed call tells the caller: enough to know whose fault it is, nothing of the inner network.
fn failure(upstream: &Upstream, error: &hyper_util::client::legacy::Error) -> Failure {
    let mut source = error.source();
    let mut timed_out = false;
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            timed_out |= io.kind() == std::io::ErrorKind::TimedOut;
        }
        source = inner.source();
    }
    if timed_out {
        return Failure::UpstreamTimeout {
            upstream: upstream.name.clone(),
            timeout: upstream.connect_timeout,
        };
    }
    let problem = if error.is_connect() { "could not be reached" } else { "broke the connection off" };
    Failure::Upstream { upstream: upstream.name.clone(), problem: problem.to_owned() }
}

/// An error with its causes, for the operator's log.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
