//! Projects and what their keys may name. Who may call what is decided here, answered to the client elsewhere.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;

/// A project: the owner of keys, and the default of everything that a request does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Stands in audit events as `project_id`.
    pub id: String,
    /// For people; the id where nothing else was given.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether its keys are served.
    pub status: ProjectStatus,
    /// The policy that judges its requests; without one they are refused with 400.
    pub policy_id: Option<String>,
    /// What its keys may name beyond the project and its own policy.
    pub entitlements: Entitlements,
    /// The plan that its keys are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What it may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// Whether a project's keys are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectStatus {
    /// They are.
    #[default]
    Active,
    /// They are answered 403.
    Disabled,
}

/// What the keys of a project may use. `*` in a list stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entitlements {
    /// Policies that a request may name beside the project's own.
    pub policies: Vec<String>,
    /// Projects that a request may name beside the key's own.
    pub projects: Vec<String>,
    /// Models that may be used; empty: all.
    pub models: Vec<String>,
    /// Upstreams that may be used; empty: all.
    pub upstreams: Vec<String>,
}

impl Entitlements {
    /// Whether a request with a key of `project` may name this policy: the project's own, or one that is listed.
    pub fn allows_policy(&self, project: &Project, policy_id: &str) -> bool {
        project.policy_id.as_deref() == Some(policy_id) || lists(&self.policies, policy_id)
    }

    /// Whether a request with a key of `project` may name this project: its own, or one that is listed.
    pub fn allows_project(&self, project: &Project, project_id: &str) -> bool {
        project.id == project_id || lists(&self.projects, project_id)
    }

    /// Whether this model may be used.
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.is_empty() || lists(&self.models, model)
    }

    /// Whether this upstream may be used.
    pub fn allows_upstream(&self, upstream: &str) -> bool {
        self.upstreams.is_empty() || lists(&self.upstreams, upstream)
    }
}

/// Whether a list holds the name, or `*`.
pub(crate) fn lists(list: &[String], name: &str) -> bool {
    list.iter().any(|entry| entry == name || entry == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(policy_id: Option<&str>) -> Project {
        Project {
            id: "support-bot".into(),
            name: "Support bot".into(),
            description: String::new(),
            status: ProjectStatus::Active,
            policy_id: policy_id.map(str::to_owned),
            entitlements: Entitlements::default(),
            plan: None,
            budget: None,
        }
    }

    #[test]
    fn by_default_a_key_may_name_its_own_project_and_policy_only() {
        let project = project(Some("guardrails"));
        let nothing = Entitlements::default();
        assert!(nothing.allows_policy(&project, "guardrails"));
        assert!(!nothing.allows_policy(&project, "other"));
        assert!(nothing.allows_project(&project, "support-bot"));
        assert!(!nothing.allows_project(&project, "other"));
        assert!(nothing.allows_model("anything"));
        assert!(nothing.allows_upstream("anything"));
    }

    #[test]
    fn lists_widen_policies_and_projects_and_narrow_models_and_upstreams() {
        let project = project(None);
        let listed = Entitlements {
            policies: vec!["strict".into()],
            projects: vec!["*".into()],
            models: vec!["small".into()],
            upstreams: vec!["main".into()],
        };
        assert!(listed.allows_policy(&project, "strict"));
        assert!(!listed.allows_policy(&project, "guardrails"));
        assert!(listed.allows_project(&project, "any"));
        assert!(listed.allows_model("small"));
        assert!(!listed.allows_model("large"));
        assert!(listed.allows_upstream("main"));
        assert!(!listed.allows_upstream("spare"));
    }
}
