//! The paths of the data plane. A path that is not here is answered 404 with those that are: nothing is ever passed
//! through ungoverned.

use http::Method;

use crate::error_reply::Failure;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Chat completions; with `policy_object`, the `policy` object goes into the body and every frame.
    Chat {
        /// As written in events and metrics.
        path: &'static str,
        /// Whether it is one of the `/policy/…` twins.
        policy_object: bool,
    },
    /// The models that the key may use.
    Models,
    /// One of them: the rest of the path names it.
    Model,
    /// Liveness.
    Health,
    /// Readiness.
    Ready,
    /// Prometheus metrics.
    Metrics,
    /// The management API, served by whoever is mounted there.
    Management,
}

const CHAT: [(&str, bool); 3] = [
    ("/v1/chat/completions", false),
    ("/policy/chat/completions", true),
    ("/policy/v1/chat/completions", true),
];

/// Where the management API is mounted.
const MANAGEMENT: &str = "/api/policy-gateway/";

/// Prefix of the route for one model.
pub(crate) const MODEL: &str = "/v1/models/";

impl Route {
    /// Finds the route.
    ///
    /// # Errors
    /// [`Failure::UnknownPath`] or [`Failure::Method`], each with the fix.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, Failure> {
        if let Some((path, policy_object)) = CHAT.iter().find(|(known, _)| *known == path) {
            return allow(method, &Method::POST, "POST", Self::Chat { path, policy_object: *policy_object });
        }
        match path {
            "/v1/models" => allow(method, &Method::GET, "GET", Self::Models),
            "/healthz" => allow(method, &Method::GET, "GET", Self::Health),
            "/readyz" => allow(method, &Method::GET, "GET", Self::Ready),
            "/metrics" => allow(method, &Method::GET, "GET", Self::Metrics),
            _ if path.strip_prefix(MODEL).is_some_and(|model| !model.is_empty()) => {
                allow(method, &Method::GET, "GET", Self::Model)
            }
            _ if path.starts_with(MANAGEMENT) => Ok(Self::Management),
            _ => Err(unknown(path)),
        }
    }
}

fn allow(method: &Method, allowed: &Method, name: &'static str, route: Route) -> Result<Route, Failure> {
    if method == allowed || (allowed == Method::GET && method == Method::HEAD) {
        Ok(route)
    } else {
        Err(Failure::Method(method.to_string(), name))
    }
}

fn unknown(path: &str) -> Failure {
    // The path is the caller's own; it is echoed shortened and is not logged.
    let shown: String = path.chars().take(120).collect();
    Failure::UnknownPath(format!(
        "nothing is served at `{shown}`: the base URL ends with `/v1` and the call is `/chat/completions`. Served are POST {}, {} and {}, GET /v1/models, /v1/models/{{id}}, /healthz, /readyz and /metrics",
        CHAT[0].0, CHAT[1].0, CHAT[2].0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_paths_and_no_other() {
        let find = |method: Method, path: &str| Route::find(&method, path);
        assert!(matches!(
            find(Method::POST, "/v1/chat/completions"),
            Ok(Route::Chat { policy_object: false, .. })
        ));
        for path in ["/policy/chat/completions", "/policy/v1/chat/completions"] {
            assert!(matches!(find(Method::POST, path), Ok(Route::Chat { policy_object: true, .. })));
        }
        assert_eq!(find(Method::GET, "/v1/models/a/b"), Ok(Route::Model));
        assert!(matches!(find(Method::GET, "/v1/chat/completions"), Err(Failure::Method(_, "POST"))));
        for path in [
            "/",
            "/chat/completions",
            "/v1/chat/completions/",
            "/v1/embeddings",
            "//v1/chat/completions",
            "/v1/models/",
        ] {
            assert!(matches!(find(Method::POST, path), Err(Failure::UnknownPath(_))), "{path}");
        }
    }
}
