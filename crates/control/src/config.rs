//! The `admin_tokens` section of the configuration: who may use the management API, and as what.

use audit::secret::{Secret, SecretSource};
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

/// A bearer token of the management API.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminTokenConfig {
    /// For people.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Secret: `$NAME` (environment), `file:/path` or the token itself.
    pub token: String,
}

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Change policies and destinations, and operate them.
    Editor,
    /// Read, and decide on escalations.
    Reviewer,
    /// Read.
    Auditor,
}

impl Role {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Reviewer => "reviewer",
            Self::Auditor => "auditor",
        }
    }

    /// Whether it may change and operate what is governed.
    pub fn may_operate(self) -> bool {
        matches!(self, Self::Admin | Self::Editor)
    }
}

/// A token that is in force.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// For people.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The token.
    pub token: Secret,
}

impl AdminTokenConfig {
    /// Checks it and resolves its secret.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`admin_tokens[0]`).
    pub fn build(&self, prefix: &str) -> Result<AdminToken, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.name.trim().is_empty() {
            let message = "say whose token it is: give it a name".to_owned();
            problems.push(Problem { path: format!("{prefix}.name"), message });
        }
        match SecretSource::parse(&self.token).and_then(|source| source.resolve()) {
            Ok(token) if token.expose().contains(' ') => {
                let message = "a token holds no blank: no `Authorization` header could carry it".to_owned();
                problems.push(Problem { path: format!("{prefix}.token"), message });
            }
            Ok(token) if problems.is_empty() => {
                return Ok(AdminToken { name: self.name.clone(), role: self.role, token });
            }
            Ok(_) => {}
            Err(error) => {
                problems.push(Problem { path: format!("{prefix}.token"), message: error.to_string() });
            }
        }
        Err(problems)
    }
}

/// Checks what single tokens cannot know: that no name and no token is taken twice. Paths are under `admin_tokens`.
pub fn check_together(tokens: &[AdminToken]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, one) in tokens.iter().enumerate() {
        let before = tokens.get(..at).unwrap_or_default();
        if before.iter().any(|other| other.name == one.name) {
            let message = format!("the name `{}` is taken: rename one", one.name);
            problems.push(Problem { path: format!("admin_tokens[{at}].name"), message });
        }
        if let Some(other) = before.iter().find(|other| other.token == one.token) {
            let message = format!("the same token as `{}`: give each holder their own", other.name);
            problems.push(Problem { path: format!("admin_tokens[{at}].token"), message });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, token: &str) -> AdminTokenConfig {
        AdminTokenConfig { name: name.into(), role: Role::Editor, token: token.into() }
    }

    #[test]
    fn a_token_is_read_and_hidden() {
        let token = config("root", "hushhush").build("admin_tokens[0]").unwrap();
        assert_eq!(
            (token.name.as_str(), token.role, token.token.expose()),
            ("root", Role::Editor, "hushhush")
        );
        assert!(!format!("{token:?}").contains("hushhush"));
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let paths = |config: &AdminTokenConfig| -> Vec<String> {
            config.build("admin_tokens[2]").unwrap_err().into_iter().map(|problem| problem.path).collect()
        };
        assert_eq!(paths(&config(" ", "file:/no/such")), ["admin_tokens[2].name", "admin_tokens[2].token"]);
        assert_eq!(paths(&config("a", "two words")), ["admin_tokens[2].token"]);
        assert_eq!(paths(&config("", "good")), ["admin_tokens[2].name"]);
    }

    #[test]
    fn names_and_tokens_are_each_ones_own() {
        let tokens = [("a", "1"), ("b", "2"), ("a", "2")]
            .map(|(name, token)| config(name, token).build("admin_tokens[0]").unwrap());
        let paths: Vec<_> = check_together(&tokens).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["admin_tokens[2].name", "admin_tokens[2].token"]);
    }
}
