//! `projects` and their keys. A key is answered once, when it is made.

use bytes::Bytes;
use http::{HeaderMap, Response};
use registry::budget::BudgetConfig;
use registry::config::{EntitlementsConfig, ProjectConfig};
use registry::desired_state::{Author, ChangeError, KeyView, NewKey, ProjectPatch, ProjectView, Rotation};
use registry::{DesiredState, ProjectStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::reply::{Failure, ok, tagged};
use crate::routes::{Page, Query, expected_tag, one_of, read_body, read_optional};

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
    /// The one of the configuration's `plans` that its keys are on.
    plan: Option<String>,
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
    /// Null takes the keys off their plan.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    plan: Option<Option<String>>,
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

/// How a key is followed by another.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateBody {
    /// Seconds that the old key is good still, up to 31 days. Default 0: it ends at once.
    #[serde(default)]
    #[schemars(range(max = 2_678_400))]
    overlap_seconds: u64,
    /// RFC 3339 time from which the new one is refused. Absent: it lives as long as the old one was to live.
    expires_at: Option<String>,
}

/// A page of projects, by id.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Projects {
    projects: Vec<Project>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
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
    /// The plan that its keys are on.
    plan: Option<String>,
    /// `api`, or `file` where it is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

/// A page of a project's keys, the newest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Keys {
    keys: Vec<Key>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
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
    /// When it was last presented, to the minute.
    last_used_at: Option<String>,
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
    /// The one that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<Key>,
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
        plan: body.plan,
        budget: body.budget,
    };
    Ok(answer(state.create_project(&config, author).await?))
}

pub(crate) async fn list(state: &DesiredState, query: Option<&str>) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["status", "policy_id", "source", "limit", "cursor"])?;
    let status = one_of(&mut query, "status", &["active", "disabled"])?;
    let source = one_of(&mut query, "source", &["api", "file"])?;
    let policy_id = query.take("policy_id");
    let page = Page::read(&mut query)?;
    let fits = |view: &ProjectView| {
        let is_active = view.project.status == ProjectStatus::Active;
        status.is_none_or(|status| (status == "active") == is_active)
            && source.is_none_or(|source| (source == "file") == view.file.is_some())
            && policy_id.as_ref().is_none_or(|id| view.project.policy_id.as_ref() == Some(id))
    };
    let (projects, next) =
        page.cut(state.projects().await, |view: &ProjectView| view.project.id.clone(), fits)?;
    Ok(ok(&Projects { projects: projects.into_iter().map(Project::from).collect(), next }))
}

pub(crate) async fn read(state: &DesiredState, id: &str) -> Result<Response<Bytes>, Failure> {
    Ok(answer(state.project(id).await?))
}

pub(crate) async fn patch(
    state: &DesiredState,
    id: &str,
    headers: &HeaderMap,
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
        plan: body.plan,
        expected: expected_tag(headers)?,
    };
    match state.patch_project(id, patch, author).await {
        Ok(view) => Ok(answer(view)),
        Err(error @ ChangeError::Stale(_)) => {
            let current = state.project(id).await.ok();
            let current = current.and_then(|view| serde_json::to_value(Project::from(view)).ok());
            Err(Failure::from(error).with_current(current))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn create_key(
    state: &DesiredState,
    project_id: &str,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: KeyBody = read_body(body, "send {\"name\": …} or {}")?;
    let new = NewKey { name: body.name, expires_at: body.expires_at };
    Ok(ok(&MadeKey::from(state.create_key(project_id, new, author).await?)))
}

pub(crate) async fn rotate_key(
    state: &DesiredState,
    (project_id, key_id): (&str, &str),
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: RotateBody = read_optional(body, "send {\"overlap_seconds\": …} or {}")?;
    let rotation = Rotation { overlap_seconds: body.overlap_seconds, expires_at: body.expires_at };
    Ok(ok(&MadeKey::from(state.rotate_key(project_id, key_id, rotation, author).await?)))
}

pub(crate) async fn keys(
    state: &DesiredState,
    project_id: &str,
    query: Option<&str>,
) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["status", "limit", "cursor"])?;
    let status = one_of(&mut query, "status", &["active", "revoked", "expired"])?;
    let page = Page::read(&mut query)?;
    let keys: Vec<Key> = state.keys(project_id).await?.into_iter().map(Key::from).collect();
    let fits = |key: &Key| status.is_none_or(|status| key.status == status);
    let (keys, next) = page.cut(keys, |key: &Key| key.key_id.clone(), fits)?;
    Ok(ok(&Keys { keys, next }))
}

pub(crate) async fn revoke_key(
    state: &DesiredState,
    (project_id, key_id): (&str, &str),
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    Ok(ok(&Key::from(state.revoke_key(project_id, key_id, author).await?)))
}

fn answer(view: ProjectView) -> Response<Bytes> {
    let tag = view.tag.clone();
    tagged(ok(&Project::from(view)), &tag)
}

impl From<registry::desired_state::MadeKey> for MadeKey {
    fn from(made: registry::desired_state::MadeKey) -> Self {
        let KeyView { key_id, name, prefix, created_at, expires_at, .. } = made.view;
        let replaces = made.replaces.map(Key::from);
        Self { key_id, key: made.key, name, prefix, created_at, expires_at, replaces }
    }
}

impl From<ProjectView> for Project {
    fn from(view: ProjectView) -> Self {
        let ProjectView { project, file, created_at, updated_at, tag: _ } = view;
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
            plan: project.plan,
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
            last_used_at: view.last_used_at,
        }
    }
}
