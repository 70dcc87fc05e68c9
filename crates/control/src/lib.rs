//! Control plane: the management API under `/api/policy-gateway/`, on plain HTTP types so that any listener can carry
//! it. What it reads and moves is behind the traits in [`ports`]. Deliberately absent: listeners, SQL, and anything
//! on the path of a model call.

mod api;
mod auth;
pub mod config;
mod idempotency;
pub mod oidc;
pub mod openapi;
pub mod ports;
mod reply;
mod routes;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use audit::log::AuditLog;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use registry::DesiredState;
use registry::desired_state::Author;

use crate::api::{Found, Operation};
use crate::auth::{Caller, Tokens};
use crate::config::AdminToken;
use crate::idempotency::{Begun, Once, Running};
use crate::oidc::Issuer;
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
    issuer: ArcSwapOption<Issuer>,
    ports: Ports,
    running: Running,
    /// What is answered at [`DESCRIPTION`].
    description: Bytes,
}

impl Control {
    /// Serves what the ports offer to whoever has one of the tokens, and `description` to anybody.
    pub fn new(tokens: Vec<AdminToken>, ports: Ports, description: Bytes) -> Self {
        let tokens = ArcSwap::from_pointee(Tokens::new(tokens));
        Self { tokens, issuer: ArcSwapOption::empty(), ports, running: Running::default(), description }
    }

    /// Puts other tokens in force, from the next request on.
    pub fn set_tokens(&self, tokens: Vec<AdminToken>) {
        self.tokens.store(Arc::new(Tokens::new(tokens)));
    }

    /// Lets bearers of this issuer's tokens in too, from the next request on, or none.
    pub fn set_issuer(&self, issuer: Option<Arc<Issuer>>) {
        self.issuer.store(issuer);
    }

    /// The issuer whose tokens are let in.
    pub fn issuer(&self) -> Option<Arc<Issuer>> {
        self.issuer.load_full()
    }

    /// Who asks, by a token of the configuration or of the issuer.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let presented = auth::presented(headers)?;
        if let Some(caller) = self.tokens.load().caller(presented) {
            return Ok(caller);
        }
        match self.issuer.load_full() {
            Some(issuer) if oidc::is_jwt(presented) => issuer.caller(presented).await,
            issuer => Err(auth::unknown(issuer.is_some())),
        }
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
        let caller = self.caller(request.headers()).await?;
        let found = api::find(request.method(), request.uri().path())?;
        let access = found.route.access;
        if !access.allows(caller.role) {
            let role = caller.role.as_str();
            let message =
                format!("the role `{role}` may not do this: use a token of role {}", access.roles());
            return Err(Failure::forbidden(message));
        }
        let author = author(&caller, &found, request.headers());
        let once = Once::begin(&self.ports.state, &self.running, &found, request, &caller).await?;
        let once = match once {
            Begun::Answered(response) => return Ok(response),
            Begun::Now(once) => once,
        };
        let result = self.dispatch(&found, request, &caller, author).await;
        if let Some(once) = once {
            once.end(&self.ports.state, result.as_ref().ok()).await;
        }
        Ok(reply::unless_seen(result?, request.headers()))
    }

    async fn dispatch(
        &self,
        found: &Found,
        request: &Request<Bytes>,
        caller: &Caller,
        author: Author,
    ) -> Result<Response<Bytes>, Failure> {
        use escalation::Verdict;

        use crate::routes::{escalations as reviews, exports as destinations, policies, projects, simulate};
        let Ports { evidence, exports, escalations, state, log } = &self.ports;
        let port = destinations::Port { exports: &**exports, state, log: &**log };
        let (query, headers, body) = (request.uri().query(), request.headers(), request.body());
        let (first, second) = (found.parameter(0), found.parameter(1));
        match found.route.operation {
            Operation::SaveConfig => policies::save(state, headers, body, author).await,
            Operation::ReadConfig => policies::read(state, query).await,
            Operation::ListPolicies => policies::list(state, query).await,
            Operation::ListRevisions => policies::revisions(state, first).await,
            Operation::PromoteRevision => {
                policies::promote(state, (first, second), headers, body, &author).await
            }
            Operation::RollBack => policies::roll_back(state, first, headers, body, &author).await,
            Operation::AbortCandidate => policies::abort(state, first, headers, body, &author).await,
            Operation::DiffRevisions => policies::diff(state, first, query).await,
            Operation::Simulate => simulate::run(state, &**log, body, &author).await,
            Operation::CreateProject => projects::create(state, body, &author).await,
            Operation::ListProjects => projects::list(state, query).await,
            Operation::ReadProject => projects::read(state, first).await,
            Operation::PatchProject => projects::patch(state, first, headers, body, &author).await,
            Operation::CreateKey => projects::create_key(state, first, body, &author).await,
            Operation::ListKeys => projects::keys(state, first, query).await,
            Operation::RevokeKey => projects::revoke_key(state, (first, second), &author).await,
            Operation::RotateKey => projects::rotate_key(state, (first, second), body, &author).await,
            Operation::CreateExport => destinations::create(port, body, &author).await,
            Operation::ListExports => destinations::list(port, query).await,
            Operation::ReadExport => destinations::read(port, first).await,
            Operation::PatchExport => destinations::patch(port, first, headers, body, &author).await,
            Operation::DeleteExport => destinations::delete(port, first, query, headers, &author).await,
            Operation::ExportStatus => destinations::status(&**exports, first),
            Operation::TestExport => destinations::test(port, first, &author).await,
            Operation::ReplayExport => destinations::replay(port, first, body, &author).await,
            Operation::ListEscalations => reviews::list(&**escalations, query).await,
            Operation::ReadEscalation => reviews::show(&**escalations, &**log, first, caller, &author).await,
            Operation::ApproveEscalation => {
                reviews::decide(&**escalations, first, Verdict::Approve, body, caller).await
            }
            Operation::DenyEscalation => {
                reviews::decide(&**escalations, first, Verdict::Deny, body, caller).await
            }
            Operation::History => routes::history::list(&**evidence, routes::history::HISTORY, query).await,
            Operation::Audit => routes::history::list(&**evidence, &[], query).await,
            Operation::ListCheckpoints => routes::checkpoints::list(&**evidence, query).await,
            Operation::Usage => routes::usage::report(&**evidence, query, headers).await,
        }
    }
}

/// Who stands in the audit log for what this caller changes.
fn author(caller: &Caller, found: &Found, headers: &HeaderMap) -> Author {
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let route = Some(format!("{} {}", found.route.method, found.route.path));
    Author { name: caller.name.clone(), request_id, route }
}

/// Whether a request changes something: then it goes on to its end when the client has gone, so that what is durable is in
/// force too. What may take long (a replay) does not.
pub fn must_end(method: &Method, path: &str) -> bool {
    api::find(method, path).is_ok_and(|found| found.route.operation.must_end())
}

/// What is answered where a change ended early: nobody can say here whether it was made.
pub fn interrupted() -> Response<Bytes> {
    Failure::unavailable("the work ended early: look whether it was done, then try again").into_response()
}

#[cfg(test)]
mod admin_tests;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
