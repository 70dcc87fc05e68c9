//! A stream that is held until it is whole, for a policy that may put a summary in its place. The client is kept waiting
//! by comments; then it gets either the upstream's own frames or what was settled on in their place.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use judge::stream::{Next, StreamJudge};
use llm_api::chat::answer::Answer;
use llm_api::chat::assembly::Assembly;
use llm_api::chat::made;
use llm_api::sse::{Decoder, Frame};
use policy::OutputMode;
use policy::document::ResponseMode;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::call::Call;
use crate::enforce;
use crate::error_reply::Failure;
use crate::moderation::Scout;
use crate::pipeline::{self, Judged};
use crate::quota::Took;
use crate::settle::{Settled, settle};
use crate::streaming::{End, Sender};

/// Between comments to a waiting client: well under the idle timeouts of proxies (nginx 60 s, AWS 60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": keep-alive\n\n";

/// Runs the stream after its head went to the client.
pub(crate) async fn run(call: &mut Call, judged: &mut Judged, body: Incoming, sender: &Sender) -> End {
    let mut ticks = tokio::time::interval(KEEP_ALIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let held = match kept_alive(collect(call, judged, body), sender, &mut ticks).await {
        None => return End::ClientGone,
        Some(Err(failure)) => return End::Upstream(failure),
        Some(Ok(held)) => held,
    };
    let Some(settled) = kept_alive(settle(call, judged, &held.answer), sender, &mut ticks).await else {
        return End::ClientGone;
    };
    let include_usage = judged.admitted.request.include_usage;
    // Before the client sees the end: its next request may follow at once.
    match &settled {
        Settled::Clean(_) | Settled::Mended(_) => call.settle_quota(Took::Used),
        Settled::Refused(_) => call.settle_quota(Took::Refused),
        Settled::Unjudged(_) | Settled::Unrecorded(_) => call.settle_quota(Took::Nothing),
    }
    match settled {
        Settled::Clean(_) => replay(call, judged, &held.frames, sender).await,
        Settled::Mended(body) => match Answer::parse(body) {
            Ok(answer) => {
                let frames = answer.frames(include_usage, call.policy_json().as_deref());
                end(sender, frames, End::Done).await
            }
            Err(error) => End::Upstream(pipeline::broken(judged, &error.to_string())),
        },
        Settled::Refused(failure) => {
            let revision = &judged.admitted.revision;
            let bytes = match revision.response_mode() {
                ResponseMode::Error => made::event(&enforce::policy_failure(call, revision).to_json()),
                ResponseMode::Completion => enforce::refusal_frames(call, revision, &judged.admitted.request),
            };
            end(sender, bytes, End::Replaced(failure)).await
        }
        Settled::Unjudged(failure) => End::Upstream(failure),
        Settled::Unrecorded(failure) => End::Unrecorded(failure),
    }
}

/// Waits for `work` while the client is told that it is not forgotten. `None` where it left.
async fn kept_alive<T>(work: impl Future<Output = T>, sender: &Sender, ticks: &mut Interval) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = sender.closed() => return None,
            // A client that does not read has comments enough.
            _ = ticks.tick() => drop(sender.try_send(Ok(COMMENT.into()))),
        }
    }
}

async fn end(sender: &Sender, bytes: Vec<u8>, end: End) -> End {
    match sender.send(Ok(bytes.into())).await {
        Ok(()) => end,
        Err(_) => End::ClientGone,
    }
}

/// A stream that came to its end: its events, and the answer that they make.
struct Held {
    frames: Vec<Frame>,
    answer: Arc<Answer>,
}

/// Reads the stream to its end, at most as many bytes as an answer may have.
async fn collect(call: &mut Call, judged: &Judged, mut body: Incoming) -> Result<Held, Failure> {
    let limits = call.shared.limits.clone();
    let upstream = || judged.admitted.upstream.name.clone();
    let unreadable = |problem: &str| pipeline::broken(judged, problem);
    let mut decoder = Decoder::new(limits.stream_event_bytes_max);
    let mut bytes_left = limits.answer_bytes_max;
    let mut frames = Vec::new();
    let mut assembly = Assembly::default();
    call.waits();
    let problem = 'read: loop {
        let deadline = Instant::now() + limits.stream_idle;
        let data = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => {
                return Err(Failure::UpstreamTimeout { upstream: upstream(), timeout: limits.stream_idle });
            }
            Ok(None) => break "ended the stream without `[DONE]`",
            Ok(Some(Err(_))) => break "broke the stream off",
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        bytes_left = bytes_left
            .checked_sub(data.len())
            .ok_or_else(|| unreadable(&format!("it is larger than {} bytes", limits.answer_bytes_max)))?;
        decoder.push(&data);
        while let Some(frame) = decoder.next_frame().map_err(|error| unreadable(&error.to_string()))? {
            let is_done = add(&mut assembly, &frame).map_err(|problem| unreadable(&problem))?;
            frames.push(frame);
            if is_done {
                break 'read "";
            }
        }
    };
    call.waited();
    if !problem.is_empty() {
        // A cut event is no event: only one that reads as a whole one counts.
        frames.extend(decoder.finish().filter(|frame| add(&mut assembly, frame).is_ok()));
        if !assembly.is_complete() {
            return Err(Failure::Upstream { upstream: upstream(), problem: problem.to_owned() });
        }
    }
    let answer = assembly.finish().map_err(|error| unreadable(&error.to_string()))?;
    Ok(Held { frames, answer: Arc::new(answer) })
}

/// Adds an event to the answer. Tells whether it was the last.
fn add(assembly: &mut Assembly, frame: &Frame) -> Result<bool, String> {
    let Some(data) = &frame.data else { return Ok(false) };
    let data = std::str::from_utf8(data).map_err(|_| "an event is not UTF-8".to_owned())?.trim();
    if data == "[DONE]" {
        return Ok(true);
    }
    assembly.add(data).map_err(|error| error.to_string())?;
    Ok(false)
}

/// Passes the upstream's frames on, entities masked as in any stream.
async fn replay(call: &mut Call, judged: &mut Judged, frames: &[Frame], sender: &Sender) -> End {
    if let Some(mut scout) = Scout::of(call, &judged.admitted, OutputMode::Mask, &judged.masker) {
        Box::pin(scout.events(call, frames)).await;
    }
    let mut judge = StreamJudge::new(
        Arc::clone(&judged.admitted.revision),
        judged.admitted.subject.clone(),
        OutputMode::Mask,
        std::mem::take(&mut judged.masker),
        judged.admitted.request.include_usage,
        call.policy_json(),
    );
    let mut ended = false;
    let mut frames = frames.iter();
    while !ended {
        let mut out = Vec::new();
        let next = match frames.next() {
            Some(frame) => judge.event(frame, &mut out),
            None => {
                ended = true;
                judge.finish(&mut out)
            }
        };
        ended |= matches!(next, Ok(Next::Done | Next::Stop { .. }));
        if let Err(error) = next {
            return End::Upstream(pipeline::broken(judged, &error.to_string()));
        }
        if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() {
            return End::ClientGone;
        }
    }
    call.released(judge.released_bytes());
    End::Done
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiting_client_gets_comments_for_as_long_as_it_takes() {
        let (sender, mut receiver) = mpsc::channel(16);
        let (done, work) = oneshot::channel::<u8>();
        let waiting = async {
            let mut ticks = tokio::time::interval(KEEP_ALIVE);
            kept_alive(work, &sender, &mut ticks).await
        };
        let client = async {
            let started = Instant::now();
            for _ in 0..4 {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), COMMENT);
            }
            assert_eq!(started.elapsed(), 3 * KEEP_ALIVE);
            done.send(7).unwrap();
            receiver
        };
        let (result, _receiver) = tokio::join!(waiting, client);
        assert_eq!(result, Some(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_ends_the_wait_and_one_that_does_not_read_does_not() {
        let (sender, receiver) = mpsc::channel(1);
        let mut ticks = tokio::time::interval(KEEP_ALIVE);
        let work = tokio::time::sleep(10 * KEEP_ALIVE);
        assert_eq!(kept_alive(work, &sender, &mut ticks).await, Some(()));
        drop(receiver);
        assert_eq!(kept_alive(std::future::pending::<()>(), &sender, &mut ticks).await, None);
    }
}
