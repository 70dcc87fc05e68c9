//! Candidates over a restart: what the store kept of them, and the calls of their last window, read from the log. What
//! that comes to is in `registry`; what becomes of a spike, in `gateway`.

use std::sync::Arc;

use audit::event::{AuditEvent, EventType, RolloutMode};
use escalation::Desk;
use registry::{Candidate, KeptRollout, Notify, RolloutStore, Rollouts, Spike};
use store::{Filter, Reader, Store};

use crate::serve::app::blocking;

/// Puts back what is known of the candidates that a start puts in force. Gives the spikes that nobody told yet.
///
/// # Errors
/// Where the store cannot be read or written.
pub(super) async fn resume(
    rollouts: &Arc<Rollouts>,
    store: &Arc<Store>,
) -> anyhow::Result<Vec<(Candidate, Spike)>> {
    let (reader, now_ms) = (store.reader()?, rollouts.clock().now_ms());
    let began: Vec<Candidate> = rollouts.take_changes().into_values().flatten().collect();
    let read = blocking(move || {
        let kept = reader.rollouts()?;
        let mut fresh = Vec::new();
        let mut spikes = Vec::new();
        for candidate in &began {
            let own = candidate.kept(None);
            match kept.iter().find(|kept| kept.key == own.key && kept.digest == own.digest) {
                Some(kept) => {
                    replay(candidate, kept, &reader, now_ms)?;
                    spikes.extend(candidate.overdue_spike().map(|spike| (candidate.clone(), spike)));
                }
                None => fresh.push(own),
            }
        }
        let is_over = |kept: &&KeptRollout| !began.iter().any(|candidate| candidate.key == kept.key);
        let over: Vec<String> = kept.iter().filter(is_over).map(|kept| kept.key.clone()).collect();
        Ok((fresh, over, spikes))
    });
    let (fresh, over, spikes) = read.await?;
    for kept in fresh {
        store.keep(kept, None).await.map_err(anyhow::Error::msg)?;
    }
    for key in over {
        store.forget(key).await.map_err(anyhow::Error::msg)?;
    }
    Ok(spikes)
}

/// Keeps what changes of the candidates in force, until it is cancelled. It is in force already: what cannot be kept is
/// told, and a restart would take the candidate for one that was never taken back.
pub(super) async fn keep(rollouts: Arc<Rollouts>, store: Arc<Store>) {
    loop {
        for (key, candidate) in rollouts.changed().await {
            let kept = match candidate {
                Some(candidate) => store.keep(candidate.kept(None), None).await,
                None => store.forget(key.clone()).await,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, key, "a change of what is tried out was not kept");
            }
        }
    }
}

/// The state that was kept, and the calls since then to which the candidate was applied.
fn replay(candidate: &Candidate, kept: &KeptRollout, reader: &Reader, now_ms: i64) -> anyhow::Result<()> {
    let rollout = &candidate.rollout;
    let mut from_ms = now_ms.saturating_sub(minutes(rollout.rollback_window_minutes));
    if let Some(taken_back) = kept.taken_back {
        candidate.restore(taken_back);
        if candidate.is_taken_back() {
            return Ok(());
        }
        from_ms = from_ms.max(taken_back.until_ms);
    }
    let filter = Filter {
        policy_id: Some(candidate.revision.policy_id().to_owned()),
        event_type: Some(EventType::Enforcement),
        after_seq: Some(kept.after_seq),
        from_ms: Some(from_ms),
        ..Filter::default()
    };
    for stored in reader.query(&filter) {
        let Ok(event) = serde_json::from_slice::<AuditEvent>(&stored?.text) else { continue };
        let (Some(decision), Some(stable)) = (event.decision, &event.stable) else { continue };
        // Rules are judged with and without by one revision, a candidate beside another.
        let of_rules = Some(stable.policy_revision) == event.policy_revision;
        let is_own = of_rules == candidate.is_of_rules();
        if event.rollout_mode == Some(RolloutMode::Canary) && event.enforced && is_own {
            let created_ms = event.created_at.parse::<jiff::Timestamp>().map(|time| time.as_millisecond());
            candidate.replay(now_ms.saturating_sub(created_ms.unwrap_or(now_ms)), decision, stable.decision);
        }
    }
    Ok(())
}

fn minutes(minutes: u64) -> i64 {
    i64::try_from(minutes.saturating_mul(60_000)).unwrap_or(i64::MAX)
}

/// The desk sends notices, and those of rollbacks too.
pub(super) struct DeskNotify(pub(super) Arc<Desk>);

impl Notify for DeskNotify {
    fn posted(&self) {
        self.0.posted();
    }
}
