//! A chat completions call from first byte to last, as one plain function: judge, record, call the upstream, judge its
//! answer, record what changed, release, close. Every exit writes the closing record.

use std::sync::Arc;
use std::time::Instant;

use audit::event::{Outcome, Scan};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use llm_api::chat::answer::Answer;
use llm_api::json::Splice;
use policy::{InputVerdict, Masker, OutputFindings, Verdict};
use tokio::sync::oneshot;

use crate::admission::{Admitted, admit};
use crate::beside::Rollout;
use crate::body;
use crate::call::Call;
use crate::enforce::{self, Action};
use crate::error_reply::Failure;
use crate::escalate::{self, Moment};
use crate::quota::Took;
use crate::reply::{self, Body, EVENT_STREAM, JSON};
use crate::settle::{Settled, settle};
use crate::streaming;

/// Where an upstream serves chat completions, after its base URL.
pub(crate) const CHAT_PATH: &str = "/chat/completions";
/// Largest error body of an upstream that is passed on.
const ERROR_BYTES_MAX: usize = 256 * 1024;

/// The half that the connection waits on; it closes when the client goes away.
pub(crate) type Reply = oneshot::Sender<Response<Body>>;

/// Everything that is judged and sent of a call.
pub(crate) struct Judged {
    pub(crate) admitted: Admitted,
    pub(crate) input: InputVerdict,
    pub(crate) masker: Masker,
    /// Changes to the request's texts.
    pub(crate) texts: Splice,
}

/// Runs a call and answers through `reply`.
pub(crate) async fn run(mut call: Call, headers: HeaderMap, body: Incoming, mut reply: Reply) {
    let admitted = tokio::select! {
        admitted = admit(&mut call, headers, body) => admitted,
        () = reply.closed() => {
            call.event.reason_code = Some("client_gone".to_owned());
            call.close(Outcome::ClientGone, CLIENT_GONE, None);
            return;
        }
    };
    let mut admitted = match admitted {
        Ok(admitted) => admitted,
        Err(failure) => return answer(reply, call.fail(failure).await),
    };
    if let Err(failure) = call.reserve(Some(&admitted.request)).await {
        return answer(reply, call.fail(failure).await);
    }
    if call.scoring.fetched().is_some() {
        Box::pin(call.score_request(&admitted)).await;
    }
    let (input, texts, masker) = match judge_request(&mut call, &admitted).await {
        Ok(judged) => judged,
        Err(failure) => return answer(reply, call.fail(failure).await),
    };
    let verdict = policy::conclude(&admitted.revision, &input, &OutputFindings::default());
    call.event.scan = Some(Scan { input_bytes: input.scanned_bytes, ..Scan::default() });
    call.judged(&admitted.revision, &verdict);
    let action = match escalate::gate(&mut call, &mut admitted, Moment::Request).await {
        Ok(action) => action,
        Err(failure) => return unrecorded(call, &failure, reply),
    };
    if action == Action::Replace {
        call.settle_quota(Took::Refused);
    }
    if let Err(failure) = call.record() {
        return unrecorded(call, &failure, reply);
    }
    let judged = Judged { admitted, input, masker, texts };
    match action {
        Action::Replace => replace(call, &judged, None, reply).await,
        Action::Forward | Action::Pass => forward(call, judged, reply).await,
    }
}

/// Judges the request: the verdict, the changes to its texts, and the masker that made them.
async fn judge_request(
    call: &mut Call,
    admitted: &Admitted,
) -> Result<(InputVerdict, Splice, Masker), Failure> {
    let mut rollout = std::mem::replace(&mut call.rollout, Rollout::plain());
    let (request, revision) = (Arc::clone(&admitted.request), Arc::clone(&admitted.revision));
    let subject = admitted.subject.clone();
    let work = move || {
        let mut masker = Masker::default();
        let judged = rollout.judge_request(&revision, &subject, &request, &mut masker);
        (rollout, judged, masker)
    };
    let (rollout, judged, masker) = call.shared.apart.run(admitted.request.body_bytes(), work).await;
    call.rollout = rollout;
    let (input, texts) = judged?;
    Ok((input, texts, masker))
}

/// nginx's status for a client that left; it is in the event only, nobody is there to read it.
pub(crate) const CLIENT_GONE: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// Calls the upstream. The decision record becomes durable meanwhile.
async fn forward(mut call: Call, mut judged: Judged, mut reply: Reply) {
    let admitted = &judged.admitted;
    let body = {
        let (request, revision) = (Arc::clone(&admitted.request), Arc::clone(&admitted.revision));
        let (adds_instruction, decision) = (judged.input.add_instruction, judged.input.decision);
        let texts = judged.texts.clone();
        let work = move || {
            let instruction = adds_instruction.then(|| revision.instruction(decision));
            request.upstream_body(texts, instruction)
        };
        call.shared.apart.run(admitted.request.body_bytes(), work).await
    };
    let accept = if admitted.request.stream { "text/event-stream" } else { "application/json" };
    let waiting = Instant::now();
    let sent = tokio::select! {
        sent = call.shared.upstreams.send(&admitted.upstream, Method::POST, CHAT_PATH, &admitted.headers, body, accept) => sent,
        () = reply.closed() => {
            call.add_upstream_time(waiting.elapsed());
            return gone(call).await;
        }
    };
    call.add_upstream_time(waiting.elapsed());
    let response = match sent {
        Ok(response) => response,
        Err(failure) => return Box::pin(upstream_failed(call, failure, reply)).await,
    };
    if !enforce::is_answer(response.status()) {
        return Box::pin(upstream_error(call, judged, response, reply)).await;
    }
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"));
    if is_stream {
        // Boxed, like what is rare: a call's future is as large as its largest branch, and is moved as a whole.
        return Box::pin(streaming::run(call, judged, response.into_body(), reply)).await;
    }
    let waiting = Instant::now();
    let max = call.shared.limits.answer_bytes_max;
    let body = tokio::select! {
        body = tokio::time::timeout(judged.admitted.upstream.timeout, body::collect(response.into_body(), max)) => body,
        () = reply.closed() => {
            call.add_upstream_time(waiting.elapsed());
            return gone(call).await;
        }
    };
    call.add_upstream_time(waiting.elapsed());
    let answer = match body {
        Err(_) => Err(Failure::UpstreamTimeout {
            upstream: judged.admitted.upstream.name.clone(),
            timeout: judged.admitted.upstream.timeout,
        }),
        Ok(Err(problem)) => Err(broken(&judged, &problem)),
        Ok(Ok(bytes)) => {
            let answer = call.shared.apart.run(bytes.len(), move || Answer::parse(bytes)).await;
            answer.map_err(|error| broken(&judged, &error.to_string()))
        }
    };
    match answer {
        Ok(answer) => whole_answer(call, &mut judged, Arc::new(answer), reply).await,
        Err(failure) => Box::pin(upstream_failed(call, failure, reply)).await,
    }
}

pub(crate) fn broken(judged: &Judged, problem: &str) -> Failure {
    Failure::Upstream {
        upstream: judged.admitted.upstream.name.clone(),
        problem: format!("gave an answer that cannot be judged: {problem}"),
    }
}

/// Judges an answer that came whole and releases what was settled on.
async fn whole_answer(mut call: Call, judged: &mut Judged, answer: Arc<Answer>, mut reply: Reply) {
    let settled = tokio::select! {
        settled = settle(&mut call, judged, &answer) => settled,
        () = reply.closed() => return gone(call).await,
    };
    match settled {
        Settled::Clean(found) => {
            call.released(found.released_bytes);
            let policy = call.policy_json();
            let body = answer.client_body(found.texts, &found.changed_choices, None, policy.as_deref());
            release(call, JSON, body, reply);
        }
        Settled::Mended(body) if judged.admitted.request.stream => match Answer::parse(body) {
            Ok(mended) => {
                let include_usage = judged.admitted.request.include_usage;
                let frames = mended.frames(include_usage, call.policy_json().as_deref());
                release(call, EVENT_STREAM, frames.into(), reply);
            }
            Err(error) => Box::pin(upstream_failed(call, broken(judged, &error.to_string()), reply)).await,
        },
        Settled::Mended(body) => release(call, JSON, body, reply),
        Settled::Refused(failure) => replace(call, judged, failure, reply).await,
        Settled::Unjudged(failure) => Box::pin(upstream_failed(call, failure, reply)).await,
        Settled::Unrecorded(failure) => unrecorded(call, &failure, reply),
    }
}

/// An output verdict goes into the event; one that changes the decision is a record of its own. Gives what is to be
/// done.
pub(crate) async fn output_judged(
    call: &mut Call,
    admitted: &mut Admitted,
    verdict: &Verdict,
    moment: Moment,
) -> Result<Action, Failure> {
    let is_new = call.decision() != Some(verdict.decision);
    call.judged(&admitted.revision, verdict);
    let action = escalate::gate(call, admitted, moment).await?;
    if is_new {
        call.record()?;
    }
    Ok(action)
}

/// The policy's text in place of the answer; `failure` is that of the extra call that was to give a better one.
async fn replace(mut call: Call, judged: &Judged, failure: Option<Failure>, reply: Reply) {
    if let Err(failure) = call.durable().await {
        return unrecorded(call, &failure, reply);
    }
    call.settle_quota(Took::Refused);
    let mut made = enforce::replacement(&call, &judged.admitted.revision, &judged.admitted.request);
    call.headers(made.response.headers_mut());
    let status = made.response.status();
    let (outcome, error_code) = call.ended(failure.as_ref());
    close_with(call, outcome, status, error_code.or(made.error_code), made.response, reply);
}

fn release(mut call: Call, content_type: HeaderValue, body: Bytes, reply: Reply) {
    call.settle_quota(Took::Used);
    let mut response = reply::whole(StatusCode::OK, content_type, body);
    call.headers(response.headers_mut());
    close_with(call, Outcome::Completed, StatusCode::OK, None, response, reply);
}

/// Answers, and closes the record by whether anybody took the answer.
fn close_with(
    mut call: Call,
    outcome: Outcome,
    status: StatusCode,
    error_code: Option<String>,
    response: Response<Body>,
    reply: Reply,
) {
    let outcome = if reply.send(response).is_ok() { outcome } else { Outcome::ClientGone };
    call.close(outcome, status, error_code);
}

/// An error status of the upstream passes on with its body and `Retry-After`, judged like an answer.
async fn upstream_error(mut call: Call, mut judged: Judged, response: Response<Incoming>, reply: Reply) {
    let upstream = Arc::clone(&judged.admitted.upstream);
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        let failure = Failure::Upstream {
            upstream: upstream.name.clone(),
            problem: format!("answered with status {}, which is no answer to a completion", status.as_u16()),
        };
        return Box::pin(upstream_failed(call, failure, reply)).await;
    }
    call.shared.metrics.upstream_failure(&upstream.name);
    let (head, body) = response.into_parts();
    let collected = tokio::time::timeout(upstream.timeout, body::collect(body, ERROR_BYTES_MAX)).await;
    let Ok(Ok(body)) = collected else {
        return Box::pin(upstream_failed(call, broken(&judged, "its error body broke off"), reply)).await;
    };
    if let Err(failure) = call.durable().await {
        return unrecorded(call, &failure, reply);
    }
    if let Some(fetched) = call.scoring.fetched().cloned() {
        let subject = judged.admitted.subject.clone().scored_by(fetched.asking());
        let mut masker = judged.masker.clone();
        judge::judge_error_body(&judged.admitted.revision, &subject, body.clone(), &mut masker);
        call.fetch(&fetched).await;
    }
    let body = judge::judge_error_body(
        &judged.admitted.revision,
        &judged.admitted.subject,
        body,
        &mut judged.masker,
    );
    let content_type = head.headers.get(CONTENT_TYPE).cloned().unwrap_or(JSON);
    let code = error_code(&body).unwrap_or_else(|| "upstream_error".to_owned());
    call.settle_quota(Took::Nothing);
    let mut response = reply::whole(status, content_type, body);
    if let Some(retry_after) = head.headers.get(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::clone(retry_after));
    }
    call.headers(response.headers_mut());
    let outcome =
        if reply.send(response).is_ok() { enforce::upstream_outcome(status) } else { Outcome::ClientGone };
    call.close(outcome, status, Some(code));
}

/// The `code` of an OpenAI error body, where it is a short name.
fn error_code(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.get("code")?.as_str()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (code.len() <= 64 && code.bytes().all(is_name)).then(|| code.to_owned())
}

/// The upstream could not be called, or what it said cannot be judged.
pub(crate) async fn upstream_failed(mut call: Call, failure: Failure, reply: Reply) {
    if let Failure::Upstream { upstream, .. } | Failure::UpstreamTimeout { upstream, .. } = &failure {
        call.shared.metrics.upstream_failure(upstream);
    }
    if let Err(failure) = call.durable().await {
        return unrecorded(call, &failure, reply);
    }
    call.settle_quota(Took::Nothing);
    let mut response = reply::failure(&failure);
    call.headers(response.headers_mut());
    let outcome = if reply.send(response).is_ok() { Outcome::UpstreamError } else { Outcome::ClientGone };
    call.close(outcome, failure.status(), Some(failure.code().to_owned()));
}

/// The log did not take the decision: nothing is released.
pub(crate) fn unrecorded(mut call: Call, failure: &Failure, reply: Reply) {
    call.settle_quota(Took::Nothing);
    let mut response = reply::failure(failure);
    call.headers(response.headers_mut());
    answer(reply, response);
    call.close(Outcome::Completed, failure.status(), Some(failure.code().to_owned()));
}

/// The client left while the upstream was working; the upstream call was dropped with it.
pub(crate) async fn gone(mut call: Call) {
    // Whether it became durable changes nothing for anybody; the closing record follows it either way.
    let _ = call.durable().await;
    call.close(Outcome::ClientGone, CLIENT_GONE, None);
}

fn answer(reply: Reply, response: Response<Body>) {
    // A client that left needs no answer.
    drop(reply.send(response));
}
