//! What is told of limits before and when they are used up: at half, at four fifths and at the whole of a project's budget
//! and of the policy's quotas, once in each window. The event and the mark that it was told are one commit, so that no
//! crash tells it twice, and what a crash kept from being told is told at the next call or start.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use ::quota::{Span, Spending, Taken, Window, budget_bucket};
use audit::event::{
    AlertInfo, AlertOf, Amount, AuditEvent, BucketId, EventType, Measure, QuotaScope, leaf_hash,
};
use audit::log::Mark;
use audit::usage::{day_of, day_start_s, pico_usd, usd};
use registry::budget::{Budget, BudgetWindow, OnExceeded};
use uuid::Uuid;

use crate::Shared;
use crate::call::{Call, rfc3339};
use crate::error_reply::Failure;

/// Shares of a limit, of 100.
const PERCENTS: [u32; 3] = [50, 80, 100];
/// Of what was told this much is remembered; past it, windows that are over are forgotten.
const TOLD_MAX: usize = 1 << 16;
const PICO_PER_MICRO: u128 = 1_000_000;

/// One thing to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Threshold {
    bucket: BucketId,
    measure: Measure,
    percent: u32,
    /// In another window, or of another limit, it is told again.
    end_s: i64,
    limit: u128,
}

impl Threshold {
    fn mark(&self) -> Mark {
        let text =
            format!("{} {:?} {} {}", String::from(self.bucket), self.measure, self.percent, self.limit);
        let digest = leaf_hash(text.as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Mark { key, until_s: self.end_s }
    }
}

/// An event that is due.
#[derive(Debug)]
pub(crate) struct Alert {
    threshold: Threshold,
    event: AuditEvent,
}

/// What was told, or is about to be, so that the log is not asked at each call.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashSet<Threshold>>);

impl Told {
    /// Whether it was not told yet; from now on it is.
    fn begin(&self, threshold: Threshold, now_s: i64) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX && !told.contains(&threshold) {
            told.retain(|known| known.end_s > now_s);
            if told.len() >= TOLD_MAX {
                // The log knows.
                told.clear();
            }
        }
        told.insert(threshold)
    }

    /// It could not be told: the next call tries again.
    fn forget(&self, threshold: &Threshold) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(threshold);
    }
}

/// A limit, and what of it is used.
#[derive(Clone, Copy, Debug)]
struct Standing {
    of: AlertOf,
    bucket: BucketId,
    window: Window,
    span: Span,
    measure: Measure,
    limit: u128,
    used: u128,
}

impl Standing {
    fn amount(&self, amount: u128) -> Amount {
        match self.measure {
            Measure::Usd => Amount::Usd(usd(amount)),
            Measure::Requests | Measure::Tokens => Amount::Count(u64::try_from(amount).unwrap_or(u64::MAX)),
        }
    }

    /// The thresholds that it is at or past.
    fn reached(&self) -> impl Iterator<Item = Threshold> + '_ {
        let reached = |percent: &u32| {
            self.limit > 0 && self.used.saturating_mul(100) >= self.limit.saturating_mul(u128::from(*percent))
        };
        PERCENTS.into_iter().filter(reached).map(|percent| Threshold {
            bucket: self.bucket,
            measure: self.measure,
            percent,
            end_s: self.span.end_s,
            limit: self.limit,
        })
    }

    fn info(&self, percent: u32) -> AlertInfo {
        let time = |second| rfc3339(jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX));
        AlertInfo {
            of: self.of,
            measure: self.measure,
            percent,
            limit: self.amount(self.limit),
            used: self.amount(self.used),
            window: self.window.as_str().to_owned(),
            start: time(self.span.start_s),
            end: time(self.span.end_s),
        }
    }
}

/// How a budget stands.
fn of_budget(budget: &Budget, project_id: &str, spending: Spending) -> impl Iterator<Item = Standing> {
    let window = window(budget.window);
    let bucket = budget_bucket(project_id, window);
    let standing = move |measure, limit: Option<u128>, used| {
        let of = AlertOf::Budget;
        limit.map(|limit| Standing { of, bucket, window, span: spending.span, measure, limit, used })
    };
    let dollars = budget.usd_micros.map(|micros| u128::from(micros) * PICO_PER_MICRO);
    let money = standing(Measure::Usd, dollars, spending.pico_usd);
    let tokens = standing(Measure::Tokens, budget.tokens.map(u128::from), u128::from(spending.tokens));
    money.into_iter().chain(tokens)
}

fn window(window: BudgetWindow) -> Window {
    match window {
        BudgetWindow::Daily => Window::Daily,
        BudgetWindow::Weekly => Window::Weekly,
        BudgetWindow::Monthly => Window::Monthly,
    }
}

fn blank(standing: &Standing, percent: u32) -> AuditEvent {
    let now = rfc3339(jiff::Timestamp::now());
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Quota, now);
    let name = match standing.of {
        AlertOf::Budget => "BUDGET",
        AlertOf::UserQuota => "USER_QUOTA",
        AlertOf::ProjectQuota => "PROJECT_QUOTA",
    };
    event.reason_code = Some(format!("{name}_{percent}"));
    event.alert = Some(standing.info(percent));
    event
}

impl Call {
    /// Counts what the call used into what its project has spent.
    pub(crate) fn spend(&self) {
        let (Some(project_id), Some(usage)) = (&self.event.project_id, &self.event.usage) else { return };
        let day = day_of(&self.event.created_at).map_or_else(now_s, day_start_s);
        self.shared.budgets.add(project_id, day, usage.total_tokens, pico_usd(usage.cost_usd));
    }

    /// Refuses the call where its project's budget is used up and says so. Calls in flight are not known to have spent
    /// anything: a budget is passed by what they come to.
    ///
    /// # Errors
    /// [`Failure::Quota`].
    pub(crate) fn check_budget(&self) -> Result<(), Failure> {
        let Some((project_id, budget)) = self.budget() else { return Ok(()) };
        if budget.on_exceeded != OnExceeded::Refuse {
            return Ok(());
        }
        let now_s = now_s();
        let spending = self.shared.budgets.spent(project_id, window(budget.window), now_s);
        let used_up =
            of_budget(budget, project_id, spending).find(|standing| standing.used >= standing.limit);
        match used_up {
            Some(standing) => Err(refusal(&standing, now_s)),
            None => Ok(()),
        }
    }

    fn budget(&self) -> Option<(&str, &Budget)> {
        let project_id = self.event.project_id.as_deref()?;
        let budget = self.snapshot.project(project_id)?.budget.as_ref()?;
        Some((project_id, budget))
    }

    /// What is to be told of the call's limits and was not told yet.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let now_s = now_s();
        let mut due = Vec::new();
        if let Some((project_id, budget)) = self.budget() {
            due.extend(due_of_budget(&self.shared, project_id, budget, now_s));
        }
        for claim in self.claims().iter().filter(|claim| claim.scope != QuotaScope::Key) {
            let Some(Taken { span, requests, tokens }) = self.shared.quota.taken(claim, now_s) else {
                continue;
            };
            let of = match claim.scope {
                QuotaScope::Project => AlertOf::ProjectQuota,
                QuotaScope::User | QuotaScope::Key => AlertOf::UserQuota,
            };
            let measures = [
                (Measure::Requests, claim.requests_max, requests),
                (Measure::Tokens, claim.tokens_max, tokens),
            ];
            for (measure, limit, used) in measures {
                let (limit, used) = (u128::from(limit), u128::from(used));
                let (bucket, window) = (claim.bucket, claim.window);
                let standing = Standing { of, bucket, window, span, measure, limit, used };
                for threshold in standing.reached().filter(|one| self.shared.told.begin(*one, now_s)) {
                    let mut event = blank(&standing, threshold.percent);
                    event.policy_id.clone_from(&self.event.policy_id);
                    event.project_id.clone_from(&self.event.project_id);
                    if of == AlertOf::UserQuota {
                        event.policy_user.clone_from(&self.event.policy_user);
                        // Who is not named is one user by key.
                        if event.policy_user.is_none() {
                            event.key_id = Some(self.key.id.clone());
                        }
                    }
                    due.push(Alert { threshold, event });
                }
            }
        }
        due
    }
}

fn due_of_budget(shared: &Shared, project_id: &str, budget: &Budget, now_s: i64) -> Vec<Alert> {
    let spending = shared.budgets.spent(project_id, window(budget.window), now_s);
    let mut due = Vec::new();
    for standing in of_budget(budget, project_id, spending) {
        for threshold in standing.reached().filter(|one| shared.told.begin(*one, now_s)) {
            let mut event = blank(&standing, threshold.percent);
            event.project_id = Some(project_id.to_owned());
            due.push(Alert { threshold, event });
        }
    }
    due
}

/// Tells what was due when the process last ended, and of budgets that were made smaller since.
pub(crate) async fn catch_up(shared: Arc<Shared>) {
    let snapshot = shared.snapshot.load_full();
    let now_s = now_s();
    let mut due = Vec::new();
    for project in snapshot.projects() {
        if let Some(budget) = &project.budget {
            due.extend(due_of_budget(&shared, &project.id, budget, now_s));
        }
    }
    tell(&shared, due).await;
}

/// They will not be told: what they are about did not happen.
pub(crate) fn drop_all(shared: &Shared, alerts: &[Alert]) {
    alerts.iter().for_each(|alert| shared.told.forget(&alert.threshold));
}

/// Makes the events durable, each unless it was before, and says so in the program's log.
pub(crate) async fn tell(shared: &Shared, alerts: Vec<Alert>) {
    for Alert { threshold, event } in alerts {
        match shared.log.append_once(threshold.mark(), &event).await {
            Ok(true) => {
                let reason_code = event.reason_code.as_deref().unwrap_or_default();
                let project_id = event.project_id.as_deref().unwrap_or_default();
                let policy_id = event.policy_id.as_deref().unwrap_or_default();
                let percent = threshold.percent;
                tracing::warn!(reason_code, project_id, policy_id, percent, "a share of a limit is used up");
            }
            Ok(false) => {}
            Err(error) => {
                shared.told.forget(&threshold);
                tracing::debug!(%error, "an alert could not be recorded: the next call tries again");
            }
        }
    }
}

fn refusal(standing: &Standing, now_s: i64) -> Failure {
    let (limit, field) = match standing.amount(standing.limit) {
        Amount::Usd(usd) => (format!("{usd} US dollars"), "usd"),
        Amount::Count(count) => (format!("{count} tokens"), "tokens"),
    };
    let window = standing.window.as_str();
    let wait_s = u64::try_from(standing.span.end_s - now_s).unwrap_or(0).max(1);
    let end = rfc3339(jiff::Timestamp::from_second(standing.span.end_s).unwrap_or(jiff::Timestamp::MAX));
    Failure::Quota {
        code: "PROJECT_QUOTA_EXCEEDED",
        message: format!(
            "the {window} budget of this project, {limit}, is used up: try again after {end}, or ask its owner to raise \
             `budget.{field}`"
        ),
        retry_after_s: wait_s,
    }
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(measure: Measure, limit: u128, used: u128) -> Standing {
        let window = Window::Monthly;
        Standing {
            of: AlertOf::Budget,
            bucket: BucketId([1; 16]),
            window,
            span: window.span(1_768_587_731),
            measure,
            limit,
            used,
        }
    }

    #[test]
    fn thresholds_are_reached_exactly() {
        let reached = |limit, used| -> Vec<u32> {
            standing(Measure::Tokens, limit, used).reached().map(|one| one.percent).collect()
        };
        for (used, percents) in [
            (0, &[][..]),
            (49, &[]),
            (50, &[50]),
            (79, &[50]),
            (80, &[50, 80]),
            (99, &[50, 80]),
            (100, &[50, 80, 100]),
            (u128::MAX, &[50, 80, 100]),
        ] {
            assert_eq!(reached(100, used), percents, "{used}");
        }
        assert_eq!(reached(0, 10), [0; 0], "no limit");
        assert_eq!(reached(3, 2), [50], "two of three are not four fifths");
    }

    #[test]
    fn each_is_told_once_until_it_fails_or_is_another() {
        let told = Told::default();
        let one = standing(Measure::Usd, 100, 100).reached().next().unwrap();
        assert!(told.begin(one, 0) && !told.begin(one, 0));
        told.forget(&one);
        assert!(told.begin(one, 0));
        let next_window = Threshold { end_s: one.end_s + 1, ..one };
        let raised = Threshold { limit: 200, ..one };
        assert!(told.begin(next_window, 0) && told.begin(raised, 0));
        assert_ne!(one.mark().key, raised.mark().key);
        assert_ne!(one.mark(), next_window.mark());
        assert_eq!(one.mark(), Threshold { ..one }.mark());
    }

    #[test]
    fn amounts_are_dollars_or_counts() {
        let money = standing(Measure::Usd, 12_500_000_000_000, 6_250_000_000_000).info(50);
        assert_eq!((money.limit, money.used), (Amount::Usd(12.5), Amount::Usd(6.25)));
        insta::assert_snapshot!(serde_json::to_string(&money).unwrap(), @r#"{"of":"budget","measure":"usd","percent":50,"limit":12.5,"used":6.25,"window":"monthly","start":"2026-01-01T00:00:00.000Z","end":"2026-02-01T00:00:00.000Z"}"#);
        let tokens = standing(Measure::Tokens, 7, 7).info(100);
        assert_eq!((tokens.limit, tokens.used), (Amount::Count(7), Amount::Count(7)));
        let read: AlertInfo = serde_json::from_str(&serde_json::to_string(&tokens).unwrap()).unwrap();
        assert_eq!(read, tokens);
    }

    #[test]
    fn a_refusal_says_when_and_how() {
        let refused = refusal(&standing(Measure::Usd, 12_500_000_000_000, u128::MAX), 1_768_587_731);
        insta::assert_snapshot!(refused, @"the monthly budget of this project, 12.5 US dollars, is used up: try again after 2026-02-01T00:00:00.000Z, or ask its owner to raise `budget.usd`");
        assert_eq!(refused.retry_after_seconds(), Some(1_769_904_000 - 1_768_587_731));
    }
}
