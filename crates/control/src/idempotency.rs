//! `Idempotency-Key`: a POST that is sent again with the same key gets the same answer, for a day and over a restart, and
//! does nothing. That one has begun is durable before it does anything, so that a crash cannot make two of it. An answer that
//! shows a secret is encrypted with the caller's own token.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use audit::seal::Sealer;
use bytes::Bytes;
use http::{Method, Request, Response};
use registry::DesiredState;
use registry::kept::KeptAnswer;
use sha2::{Digest, Sha256};

use crate::api::Found;
use crate::auth::Caller;
use crate::reply::{self, Failure};

const HEADER: &str = "idempotency-key";
/// A UUID is 36; more than this is no key.
const KEY_BYTES_MAX: usize = 255;
/// What answers are encrypted for.
const PURPOSE: &[u8] = b"policy-gateway answer 1";

/// Requests with a key that this process works on now.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashSet<String>>>);

impl Running {
    fn enter(&self, id: &str) -> Option<Place> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.to_owned()).then(|| Place { running: self.clone(), id: id.to_owned() })
    }
}

/// Left when it is dropped.
struct Place {
    running: Running,
    id: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What becomes of a request.
pub(crate) enum Begun {
    /// It was done before: this is the answer.
    Answered(Response<Bytes>),
    /// It is to be done, and its end to be kept where it has a key.
    Now(Option<Once>),
}

/// A request with a key, on its way.
pub(crate) struct Once {
    _place: Place,
    kept: KeptAnswer,
    /// Encrypts the answer, where it holds a secret: none where nothing of it may be kept.
    sealer: Option<Option<Sealer>>,
}

impl Once {
    /// Looks for an earlier answer, or begins.
    ///
    /// # Errors
    /// [`Failure`]: a key that is none, that came with another request, or whose request has not ended.
    pub(crate) async fn begin(
        state: &DesiredState,
        running: &Running,
        found: &Found,
        request: &Request<Bytes>,
        caller: &Caller,
    ) -> Result<Begun, Failure> {
        let Some(value) = request.headers().get(HEADER).filter(|_| *request.method() == Method::POST) else {
            return Ok(Begun::Now(None));
        };
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let message = format!("`Idempotency-Key` must be 1 to {KEY_BYTES_MAX} visible ASCII characters");
            return Err(Failure::bad_request(message));
        }
        let id = digest(&[caller.name.as_bytes(), key.as_bytes()]);
        let asked = asked(request);
        let Some(place) = running.enter(&id) else { return Err(not_ended(key)) };
        let seals = found.route.operation.answers_secret();
        let sealer = seals.then(|| caller.token.as_ref().map(|token| Sealer::new(token, PURPOSE)));
        let now_ms = jiff::Timestamp::now().as_millisecond();
        match state.answer(&id, now_ms).await? {
            None => {}
            Some(kept) if kept.request != asked => {
                let message = format!(
                    "the `Idempotency-Key` `{key}` came with another request before: give each request its own"
                );
                return Err(Failure::unprocessable("idempotency_key_reused", message));
            }
            Some(KeptAnswer { answer: None, .. }) => return Err(not_ended(key)),
            Some(KeptAnswer { answer: Some((status, body)), .. }) => {
                let opened = match &sealer {
                    None => Some(body),
                    Some(sealer) => sealer.as_ref().and_then(|sealer| sealer.open(id.as_bytes(), &body).ok()),
                };
                let gone = || {
                    let message = "this was done before, and its answer, which held a secret, cannot be shown again: \
                                   revoke what it made and ask with another `Idempotency-Key`";
                    Failure::conflict("already_done", message)
                };
                return opened.map(|body| Begun::Answered(reply::again(status, body))).ok_or_else(gone);
            }
        }
        let kept = KeptAnswer { id, request: asked, created_ms: now_ms, answer: None };
        state.keep_answer(kept.clone()).await?;
        Ok(Begun::Now(Some(Self { _place: place, kept, sealer })))
    }

    /// Keeps the answer; none where nothing was done, so that the request may be sent again. What cannot be kept leaves the
    /// key as one whose request has not ended.
    pub(crate) async fn end(self, state: &DesiredState, response: Option<&Response<Bytes>>) {
        let id = self.kept.id.clone();
        let Some(response) = response else {
            let _ = state.forget_answer(&id).await;
            return;
        };
        let body = match &self.sealer {
            None => response.body().to_vec(),
            Some(sealer) => {
                let sealed = sealer.as_ref().map(|sealer| sealer.seal(id.as_bytes(), response.body()));
                sealed.and_then(Result::ok).unwrap_or_default()
            }
        };
        let answer = Some((response.status().as_u16(), body));
        let _ = state.keep_answer(KeptAnswer { answer, ..self.kept }).await;
    }
}

fn not_ended(key: &str) -> Failure {
    let message = format!(
        "a request with the `Idempotency-Key` `{key}` has begun and not ended: wait for it; if the gateway was restarted \
         meanwhile, look whether it was done and ask with another key"
    );
    Failure::conflict("idempotency_key_in_use", message)
}

/// What is asked for: everything that the answer may depend on.
fn asked(request: &Request<Bytes>) -> String {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let expected = headers.get(http::header::IF_MATCH).map_or(&b""[..], |value| value.as_bytes());
    digest(&[target.as_bytes(), expected, request.body()])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    audit::event::hex(&<[u8; 32]>::from(hasher.finalize()))
}
