//! What a connection's requests are answered by: routes, authentication, and the small answers. A call's own story is in
//! `pipeline`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use audit::log::LogHealth;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use registry::{Key, KeyError, ProjectStatus, Snapshot};
use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::body;
use crate::call::Call;
use crate::error_reply::Failure;
use crate::models;
use crate::moderation;
use crate::pipeline::{self, Reply};
use crate::reply::{self, Body, JSON, REQUEST_ID};
use crate::route::{MODEL, MODERATIONS, Route};
use crate::{Management, Shared};

/// Largest body of a management call.
const MANAGEMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answers one request.
pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let request_id = Uuid::now_v7().as_hyphenated().to_string();
    let id = HeaderValue::try_from(request_id.as_str());
    let mut response = match route(&shared, request, request_id).await {
        Ok(response) => response,
        Err(failure) => {
            shared.metrics.request("none", failure.status().as_u16());
            reply::failure(&failure)
        }
    };
    if let Ok(id) = id {
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
    }
    response
}

async fn route(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    request_id: String,
) -> Result<Response<Body>, Failure> {
    let header_bytes = header_bytes(&request);
    if header_bytes > shared.limits.header_bytes_max {
        return Err(Failure::HeadersTooLarge(shared.limits.header_bytes_max));
    }
    match Route::find(request.method(), request.uri().path())? {
        Route::Chat { path, policy_object } => {
            let run = |call, head: Parts, body, reply| pipeline::run(call, head.headers, body, reply);
            call(shared, request, path, policy_object, request_id, run).await
        }
        Route::Moderations => {
            let run = |call, head: Parts, body, reply| moderation::run(call, head.headers, body, reply);
            call(shared, request, MODERATIONS, false, request_id, run).await
        }
        Route::Models | Route::Model => models(shared, &request).await,
        Route::Health => Ok(reply::whole(StatusCode::OK, JSON, json!({"status": "ok"}).to_string())),
        Route::Ready => Ok(ready(shared)),
        Route::Metrics => {
            let open_metrics =
                HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            Ok(reply::whole(StatusCode::OK, open_metrics, shared.metrics.render()))
        }
        Route::Management => management(shared, request, &request_id).await,
    }
}

/// Runs the call as a task of its own: it goes on to its closing record when the connection is gone.
async fn call<R: Future<Output = ()> + Send + 'static>(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    path: &'static str,
    policy_object: bool,
    request_id: String,
    run: impl FnOnce(Call, Parts, Incoming, Reply) -> R + Send + 'static,
) -> Result<Response<Body>, Failure> {
    let snapshot = shared.snapshot.load_full();
    let key = Arc::clone(authenticate(&snapshot, request.headers())?);
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Failure::Draining);
    }
    if shared.calls.len() >= share(shared.limits.requests_max, snapshot.priorities_above(&key)) {
        return Err(Failure::Overloaded);
    }
    let call = Call::new(Arc::clone(shared), snapshot, key, path, policy_object, request_id);
    let (sender, receiver) = oneshot::channel();
    let (head, body) = request.into_parts();
    let in_flight = InFlight::new(shared);
    // Boxed: a call's future has some 14 KiB, and the way into the runtime moves it more than once.
    shared.calls.spawn(Box::pin(async move {
        let _in_flight = in_flight;
        run(call, head, body, sender).await;
    }));
    // The task always answers; should it die, the caller must not wait for ever.
    receiver.await.map_err(|_| Failure::AuditUnavailable)
}

/// Requests in flight from which on requests of a priority are turned away: each priority above it that keys have keeps a
/// tenth of all places to itself. With ten priorities at most, the lowest still has one.
fn share(requests_max: usize, priorities_above: usize) -> usize {
    requests_max.saturating_sub(priorities_above * requests_max.div_ceil(10)).max(1)
}

/// Counts a call in the gauge for as long as it lives.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.metrics.in_flight.inc();
        Self(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// The key of a request: `Authorization: Bearer ak_…`, or `x-api-key: ak_…` as Anthropic's clients send it.
fn authenticate<'a>(snapshot: &'a Snapshot, headers: &HeaderMap) -> Result<&'a Arc<Key>, Failure> {
    let presented = match headers.get(AUTHORIZATION) {
        Some(value) => {
            let value = value.to_str().map_err(|_| Failure::MalformedKey)?;
            let (scheme, key) = value.split_once(' ').ok_or(Failure::MalformedKey)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Failure::MalformedKey);
            }
            key.trim()
        }
        None => {
            let value = headers.get("x-api-key").ok_or(Failure::NoKey)?;
            value.to_str().map_err(|_| Failure::MalformedKey)?.trim()
        }
    };
    let now_ms = jiff::Timestamp::now().as_millisecond();
    snapshot.authenticate(presented, now_ms).map_err(|error| match error {
        KeyError::Malformed => Failure::MalformedKey,
        KeyError::Unknown => Failure::InvalidKey("unknown"),
        KeyError::Revoked => Failure::InvalidKey("revoked"),
        KeyError::Expired => Failure::InvalidKey("expired"),
    })
}

async fn models(shared: &Arc<Shared>, request: &Request<Incoming>) -> Result<Response<Body>, Failure> {
    let snapshot = shared.snapshot.load_full();
    let key = authenticate(&snapshot, request.headers())?;
    if key.project.status == ProjectStatus::Disabled {
        return Err(Failure::ProjectDisabled(key.project.id.clone()));
    }
    let list = shared.models.list(&snapshot, key, &shared.upstreams).await?;
    shared.metrics.request("/v1/models", 200);
    let Some(wanted) = request.uri().path().strip_prefix(MODEL) else {
        return Ok(reply::whole(StatusCode::OK, JSON, models::list_body(&list)));
    };
    let named =
        |model: &&serde_json::Value| model.get("id").and_then(serde_json::Value::as_str) == Some(wanted);
    match list.iter().find(named) {
        Some(model) => Ok(reply::whole(StatusCode::OK, JSON, model.to_string())),
        None => Err(Failure::UnknownPath(format!(
            "model `{}` is unknown or not allowed for this key: GET /v1/models lists those that are",
            wanted.chars().take(120).collect::<String>()
        ))),
    }
}

/// Ready: decisions can be recorded, and the gateway is not on its way out.
fn ready(shared: &Shared) -> Response<Body> {
    let health = shared.log.health();
    let draining = shared.draining.load(Ordering::Relaxed);
    let audit = match &health {
        LogHealth::Writable => "writable".to_owned(),
        LogHealth::Blocked(reason) => format!("audit blocked: {reason}"),
        LogHealth::Failed(reason) => format!("audit failed: {reason}"),
    };
    let is_ready = matches!(health, LogHealth::Writable) && !draining;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if draining {
        "draining"
    } else if is_ready {
        "ready"
    } else {
        "not ready"
    };
    reply::whole(status, JSON, json!({"status": word, "audit": audit, "config": "loaded"}).to_string())
}

/// The management API's answer. It finds the id of the request in its header, whatever the client had sent there.
async fn management(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    request_id: &str,
) -> Result<Response<Body>, Failure> {
    let Some(management) = shared.management.as_ref().map(Management::clone) else {
        return Err(Failure::UnknownPath("the management API is not enabled: add `admin_tokens`".to_owned()));
    };
    let (mut head, body) = request.into_parts();
    head.headers.remove(REQUEST_ID);
    if let Ok(id) = HeaderValue::try_from(request_id) {
        head.headers.insert(REQUEST_ID, id);
    }
    let limits = &shared.limits;
    let body = body::read(body, &head.headers, MANAGEMENT_BYTES_MAX, limits.body_timeout).await?;
    let response = management(Request::from_parts(head, body)).await;
    let (head, body): (_, Bytes) = response.into_parts();
    Ok(Response::from_parts(head, Body::Whole(Some(body))))
}

/// Request line and headers as they were on the wire, near enough.
fn header_bytes(request: &Request<Incoming>) -> usize {
    let line = request.uri().to_string().len() + request.method().as_str().len() + " HTTP/1.1\r\n".len();
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    debug_assert!(request.headers().get(HOST).is_none_or(|host| host.len() < usize::MAX));
    line + headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_keep_places_to_themselves() {
        assert_eq!([share(4096, 0), share(100, 1), share(100, 9)], [4096, 90, 10]);
        assert_eq!([share(7, 1), share(7, 9), share(1, 0), share(1, 1)], [6, 1, 1, 1]);
    }
}
