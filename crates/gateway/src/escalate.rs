//! What becomes of a call that the policy escalates: a ticket is opened for it, or one that is known says whether it
//! passes. What a ticket means is the desk's business; this is where it meets the call.

use std::sync::Arc;

use audit::event::Stage;
use escalation::fingerprint::Subject;
use escalation::{Case, Fingerprint, Standing};
use llm_api::chat::request::Role;
use policy::document::RetainContent;
use policy::{Decision, Revision};
use uuid::Uuid;

use crate::admission::Admitted;
use crate::call::Call;
use crate::enforce::{self, Action};
use crate::error_reply::Failure;

/// What is at stake when the verdict comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The request: the model was not called.
    Request,
    /// A whole answer: nothing of it left.
    Answer,
    /// A stream: what a grant would have let pass was stopped by now, unless it was known when the stream began.
    Stream,
}

/// What the effective decision asks for. An escalated call gets its ticket here, durable before this resolves, or passes
/// by a grant: then the event says so, and the decision stays what the policy said.
///
/// # Errors
/// [`Failure::ReviewUnavailable`] where no ticket could be opened: nothing may be released.
pub(crate) async fn gate(
    call: &mut Call,
    admitted: &mut Admitted,
    moment: Moment,
) -> Result<Action, Failure> {
    let decision = call.event.effective_decision.unwrap_or(Decision::Refuse);
    if decision != Decision::Escalate {
        return Ok(enforce::action(decision));
    }
    if let Some(id) = call.grant {
        pass(call, admitted, id);
        return Ok(Action::Pass);
    }
    let (content, fingerprint) = weigh(call, admitted).await;
    let retain = admitted.revision.document().org_controls.retain_content == RetainContent::Escalations;
    let desk = Arc::clone(&call.shared.desk);
    let case = case(call, &admitted.revision);
    let held =
        desk.enter(fingerprint, case, retain.then_some(content.as_slice())).await.map_err(|error| {
            tracing::warn!(%error, "a request that needs a review was turned away");
            Failure::ReviewUnavailable
        })?;
    call.event.escalation_id = Some(held.id);
    match held.standing {
        Standing::Granted if moment != Moment::Stream => {
            pass(call, admitted, held.id);
            return Ok(Action::Pass);
        }
        Standing::Refused => call.event.effective_decision = Some(Decision::Refuse),
        Standing::Granted | Standing::Open | Standing::Over => {}
    }
    Ok(Action::Replace)
}

/// Finds out, without the disk, whether a stream's violations may pass: once it is cut it is too late. Costs nothing
/// while no grant is in force.
pub(crate) async fn before_stream(call: &mut Call, admitted: &mut Admitted) {
    if call.grant.is_none() && call.shared.desk.may_grant() && admitted.revision.document().can_escalate() {
        let (_, fingerprint) = weigh(call, admitted).await;
        let held = call.shared.desk.held(&fingerprint).filter(|held| held.standing == Standing::Granted);
        call.grant = held.map(|held| held.id);
    }
    admitted.subject.granted |= call.grant.is_some();
}

fn pass(call: &mut Call, admitted: &mut Admitted, id: Uuid) {
    if call.grant.is_none() || call.event.escalation_id.is_none() {
        call.shared.desk.passed();
    }
    call.grant = Some(id);
    call.event.escalation_id = Some(id);
    call.event.effective_decision = Some(Decision::Allow);
    admitted.subject.granted = true;
}

/// The judged messages (what a grant is for, and what a reviewer may read where the policy opted to keep it), and what
/// stands for them.
async fn weigh(call: &Call, admitted: &Admitted) -> (Vec<u8>, Fingerprint) {
    let with_system = admitted.revision.scan_system();
    let policy_id = call.event.policy_id.clone().unwrap_or_default();
    let user = call.event.policy_user.clone();
    let (request, key) = (Arc::clone(&admitted.request), Arc::clone(&call.key));
    let desk = Arc::clone(&call.shared.desk);
    let work = move || {
        let is_judged = |role| with_system || !matches!(role, Role::System | Role::Developer);
        let content = request.canonical_messages(is_judged);
        let subject = match user.as_deref() {
            Some(user) => Subject::User(user),
            None => Subject::Key(&key.id),
        };
        let fingerprint = desk.fingerprint(&policy_id, subject, &content);
        (content, fingerprint)
    };
    call.shared.apart.run(admitted.request.body_bytes(), work).await
}

fn case(call: &Call, revision: &Revision) -> Case {
    let event = &call.event;
    let replacement = &revision.document().refusal_replacement;
    Case {
        policy_id: revision.policy_id().to_owned(),
        policy_revision: event.policy_revision,
        project_id: event.project_id.clone(),
        policy_user: event.policy_user.clone(),
        key_id: call.key.id.clone(),
        policy_target: event.policy_target.clone(),
        model: event.model.clone(),
        stage: event.stage.or(Some(Stage::Input)),
        reason_code: event.reason_code.clone(),
        triggered_categories: event.triggered_categories.clone(),
        denylist_hits: event.denylist_hits.clone(),
        redactions: event.redactions.clone(),
        data_classification: event.data_classification.clone(),
        request_id: event.request_id.clone(),
        event_id: event.event_id,
        terms: replacement.escalation,
        escalation_path: replacement.escalation_path.clone(),
    }
}
