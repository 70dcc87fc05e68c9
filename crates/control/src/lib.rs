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
use bytes::Bytes;
use http::{Request, Response};

use crate::api::{Found, Operation};
use crate::auth::Tokens;
use crate::config::AdminToken;
use crate::ports::{Evidence, Exports};
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
        self.dispatch(&found, request).await
    }

    async fn dispatch(&self, found: &Found, request: &Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let Ports { evidence, exports } = &self.ports;
        let query = request.uri().query();
        match found.route.operation {
            Operation::ListExports => Ok(routes::exports::list(&**exports)),
            Operation::ExportStatus => routes::exports::status(&**exports, found.parameter(0)),
            Operation::TestExport => routes::exports::test(&**exports, found.parameter(0)).await,
            Operation::ReplayExport => {
                routes::exports::replay(&**exports, found.parameter(0), request.body()).await
            }
            Operation::History => routes::history::list(&**evidence, routes::history::HISTORY, query).await,
            Operation::Audit => routes::history::list(&**evidence, &[], query).await,
        }
    }
}

#[cfg(test)]
mod tests;
