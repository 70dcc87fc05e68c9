//! Which route a request is for.

use http::Method;

use super::{ROUTES, Route};
use crate::PREFIX;
use crate::reply::Failure;
use crate::routes::percent_decoded;

/// A route that was found, with what stands in the place of each `{name}`.
pub(crate) struct Found {
    pub(crate) route: &'static Route,
    parameters: Vec<String>,
}

impl Found {
    /// What stands in the place of the `{name}` at this index.
    pub(crate) fn parameter(&self, index: usize) -> &str {
        self.parameters.get(index).map_or("", String::as_str)
    }
}

/// Finds the route of a request whose path starts with [`PREFIX`].
///
/// # Errors
/// [`Failure`] where there is none, or none of that method; it says what there is.
pub(crate) fn find(method: &Method, path: &str) -> Result<Found, Failure> {
    let path = path.strip_prefix(PREFIX).unwrap_or_default().trim_end_matches('/');
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(parameters) = fits(route.path, path) else { continue };
        if route.method == *method {
            return Ok(Found { route, parameters });
        }
        others.push(route.method.clone());
    }
    if others.is_empty() { Err(unknown()) } else { Err(Failure::method_not_allowed(&others)) }
}

fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut given = path.split('/');
    let mut parameters = Vec::new();
    for wanted in pattern.split('/') {
        let segment = given.next()?;
        if wanted.starts_with('{') {
            let value = percent_decoded(segment).filter(|value| !value.is_empty())?;
            parameters.push(value);
        } else if wanted != segment {
            return None;
        }
    }
    given.next().is_none().then_some(parameters)
}

fn unknown() -> Failure {
    let known: Vec<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    Failure::not_found(format!("there is no such route; there is {}, each under {PREFIX}", known.join(", ")))
}
