//! The paths of the data plane. A path that is not here is answered 404 with those that are: nothing is ever passed
//! through ungoverned.

use http::Method;
use judge::coverage::Surface;

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
    /// Texts scored by category.
    Moderations,
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

/// Where the management API is mounted, and where it describes itself.
const MANAGEMENT: [&str; 2] = ["/api/policy-gateway/", "/openapi.json"];

/// Prefix of the route for one model.
pub(crate) const MODEL: &str = "/v1/models/";

/// Path of the moderation API.
pub(crate) const MODERATIONS: &str = "/v1/moderations";

/// A path of the data plane, as the API's description lists it.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As in `/v1/models/{id}`.
    pub path: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Whether a project's key is needed.
    pub keyed: bool,
    route: Route,
}

const fn chat(path: &'static str, policy_object: bool, summary: &'static str) -> Served {
    Served { method: "POST", path, summary, keyed: true, route: Route::Chat { path, policy_object } }
}

const fn get(path: &'static str, keyed: bool, route: Route, summary: &'static str) -> Served {
    Served { method: "GET", path, summary, keyed, route }
}

/// All paths of the data plane: requests are routed by this table.
pub const SERVED: &[Served] = &[
    chat("/v1/chat/completions", false, "Chat completions; the decision is in the headers."),
    chat(
        "/policy/chat/completions",
        true,
        "The same, with a `policy` object in the body and in every frame.",
    ),
    chat("/policy/v1/chat/completions", true, "The same, for clients that append `/v1`."),
    Served {
        method: "POST",
        path: MODERATIONS,
        summary: "Texts scored by moderation category.",
        keyed: true,
        route: Route::Moderations,
    },
    get("/v1/models", true, Route::Models, "The models that the key may use."),
    get("/v1/models/{id}", true, Route::Model, "One of them."),
    get("/healthz", false, Route::Health, "Liveness."),
    get("/readyz", false, Route::Ready, "Readiness: decisions can be recorded."),
    get("/metrics", false, Route::Metrics, "Prometheus metrics."),
];

impl Served {
    /// What goes through it, for a policy's coverage. A new route says here how it is judged.
    pub fn surface(&self) -> Surface {
        match self.route {
            Route::Chat { .. } => Surface::Chat,
            // No policy judges it: it is the scores themselves that are asked for.
            Route::Moderations
            | Route::Models
            | Route::Model
            | Route::Health
            | Route::Ready
            | Route::Metrics
            | Route::Management => Surface::NoContent,
        }
    }
}

impl Route {
    /// Finds the route.
    ///
    /// # Errors
    /// [`Failure::UnknownPath`] or [`Failure::Method`], each with the fix.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, Failure> {
        let fits = |served: &&Served| match served.path.strip_suffix("{id}") {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|id| !id.is_empty()),
            None => served.path == path,
        };
        if let Some(served) = SERVED.iter().find(fits) {
            return allow(method, served);
        }
        let [management, description] = MANAGEMENT;
        if path.starts_with(management) || path == description {
            return Ok(Self::Management);
        }
        Err(unknown(path))
    }
}

fn allow(method: &Method, served: &Served) -> Result<Route, Failure> {
    if method.as_str() == served.method || (served.method == "GET" && method == Method::HEAD) {
        Ok(served.route)
    } else {
        Err(Failure::Method(method.to_string(), served.method))
    }
}

fn unknown(path: &str) -> Failure {
    // The path is the caller's own; it is echoed shortened and is not logged.
    let shown: String = path.chars().take(120).collect();
    let served: Vec<String> = SERVED.iter().map(|one| format!("{} {}", one.method, one.path)).collect();
    Failure::UnknownPath(format!(
        "nothing is served at `{shown}`: the base URL ends with `/v1` and the call is `/chat/completions`. Served are {}",
        served.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_body_is_covered_by_every_rule_at_every_stage() {
        let document = serde_json::json!({"policy_id": "p", "rules": {"denylist": ["a"]}});
        let document = policy::PolicyDocument::parse(&document).unwrap();
        for served in SERVED {
            let lines = judge::coverage::of(&document, served.surface());
            let is_judged = served.method != "GET" && served.path != MODERATIONS;
            let expected = if is_judged { 18 } else { 0 };
            assert_eq!(lines.len(), expected, "{}", served.path);
        }
    }

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
