//! The verdict of a revision that does not act on a call: stable's beside a canary's, a shadow's, or a candidate's where
//! there is nothing to apply. It is judged on the same texts, told on the events, and changes nothing else.

use std::sync::Arc;

use audit::event::{AuditEvent, Moderation, RolloutMode, StableVerdict, Stage};
use judge::JudgedAnswer;
use judge::pair::{judge_answer_by_both, judge_request_by_both};
use judge::stream::StreamJudge;
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError};
use llm_api::json::Splice;
use policy::rollout::{Applied, Beside as Asked, Mode};
use policy::{
    Decision, InputVerdict, Masker, Moderated, Off, OutputFindings, Pair, Revision, Scorer, Subject, Verdict,
};
use registry::{Candidate, PolicySet, Ruling};
use uuid::Uuid;

use crate::enforce::{self, Action};

/// Where the verdict goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Beside the candidate's on the main event.
    Stable,
    /// Into an event of its own.
    Shadow,
    /// Into the main event: nothing is applied.
    Main,
}

/// How a call stands to the revisions of its policy.
#[derive(Clone)]
pub(crate) struct Rollout {
    mode: Mode,
    beside: Option<Box<Beside>>,
}

#[derive(Clone)]
struct Beside {
    place: Place,
    revision: Arc<Revision>,
    /// Whose window counts the call.
    candidate: Candidate,
    /// It and the one that acts, where that has rules of its own.
    pair: Option<Arc<Pair>>,
    /// Its rules that do not count.
    off: Off,
    /// As the call came: a reviewer's grant is for the revision that acts.
    subject: Subject,
    masker: Masker,
    input: Option<InputVerdict>,
    /// What was found in an answer, as far as it is the revision's to judge one.
    output: OutputFindings,
}

/// What a call says of a candidate, once its event is durable.
pub(crate) struct Seen {
    pub(crate) candidate: Candidate,
    /// Whether the candidate was applied.
    pub(crate) applied: bool,
    pub(crate) decision: Decision,
    pub(crate) stable: Decision,
}

impl Rollout {
    /// A policy without a candidate, or a call that it does not concern.
    pub(crate) fn plain() -> Self {
        Self { mode: Mode::Enforced, beside: None }
    }

    /// Which revision acts and which of its rules do not, and what is judged beside it. `nothing` acts where there is
    /// nothing to apply.
    pub(crate) fn new(policy: &PolicySet, ruling: &Ruling, nothing: &Arc<Revision>) -> (Arc<Revision>, Self) {
        let (choice, rules) = (ruling.choice, &ruling.rules);
        let stable = || policy.stable_revision().cloned().unwrap_or_else(|| Arc::clone(nothing));
        let candidate = || policy.candidate().map(|candidate| Arc::clone(&candidate.revision));
        let (acting, beside) = match (choice.applied, choice.beside) {
            (Applied::Candidate, _) => (candidate(), Some((Place::Stable, stable()))),
            (Applied::Stable, Asked::Candidate) => (None, candidate().map(|it| (Place::Shadow, it))),
            (Applied::Stable, _) => (None, None),
            (Applied::Nothing, _) => (Some(Arc::clone(nothing)), candidate().map(|it| (Place::Main, it))),
        };
        let acting = acting.unwrap_or_else(stable);
        let beside = match (beside, policy.candidate(), policy.rules()) {
            (Some((place, revision)), Some(candidate), _) => {
                let pair = policy.pair().filter(|_| place != Place::Main).cloned();
                Some(Beside::new(place, revision, candidate, pair, Off::default()))
            }
            (None, _, Some(tried)) => rules
                .without
                .as_ref()
                .map(|off| (Place::Stable, off))
                .or(rules.with.as_ref().map(|off| (Place::Shadow, off)))
                .map(|(place, off)| {
                    let pair = policy.rules_pair().cloned();
                    Beside::new(place, Arc::clone(&acting), tried, pair, off.clone())
                }),
            _ => None,
        };
        (acting, Self { mode: choice.mode, beside: beside.map(Box::new) })
    }

    /// Whether it, or the acting revision, flags any category.
    pub(crate) fn moderates(&self, acting: &Revision) -> bool {
        let flags = |revision: &Revision| !revision.document().rules.flagged_categories.is_empty();
        flags(acting) || self.beside.as_ref().is_some_and(|beside| flags(&beside.revision))
    }

    /// Whether the acting revision's verdict is the main event's.
    pub(crate) fn is_enforced(&self) -> bool {
        self.beside.as_ref().is_none_or(|beside| beside.place != Place::Main)
    }

    /// The main event's mode.
    pub(crate) fn mode(&self) -> RolloutMode {
        match self.mode {
            Mode::Enforced => RolloutMode::Enforced,
            Mode::Shadow => RolloutMode::Shadow,
            Mode::Canary => RolloutMode::Canary,
            Mode::Rollback => RolloutMode::Rollback,
        }
    }

    /// Judges the request by the acting revision, and by the one beside.
    ///
    /// # Errors
    /// [`RequestError`] where a text cannot be read.
    pub(crate) fn judge_request(
        &mut self,
        acting: &Revision,
        subject: &Subject,
        request: &ChatRequest,
        masker: &mut Masker,
    ) -> Result<(InputVerdict, Splice), RequestError> {
        let Some(beside) = &mut self.beside else {
            return judge::judge_request(acting, subject, request, masker);
        };
        beside.subject = Subject { off: beside.off.clone(), ..subject.clone() };
        let (verdict, splice, input) = match &beside.pair {
            Some(pair) => {
                let maskers = [masker, &mut beside.masker];
                judge_request_by_both(pair, [subject, &beside.subject], request, maskers)?
            }
            None => {
                let (verdict, splice) = judge::judge_request(acting, subject, request, masker)?;
                let (input, _) =
                    judge::judge_request(&beside.revision, &beside.subject, request, &mut beside.masker)?;
                (verdict, splice, input)
            }
        };
        beside.input = Some(input);
        Ok((verdict, splice))
    }

    /// Runs over the request as [`Rollout::judge_request`] will, for what is asked of `asking`.
    pub(crate) fn ask_request(
        &self,
        acting: &Revision,
        subject: &Subject,
        request: &ChatRequest,
        asking: &Scorer,
    ) {
        let ask = |revision: &Revision, off: &Off| {
            let subject = Subject { off: off.clone(), ..subject.clone() }.scored_by(asking.clone());
            // A text that cannot be read is the judge's to report.
            drop(judge::judge_request(revision, &subject, request, &mut Masker::default()));
        };
        ask(acting, &subject.off);
        if let Some(beside) = &self.beside {
            ask(&beside.revision, &beside.off);
        }
    }

    /// Runs over a whole answer as [`Rollout::judge_answer`] will, likewise.
    pub(crate) fn ask_answer(
        &self,
        acting: &Revision,
        subject: &Subject,
        answer: &Answer,
        masker: &Masker,
        asking: &Scorer,
    ) {
        let ask = |revision: &Revision, subject: &Subject, masker: &Masker| {
            let subject = subject.clone().scored_by(asking.clone());
            drop(judge::judge_answer(revision, &subject, answer, &mut masker.clone()));
        };
        ask(acting, subject, masker);
        if let Some(beside) = self.beside.as_ref().filter(|beside| beside.judges_answers()) {
            ask(&beside.revision, &beside.subject, &beside.masker);
        }
    }

    /// Has the revision beside see a streamed answer as [`Rollout::stream`] will, likewise.
    pub(crate) fn stream_asking(&self, scout: &mut StreamJudge, asking: &Scorer) {
        if let Some(beside) = self.beside.as_ref().filter(|beside| beside.judges_answers()) {
            let subject = beside.subject.clone().scored_by(asking.clone());
            scout.watch(Arc::clone(&beside.revision), subject, beside.masker.clone());
        }
    }

    /// Judges a whole answer by the acting revision, and by the one beside unless that would not have asked for one.
    ///
    /// # Errors
    /// [`AnswerError`] where a text cannot be read.
    pub(crate) fn judge_answer(
        &mut self,
        acting: &Revision,
        subject: &Subject,
        answer: &Answer,
        masker: &mut Masker,
    ) -> Result<JudgedAnswer, AnswerError> {
        let Some(beside) = self.beside.as_mut().filter(|beside| beside.judges_answers()) else {
            return judge::judge_answer(acting, subject, answer, masker);
        };
        let (judged, output) = match &beside.pair {
            Some(pair) => {
                judge_answer_by_both(pair, [subject, &beside.subject], answer, [masker, &mut beside.masker])?
            }
            None => {
                let judged = judge::judge_answer(acting, subject, answer, masker)?;
                let own = &beside.subject;
                let output = judge::judge_answer(&beside.revision, own, answer, &mut beside.masker)?;
                (judged, output.findings)
            }
        };
        beside.output = output;
        Ok(judged)
    }

    /// Has the revision beside judge a streamed answer as it passes; see [`Rollout::streamed`].
    pub(crate) fn stream(&mut self, judge: &mut StreamJudge) {
        if let Some(beside) = self.beside.as_mut().filter(|beside| beside.judges_answers()) {
            let masker = std::mem::take(&mut beside.masker);
            judge.watch(Arc::clone(&beside.revision), beside.subject.clone(), masker);
        }
    }

    /// What that found.
    pub(crate) fn streamed(&mut self, findings: OutputFindings) {
        if let Some(beside) = &mut self.beside {
            beside.output = findings;
        }
    }

    /// Tells on the main event what is to stand there of the verdict beside, as known so far.
    pub(crate) fn tell(&self, event: &mut AuditEvent) {
        let Some(beside) = &self.beside else { return };
        match (beside.place, beside.verdict()) {
            (Place::Stable, Some(verdict)) => event.stable = Some(stable(&beside.revision, &verdict)),
            (Place::Main, Some(verdict)) => tell(event, &beside.revision, &verdict),
            _ => {}
        }
    }

    /// The shadow's event beside this finished one.
    pub(crate) fn shadow(&self, main: &AuditEvent) -> Option<AuditEvent> {
        let beside = self.beside.as_ref().filter(|beside| beside.place == Place::Shadow)?;
        let verdict = beside.verdict()?;
        let mut event = AuditEvent {
            event_id: Uuid::now_v7(),
            effective_decision: Some(Decision::Allow),
            rollout_mode: Some(RolloutMode::Shadow),
            enforced: false,
            escalation_id: None,
            quota: Vec::new(),
            usage: None,
            decision_hash: None,
            ..main.clone()
        };
        tell(&mut event, &beside.revision, &verdict);
        Some(event)
    }

    /// What the finished call says of the candidate; `shadow` is the shadow's event. Nothing where stable was not judged.
    pub(crate) fn seen(&self, main: &AuditEvent, shadow: Option<&AuditEvent>) -> Option<Seen> {
        let beside = self.beside.as_ref()?;
        let main_decision = main.decision?;
        let (decision, stable) = match beside.place {
            Place::Stable => (main_decision, main.stable.as_ref()?.decision),
            Place::Shadow => (shadow?.decision?, main_decision),
            Place::Main => return None,
        };
        let applied = beside.place == Place::Stable;
        Some(Seen { candidate: beside.candidate.clone(), applied, decision, stable })
    }
}

impl Beside {
    fn new(
        place: Place,
        revision: Arc<Revision>,
        candidate: &Candidate,
        pair: Option<Arc<Pair>>,
        off: Off,
    ) -> Self {
        Self {
            place,
            revision,
            candidate: candidate.clone(),
            pair,
            off,
            subject: Subject::default(),
            masker: Masker::default(),
            input: None,
            output: OutputFindings::default(),
        }
    }

    /// A revision that refuses a request sees no answer to it.
    fn judges_answers(&self) -> bool {
        self.input.as_ref().is_some_and(|input| enforce::action(input.decision) == Action::Forward)
    }

    fn verdict(&self) -> Option<Verdict> {
        Some(policy::conclude(&self.revision, self.input.as_ref()?, &self.output))
    }
}

/// Takes a verdict over into an event.
pub(crate) fn tell(event: &mut AuditEvent, revision: &Revision, verdict: &Verdict) {
    event.policy_revision = Some(revision.number());
    event.data_classification = revision.data_classification().map(str::to_owned);
    event.decision = Some(verdict.decision);
    event.reason_code = Some(verdict.reason_code.as_str().to_owned());
    event.stage = Some(stage(verdict));
    let unscanned = verdict.unscanned.counts();
    event.scan.get_or_insert_default().unscanned =
        unscanned.map(|(kind, count)| (kind.to_owned(), count)).collect();
    tell_moderation(event, &verdict.moderated);
    event.triggered_categories = categories(verdict);
    event.allowlist_hits = verdict.allowlist_hits.iter().map(|term| term.to_string()).collect();
    event.denylist_hits = verdict.denylist_hits.iter().map(|term| term.to_string()).collect();
    event.redactions =
        verdict.redactions.iter().map(|(kind, count)| (kind.as_str().to_owned(), *count)).collect();
}

/// Takes over what scoring said, whatever came of it.
pub(crate) fn tell_moderation(event: &mut AuditEvent, moderated: &Moderated) {
    let scan = event.scan.get_or_insert_default();
    let Some(by) = &moderated.by else {
        scan.moderation = None;
        return;
    };
    let score = |(category, score): (&policy::Category, &f32)| {
        (category.as_str().to_owned(), (f64::from(*score) * 1e3).round() / 1e3)
    };
    scan.moderation = Some(Moderation {
        by: by.to_string(),
        texts: moderated.texts,
        scores: moderated.scores.iter().map(score).collect(),
        unavailable: moderated.unavailable.map(str::to_owned),
    });
}

fn stable(revision: &Revision, verdict: &Verdict) -> StableVerdict {
    StableVerdict {
        policy_revision: revision.number(),
        decision: verdict.decision,
        reason_code: verdict.reason_code.as_str().to_owned(),
        stage: stage(verdict),
        denylist_hits: verdict.denylist_hits.iter().map(|term| term.to_string()).collect(),
        allowlist_hits: verdict.allowlist_hits.iter().map(|term| term.to_string()).collect(),
        triggered_categories: categories(verdict),
        redactions: verdict
            .redactions
            .iter()
            .map(|(kind, count)| (kind.as_str().to_owned(), *count))
            .collect(),
    }
}

fn stage(verdict: &Verdict) -> Stage {
    match verdict.stage {
        policy::Stage::Input => Stage::Input,
        policy::Stage::Output => Stage::Output,
    }
}

fn categories(verdict: &Verdict) -> Vec<String> {
    verdict.triggered_categories.iter().map(|category| category.as_str().to_owned()).collect()
}
