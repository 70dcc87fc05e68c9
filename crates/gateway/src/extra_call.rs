//! The one call of our own that a request may cost beside the client's: it asks the same upstream and model for something
//! in place of an answer that violates the policy. Bounded in tokens, bytes and time. What it gives is judged elsewhere.

use bytes::Bytes;
use http::{Method, StatusCode};
use llm_api::chat::answer::Answer;
use policy::Decision;

use crate::body;
use crate::call::Call;
use crate::error_reply::Failure;
use crate::pipeline::{self, CHAT_PATH, Judged};

/// Tokens that the upstream may spend on it: an answer of usual length, or a summary and the reasoning before it. The
/// client's own limit holds where it is lower.
const TOKENS_MAX: u64 = 4096;

/// Asks for what `decision` puts in place of an answer, of which the model sees `masked`. Takes at most the upstream's
/// timeout, whole; dropping it cancels the call.
///
/// # Errors
/// [`Failure::Upstream`] or [`Failure::UpstreamTimeout`].
pub(crate) async fn ask(
    call: &mut Call,
    judged: &Judged,
    decision: Decision,
    masked: &str,
) -> Result<Answer, Failure> {
    let admitted = &judged.admitted;
    let prompt = admitted.revision.prompt(decision);
    let body = admitted.request.extra_body(judged.texts.clone(), masked, prompt, TOKENS_MAX);
    call.waits();
    let timeout = admitted.upstream.timeout;
    let answer = tokio::time::timeout(timeout, send(call, judged, body)).await.unwrap_or_else(|_| {
        Err(Failure::UpstreamTimeout { upstream: admitted.upstream.name.clone(), timeout })
    });
    call.waited();
    answer
}

async fn send(call: &Call, judged: &Judged, body: Bytes) -> Result<Answer, Failure> {
    let admitted = &judged.admitted;
    let upstreams = &call.shared.upstreams;
    let json = "application/json";
    let response =
        upstreams.send(&admitted.upstream, Method::POST, CHAT_PATH, &admitted.headers, body, json).await?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Upstream {
            upstream: admitted.upstream.name.clone(),
            problem: format!(
                "answered a call for a compliant answer with status {}",
                response.status().as_u16()
            ),
        });
    }
    let bytes = body::collect(response.into_body(), call.shared.limits.answer_bytes_max)
        .await
        .map_err(|problem| pipeline::broken(judged, &problem))?;
    Answer::parse(bytes).map_err(|error| pipeline::broken(judged, &error.to_string()))
}
