//! Control plane: the management API under `/api/policy-gateway/`, on plain HTTP types so that any listener can carry
//! it. What it reads and moves is behind the traits in [`ports`]. Deliberately absent: listeners, SQL, and anything
//! on the path of a model call.

mod api;
mod auth;
pub mod config;
pub mod openapi;
pub mod ports;
mod reply;
mod routes;

use std::sync::Arc;

use arc_swap::ArcSwap;
use audit::log::AuditLog;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use registry::DesiredState;
use registry::desired_state::Author;

use crate::api::{Found, Operation};
use crate::auth::{Caller, Tokens};
use crate::config::AdminToken;
use crate::ports::{Escalations, Evidence, Exports};
use crate::reply::Failure;

/// What the path of every route starts with.
pub const PREFIX: &str = "/api/policy-gateway/";

/// Where the description of the API is, for anybody.
pub const DESCRIPTION: &str = "/openapi.json";

/// What the API is served from.
pub struct Ports {
    /// The audit log, for reading.
    pub evidence: Arc<dyn Evidence>,
    /// The destinations.
    pub exports: Arc<dyn Exports>,
    /// Reviews.
    pub escalations: Arc<dyn Escalations>,
    /// Policies, projects and keys.
    pub state: Arc<DesiredState>,
    /// Where simulations are recorded.
    pub log: Arc<dyn AuditLog>,
}

/// The management API.
pub struct Control {
    tokens: ArcSwap<Tokens>,
    ports: Ports,
    /// What is answered at [`DESCRIPTION`].
    description: Bytes,
}

impl Control {
    /// Serves what the ports offer to whoever has one of the tokens, and `description` to anybody.
    pub fn new(tokens: Vec<AdminToken>, ports: Ports, description: Bytes) -> Self {
        Self { tokens: ArcSwap::from_pointee(Tokens::new(tokens)), ports, description }
    }

    /// Puts other tokens in force, from the next request on.
    pub fn set_tokens(&self, tokens: Vec<AdminToken>) {
        self.tokens.store(Arc::new(Tokens::new(tokens)));
    }

    /// Answers a request whose path starts with [`PREFIX`] or is [`DESCRIPTION`]. The caller bounds the body and the
    /// time. Cancel safe: a replay that was begun goes on or not as [`Exports::replay`] says.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        if request.uri().path() == DESCRIPTION {
            return reply::ok_text(self.description.clone());
        }
        self.route(&request).await.unwrap_or_else(Failure::into_response)
    }

    async fn route(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let caller = self.tokens.load().caller(request.headers())?;
        let found = api::find(request.method(), request.uri().path())?;
        let access = found.route.access;
        if !access.allows(caller.role) {
            let role = caller.role.as_str();
            let message =
                format!("the role `{role}` may not do this: use a token of role {}", access.roles());
            return Err(Failure::forbidden(message));
        }
        let author = author(caller.clone(), request.headers());
        self.dispatch(&found, request, &caller, author).await
    }

    async fn dispatch(
        &self,
        found: &Found,
        request: &Request<Bytes>,
        caller: &Caller,
        author: Author,
    ) -> Result<Response<Bytes>, Failure> {
        use escalation::Verdict;

        use crate::routes::{escalations as reviews, policies, projects, simulate};
        let Ports { evidence, exports, escalations, state, log } = &self.ports;
        let (query, headers, body) = (request.uri().query(), request.headers(), request.body());
        let (first, second) = (found.parameter(0), found.parameter(1));
        match found.route.operation {
            Operation::SaveConfig => policies::save(state, headers, body, author).await,
            Operation::ReadConfig => policies::read(state, query).await,
            Operation::ListPolicies => Ok(policies::list(state).await),
            Operation::ListRevisions => policies::revisions(state, first).await,
            Operation::PromoteRevision => {
                policies::promote(state, (first, second), headers, body, &author).await
            }
            Operation::RollBack => policies::roll_back(state, first, headers, body, &author).await,
            Operation::AbortCandidate => policies::abort(state, first, headers, body, &author).await,
            Operation::DiffRevisions => policies::diff(state, first, query).await,
            Operation::Simulate => simulate::run(state, &**log, body, &author).await,
            Operation::CreateProject => projects::create(state, body, &author).await,
            Operation::ListProjects => Ok(projects::list(state).await),
            Operation::ReadProject => projects::read(state, first).await,
            Operation::PatchProject => projects::patch(state, first, body, &author).await,
            Operation::CreateKey => projects::create_key(state, first, body, &author).await,
            Operation::ListKeys => projects::keys(state, first).await,
            Operation::RevokeKey => projects::revoke_key(state, (first, second), &author).await,
            Operation::ListExports => Ok(routes::exports::list(&**exports)),
            Operation::ExportStatus => routes::exports::status(&**exports, first),
            Operation::TestExport => routes::exports::test(&**exports, first).await,
            Operation::ReplayExport => routes::exports::replay(&**exports, first, body).await,
            Operation::ListEscalations => reviews::list(&**escalations, query).await,
            Operation::ReadEscalation => reviews::show(&**escalations, first, caller).await,
            Operation::ApproveEscalation => {
                reviews::decide(&**escalations, first, Verdict::Approve, body, caller).await
            }
            Operation::DenyEscalation => {
                reviews::decide(&**escalations, first, Verdict::Deny, body, caller).await
            }
            Operation::History => routes::history::list(&**evidence, routes::history::HISTORY, query).await,
            Operation::Audit => routes::history::list(&**evidence, &[], query).await,
            Operation::Usage => routes::usage::report(&**evidence, query, headers).await,
        }
    }
}

/// Who stands in the audit log for what this caller changes.
fn author(caller: Caller, headers: &HeaderMap) -> Author {
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Author { name: caller.name, request_id }
}

#[cfg(test)]
mod memory;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
