//! An HTTP server for the tests of destinations: HTTP/1 and HTTP/2, answers by a function of the request, and remembers what
//! it was sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) is_http2: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, unpacked.
    pub(crate) fn gunzipped(&self) -> Vec<u8> {
        gunzip(&self.body)
    }
}

pub(crate) fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// What the server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

fn header(name: &'static str, value: &str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.extend([header(name, value)]);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &str) -> Self {
        self.trailers.get_or_insert_default().extend([header(name, value)]);
        self
    }
}

/// See the module.
pub(crate) struct TestServer {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

impl TestServer {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answer, seen) = (Arc::new(answer), Arc::<Mutex<Vec<Seen>>>::default());
        let tasks = TaskTracker::new();
        let (connections, log) = (tasks.clone(), Arc::clone(&seen));
        let task = tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                let service =
                    service_fn(move |request| respond(request, Arc::clone(&answer), Arc::clone(&log)));
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that leaves is not of interest here.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, seen, _task: AbortOnDropHandle::new(task) }
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn respond<A: Fn(&Seen) -> Reply>(
    request: http::Request<Incoming>,
    answer: Arc<A>,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<http::Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().unwrap().to_string(),
        is_http2: parts.version == http::Version::HTTP_2,
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
    };
    let reply = answer(&seen);
    log.lock().unwrap().push(seen);
    let trailers = reply.trailers.map(Ok);
    let body = Full::new(Bytes::from(reply.body)).with_trailers(std::future::ready(trailers));
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap();
    *response.headers_mut() = reply.headers;
    Ok(response)
}
