//! A streamed answer between upstream and client: reads events, has them judged, makes a changed decision durable before
//! the bytes it is about, and ends the stream cleanly whatever happens.

use std::sync::Arc;
use std::time::Instant;

use audit::event::{Outcome, ScanMode};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use judge::stream::{Next, StreamJudge};
use llm_api::chat::answer::AnswerError;
use llm_api::chat::made;
use llm_api::sse::Decoder;
use policy::OutputMode;
use policy::document::ResponseMode;
use tokio::sync::mpsc;

use crate::call::Call;
use crate::enforce;
use crate::error_reply::Failure;
use crate::escalate::{self, Moment};
use crate::held;
use crate::moderation::Scout;
use crate::pipeline::{self, CLIENT_GONE, Judged, Reply, output_judged};
use crate::quota::Took;
use crate::reply::{self, STREAM_QUEUE, StreamCut};

pub(crate) type Sender = mpsc::Sender<Result<Bytes, StreamCut>>;

/// How the stream ended.
pub(crate) enum End {
    /// With the upstream's `[DONE]`, or its end after a finish reason.
    Done,
    /// With the policy's text; because of a failure of the upstream, where there is one.
    Replaced(Option<Failure>),
    /// The client left.
    ClientGone,
    /// The upstream broke off or sent what cannot be judged.
    Upstream(Failure),
    /// A changed decision could not be recorded.
    Unrecorded(Failure),
    /// A limit on tokens is used up; the code of that limit.
    Spent(&'static str),
}

/// Runs the stream after the upstream's head came.
pub(crate) async fn run(mut call: Call, mut judged: Judged, body: Incoming, reply: Reply) {
    if let Err(failure) = call.durable().await {
        return pipeline::unrecorded(call, &failure, reply);
    }
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    let mut response = reply::stream(receiver);
    call.headers(response.headers_mut());
    if reply.send(response).is_err() {
        return call.close(Outcome::ClientGone, CLIENT_GONE, None);
    }
    let end = if enforce::holds(&judged.admitted.revision, &judged.input) {
        held::run(&mut call, &mut judged, body, &sender).await
    } else {
        live(&mut call, &mut judged, body, &sender).await
    };
    let (outcome, code) = match end {
        End::Done => (Outcome::Completed, None),
        End::Replaced(failure) => call.ended(failure.as_ref()),
        End::ClientGone => (Outcome::ClientGone, None),
        End::Upstream(failure) => {
            call.shared.metrics.upstream_failure(&judged.admitted.upstream.name);
            call.settle_quota(Took::Nothing);
            end_with_error(&failure, &sender).await;
            (Outcome::UpstreamError, Some(failure.code().to_owned()))
        }
        End::Spent(code) => (Outcome::Completed, Some(code.to_owned())),
        End::Unrecorded(failure) => {
            call.settle_quota(Took::Nothing);
            end_with_error(&failure, &sender).await;
            (Outcome::Completed, Some(failure.code().to_owned()))
        }
    };
    call.close(outcome, StatusCode::OK, code);
}

/// Judges the stream as it passes.
async fn live(call: &mut Call, judged: &mut Judged, body: Incoming, sender: &Sender) -> End {
    escalate::before_stream(call, &mut judged.admitted).await;
    let mut scout = Scout::of(call, &judged.admitted, OutputMode::Stop, &judged.masker);
    let revision = Arc::clone(&judged.admitted.revision);
    let mut judge = StreamJudge::new(
        Arc::clone(&revision),
        judged.admitted.subject.clone(),
        OutputMode::Stop,
        std::mem::take(&mut judged.masker),
        judged.admitted.request.include_usage,
        call.policy_json(),
    );
    call.rollout.stream(&mut judge);
    let end = pump(call, judged, &mut judge, &mut scout, body, sender).await;
    let moderated = judge.findings().moderated;
    if moderated.by.is_some() {
        let mut all = judged.input.moderated.clone();
        all.merge(&moderated);
        call.moderated(&all);
    }
    if let Some(findings) = judge.findings_beside() {
        call.rollout.streamed(findings);
    }
    call.scanned(ScanMode::Stream, judge.scanned_bytes());
    call.released(judge.released_bytes());
    if let Some(usage) = judge.usage {
        call.used(usage);
    }
    end
}

/// An error in the middle of a stream: OpenAI's error object as an event, and no `[DONE]`.
async fn end_with_error(failure: &Failure, sender: &Sender) {
    drop(sender.send(Ok(made::event(&failure.to_json()).into())).await);
    drop(sender.send(Err(StreamCut)).await);
}

/// Passes events on until the stream ends.
async fn pump(
    call: &mut Call,
    judged: &mut Judged,
    judge: &mut StreamJudge,
    scout: &mut Option<Box<Scout>>,
    mut body: Incoming,
    sender: &Sender,
) -> End {
    let limits = call.shared.limits.clone();
    let mut decoder = Decoder::new(limits.stream_event_bytes_max);
    let mut found = 0;
    loop {
        let waiting = Instant::now();
        let frame = tokio::select! {
            frame = tokio::time::timeout(limits.stream_idle, body.frame()) => frame,
            () = sender.closed() => {
                call.add_upstream_time(waiting.elapsed());
                return End::ClientGone;
            }
        };
        call.add_upstream_time(waiting.elapsed());
        let mut out = Vec::new();
        let (step, is_last) = match frame {
            Err(_) => {
                let upstream = judged.admitted.upstream.name.clone();
                return End::Upstream(Failure::UpstreamTimeout { upstream, timeout: limits.stream_idle });
            }
            Ok(ended @ (Some(Err(_)) | None)) => {
                let problem = match ended {
                    Some(_) => "broke the stream off",
                    None => "ended the stream without `[DONE]`",
                };
                (end_of_stream(call, judge, scout, &mut decoder, &mut out).await, Some(problem))
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                decoder.push(&data);
                (events(call, judge, scout, &mut decoder, &mut out).await, None)
            }
        };
        // INVARIANT: a decision that changed is durable before the bytes that it is about are sent.
        if judge.findings_count() != found {
            found = judge.findings_count();
            if let Err(failure) = changed(call, judged, judge).await {
                return End::Unrecorded(failure);
            }
        }
        let mut end = None;
        match step {
            Ok(Next::Done) => {
                // Before the client sees the end: its next request may follow at once.
                if let Some(usage) = judge.usage.take() {
                    call.used(usage);
                }
                call.settle_quota(Took::Used);
                end = Some(End::Done);
            }
            Ok(Next::Continue) => {
                if let Some((code, usage)) = call.cut_off() {
                    // What the upstream may have counted so far is less than the whole.
                    judge.usage = None;
                    call.used(usage);
                    call.settle_quota(Took::Used);
                    let fallback = enforce::envelope(call, &judged.admitted.request);
                    out.extend(judge.cut(usage, &fallback));
                    end = Some(End::Spent(code));
                }
            }
            Ok(Next::Stop { .. }) => call.settle_quota(Took::Refused),
            Err(_) => {}
        }
        if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() {
            return End::ClientGone;
        }
        if let Some(end) = end {
            return end;
        }
        match step {
            Err(error) => return End::Upstream(pipeline::broken(judged, &error.to_string())),
            Ok(Next::Done) => return End::Done,
            Ok(Next::Stop { choice }) => return replace(call, judged, judge, choice, sender).await,
            Ok(Next::Continue) => {}
        }
        if let Some(problem) = is_last {
            if judge.is_complete() {
                return End::Done;
            }
            let upstream = judged.admitted.upstream.name.clone();
            return End::Upstream(Failure::Upstream { upstream, problem: problem.to_owned() });
        }
    }
}

/// Judges what came. Where a limit on tokens is used up, what came until then is the whole answer, and the call says so
/// ([`Call::cut_off`]).
async fn events(
    call: &mut Call,
    judge: &mut StreamJudge,
    scout: &mut Option<Box<Scout>>,
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<Next, AnswerError> {
    loop {
        let frame = decoder.next_frame().map_err(|error| AnswerError::Shape(error.to_string()))?;
        let Some(frame) = frame else { return Ok(Next::Continue) };
        if !call.may_pass(&frame) {
            if let Some(scout) = scout {
                Box::pin(scout.finish(call)).await;
            }
            return judge.finish(out);
        }
        if let Some(scout) = scout {
            Box::pin(scout.event(call, &frame)).await;
        }
        let next = judge.event(&frame, out)?;
        if next != Next::Continue {
            return Ok(next);
        }
    }
}

/// What the upstream sent without closing it is judged all the same, and so is what was held back.
async fn end_of_stream(
    call: &mut Call,
    judge: &mut StreamJudge,
    scout: &mut Option<Box<Scout>>,
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<Next, AnswerError> {
    let last = decoder.finish();
    if let Some(scout) = scout {
        Box::pin(scout.events(call, last.as_slice())).await;
    }
    if let Some(frame) = last {
        // A cut event is no event: only one that reads as a whole one is passed on.
        if let Ok(next) = judge.event(&frame, out)
            && next != Next::Continue
        {
            return Ok(next);
        }
    }
    judge.finish(out)
}

/// Takes new findings over into the event, and records the decision where it changed.
async fn changed(call: &mut Call, judged: &mut Judged, judge: &mut StreamJudge) -> Result<(), Failure> {
    let revision = &judged.admitted.revision;
    let verdict = policy::conclude(revision, &judged.input, &judge.findings());
    output_judged(call, &mut judged.admitted, &verdict, Moment::Stream).await?;
    call.durable().await?;
    if let Some(policy) = call.policy_json() {
        judge.set_policy(policy);
    }
    Ok(())
}

/// Ends the stream with the policy's text, in the shape that the policy asks for.
async fn replace(call: &Call, judged: &Judged, judge: &StreamJudge, choice: u64, sender: &Sender) -> End {
    let revision = &judged.admitted.revision;
    let text = revision.refusal_message();
    let bytes = if revision.response_mode() == ResponseMode::Error {
        made::event(&enforce::policy_failure(call, revision).to_json())
    } else {
        let fallback = enforce::envelope(call, &judged.admitted.request);
        judge.refusal(choice, text, judge.usage.unwrap_or_default(), &fallback)
    };
    match sender.send(Ok(bytes.into())).await {
        Ok(()) => End::Replaced(None),
        Err(_) => End::ClientGone,
    }
}
