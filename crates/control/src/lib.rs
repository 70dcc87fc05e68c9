//! Control plane: the management API under `/api/policy-gateway/`, on plain HTTP types so that any listener can carry
//! it. What it reads and moves is behind the traits in [`ports`]. Deliberately absent: listeners, SQL, and anything
//! on the path of a model call.

mod auth;
pub mod config;
pub mod ports;
mod reply;
mod routes;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response};

use crate::auth::Tokens;
use crate::config::{AdminToken, Role};
use crate::ports::{Evidence, Exports};
use crate::reply::Failure;

/// What the path of every route starts with.
pub const PREFIX: &str = "/api/policy-gateway/";

/// The routes there are, for whoever asks for another.
const ROUTES: &str = "GET exports, GET exports/{id}/status, POST exports/{id}/test, POST exports/{id}/replay, \
    GET history, GET audit";

/// The management API.
pub struct Control {
    tokens: ArcSwap<Tokens>,
    evidence: Arc<dyn Evidence>,
    exports: Arc<dyn Exports>,
}

impl Control {
    /// Serves what the two ports offer to whoever has one of the tokens.
    pub fn new(tokens: Vec<AdminToken>, evidence: Arc<dyn Evidence>, exports: Arc<dyn Exports>) -> Self {
        Self { tokens: ArcSwap::from_pointee(Tokens::new(tokens)), evidence, exports }
    }

    /// Puts other tokens in force, from the next request on.
    pub fn set_tokens(&self, tokens: Vec<AdminToken>) {
        self.tokens.store(Arc::new(Tokens::new(tokens)));
    }

    /// Answers a request whose path starts with [`PREFIX`]. The caller bounds the body and the time. Cancel safe: a
    /// replay that was begun goes on or not as [`Exports::replay`] says.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.route(&request).await.unwrap_or_else(Failure::into_response)
    }

    async fn route(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let role = self.tokens.load().role_of(request.headers())?;
        let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().trim_end_matches('/');
        let segments: Vec<&str> = path.split('/').collect();
        match segments.as_slice() {
            ["exports"] => {
                allow(request, role, &Method::GET)?;
                Ok(routes::exports::list(&*self.exports))
            }
            ["exports", id, "status"] => {
                allow(request, role, &Method::GET)?;
                routes::exports::status(&*self.exports, id)
            }
            ["exports", id, "test"] => {
                allow(request, role, &Method::POST)?;
                routes::exports::test(&*self.exports, id).await
            }
            ["exports", id, "replay"] => {
                allow(request, role, &Method::POST)?;
                routes::exports::replay(&*self.exports, id, request.body()).await
            }
            ["history"] => {
                allow(request, role, &Method::GET)?;
                routes::history::list(&*self.evidence, routes::history::HISTORY, request.uri().query()).await
            }
            ["audit"] => {
                allow(request, role, &Method::GET)?;
                routes::history::list(&*self.evidence, &[], request.uri().query()).await
            }
            _ => Err(Failure::not_found(format!(
                "there is no such route; there is {ROUTES}, each under {PREFIX}"
            ))),
        }
    }
}

/// Whether the method is the route's and the role may use it.
fn allow(request: &Request<Bytes>, role: Role, method: &Method) -> Result<(), Failure> {
    if request.method() != method {
        return Err(Failure::method_not_allowed(method));
    }
    if method != Method::GET && !role.may_operate() {
        return Err(Failure::forbidden(format!(
            "the role `{}` may only read: use a token of role `admin` or `editor`",
            role.as_str()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
