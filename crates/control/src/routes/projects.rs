//! `projects` and their keys. A key is answered once, when it is made.

use bytes::Bytes;
use http::Response;
use registry::budget::BudgetConfig;
use registry::config::{EntitlementsConfig, ProjectConfig};
use registry::desired_state::{Author, KeyView, NewKey, ProjectPatch, ProjectView};
use registry::{DesiredState, ProjectStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::reply::{Failure, ok};
use crate::routes::read_body;

/// A project to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectBody {
    /// 1 to 128 letters, digits, `-`, `_`, `.`, `:` or `/`.
    id: String,
    /// For people. Default: the id.
    name: Option<String>,
    /// For people.
    description: Option<String>,
    /// `disabled` answers every request of its keys with 403. Default `active`.
    status: Option<ProjectStatus>,
    /// The policy that judges its requests. Without one they are refused with 400.
    policy_id: Option<String>,
    /// What its keys may use beyond the project and its own policy.
    entitlements: Option<EntitlementsConfig>,
    /// What it may spend, in US dollars or tokens. Absent: anything.
    budget: Option<BudgetConfig>,
}

/// What is to change; what is absent stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchBody {
    name: Option<String>,
    description: Option<String>,
    status: Option<ProjectStatus>,
    /// Null takes the policy away: requests are refused with 400 then.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    policy_id: Option<Option<String>>,
    entitlements: Option<EntitlementsConfig>,
    /// Null takes the budget away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<BudgetConfig>")]
    budget: Option<Option<BudgetConfig>>,
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A key to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// For people.
    name: Option<String>,
    /// RFC 3339 time from which it is refused. Absent or null: never.
    expires_at: Option<String>,
}

/// All projects.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Projects {
    projects: Vec<Project>,
}

/// A project.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Project {
    id: String,
    name: String,
    description: String,
    status: ProjectStatus,
    policy_id: Option<String>,
    entitlements: EntitlementsConfig,
    /// What it may spend; absent: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetConfig>,
    /// `api`, or `file` where it is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

/// A project's keys.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

/// A key, without the key itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Key {
    key_id: String,
    name: Option<String>,
    /// Its first characters, to recognise it by.
    prefix: Option<String>,
    /// `active`, `revoked` or `expired`.
    #[schemars(with = "String")]
    status: &'static str,
    /// `api`, or `file` where it is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

/// A key that was just made.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MadeKey {
    key_id: String,
    /// The key. It is shown this once only.
    key: String,
    name: Option<String>,
    prefix: Option<String>,
    created_at: Option<String>,
    expires_at: Option<String>,
}

pub(crate) async fn create(
    state: &DesiredState,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: ProjectBody = read_body(body, "send {\"id\": …, \"policy_id\": …}")?;
    let config = ProjectConfig {
        id: body.id,
        name: body.name,
        description: body.description,
        status: body.status,
        policy_id: body.policy_id,
        keys: Vec::new(),
        entitlements: body.entitlements,
        plan: None,
        budget: body.budget,
    };
    Ok(ok(&Project::from(state.create_project(&config, author).await?)))
}

pub(crate) async fn list(state: &DesiredState) -> Response<Bytes> {
    ok(&Projects { projects: state.projects().await.into_iter().map(Project::from).collect() })
}

pub(crate) async fn read(state: &DesiredState, id: &str) -> Result<Response<Bytes>, Failure> {
    Ok(ok(&Project::from(state.project(id).await?)))
}

pub(crate) async fn patch(
    state: &DesiredState,
    id: &str,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: PatchBody = read_body(body, "send the fields that are to change, `id` apart")?;
    let patch = ProjectPatch {
        name: body.name,
        description: body.description,
        status: body.status,
        policy_id: body.policy_id,
        entitlements: body.entitlements,
        budget: body.budget,
    };
    Ok(ok(&Project::from(state.patch_project(id, patch, author).await?)))
}

pub(crate) async fn create_key(
    state: &DesiredState,
    project_id: &str,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: KeyBody = read_body(body, "send {\"name\": …} or {}")?;
    let new = NewKey { name: body.name, expires_at: body.expires_at };
    let made = state.create_key(project_id, new, author).await?;
    let KeyView { key_id, name, prefix, created_at, expires_at, .. } = made.view;
    Ok(ok(&MadeKey { key_id, key: made.key, name, prefix, created_at, expires_at }))
}

pub(crate) async fn keys(state: &DesiredState, project_id: &str) -> Result<Response<Bytes>, Failure> {
    Ok(ok(&Keys { keys: state.keys(project_id).await?.into_iter().map(Key::from).collect() }))
}

pub(crate) async fn revoke_key(
    state: &DesiredState,
    (project_id, key_id): (&str, &str),
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    Ok(ok(&Key::from(state.revoke_key(project_id, key_id, author).await?)))
}

impl From<ProjectView> for Project {
    fn from(view: ProjectView) -> Self {
        let ProjectView { project, file, created_at, updated_at } = view;
        Self {
            id: project.id,
            name: project.name,
            description: project.description,
            status: project.status,
            policy_id: project.policy_id,
            entitlements: EntitlementsConfig {
                policies: project.entitlements.policies,
                projects: project.entitlements.projects,
                models: project.entitlements.models,
                upstreams: project.entitlements.upstreams,
            },
            budget: project.budget.map(BudgetConfig::from),
            source: if file.is_some() { "file" } else { "api" },
            file,
            created_at,
            updated_at,
        }
    }
}

impl From<KeyView> for Key {
    fn from(view: KeyView) -> Self {
        let over =
            |time: &String| time.parse::<jiff::Timestamp>().is_ok_and(|time| time <= jiff::Timestamp::now());
        let status = match (&view.revoked_at, &view.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(time)) if over(time) => "expired",
            _ => "active",
        };
        Self {
            key_id: view.key_id,
            name: view.name,
            prefix: view.prefix,
            status,
            source: view.source.as_str(),
            created_at: view.created_at,
            expires_at: view.expires_at,
            revoked_at: view.revoked_at,
        }
    }
}
