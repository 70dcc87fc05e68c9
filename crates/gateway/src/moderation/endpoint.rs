//! `POST /v1/moderations`: the configured provider behind OpenAI's own API. No policy judges it, and nothing is called but
//! the provider; it is authenticated, counted against the limits and recorded like any call.

use std::sync::Arc;

use audit::event::{EventType, Outcome as Ended, Scan};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use llm_api::moderation::{CategoryResult, Input, InputResult, ModerationRequest, reply as reply_body};
use policy::{Category, Moderator, Outcome, Scored, Scorer, Source};

use super::Scoring;
use crate::admission;
use crate::body;
use crate::call::Call;
use crate::error_reply::Failure;
use crate::pipeline::{CLIENT_GONE, Reply};
use crate::quota::Took;
use crate::reply::{self, JSON};

/// Bytes of text from which on scoring leaves the threads that serve connections.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// The reason code of the event.
const REASON: &str = "MODERATION";

/// Runs a call and answers through `reply`.
pub(crate) async fn run(mut call: Call, headers: HeaderMap, body: Incoming, mut reply: Reply) {
    let answered = tokio::select! {
        answered = answer(&mut call, headers, body) => answered,
        () = reply.closed() => {
            call.event.reason_code = Some("client_gone".to_owned());
            call.close(Ended::ClientGone, CLIENT_GONE, None);
            return;
        }
    };
    let response = match answered {
        Ok(body) => call.complete(reply::whole(StatusCode::OK, JSON, body)).await,
        Err(failure) => call.fail(failure).await,
    };
    // A client that left needs no answer.
    drop(reply.send(response));
}

async fn answer(call: &mut Call, headers: HeaderMap, body: Incoming) -> Result<Vec<u8>, Failure> {
    admission::check_project(call)?;
    let limits = &call.shared.limits;
    let body = body::read(body, &headers, limits.body_bytes_max, limits.body_timeout).await?;
    let request = ModerationRequest::parse(&body)?;
    call.event.model.clone_from(&request.model);
    admission::metadata(call, &request.metadata, &headers)?;
    call.scoring = call.shared.moderators.scoring(call.snapshot.moderation());
    let scorer = call.scoring.scorer();
    let Some(moderator) = scorer.moderator() else {
        return Err(Failure::UnknownPath(
            "moderation is switched off: choose a `moderation.provider` other than `none`".to_owned(),
        ));
    };
    call.reserve(None).await?;
    let name = moderator.name();
    let images: u64 = request.inputs.iter().map(|input| input.images).sum();
    let bytes: usize = request.inputs.iter().flat_map(|input| &input.texts).map(String::len).sum();
    let inputs = Arc::new(request.inputs);
    let scored = score(call, &scorer, &inputs, bytes).await?;
    call.event.event_type = EventType::Enforcement;
    call.event.reason_code = Some(REASON.to_owned());
    let is_flagged = |category: &Category| scored.iter().any(|scored| scored.is_flagged(*category));
    call.event.triggered_categories = Category::OPENAI
        .into_iter()
        .filter(is_flagged)
        .map(|category| category.as_str().to_owned())
        .collect();
    let mut scan = Scan { input_bytes: bytes as u64, ..Scan::default() };
    if images > 0 {
        scan.unscanned.insert("image".to_owned(), images);
    }
    call.event.scan = Some(scan);
    call.settle_quota(Took::Refused);
    let results: Vec<InputResult> = scored
        .iter()
        .zip(inputs.iter())
        .map(|(scored, input)| InputResult {
            categories: Category::OPENAI.into_iter().map(|category| result(category, scored)).collect(),
            has_text: !input.texts.is_empty(),
        })
        .collect();
    Ok(reply_body(&format!("modr-{}", call.event.event_id.as_simple()), &name, &results))
}

fn result(category: Category, scored: &Scored) -> CategoryResult {
    CategoryResult {
        name: category.as_str(),
        flagged: scored.is_flagged(category),
        score: scored.score(category),
    }
}

/// Scores each input.
///
/// # Errors
/// [`Failure::Upstream`] where nobody could.
async fn score(
    call: &mut Call,
    scorer: &Scorer,
    inputs: &Arc<Vec<Input>>,
    bytes: usize,
) -> Result<Vec<Scored>, Failure> {
    let fetched = call.scoring.fetched().cloned();
    let outcomes = match (&call.scoring, fetched) {
        (_, Some(fetched)) => {
            drop(judge(&fetched.asking(), inputs));
            call.fetch(&fetched).await;
            judge(scorer, inputs)
        }
        (Scoring::Inline(_), _) if bytes > INLINE_BYTES_MAX => {
            let (scorer, inputs) = (scorer.clone(), Arc::clone(inputs));
            let scored = tokio::task::spawn_blocking(move || judge(&scorer, &inputs)).await;
            scored.unwrap_or(Err("failed"))
        }
        _ => judge(scorer, inputs),
    };
    outcomes.map_err(|reason| Failure::Upstream {
        upstream: "moderation".to_owned(),
        problem: format!("could not score the input ({reason}): try again, or see the gateway's log"),
    })
}

/// # Errors
/// Why some text has no score.
fn judge(scorer: &Scorer, inputs: &[Input]) -> Result<Vec<Scored>, &'static str> {
    let Some(moderator) = scorer.moderator() else { return Ok(vec![Scored::CLEAN; inputs.len()]) };
    let mut unavailable = None;
    let mut all = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut whole = Scored::CLEAN;
        for text in input.texts.iter().filter(|text| !text.trim().is_empty()) {
            match score_text(moderator.as_ref(), text) {
                Outcome::Scored(scored) => whole = whole.max(&scored),
                Outcome::Unavailable(reason) => unavailable = Some(reason),
            }
        }
        all.push(whole);
    }
    unavailable.map_or(Ok(all), Err)
}

fn score_text(moderator: &dyn Moderator, text: &str) -> Outcome {
    moderator.judge(text, Source::User, &Category::OPENAI)
}
