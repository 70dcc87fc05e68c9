//! A spike of a candidate's severe decisions: made durable with its event, and told. That the candidate is off is decided
//! in `registry` at the very call that makes it a spike; from then on nothing here can be too late.

use std::sync::Arc;
use std::time::Duration;

use audit::event::{AuditEvent, EventType, RollbackInfo};
use audit::log::Record;
use policy::rollout::TriedRule;
use registry::{Candidate, Spike, TakenBack, Told};
use uuid::Uuid;

use crate::Shared;
use crate::beside::Seen;
use crate::call::rfc3339;

/// The first pause before a rollback that could not be recorded is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Counts a call whose event is durable. Nobody waits for it.
pub(crate) async fn observe(shared: Arc<Shared>, seen: Seen) {
    if let Some(spike) = seen.candidate.observe(seen.applied, seen.decision, seen.stable) {
        tell(&shared, &seen.candidate, spike).await;
    }
}

/// Records a spike and tells of it, once. A log that cannot be written is waited for: the candidate is off meanwhile.
pub(crate) async fn tell(shared: &Arc<Shared>, candidate: &Candidate, spike: Spike) {
    let revision = &candidate.revision;
    let event = event(candidate, &spike);
    let (policy, number) = (revision.policy_id(), revision.number());
    let rate = spike.tally.rate();
    if spike.takes_back {
        tracing::warn!(
            policy,
            revision = number,
            rate,
            "a candidate was taken back: too many of its decisions are severe"
        );
    } else {
        tracing::warn!(policy, revision = number, rate, "a shadow's decisions would have been a spike");
    }
    shared.metrics.rollback(spike.takes_back);
    let mut pause = RETRY_FIRST;
    while let Err(error) = record(shared, candidate, &spike, &event).await {
        if shared.is_draining() {
            // The next start finds the spike in the log again.
            tracing::error!(%error, policy, "a rollback was not recorded");
            return;
        }
        tracing::warn!(%error, policy, "a rollback is not recorded yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
    shared.notify.posted();
}

async fn record(
    shared: &Shared,
    candidate: &Candidate,
    spike: &Spike,
    event: &AuditEvent,
) -> Result<(), String> {
    if !spike.takes_back {
        let appended = shared.log.append(Record::event(event)).map_err(|error| error.to_string())?;
        return appended.await.map_err(|error| error.to_string());
    }
    let taken_back =
        TakenBack { revision: candidate.revision.number(), since_ms: spike.at_ms, until_ms: spike.until_ms };
    let escalation_path = candidate.revision.document().refusal_replacement.escalation_path.clone();
    let told = Told { event: event.clone(), escalation_path };
    shared.rollouts.keep(candidate.kept(Some(taken_back)), Some(told)).await
}

fn event(candidate: &Candidate, spike: &Spike) -> AuditEvent {
    let time = |ms| rfc3339(jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX));
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Rollback, time(spike.at_ms));
    event.policy_id = Some(candidate.revision.policy_id().to_owned());
    event.policy_revision = Some(candidate.revision.number());
    event.data_classification = candidate.revision.data_classification().map(str::to_owned);
    event.reason_code = Some(if spike.takes_back { "ROLLBACK_SPIKE" } else { "SHADOW_SPIKE" }.to_owned());
    event.rollback = Some(RollbackInfo {
        window_minutes: spike.window.as_secs() / 60,
        requests: spike.tally.requests,
        rate: spike.tally.rate(),
        stable_rate: spike.tally.stable_rate(),
        threshold: spike.threshold,
        resume_at: (spike.takes_back && spike.resumes).then(|| time(spike.until_ms)),
        rules: rules(candidate, spike),
    });
    event
}

/// What the rules name that were tried out.
fn rules(candidate: &Candidate, spike: &Spike) -> Vec<String> {
    if !candidate.is_of_rules() {
        return Vec::new();
    }
    let is_canary = |rule: &&TriedRule| rule.rollout.canary.enabled == spike.takes_back;
    candidate.revision.tried_rules().iter().filter(is_canary).map(|rule| rule.name.clone()).collect()
}
