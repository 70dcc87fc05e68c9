//! `simulate`: messages judged as a call would be, with the reasons, and without a model call, quota or ticket. It leaves
//! one event, which says that nothing was enforced.

use std::sync::Arc;

use audit::event::{AuditEvent, EventType, RolloutMode, Stage};
use audit::log::{AuditLog, Record};
use bytes::Bytes;
use http::Response;
use judge::explain::Explanation;
use judge::simulate::{SimulateError, Simulated, request_of, simulate};
use policy::problems::Problem;
use policy::{Decision, PolicyDocument, Revision, Subject};
use registry::DesiredState;
use registry::desired_state::Author;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::reply::{Failure, ok};
use crate::routes::policies::mode_of;
use crate::routes::read_body;

/// What is judged by what.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimulateBody {
    /// A policy document. This or `policy_id`.
    #[serde(default)]
    #[schemars(with = "Option<Map<String, Value>>")]
    config: Option<Value>,
    /// A policy that there is.
    policy_id: Option<String>,
    /// One of its revisions. Absent: the stable one, or the candidate where there is no other.
    revision: Option<u64>,
    /// Messages as a chat completions request has them.
    #[schemars(with = "Vec<Map<String, Value>>")]
    messages: Value,
    /// The end user.
    policy_user: Option<String>,
    /// The target.
    policy_target: Option<String>,
}

/// The `policy` object and what goes beyond it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Simulation {
    policy_id: String,
    /// Null for a document that was sent along.
    policy_revision: Option<u64>,
    #[schemars(with = "String")]
    decision: Decision,
    /// `allow`: nothing was applied.
    #[schemars(with = "String")]
    effective_decision: Decision,
    reason_code: String,
    /// How the document would be applied: `enforced`, `shadow` or `canary`.
    #[schemars(with = "String")]
    rollout_mode: RolloutMode,
    /// False.
    enforced: bool,
    triggered_categories: Vec<String>,
    allowlist_hits: Vec<String>,
    denylist_hits: Vec<String>,
    policy_target: Option<String>,
    #[schemars(with = "String")]
    event_id: Uuid,
    /// Counts by entity type.
    redactions: BTreeMap<String, u64>,
    /// The messages as the model would see them.
    #[schemars(with = "Vec<Map<String, Value>>")]
    redacted_messages: Value,
    /// Why: a sentence, and every find with its rule, normal form, message and stage.
    #[schemars(with = "Map<String, Value>")]
    explanation: Explanation,
}

pub(crate) async fn run(
    state: &DesiredState,
    log: &dyn AuditLog,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    const HINT: &str = "send {\"config\": DOCUMENT or \"policy_id\": ID, \"messages\": […]}";
    let body: SimulateBody = read_body(body, HINT)?;
    let chosen = choose(state, &body, HINT).await?;
    let number = chosen.number;
    let (revision, simulated) = judged(chosen, &body).await?;
    let event = event(&revision, number, &simulated, &body, author);
    let recorded = match log.append(Record::event(&event)) {
        Ok(durable) => durable.await,
        Err(error) => Err(error),
    };
    recorded
        .map_err(|error| Failure::unavailable(format!("the simulation could not be recorded: {error}")))?;
    Ok(ok(&answer(event, &revision, simulated)))
}

/// What is judged by: a revision, or a document that is still to be compiled.
struct Chosen {
    judge: Judge,
    number: Option<u64>,
}

enum Judge {
    Revision(Arc<Revision>),
    Document(Box<PolicyDocument>),
}

async fn choose(state: &DesiredState, body: &SimulateBody, hint: &str) -> Result<Chosen, Failure> {
    match (&body.config, &body.policy_id) {
        (Some(config), None) if body.revision.is_none() => {
            let document =
                PolicyDocument::parse(config).map_err(|problems| Failure::problems(problems, ""))?;
            Ok(Chosen { judge: Judge::Document(Box::new(document)), number: None })
        }
        (None, Some(policy_id)) => {
            let policy = state.policy(policy_id).await?.policy;
            let number = body.revision.or(policy.stable).or(policy.candidate).unwrap_or(policy.newest);
            let revision = state.compiled(policy_id, number).await?;
            Ok(Chosen { judge: Judge::Revision(revision), number: Some(number) })
        }
        _ => Err(Failure::bad_request(format!(
            "give either `config`, or `policy_id` with perhaps a `revision`: {hint}"
        ))),
    }
}

/// Compiling and judging take the processor for a moment, which calls being served must not wait for.
async fn judged(chosen: Chosen, body: &SimulateBody) -> Result<(Arc<Revision>, Simulated), Failure> {
    let messages = body.messages.clone();
    let target = body.policy_target.as_deref().unwrap_or_default();
    let subject = Subject::new(target).scored_by(judge::moderation::embedded());
    let work = tokio::task::spawn_blocking(move || {
        let revision = match chosen.judge {
            Judge::Revision(revision) => revision,
            Judge::Document(document) => {
                Arc::new(Revision::compile(*document, 0).map_err(|problems| Failure::problems(problems, ""))?)
            }
        };
        let request = request_of(&messages).map_err(|error| wrong(error.param, error.message))?;
        let simulated = simulate(&revision, &subject, &request, None).map_err(|error| match error {
            SimulateError::Request(error) => wrong(error.param, error.message),
            SimulateError::Answer(error) => Failure::unavailable(error.to_string()),
        })?;
        Ok((revision, simulated))
    });
    work.await.unwrap_or_else(|_| Err(Failure::unavailable("the work ended early: try again")))
}

fn wrong(param: Option<String>, message: String) -> Failure {
    Failure::problems(vec![Problem::new(param.unwrap_or_else(|| "messages".to_owned()), message)], "")
}

fn event(
    revision: &Revision,
    number: Option<u64>,
    simulated: &Simulated,
    body: &SimulateBody,
    author: &Author,
) -> AuditEvent {
    let verdict = &simulated.verdict;
    let at = format!("{:.3}", jiff::Timestamp::now());
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Simulation, at);
    event.policy_id = Some(revision.policy_id().to_owned());
    event.decision = Some(verdict.decision);
    event.effective_decision = Some(Decision::Allow);
    event.reason_code = Some(verdict.reason_code.as_str().to_owned());
    event.policy_user.clone_from(&body.policy_user);
    event.policy_target.clone_from(&body.policy_target);
    event.rollout_mode = Some(mode_of(revision.document()));
    event.triggered_categories =
        verdict.triggered_categories.iter().map(|category| category.as_str().to_owned()).collect();
    event.allowlist_hits = verdict.allowlist_hits.iter().map(|term| term.to_string()).collect();
    event.denylist_hits = verdict.denylist_hits.iter().map(|term| term.to_string()).collect();
    event.request_id.clone_from(&author.request_id);
    event.policy_revision = number;
    event.data_classification = revision.data_classification().map(str::to_owned);
    event.stage = Some(match verdict.stage {
        policy::Stage::Input => Stage::Input,
        policy::Stage::Output => Stage::Output,
    });
    event.redactions =
        verdict.redactions.iter().map(|(kind, count)| (kind.as_str().to_owned(), *count)).collect();
    event.actor = Some(author.name.clone());
    event
}

fn answer(event: AuditEvent, revision: &Revision, simulated: Simulated) -> Simulation {
    Simulation {
        policy_id: revision.policy_id().to_owned(),
        policy_revision: event.policy_revision,
        decision: simulated.verdict.decision,
        effective_decision: Decision::Allow,
        reason_code: event.reason_code.unwrap_or_default(),
        rollout_mode: mode_of(revision.document()),
        enforced: false,
        triggered_categories: event.triggered_categories,
        allowlist_hits: event.allowlist_hits,
        denylist_hits: event.denylist_hits,
        policy_target: event.policy_target,
        event_id: event.event_id,
        redactions: event.redactions,
        redacted_messages: simulated.messages,
        explanation: simulated.explanation,
    }
}
