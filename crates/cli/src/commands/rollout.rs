//! `rollout report`: what candidates in shadow and canary decide otherwise, read from the audit log. A canary event has
//! the stable verdict beside its own; a shadow event has it on the main event of the same request.

use std::collections::BTreeMap;
use std::process::ExitCode;

use ::policy::Decision;
use anyhow::Context;
use audit::event::RolloutMode;
use jiff::Timestamp;
use judge::flips::{FlipReport, Flips, Halves, Ruling, Whose};
use serde::{Deserialize, Serialize};
use store::Filter;

use crate::args::{ReportArgs, RolloutCommand};
use crate::commands::audit::open;
use crate::commands::flips::print;
use crate::output::{Output, printable};

/// Events that wait for the other one of their request; the log commits both together.
const WAITING_MAX: usize = 10_000;

/// Runs a command about rollouts.
///
/// # Errors
/// A store that cannot be read.
pub(crate) fn run(command: RolloutCommand) -> anyhow::Result<ExitCode> {
    match command {
        RolloutCommand::Report(args) => report(args),
    }
}

/// What is looked at of an event.
#[derive(Debug, Deserialize)]
struct Event {
    policy_id: Option<String>,
    #[serde(flatten)]
    verdict: Verdict,
    policy_user: Option<String>,
    project_id: Option<String>,
    policy_target: Option<String>,
    rollout_mode: Option<RolloutMode>,
    request_id: Option<String>,
    stable: Option<Verdict>,
}

/// One revision's verdict, on an event or beside it.
#[derive(Debug, Deserialize)]
struct Verdict {
    decision: Option<Decision>,
    policy_revision: Option<u64>,
    #[serde(default)]
    denylist_hits: Vec<String>,
    #[serde(default)]
    triggered_categories: Vec<String>,
    #[serde(default)]
    redactions: BTreeMap<String, u64>,
    #[serde(default)]
    scan: Option<serde_json::Value>,
}

impl Verdict {
    /// Whether content that could not be read is all that can have set the decision.
    fn is_unread(&self) -> bool {
        let unscanned = self.scan.as_ref().and_then(|scan| scan.get("unscanned"));
        let found = !self.denylist_hits.is_empty() || !self.triggered_categories.is_empty();
        !found
            && self.decision > Some(Decision::Allow)
            && unscanned.is_some_and(|counts| counts.as_object().is_some_and(|counts| !counts.is_empty()))
    }

    fn ruling(&self) -> Ruling {
        let decision = self.decision.unwrap_or(Decision::Allow);
        let found = !self.denylist_hits.is_empty() || !self.triggered_categories.is_empty();
        Ruling::new(
            decision,
            self.denylist_hits.iter().map(String::as_str),
            self.triggered_categories.iter().map(String::as_str),
            self.redactions.iter().filter(|(_, count)| **count > 0).map(|(entity, _)| entity.as_str()),
            decision != Decision::Allow && !found && !self.is_unread(),
            self.is_unread(),
        )
    }
}

/// A candidate: policy, revision and how it is tried out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    policy_id: String,
    policy_revision: Option<u64>,
    mode: &'static str,
}

/// The result of one candidate as `--json` prints it.
#[derive(Serialize)]
struct Report {
    policy_id: String,
    policy_revision: Option<u64>,
    rollout_mode: &'static str,
    #[serde(flatten)]
    flips: FlipReport,
    /// Shadow events whose main event is not in the time asked for.
    unmatched: u64,
}

#[derive(Default)]
struct Candidates {
    flips: BTreeMap<Candidate, (Flips, u64)>,
}

impl Candidates {
    fn note(&mut self, mode: &'static str, event: &Event, before: &Verdict, after: &Verdict) {
        let (before, rulings) = (before.ruling(), after.ruling());
        let or_empty = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let (user, project, target) =
            (or_empty(&event.policy_user), or_empty(&event.project_id), or_empty(&event.policy_target));
        let whose = Whose { user: &user, project: &project, target: &target };
        let (flips, _) = self.of(mode, event, after);
        flips.note(whose, before.outcome, rulings.outcome, || (before.clone(), rulings.clone()));
    }

    fn of(&mut self, mode: &'static str, event: &Event, after: &Verdict) -> &mut (Flips, u64) {
        let policy_id = event.policy_id.clone().unwrap_or_default();
        self.flips.entry(Candidate { policy_id, policy_revision: after.policy_revision, mode }).or_default()
    }

    /// Takes the next event of the log. `halves` holds main events and shadow events that have not met.
    fn take(&mut self, event: Event, halves: &mut [Halves<Event>; 2]) {
        let [mains, shadows] = halves;
        let Some(request_id) = event.request_id.clone() else { return };
        match event.rollout_mode {
            Some(RolloutMode::Canary) => {
                if let Some(stable) = &event.stable {
                    self.note("canary", &event, stable, &event.verdict);
                }
            }
            Some(RolloutMode::Shadow) => match mains.take(&request_id) {
                Some(main) => self.note("shadow", &event, &main.verdict, &event.verdict),
                None => {
                    for lost in shadows.wait(request_id, event) {
                        self.of("shadow", &lost, &lost.verdict).1 += 1;
                    }
                }
            },
            Some(_) if event.verdict.decision.is_some() => match shadows.take(&request_id) {
                Some(shadow) => self.note("shadow", &shadow, &event.verdict, &shadow.verdict),
                // Most have no shadow event.
                None => drop(mains.wait(request_id, event)),
            },
            _ => {}
        }
    }
}

fn report(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let store = open(args.store.config.as_deref(), args.store.store.as_deref())?;
    let filter = Filter {
        policy_id: args.policy,
        from_ms: args.from.map(Timestamp::as_millisecond),
        to_ms: args.to.map(Timestamp::as_millisecond),
        ..Filter::default()
    };
    let mut candidates = Candidates::default();
    let mut halves = [Halves::new(WAITING_MAX), Halves::new(WAITING_MAX)];
    for event in store.query(&filter) {
        let event = serde_json::from_slice(&event?.text).context("the log holds what is no event")?;
        candidates.take(event, &mut halves);
    }
    for lost in halves[1].left() {
        candidates.of("shadow", lost, &lost.verdict).1 += 1;
    }
    let top = usize::from(args.shown.top);
    let reports = candidates.flips.into_iter().map(|(candidate, (flips, unmatched))| Report {
        policy_id: candidate.policy_id,
        policy_revision: candidate.policy_revision,
        rollout_mode: candidate.mode,
        flips: flips.report(top),
        unmatched,
    });
    let reports: Vec<Report> = reports.collect();
    let mut output = Output::stdout();
    if args.shown.json {
        output.json(&reports)?;
    } else if reports.is_empty() {
        output.line("no shadow or canary event in the time asked for")?;
    } else {
        for (at, report) in reports.iter().enumerate() {
            if at > 0 {
                output.line("")?;
            }
            print_one(&mut output, report, args.shown.markdown)?;
        }
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print_one(output: &mut Output, report: &Report, markdown: bool) -> anyhow::Result<()> {
    let revision = report.policy_revision.map(|number| format!(", revision {number}")).unwrap_or_default();
    let title = format!("{}{revision}: {}", report.policy_id, report.rollout_mode);
    if markdown {
        output.line(report.flips.markdown(&title).trim_end())?;
    } else {
        output.line(&printable(&title))?;
        print(output, &report.flips)?;
    }
    if report.unmatched > 0 {
        output.line(&format!(
            "{} shadow events are left out: the main event of their request is not in the time asked for",
            report.unmatched
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn candidates(events: &[Value]) -> Vec<(Candidate, FlipReport, u64)> {
        let mut candidates = Candidates::default();
        let mut halves = [Halves::new(2), Halves::new(2)];
        for event in events {
            candidates.take(serde_json::from_value(event.clone()).unwrap(), &mut halves);
        }
        for lost in halves[1].left() {
            candidates.of("shadow", lost, &lost.verdict).1 += 1;
        }
        let report = |(candidate, (flips, unmatched)): (Candidate, (Flips, u64))| {
            (candidate, flips.report(5), unmatched)
        };
        candidates.flips.into_iter().map(report).collect()
    }

    fn event(request: &str, mode: &str, decision: &str, revision: u64, hits: &[&str]) -> Value {
        json!({"policy_id": "p", "decision": decision, "rollout_mode": mode, "request_id": request,
            "policy_revision": revision, "policy_user": format!("user of {request}"), "project_id": "bot",
            "denylist_hits": hits})
    }

    #[test]
    fn shadow_events_are_compared_with_the_main_event_of_their_request_in_either_order() {
        let found = candidates(&[
            event("r1", "enforced", "allow", 1, &[]),
            event("r1", "shadow", "refuse", 2, &["theft"]),
            event("r2", "shadow", "allow", 2, &[]),
            event("r2", "enforced", "allow", 1, &[]),
            event("r3", "enforced", "refuse", 1, &["old"]),
            event("r4", "shadow", "refuse", 2, &["theft"]),
        ]);
        let [(candidate, report, unmatched)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((candidate.policy_revision, candidate.mode, *unmatched), (Some(2), "shadow", 1));
        assert_eq!((report.requests, report.stricter, report.flipped_users), (2, 1, 1));
        assert_eq!(report.rules.rows[0].name, "denylist `theft`");
        assert_eq!(report.projects.rows[0].name, "bot");
    }

    #[test]
    fn a_canary_event_has_both_verdicts() {
        let mut canary = event("r1", "canary", "allow", 3, &[]);
        canary["stable"] = json!({"policy_revision": 2, "decision": "refuse", "reason_code": "REFUSE", "denylist_hits": ["theft"]});
        let without = event("r2", "canary", "allow", 3, &[]);
        let found = candidates(&[canary, without]);
        let [(candidate, report, 0)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((candidate.mode, report.requests, report.milder), ("canary", 1, 1));
    }
}
