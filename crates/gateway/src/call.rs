//! One call, from its authentication to its closing record: who asks, under which snapshot, and the one audit event
//! that it leaves. Decide, persist, release: the record of a decision is awaited here before anything is released.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::quota::Level;
use audit::event::{
    AuditEvent, EventType, LatencyMs, Outcome, RequestInfo, RolloutMode, ScanMode, Stage, Usage, hex,
};
use audit::log::{AppendError, Durable, Record};
use http::{HeaderMap, Response, StatusCode};
use llm_api::chat::answer::TokenUsage;
use policy::{Decision, Moderated, Revision, Scorer, Verdict};
use registry::{Key, Snapshot};
use uuid::Uuid;

use crate::alert::Alert;
use crate::beside::{self, Rollout, Seen};
use crate::error_reply::Failure;
use crate::moderation::Scoring;
use crate::quota::{Metered, Took};
use crate::reply::{self, Body};
use crate::{OnUnavailable, Shared, alert, rollback};

/// How far the call's decision record is.
#[derive(Debug)]
enum Recorded {
    /// Nothing was appended.
    Nothing,
    /// Appended, not yet on disk.
    Pending(Durable),
    /// On disk.
    Durable,
    /// Served without a record, and counted (`on_unavailable: serve`).
    Skipped,
}

/// A call past authentication.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) key: Arc<Key>,
    /// The path as written in events and metrics.
    pub(crate) path: &'static str,
    /// Whether the `policy` object goes into bodies and frames.
    pub(crate) policy_object: bool,
    /// The event as known so far.
    pub(crate) event: AuditEvent,
    /// How it stands to the revisions of its policy.
    pub(crate) rollout: Rollout,
    /// How its texts are scored by category.
    pub(crate) scoring: Scoring,
    /// The ticket by which the call passes where it escalates.
    pub(crate) grant: Option<Uuid>,
    /// What it holds of its limits, where it has any.
    pub(crate) quota: Option<Box<Metered>>,
    /// How the limits stand that it was refused by.
    pub(crate) refused_levels: Vec<Level>,
    started: Instant,
    upstream_time: Duration,
    /// Since when an upstream is waited for.
    waiting: Option<Instant>,
    recorded: Recorded,
    /// Whether any decision of this call is on disk, so that a closing record is due.
    is_open: bool,
}

impl Call {
    pub(crate) fn new(
        shared: Arc<Shared>,
        snapshot: Arc<Snapshot>,
        key: Arc<Key>,
        path: &'static str,
        policy_object: bool,
        request_id: String,
    ) -> Self {
        let now = jiff::Timestamp::now();
        let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Error, rfc3339(now));
        event.request_id = Some(request_id);
        event.key_id = Some(key.id.clone());
        event.project_id = Some(key.project.id.clone());
        event.policy_target = Some(key.project.id.clone());
        event.policy_id.clone_from(&key.project.policy_id);
        event.request = Some(RequestInfo {
            route: path.to_owned(),
            stream: false,
            http_status: None,
            error_code: None,
            latency_ms: None,
            outcome: None,
        });
        Self {
            shared,
            snapshot,
            key,
            path,
            policy_object,
            event,
            rollout: Rollout::plain(),
            scoring: Scoring::Inline(Scorer::default()),
            quota: None,
            refused_levels: Vec::new(),
            grant: None,
            started: Instant::now(),
            upstream_time: Duration::ZERO,
            waiting: None,
            recorded: Recorded::Nothing,
            is_open: false,
        }
    }

    /// Adds time spent waiting on an upstream.
    pub(crate) fn add_upstream_time(&mut self, time: Duration) {
        self.upstream_time += time;
    }

    /// An upstream is waited for from now on, to [`Call::waited`] or to the end of the call.
    pub(crate) fn waits(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// The upstream is not waited for any more.
    pub(crate) fn waited(&mut self) {
        if let Some(since) = self.waiting.take() {
            self.upstream_time += since.elapsed();
        }
    }

    /// Takes the acting revision's verdict over into the event, or, where there is nothing to apply, that of the revision
    /// which is only logged.
    pub(crate) fn judged(&mut self, revision: &Revision, verdict: &Verdict) {
        let event = &mut self.event;
        event.event_type = EventType::Enforcement;
        event.rollout_mode = Some(self.rollout.mode());
        event.enforced = self.rollout.is_enforced();
        if event.enforced {
            beside::tell(event, revision, verdict);
        }
        event.effective_decision = Some(verdict.decision);
        self.rollout.tell(event);
    }

    /// Takes over how the texts of a stream scored that went on to its end.
    pub(crate) fn moderated(&mut self, moderated: &Moderated) {
        if self.event.enforced {
            beside::tell_moderation(&mut self.event, moderated);
        }
    }

    /// Counts text of an answer that was judged.
    pub(crate) fn scanned(&mut self, mode: ScanMode, bytes: u64) {
        let scan = self.event.scan.get_or_insert_default();
        scan.mode = mode;
        scan.output_bytes += bytes;
    }

    /// Counts what left of it.
    pub(crate) fn released(&mut self, bytes: u64) {
        self.event.scan.get_or_insert_default().released_bytes += bytes;
    }

    /// The acting revision's decision recorded last or about to be.
    pub(crate) fn decision(&self) -> Option<Decision> {
        if self.event.enforced { self.event.decision } else { self.event.effective_decision }
    }

    /// Starts to make the decision durable. Await [`Call::durable`] before anything is released.
    ///
    /// # Errors
    /// [`Failure::AuditUnavailable`] where the log does not take it and may not be passed over.
    pub(crate) fn record(&mut self) -> Result<(), Failure> {
        self.tell_quota();
        let (record, hash) = Record::decision(&self.event);
        match self.shared.log.append(record) {
            Ok(durable) => {
                self.event.decision_hash = Some(hex(&hash));
                self.recorded = Recorded::Pending(durable);
                Ok(())
            }
            Err(error) => self.not_recorded(&error),
        }
    }

    /// Resolves once the last recorded decision is on disk.
    ///
    /// # Errors
    /// As [`Call::record`].
    pub(crate) async fn durable(&mut self) -> Result<(), Failure> {
        if let Recorded::Pending(durable) = &mut self.recorded {
            match durable.await {
                Ok(()) => {
                    self.recorded = Recorded::Durable;
                    self.is_open = true;
                }
                Err(error) => return self.not_recorded(&error),
            }
        }
        Ok(())
    }

    fn not_recorded(&mut self, error: &AppendError) -> Result<(), Failure> {
        self.recorded = Recorded::Skipped;
        self.event.decision_hash = None;
        self.shared.metrics.unrecorded();
        match self.shared.on_unavailable {
            OnUnavailable::Serve => {
                self.shared.log.count_served_unrecorded();
                Ok(())
            }
            OnUnavailable::Refuse => {
                tracing::debug!(%error, "request refused: its decision could not be recorded");
                Err(Failure::AuditUnavailable)
            }
        }
    }

    /// The answer to a request that failed before it was judged: its error event is on disk before the answer leaves.
    pub(crate) async fn fail(mut self, failure: Failure) -> Response<Body> {
        self.event.reason_code = Some(failure.code().to_owned());
        self.settle_quota(Took::Nothing);
        self.event.quota.clear();
        if matches!(failure, Failure::Quota { .. }) {
            self.event.event_type = EventType::Quota;
            // A crash may have kept it from being told that the limit is used up.
            self.tell_alerts();
        }
        self.finish(Outcome::Completed, failure.status(), Some(failure.code().to_owned()));
        self.recorded_whole(reply::failure(&failure)).await
    }

    /// The answer to a request that no policy judges: its event is on disk before the answer leaves.
    pub(crate) async fn complete(mut self, response: Response<Body>) -> Response<Body> {
        self.finish(Outcome::Completed, response.status(), None);
        let response = self.recorded_whole(response).await;
        self.tell_alerts();
        response
    }

    fn tell_alerts(&self) {
        let (shared, alerts) = (Arc::clone(&self.shared), self.alerts());
        if !alerts.is_empty() {
            self.shared.observing.spawn(async move { alert::tell(&shared, alerts).await });
        }
    }

    async fn recorded_whole(&mut self, mut response: Response<Body>) -> Response<Body> {
        let recorded = match self.shared.log.append(Record::event(&self.event)) {
            Ok(durable) => durable.await,
            Err(error) => Err(error),
        };
        if let Err(error) = recorded
            && self.not_recorded(&error).is_err()
        {
            let mut response = reply::failure(&Failure::AuditUnavailable);
            self.request_id(response.headers_mut());
            return response;
        }
        self.headers(response.headers_mut());
        response
    }

    /// Writes the closing record. Nobody waits for it: the decision is already durable.
    pub(crate) fn close(&mut self, outcome: Outcome, status: StatusCode, error_code: Option<String>) {
        self.finish(outcome, status, error_code);
        self.settle_quota_at_end(outcome);
        if self.event.event_type == EventType::Enforcement {
            self.rollout.tell(&mut self.event);
        }
        if outcome == Outcome::ClientGone {
            self.shared.metrics.client_gone();
        }
        if let (Some(decision), Some(stage)) = (self.event.decision, self.event.stage) {
            let stage = if stage == Stage::Input { "input" } else { "output" };
            self.shared.metrics.decision(decision.as_str(), stage);
        }
        // A call without any decision on disk has nothing that could be closed; it was counted instead.
        if matches!(self.recorded, Recorded::Skipped) && !self.is_open {
            return;
        }
        let shadow = self.rollout.shadow(&self.event);
        if let Some(mode) = self.event.rollout_mode {
            self.shared.metrics.rollout(mode.as_str(), shadow.is_some());
        }
        let others = shadow.iter().map(Record::event).collect();
        match self.shared.log.append_all(Record::event(&self.event), others) {
            Ok(durable) => {
                self.spend();
                let alerts = self.alerts();
                let seen = self.rollout.seen(&self.event, shadow.as_ref());
                if seen.is_some() || !alerts.is_empty() {
                    let shared = Arc::clone(&self.shared);
                    self.shared.observing.spawn(observe(shared, durable, alerts, seen));
                }
            }
            // The decision record stays open and is closed as interrupted at the next start.
            Err(error) => {
                tracing::error!(%error, event_id = %self.event.event_id, "closing record not written");
            }
        }
    }

    fn finish(&mut self, outcome: Outcome, status: StatusCode, error_code: Option<String>) {
        self.waited();
        let total = self.started.elapsed();
        let gateway = total.saturating_sub(self.upstream_time);
        let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        if let Some(request) = &mut self.event.request {
            request.http_status = Some(status.as_u16());
            request.error_code = error_code;
            request.outcome = Some(outcome);
            request.latency_ms = Some(LatencyMs {
                total: millis(total),
                upstream: millis(self.upstream_time),
                gateway: millis(gateway),
            });
        }
        self.shared.metrics.request(self.path, status.as_u16());
        self.shared.metrics.times(total, gateway);
    }

    /// Adds the tokens that an upstream counted for one call to the event's. Gives the sum so far.
    pub(crate) fn used(&mut self, usage: TokenUsage) -> TokenUsage {
        let model = self.event.model.as_deref().unwrap_or_default();
        let cost = |usage: TokenUsage| {
            self.snapshot.pricing().cost_usd(model, usage.prompt, usage.completion, usage.total)
        };
        let before = self.event.usage.as_ref().map_or_else(TokenUsage::default, |usage| TokenUsage {
            prompt: usage.prompt_tokens,
            completion: usage.completion_tokens,
            total: usage.total_tokens,
        });
        let sum = before.plus(usage);
        self.shared.metrics.usage(usage.prompt, usage.completion, cost(usage));
        let cost_usd = cost(sum);
        self.event.usage = Some(Usage {
            prompt_tokens: sum.prompt,
            completion_tokens: sum.completion,
            total_tokens: sum.total,
            cost_usd,
        });
        sum
    }

    /// How a call ends that was answered by the policy's text: with the failure of the upstream that made it so, if any.
    pub(crate) fn ended(&self, failure: Option<&Failure>) -> (Outcome, Option<String>) {
        let Some(failure) = failure else { return (Outcome::Completed, None) };
        if let Failure::Upstream { upstream, .. } | Failure::UpstreamTimeout { upstream, .. } = failure {
            self.shared.metrics.upstream_failure(upstream);
        }
        (Outcome::UpstreamError, Some(failure.code().to_owned()))
    }

    fn request_id(&self, headers: &mut HeaderMap) {
        reply::set(headers, "x-request-id", self.event.request_id.as_deref().unwrap_or_default());
    }

    /// The headers that tell the decision.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        let event = &self.event;
        self.request_id(headers);
        self.limit_headers(headers);
        if !matches!(self.recorded, Recorded::Skipped) {
            reply::set(
                headers,
                "x-policy-event-id",
                event.event_id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()),
            );
        }
        let Some(decision) = event.decision else { return };
        reply::set(headers, "x-policy-decision", decision.as_str());
        reply::set(
            headers,
            "x-policy-effective-decision",
            event.effective_decision.unwrap_or(decision).as_str(),
        );
        reply::set(headers, "x-policy-enforced", if event.enforced { "true" } else { "false" });
        reply::set(headers, "x-policy-id", event.policy_id.as_deref().unwrap_or_default());
        reply::set(headers, "x-policy-reason-code", event.reason_code.as_deref().unwrap_or_default());
        reply::set(headers, "x-policy-rollout-mode", event.rollout_mode.map_or("", RolloutMode::as_str));
        if let Some(id) = event.escalation_id {
            reply::set(
                headers,
                "x-policy-escalation-id",
                id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()),
            );
        }
        if let Some(revision) = event.policy_revision {
            headers.insert("x-policy-revision", http::HeaderValue::from(revision));
        }
    }

    /// The `policy` object, where the route asks for it.
    pub(crate) fn policy_json(&self) -> Option<Vec<u8>> {
        #[derive(serde::Serialize)]
        struct PolicyObject<'a> {
            policy_id: Option<&'a str>,
            policy_revision: Option<u64>,
            decision: Option<Decision>,
            effective_decision: Option<Decision>,
            reason_code: Option<&'a str>,
            rollout_mode: Option<RolloutMode>,
            enforced: bool,
            triggered_categories: &'a [String],
            allowlist_hits: &'a [String],
            denylist_hits: &'a [String],
            policy_target: Option<&'a str>,
            event_id: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            escalation_id: Option<Uuid>,
        }
        if !self.policy_object {
            return None;
        }
        let event = &self.event;
        let object = PolicyObject {
            policy_id: event.policy_id.as_deref(),
            policy_revision: event.policy_revision,
            decision: event.decision,
            effective_decision: event.effective_decision,
            reason_code: event.reason_code.as_deref(),
            rollout_mode: event.rollout_mode,
            enforced: event.enforced,
            triggered_categories: &event.triggered_categories,
            allowlist_hits: &event.allowlist_hits,
            denylist_hits: &event.denylist_hits,
            policy_target: event.policy_target.as_deref(),
            event_id: event.event_id,
            escalation_id: event.escalation_id,
        };
        serde_json::to_vec(&object).ok()
    }
}

/// What follows from a call once its record is durable: what is not on disk has not happened.
async fn observe(shared: Arc<Shared>, durable: Durable, alerts: Vec<Alert>, seen: Option<Seen>) {
    if durable.await.is_err() {
        return alert::drop_all(&shared, &alerts);
    }
    alert::tell(&shared, alerts).await;
    if let Some(seen) = seen {
        rollback::observe(shared, seen).await;
    }
}

/// RFC 3339 UTC with milliseconds, always three digits.
pub(crate) fn rfc3339(time: jiff::Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let time = |nanos| rfc3339(jiff::Timestamp::from_nanosecond(nanos).unwrap());
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_999_999_999), "1970-01-01T00:00:01.999Z");
    }
}
