//! Who asks, by which policy, and where the request would go: everything that is checked before it is judged. What is
//! refused here has no decision.

use std::sync::Arc;

use http::HeaderMap;
use hyper::body::Incoming;
use llm_api::chat::request::{ChatRequest, Metadata};
use policy::{Revision, Subject};
use registry::{ProjectStatus, Upstream};

use crate::beside::Rollout;
use crate::body;
use crate::call::Call;
use crate::error_reply::Failure;

/// A request that may be judged: who asks, by which policy, and where it would go.
pub(crate) struct Admitted {
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) revision: Arc<Revision>,
    /// What rules may turn on besides the text.
    pub(crate) subject: Subject,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) headers: HeaderMap,
}

/// Reads and checks the request: contract order is project, body, fields, entitlement, policy, model.
pub(crate) async fn admit(call: &mut Call, headers: HeaderMap, body: Incoming) -> Result<Admitted, Failure> {
    check_project(call)?;
    let limits = &call.shared.limits;
    let body = body::read(body, &headers, limits.body_bytes_max, limits.body_timeout).await?;
    let request = Arc::new(call.shared.apart.run(body.len(), move || ChatRequest::parse(body)).await?);
    call.event.model = Some(request.model.clone());
    if let Some(info) = &mut call.event.request {
        info.stream = request.stream;
    }
    let project = metadata(call, &request.metadata, &headers)?;
    let policy_id = match &request.metadata.policy_id {
        Some(named) if call.key.project.entitlements.allows_policy(&project, named) => named.clone(),
        Some(named) => return Err(Failure::PolicyNotEntitled(named.clone())),
        None => match &project.policy_id {
            Some(policy_id) => policy_id.clone(),
            None => return Err(Failure::NoPolicy(project.id.clone())),
        },
    };
    call.event.policy_id = Some(policy_id.clone());
    let Some(policy) = call.snapshot.policy(&policy_id) else {
        return Err(Failure::NoPolicy(project.id.clone()));
    };
    let target = call.event.policy_target.as_deref().unwrap_or_default();
    let ruling = policy.choose(target, call.event.policy_user.as_deref(), &call.key.id);
    let (revision, rollout) = Rollout::new(policy, &ruling, &call.shared.nothing);
    call.rollout = rollout;
    if call.rollout.moderates(&revision) {
        call.scoring = call.shared.moderators.scoring(call.snapshot.moderation());
    }
    let Some(upstream) = call.snapshot.upstream_for(&request.model, &project.entitlements).cloned() else {
        return Err(Failure::UnknownModel(request.model.clone()));
    };
    let target = call.event.policy_target.as_deref().unwrap_or_default();
    let subject = Subject { off: ruling.rules.off, ..Subject::new(target) }.scored_by(call.scoring.scorer());
    Ok(Admitted { request, revision, subject, upstream, headers })
}

/// # Errors
/// [`Failure::ProjectDisabled`].
pub(crate) fn check_project(call: &Call) -> Result<(), Failure> {
    if call.key.project.status == ProjectStatus::Disabled {
        return Err(Failure::ProjectDisabled(call.key.project.id.clone()));
    }
    Ok(())
}

/// Who asks, for which project and target: a header beats a body field. `fields` are the body's.
pub(crate) fn metadata(
    call: &mut Call,
    fields: &Metadata,
    headers: &HeaderMap,
) -> Result<Arc<registry::Project>, Failure> {
    let header = |name: &'static str| {
        let value = headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()));
        match value {
            None | Some(Ok("")) => Ok(None),
            Some(Ok(text)) => Ok(Some(text.to_owned())),
            Some(Err(_)) => Err(Failure::Invalid {
                message: format!("header `{name}` is not UTF-8 text"),
                param: Some(name.to_owned()),
            }),
        }
    };
    let pick = |header: Option<String>, field: &Option<String>| header.or_else(|| field.clone());
    let user = pick(header("x-policy-user")?, &fields.policy_user).or_else(|| fields.fallback_user.clone());
    let named = pick(header("x-policy-project")?, &fields.project_id);
    let target = pick(header("x-policy-target")?, &fields.target);
    for (name, value) in [("policy_user", &user), ("policy_project_id", &named), ("policy_target", &target)] {
        if value.as_ref().is_some_and(|value| value.len() > METADATA_BYTES_MAX) {
            return Err(Failure::Invalid {
                message: format!("`{name}` is longer than {METADATA_BYTES_MAX} bytes"),
                param: Some(name.to_owned()),
            });
        }
    }
    let own = Arc::clone(&call.key.project);
    call.event.policy_user = user;
    let project = match named {
        Some(named) if named != own.id => match call.snapshot.project(&named) {
            Some(project) if own.entitlements.allows_project(&own, &named) => Arc::clone(project),
            _ => return Err(Failure::ProjectNotEntitled(named)),
        },
        _ => own,
    };
    call.event.project_id = Some(project.id.clone());
    call.event.policy_id.clone_from(&project.policy_id);
    call.event.policy_target = Some(target.unwrap_or_else(|| project.id.clone()));
    if project.status == ProjectStatus::Disabled {
        return Err(Failure::ProjectDisabled(project.id.clone()));
    }
    Ok(project)
}

/// Longest user, project or target name: they go into every event, and events must stay small.
const METADATA_BYTES_MAX: usize = 512;
