//! Telling an `escalation_path`: by mail or signed webhook, at least once, from rows in the store. A notice that fails is
//! tried again with a growing wait for as long as its ticket needs it; no request ever waits for one.

mod mail;
mod webhook;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::config::{Channels, is_url};
use crate::desk::{Desk, add, millis};
use crate::ticket::{Ticket, rfc3339};
use crate::tickets::{About, Notice, Sent};

/// Notices read at a time.
const BATCH: usize = 64;
/// Notices under way at once.
const CONCURRENCY: usize = 8;
/// A server that takes longer is tried again later.
const TIMEOUT: Duration = Duration::from_secs(30);
/// First wait after a failure …
const WAIT_MIN_MS: i64 = 1_000;
/// … and the longest.
const WAIT_MAX_MS: i64 = 10 * 60_000;
/// Longest sleep, so that a wall clock that was set is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The store is asked again so soon after it failed.
const RETRY: Duration = Duration::from_secs(5);
/// Longest error that is kept and logged.
const ERROR_CHARS_MAX: usize = 300;

impl Desk {
    /// Sends notices as they come due; never ends.
    pub(crate) async fn send_notices(&self) {
        loop {
            let wait = match self.send_due().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "notices of reviews could not be read: trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.posted.notified() => {}
            }
        }
    }

    /// Tries the notices that are due once, and says when to look again.
    ///
    /// # Errors
    /// [`crate::tickets::TicketsError`].
    pub async fn send_due(&self) -> Result<Duration, crate::tickets::TicketsError> {
        let notices = self.tickets.notices(BATCH).await?;
        let now_ms = self.clock.now_ms();
        let (due, later): (Vec<_>, Vec<_>) = notices.into_iter().partition(|notice| notice.next_ms <= now_ms);
        if due.is_empty() {
            let wait = later.first().map_or(LOOK_EVERY, |first| millis(first.next_ms.saturating_sub(now_ms)));
            return Ok(wait.clamp(Duration::from_millis(1), LOOK_EVERY));
        }
        let channels = self.channels.load_full();
        let channels = &channels;
        let results: Vec<_> = stream::iter(due)
            .map(|notice| async move { self.send_one(channels, &notice).await })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        results.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(Duration::ZERO)
    }

    async fn send_one(
        &self,
        channels: &Channels,
        notice: &Notice,
    ) -> Result<(), crate::tickets::TicketsError> {
        let attempt = async {
            if is_url(&notice.path) {
                webhook::send(channels, notice, self.clock.now_ms()).await
            } else {
                mail::send(channels, notice).await
            }
        };
        let sent = match tokio::time::timeout(TIMEOUT, attempt).await {
            Ok(Ok(())) => {
                add(&self.counts.notices);
                Sent::Yes
            }
            failed => {
                let error = failed.map_or_else(
                    |_| format!("no answer within {TIMEOUT:?}"),
                    |result| result.err().unwrap_or_default(),
                );
                add(&self.counts.notice_failures);
                let error = plain(&error, ERROR_CHARS_MAX);
                let (id, kind) = (notice.about.id(), notice.kind.as_str());
                let policy_id = notice.about.policy_id();
                tracing::warn!(%id, kind, policy_id, attempts = notice.attempts + 1, error,
                    "a notice was not sent: trying again");
                Sent::No { next_ms: self.clock.now_ms().saturating_add(backoff_ms(notice.attempts)), error }
            }
        };
        self.tickets.sent(notice.id, sent).await
    }
}

/// Doubling from a second to ten minutes, the upper half of it by chance.
fn backoff_ms(attempts: u32) -> i64 {
    let ceiling = (WAIT_MIN_MS << attempts.min(20)).min(WAIT_MAX_MS);
    let half = ceiling / 2;
    let chance = getrandom::u32().map_or(half, |chance| i64::from(chance) % (half + 1));
    half + chance
}

/// On one line, and no longer than that.
fn plain(text: &str, chars_max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect()
}

/// The error with its causes: the clients' own texts leave them out.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Where the ticket is, from outside where that is known.
fn link(channels: &Channels, ticket: &Ticket) -> String {
    let base = channels.public_url.as_deref().unwrap_or_default();
    format!("{base}/api/policy-gateway/escalations/{}", ticket.id)
}

/// What a notice says: metadata only.
fn data(channels: &Channels, about: &About) -> Value {
    match about {
        About::Ticket(ticket) => ticket_data(channels, ticket),
        About::Rollback(event) => json!({
            "event_id": event.event_id,
            "policy_id": event.policy_id,
            "policy_revision": event.policy_revision,
            "reason_code": event.reason_code,
            "created_at": event.created_at,
            "rollback": event.rollback,
        }),
    }
}

fn ticket_data(channels: &Channels, ticket: &Ticket) -> Value {
    let case = &ticket.case;
    json!({
        "escalation_id": ticket.id,
        "state": ticket.state,
        "policy_id": case.policy_id,
        "policy_revision": case.policy_revision,
        "project_id": case.project_id,
        "policy_user": case.policy_user,
        "policy_target": case.policy_target,
        "model": case.model,
        "stage": case.stage,
        "reason_code": case.reason_code,
        "triggered_categories": case.triggered_categories,
        "denylist_hits": case.denylist_hits,
        "redactions": case.redactions,
        "created_at": rfc3339(ticket.created_ms),
        "expires_at": rfc3339(ticket.expires_ms),
        "default_verdict": case.terms.default_verdict,
        "url": link(channels, ticket),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_ten_minutes() {
        for (attempts, ceiling) in [(0, 1_000), (1, 2_000), (4, 16_000), (10, 600_000), (u32::MAX, 600_000)] {
            for _ in 0..50 {
                let wait = backoff_ms(attempts);
                assert!((ceiling / 2..=ceiling).contains(&wait), "{attempts}: {wait}");
            }
        }
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(plain("550\r\nno\tsuch", 7), "550  no");
    }
}
