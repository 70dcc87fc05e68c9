//! `key` and `project`: what the management API makes, from the command line. A gateway that runs is asked; without one the
//! store is changed directly, by the same rules and with the same audit events.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use registry::budget::BudgetConfig;
use registry::config::ProjectConfig;
use registry::desired_state::{
    Author, ChangeError, KeyView, MadeKey, NewKey, ProjectPatch, ProjectView, Rotation,
};
use registry::{DesiredState, ProjectStatus, Rollouts};
use reqwest::Method;
use serde_json::{Map, Value, json};
use store::{Store, StoreError};

use crate::args::{KeyCommand, ProjectCommand, ProjectFields};
use crate::client::{Client, NoGateway};
use crate::config::Config;
use crate::output::Output;
use crate::serve::open_store;

/// Who stands in the audit log where no gateway was asked.
const AUTHOR: &str = "command line";

/// Runs a command about keys.
///
/// # Errors
/// A configuration that does not hold, a project or key that is not there, a gateway or store that does not answer.
pub(crate) async fn key(command: KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Create { config, project, name, expires_at, json } => {
            let config = Config::load(&config.config)?;
            let path = format!("projects/{}/keys", segment(&project));
            let body = json!({ "name": name, "expires_at": expires_at });
            let made = either(&config, Method::POST, &path, Some(&body), async |state, author| {
                let made = state.create_key(&project, NewKey { name, expires_at }, &author).await?;
                Ok(made_value(made))
            })
            .await?;
            print_key(&made, json)?;
        }
        KeyCommand::List { config, project, json } => {
            let config = Config::load(&config.config)?;
            let path = format!("projects/{}/keys", segment(&project));
            let keys = either(&config, Method::GET, &path, None, async |state, _| {
                let keys = state.keys(&project).await?;
                Ok(json!({ "keys": keys.iter().map(key_value).collect::<Vec<_>>() }))
            })
            .await?;
            let columns = [
                "key_id",
                "name",
                "prefix",
                "source",
                "created_at",
                "expires_at",
                "revoked_at",
                "last_used_at",
            ];
            print(&keys, "keys", &columns, json)?;
        }
        KeyCommand::Rotate { config, project, key_id, overlap_seconds, expires_at, json } => {
            let config = Config::load(&config.config)?;
            let path = format!("projects/{}/keys/{}/rotate", segment(&project), segment(&key_id));
            let body = json!({ "overlap_seconds": overlap_seconds, "expires_at": expires_at });
            let made = either(&config, Method::POST, &path, Some(&body), async |state, author| {
                let rotation = Rotation { overlap_seconds, expires_at };
                Ok(made_value(state.rotate_key(&project, &key_id, rotation, &author).await?))
            })
            .await?;
            print_key(&made, json)?;
        }
        KeyCommand::Revoke { config, project, key_id, json } => {
            let config = Config::load(&config.config)?;
            let path = format!("projects/{}/keys/{}", segment(&project), segment(&key_id));
            let revoked = either(&config, Method::DELETE, &path, None, async |state, author| {
                Ok(key_value(&state.revoke_key(&project, &key_id, &author).await?))
            })
            .await?;
            done(&revoked, &format!("{key_id} is revoked"), json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command about projects.
///
/// # Errors
/// As [`key`].
pub(crate) async fn project(command: ProjectCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProjectCommand::List { config, json } => {
            let config = Config::load(&config.config)?;
            let projects = either(&config, Method::GET, "projects", None, async |state, _| {
                let projects = state.projects().await;
                Ok(json!({ "projects": projects.iter().map(project_value).collect::<Vec<_>>() }))
            })
            .await?;
            print(&projects, "projects", &["id", "name", "status", "policy_id", "plan", "source"], json)?;
        }
        ProjectCommand::Show { config, id, json } => {
            let config = Config::load(&config.config)?;
            let path = format!("projects/{}", segment(&id));
            let project = either(&config, Method::GET, &path, None, async |state, _| {
                Ok(project_value(&state.project(&id).await?))
            })
            .await?;
            show(&project, json)?;
        }
        ProjectCommand::Create { config, id, fields, json } => {
            let config = Config::load(&config.config)?;
            let ProjectFields { name, description, policy_id, plan } = fields;
            let body = json!({
                "id": id, "name": name, "description": description, "policy_id": policy_id, "plan": plan,
            });
            let made = either(&config, Method::POST, "projects", Some(&body), async |state, author| {
                let wanted = ProjectConfig {
                    id: id.clone(),
                    name,
                    description,
                    status: None,
                    policy_id,
                    keys: Vec::new(),
                    entitlements: None,
                    plan,
                    budget: None,
                };
                Ok(project_value(&state.create_project(&wanted, &author).await?))
            })
            .await?;
            let line = format!("project {} is made", text(&made, "id"));
            done(&made, &line, json)?;
        }
        ProjectCommand::Update { config, id, fields, disable, enable, no_policy, json } => {
            let config = Config::load(&config.config)?;
            let ProjectFields { name, description, policy_id, plan } = fields;
            let status = match (disable, enable) {
                (true, _) => Some(ProjectStatus::Disabled),
                (_, true) => Some(ProjectStatus::Active),
                _ => None,
            };
            let policy_id = if no_policy { Some(None) } else { policy_id.map(Some) };
            let patch = ProjectPatch {
                name,
                description,
                status,
                policy_id,
                plan: plan.map(Some),
                ..ProjectPatch::default()
            };
            let mut body = Map::new();
            let mut give = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    body.insert(name.to_owned(), value);
                }
            };
            give("name", patch.name.clone().map(Value::from));
            give("description", patch.description.clone().map(Value::from));
            give("status", status.map(|status| json!(status)));
            give("policy_id", patch.policy_id.clone().map(Value::from));
            give("plan", patch.plan.clone().map(Value::from));
            let path = format!("projects/{}", segment(&id));
            let body = Value::Object(body);
            let changed = either(&config, Method::PATCH, &path, Some(&body), async |state, author| {
                Ok(project_value(&state.patch_project(&id, patch, &author).await?))
            })
            .await?;
            let line = format!("project {} is changed", text(&changed, "id"));
            done(&changed, &line, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn made_value(made: MadeKey) -> Value {
    let mut value = key_value(&made.view);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("key".to_owned(), made.key.into());
        fields.extend(made.replaces.map(|former| ("replaces".to_owned(), key_value(&former))));
    }
    value
}

/// A key alone on stdout, so that it can be piped to where it belongs.
fn print_key(made: &Value, json: bool) -> anyhow::Result<()> {
    done(made, &text(made, "key"), json)
}

/// Prints what was done: the whole of it as JSON, or one line.
pub(super) fn done(value: &Value, line: &str, json: bool) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    if json {
        output.json(value)?;
    } else {
        output.line(line)?;
    }
    output.flush()?;
    Ok(())
}

fn show(value: &Value, json: bool) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    if json {
        output.json(value)?;
    } else {
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let fields = value.as_object().into_iter().flatten();
        let rows: Vec<Vec<String>> = fields.map(|(name, value)| vec![name.clone(), shown(value)]).collect();
        output.table(&["field", "value"], &rows)?;
    }
    output.flush()?;
    Ok(())
}

/// Asks the gateway, or does it on the store where none runs.
pub(super) async fn either<F>(
    config: &Config,
    method: Method,
    path: &str,
    body: Option<&Value>,
    on_store: impl FnOnce(DesiredState, Author) -> F,
) -> anyhow::Result<Value>
where
    F: Future<Output = Result<Value, ChangeError>>,
{
    let why = match Client::new(config, method != Method::GET)? {
        Ok(client) => match client.send_all(method, path, body).await? {
            Ok(answer) => return Ok(answer),
            Err(why) => why,
        },
        Err(why) => why,
    };
    let store = open(config, &why).await?;
    let opened =
        DesiredState::open(Arc::clone(&store) as _, config.declared(), Arc::new(Rollouts::default()));
    let done = match opened.await {
        Ok(state) => on_store(state, Author::named(AUTHOR)).await,
        Err(error) => Err(error),
    };
    store.close().await?;
    Ok(done?)
}

async fn open(config: &Config, why: &NoGateway) -> anyhow::Result<Arc<Store>> {
    open_store(config).await.map_err(|error| match (error.downcast_ref::<StoreError>(), why) {
        (Some(StoreError::Locked { .. }), NoGateway::NoToken) => error.context(
            "a gateway runs and could be asked, but `admin_tokens` has no token of role `admin` or `editor`",
        ),
        (Some(StoreError::Locked { .. }), NoGateway::NotRunning) => {
            error.context(format!("nothing answers at `{}`, yet the store is in use", config.listen))
        }
        _ => error,
    })
}

fn print(value: &Value, list: &str, columns: &[&str], json: bool) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    if json {
        output.json(value)?;
    } else {
        let entries = value.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let row = |entry: &Value| columns.iter().map(|column| text(entry, column)).collect();
        output.table(columns, &entries.iter().map(row).collect::<Vec<_>>())?;
    }
    output.flush()?;
    Ok(())
}

/// A field's text; `-` where there is none.
pub(super) fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or("-").to_owned()
}

/// An id as a segment of a path: ids may hold `/`.
pub(super) fn segment(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// As the API answers it.
fn key_value(key: &KeyView) -> Value {
    json!({
        "key_id": key.key_id, "name": key.name, "prefix": key.prefix, "source": key.source.as_str(),
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    })
}

/// As the API answers it.
fn project_value(view: &ProjectView) -> Value {
    let project = &view.project;
    json!({
        "id": project.id, "name": project.name, "description": project.description, "status": project.status,
        "policy_id": project.policy_id, "entitlements": project.entitlements, "plan": project.plan,
        "budget": project.budget.map(BudgetConfig::from),
        "source": if view.file.is_some() { "file" } else { "api" },
        "created_at": view.created_at, "updated_at": view.updated_at,
    })
}
