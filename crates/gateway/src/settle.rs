//! What becomes of an answer that is there as a whole, whether it came so or was held: judged, and where it violates the
//! policy replaced by what one extra call gives, or by the policy's text. How that reaches the client is the callers'
//! business.

use std::sync::Arc;

use audit::event::{ScanMode, Stage};
use bytes::Bytes;
use judge::JudgedAnswer;
use llm_api::chat::answer::{Answer, AnswerError};
use policy::{Decision, ReasonCode, Revision};

use crate::apart;
use crate::call::Call;
use crate::enforce::Action;
use crate::error_reply::Failure;
use crate::escalate::Moment;
use crate::extra_call;
use crate::pipeline::{self, Judged, output_judged};

/// What may be told the client. The decision behind it is durable.
pub(crate) enum Settled {
    /// The answer with these changes.
    Clean(Box<JudgedAnswer>),
    /// This answer in its place.
    Mended(Bytes),
    /// The policy's text; with the failure, where it stands in for an extra call that failed.
    Refused(Option<Failure>),
    /// The upstream's answer cannot be judged.
    Unjudged(Failure),
    /// The decision could not be recorded.
    Unrecorded(Failure),
}

/// Judges an answer and settles what becomes of it. Dropping it cancels the extra call.
pub(crate) async fn settle(call: &mut Call, judged: &mut Judged, answer: &Arc<Answer>) -> Settled {
    let settled = match judge_and_mend(call, judged, answer).await {
        Ok(settled) => settled,
        Err(failure) => return Settled::Unrecorded(failure),
    };
    match call.durable().await {
        Ok(()) => settled,
        Err(failure) => Settled::Unrecorded(failure),
    }
}

/// # Errors
/// The decision could not be recorded.
async fn judge_and_mend(
    call: &mut Call,
    judged: &mut Judged,
    answer: &Arc<Answer>,
) -> Result<Settled, Failure> {
    let revision = Arc::clone(&judged.admitted.revision);
    if let Some(usage) = answer.usage() {
        call.used(usage);
    } else {
        call.count_answer(answer);
    }
    let was_granted = judged.admitted.subject.granted;
    score(call, judged, answer).await;
    let mut found = match judge_answer(call, judged, answer).await {
        Ok(found) => found,
        Err(error) => return Ok(Settled::Unjudged(pipeline::broken(judged, &error.to_string()))),
    };
    call.scanned(ScanMode::Whole, found.scanned_bytes);
    let verdict = policy::conclude(&revision, &judged.input, &found.findings);
    let action = output_judged(call, &mut judged.admitted, &verdict, Moment::Answer).await?;
    if action == Action::Pass && !was_granted {
        // Judged anew: what a reviewer let pass is not masked.
        score(call, judged, answer).await;
        found = match judge::judge_answer(&revision, &judged.admitted.subject, answer, &mut judged.masker) {
            Ok(found) => found,
            Err(error) => return Ok(Settled::Unjudged(pipeline::broken(judged, &error.to_string()))),
        };
    }
    if action == Action::Pass || !judge::violates(&found.findings) {
        return Ok(Settled::Clean(Box::new(found)));
    }
    match action {
        Action::Replace => Ok(Settled::Refused(None)),
        Action::Forward | Action::Pass => Box::pin(mend(call, judged, verdict.decision, answer, found)).await,
    }
}

/// Judges the answer, apart where it is large.
async fn judge_answer(
    call: &mut Call,
    judged: &mut Judged,
    answer: &Arc<Answer>,
) -> Result<JudgedAnswer, AnswerError> {
    let body_bytes = answer.body_bytes();
    let (revision, subject) = (Arc::clone(&judged.admitted.revision), judged.admitted.subject.clone());
    if !apart::is_long(body_bytes) {
        return call.rollout.judge_answer(&revision, &subject, answer, &mut judged.masker);
    }
    // Copies: a client that leaves meanwhile ends the wait, and the call still has to be closed.
    let (mut rollout, mut masker) = (call.rollout.clone(), judged.masker.clone());
    let answer = Arc::clone(answer);
    let work = move || {
        let found = rollout.judge_answer(&revision, &subject, &answer, &mut masker);
        (rollout, masker, found)
    };
    let found;
    (call.rollout, judged.masker, found) = call.shared.apart.run(body_bytes, work).await;
    found
}

/// Has scored what judging an answer will ask about.
async fn score(call: &mut Call, judged: &Judged, answer: &Arc<Answer>) {
    let Some(fetched) = call.scoring.fetched().cloned() else { return };
    let (revision, subject) = (Arc::clone(&judged.admitted.revision), judged.admitted.subject.clone());
    let (rollout, masker, asking) = (call.rollout.clone(), judged.masker.clone(), fetched.asking());
    let asked = Arc::clone(answer);
    let ask = move || rollout.ask_answer(&revision, &subject, &asked, &masker, &asking);
    Box::pin(call.shared.apart.run(answer.body_bytes(), ask)).await;
    Box::pin(call.fetch(&fetched)).await;
}

/// Asks for something in place of the choices that violate the policy, once. If that is no answer, cut short where a
/// summary was asked for, or a violation too, the policy's text is the last resort.
async fn mend(
    call: &mut Call,
    judged: &mut Judged,
    decision: Decision,
    answer: &Answer,
    found: JudgedAnswer,
) -> Result<Settled, Failure> {
    let revision = Arc::clone(&judged.admitted.revision);
    let Some(first) = found.violating_choices.first().copied() else {
        // Nothing that could be replaced holds what was found.
        last_resort(call, &revision)?;
        return Ok(Settled::Refused(None));
    };
    let subject = &judged.admitted.subject;
    let masked = judge::masked_choice(&revision, subject, answer, first, &mut judged.masker);
    let standin = match extra_call::ask(call, judged, decision, &masked).await {
        Ok(standin) => Arc::new(standin),
        Err(failure) => {
            last_resort(call, &revision)?;
            return Ok(Settled::Refused(Some(failure)));
        }
    };
    let usage = call.used(standin.usage().unwrap_or_default());
    score(call, judged, &standin).await;
    let Ok(mut second) =
        judge::judge_answer(&revision, &judged.admitted.subject, &standin, &mut judged.masker)
    else {
        last_resort(call, &revision)?;
        return Ok(Settled::Refused(None));
    };
    call.scanned(ScanMode::Whole, second.scanned_bytes);
    let violates = judge::violates(&second.findings);
    let mut findings = found.findings;
    findings.merge(&revision, &second.findings);
    // What the stand-in violates ends in a refusal: no reviewer is asked about it.
    let verdict = policy::conclude(&revision, &judged.input, &findings);
    let is_new = call.decision() != Some(verdict.decision);
    call.judged(&revision, &verdict);
    if is_new {
        call.record()?;
    }
    let is_truncated = decision == Decision::Summary && standin.is_cut();
    if violates || is_truncated || !standin.is_plain() {
        last_resort(call, &revision)?;
        return Ok(Settled::Refused(None));
    }
    call.released(second.released_bytes);
    let body = answer.mended_body(
        found.texts,
        &found.changed_choices,
        &found.violating_choices,
        (&*standin, &mut second.texts),
        Some(usage),
        call.policy_json().as_deref(),
    );
    Ok(Settled::Mended(body))
}

/// The last resort is a refusal, whatever was to be done. Where the policy lists no code for it, the code stays.
fn last_resort(call: &mut Call, revision: &Revision) -> Result<(), Failure> {
    let event = &mut call.event;
    event.decision = Some(Decision::Refuse);
    event.effective_decision = Some(Decision::Refuse);
    if revision.lists(&ReasonCode::Refuse) {
        event.reason_code = Some(ReasonCode::Refuse.as_str().to_owned());
    }
    event.stage = Some(Stage::Output);
    call.record()
}
