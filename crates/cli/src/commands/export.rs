//! `export`: the destinations of a configuration, how they are doing, and sending again. A gateway that runs is asked;
//! without one, the store is.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use audit::delivery::{ReplayReport, Selection, SystemClock};
use audit::export::{ExportConfig, Exporter};
use audit::outbox::Cursor;
use policy::Problem;
use registry::desired_state::{ChangeError, ExportChange};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use store::{Filter, Store, StoreError, StoreOptions};

use crate::args::{ConfigArgs, ExportCommand, ReplayArgs};
use crate::client::{Client, NoGateway};
use crate::commands::desired::{either, segment, text};
use crate::config::Config;
use crate::output::Output;

/// Runs a command about destinations.
///
/// # Errors
/// A configuration that does not hold, a destination that is not there, a gateway or store that does not answer.
pub(crate) async fn run(command: ExportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExportCommand::List { config, json } => list(&load(&config)?, json).await,
        ExportCommand::Create { config, from, json } => {
            let body = read_body(&from)?;
            let change = ExportChange::Create(body.clone());
            let asked = (Method::POST, "exports".to_owned(), Some(body));
            let made = changed(&load(&config)?, asked, change).await?;
            done(&made, &format!("destination {} is made", text(&made, "id")), json)
        }
        ExportCommand::Update { config, id, from, json } => {
            let patch = read_body(&from)?;
            let change = ExportChange::Patch { id: id.clone(), patch: patch.clone(), expected: None };
            let asked = (Method::PATCH, format!("exports/{}", segment(&id)), Some(patch));
            let made = changed(&load(&config)?, asked, change).await?;
            done(&made, &format!("destination {id} is changed"), json)
        }
        ExportCommand::Delete { config, id, confirm, json } => {
            let config = load(&config)?;
            let pending = match from_gateway(&config).await? {
                // It decides for itself.
                Some(_) => 0,
                None => pending_in_store(&config, &id).await?,
            };
            if pending > 0 && !confirm {
                bail!(
                    "destination `{id}` has {pending} events still to deliver, which it would never get: \
                    start the gateway and wait, or confirm with --confirm"
                );
            }
            let change = ExportChange::Remove { id: id.clone(), expected: None };
            let path = format!("exports/{}?confirm={confirm}", segment(&id));
            let deleted = changed(&config, (Method::DELETE, path, None), change).await?;
            done(&deleted, &format!("destination {id} is deleted"), json)
        }
        ExportCommand::Test { config, id, json } => test(&load(&config)?, id.as_deref(), json).await,
        ExportCommand::Status { config, id, json } => status(&load(&config)?, id.as_deref(), json).await,
        ExportCommand::Replay(args) => replay(&args).await,
    }
}

fn load(args: &ConfigArgs) -> anyhow::Result<Config> {
    Ok(Config::load(&args.config)?)
}

/// What was sent, as a document of YAML or JSON.
fn read_body(from: &Path) -> anyhow::Result<Value> {
    let text = if from == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("stdin cannot be read")?
    } else {
        std::fs::read_to_string(from).with_context(|| format!("`{}` cannot be read", from.display()))?
    };
    let documents = crate::config::text::parse(&text).map_err(|error| {
        anyhow::anyhow!("`{}`, line {}: {}", from.display(), error.line.unwrap_or(1), error.message)
    })?;
    match <[_; 1]>::try_from(documents) {
        Ok([document]) => Ok(document.value),
        Err(_) => bail!("`{}` must hold one document: a destination", from.display()),
    }
}

/// Asks the gateway for a change, or makes it on the store where none runs.
async fn changed(
    config: &Config,
    (method, path, body): (Method, String, Option<Value>),
    change: ExportChange,
) -> anyhow::Result<Value> {
    either(config, method, &path, body.as_ref(), async |state, author| {
        let prepared = state.prepare_export(change, &author).await?;
        if let Some(export) = prepared.config() {
            Exporter::new(export)
                .map_err(|error| ChangeError::Problems(vec![Problem::new("", error.to_string())]))?;
        }
        let view = prepared.commit().await?;
        Ok(json!({
            "id": view.id, "config": view.config, "secrets": view.secrets,
            "created_at": view.created_at, "updated_at": view.updated_at,
        }))
    })
    .await
}

fn done(value: &Value, line: &str, json: bool) -> anyhow::Result<ExitCode> {
    super::desired::done(value, line, json)?;
    Ok(ExitCode::SUCCESS)
}

/// Events that a destination has still to get, by the store.
async fn pending_in_store(config: &Config, id: &str) -> anyhow::Result<u64> {
    let (path, id) = (config.store.clone(), id.to_owned());
    crate::serve::blocking(move || {
        if !path.exists() {
            return Ok(0);
        }
        let store = Store::open_read_only(&path)?;
        let (head, cursor) = (store.head()?, store.cursor(&id)?);
        Ok(cursor.map_or(0, |cursor| head.saturating_sub(cursor.position)))
    })
    .await
}

/// Every destination: those of the configuration, and those that the management API made.
pub(super) async fn all(config: &Config) -> anyhow::Result<Vec<ExportConfig>> {
    let (path, rules) = (config.store.clone(), config.export_rules.clone());
    let made = crate::serve::blocking(move || {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let stored = Store::open_read_only(&path)?.exports()?;
        Ok(registry::desired_state::build_exports(&stored, &rules)?)
    })
    .await?;
    Ok(config.exports.iter().cloned().chain(made).collect())
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    destination: &'a str,
    endpoint: &'a str,
    source: &'static str,
}

async fn list(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let all = all(config).await?;
    let listed: Vec<Listed<'_>> = all
        .iter()
        .map(|export| Listed {
            id: &export.id,
            destination: export.destination_name(),
            endpoint: export.endpoint(),
            source: if export.egress.is_some() { "api" } else { "file" },
        })
        .collect();
    let mut output = Output::stdout();
    if json {
        output.json(&json!({ "exports": listed }))?;
    } else {
        let row = |one: &Listed<'_>| {
            [one.id, one.destination, one.endpoint, one.source].map(str::to_owned).to_vec()
        };
        let header = ["id", "destination", "endpoint", "source"];
        output.table(&header, &listed.iter().map(row).collect::<Vec<_>>())?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The destinations that are meant: all, or the one.
async fn selected(config: &Config, id: Option<&str>) -> anyhow::Result<Vec<ExportConfig>> {
    let mut found = all(config).await?;
    let ids: Vec<String> = found.iter().map(|export| export.id.clone()).collect();
    found.retain(|export| id.is_none_or(|id| export.id == id));
    match id {
        Some(id) if found.is_empty() => {
            let known = if ids.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there is {}", ids.join(", "))
            };
            bail!("no destination has the id `{id}`; {known}")
        }
        _ => Ok(found),
    }
}

async fn test(config: &Config, id: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    let mut output = Output::stdout();
    let mut all_arrived = true;
    for export in selected(config, id).await? {
        let (line, result) = match audit::export::test(&export, &SystemClock).await {
            Ok(report) => (
                format!(
                    "{}: the event arrived in {} ms; look for {}",
                    export.id, report.round_trip_ms, report.look_for
                ),
                json!({ "id": export.id, "ok": true, "event_id": report.event_id, "look_for": report.look_for,
                    "round_trip_ms": report.round_trip_ms }),
            ),
            Err(error) => {
                all_arrived = false;
                (
                    format!("{}: {error}", export.id),
                    json!({ "id": export.id, "ok": false, "error": error.to_string() }),
                )
            }
        };
        if !json {
            output.line(&line)?;
        }
        results.push(result);
    }
    if json {
        output.json(&json!({ "exports": results }))?;
    } else if results.is_empty() {
        output.line("no destinations are configured: add one under `exports`")?;
    }
    output.flush()?;
    Ok(if all_arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn status(config: &Config, id: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let exports = selected(config, id).await?;
    let wanted: Vec<String> = exports.iter().map(|export| export.id.clone()).collect();
    let (source, mut rows) = match from_gateway(config).await? {
        Some(rows) => ("gateway", rows),
        None => ("store", from_store(config, exports).await?),
    };
    let is_wanted = |id: &str| wanted.iter().any(|wanted| wanted == id);
    rows.retain(|row| row.get("id").and_then(Value::as_str).is_some_and(is_wanted));
    let mut output = Output::stdout();
    if json {
        output.json(&json!({ "source": source, "exports": rows }))?;
    } else {
        let columns = [
            "id",
            "state",
            "accepted",
            "delivered",
            "pending",
            "dead",
            "skipped",
            "lag_seconds",
            "last_error",
        ];
        let cell = |row: &Value, column: &str| match row.get(column) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
        output.table(&columns, &rows)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn from_gateway(config: &Config) -> anyhow::Result<Option<Vec<Value>>> {
    let Ok(client) = Client::new(config, false)? else { return Ok(None) };
    let Ok(mut answer) = client.send_all(Method::GET, "exports", None).await? else { return Ok(None) };
    match answer.get_mut("exports").map(Value::take) {
        Some(Value::Array(rows)) => Ok(Some(rows)),
        _ => bail!("what answers at `{}` is no gateway of this version: check `listen`", config.listen),
    }
}

/// From the persisted cursors. What is not configured any more is left out; what has no cursor yet has nothing.
async fn from_store(config: &Config, exports: Vec<ExportConfig>) -> anyhow::Result<Vec<Value>> {
    let path = config.store.clone();
    crate::serve::blocking(move || {
        let store = Store::open_read_only(&path)?;
        let head = store.head()?;
        let mut rows = Vec::with_capacity(exports.len());
        for export in &exports {
            let cursor = store.cursor(&export.id)?.unwrap_or_else(|| Cursor {
                start: head,
                position: head,
                ..Cursor::default()
            });
            let settled = cursor.position.saturating_sub(cursor.start).saturating_sub(cursor.skipped);
            let oldest = Filter { after_seq: Some(cursor.position), limit: Some(1), ..Filter::default() };
            let lag_seconds = match store.query(&oldest).next().transpose()? {
                Some(event) => age_seconds(&event.text),
                None => 0.0,
            };
            rows.push(json!({
                "id": export.id,
                "destination": export.destination_name(),
                "endpoint": export.endpoint(),
                "state": cursor.state,
                "accepted": head.saturating_sub(cursor.start).saturating_sub(cursor.skipped),
                "delivered": settled.saturating_sub(cursor.dead),
                "pending": head.saturating_sub(cursor.position),
                "dead": cursor.dead,
                "skipped": cursor.skipped,
                "lag_seconds": lag_seconds,
                "last_error": cursor.last_error,
            }));
        }
        Ok(rows)
    })
    .await
}

/// Seconds since the event was made; 0 where it does not say.
fn age_seconds(text: &[u8]) -> f64 {
    #[derive(serde::Deserialize)]
    struct Made {
        created_at: jiff::Timestamp,
    }
    let Ok(made) = serde_json::from_slice::<Made>(text) else { return 0.0 };
    jiff::Timestamp::now().duration_since(made.created_at).as_secs_f64().max(0.0)
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = load(&args.config)?;
    let export =
        selected(&config, Some(&args.id)).await?.into_iter().next().context("no such destination")?;
    let selection = match (args.selection.from, args.selection.to) {
        (Some(from), Some(to)) => Selection::Range { from, to },
        _ => Selection::Dead,
    };
    let report = match replay_by_gateway(&config, &export.id, selection).await? {
        Ok(report) => report,
        Err(why) => serde_json::to_value(replay_from_store(&config, &export, selection, &why).await?)?,
    };
    let mut output = Output::stdout();
    let count = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
    let rejected = report.get("rejected").and_then(Value::as_array).map_or(0, Vec::len);
    let stopped = report.get("stopped").and_then(Value::as_str);
    if args.json {
        output.json(&report)?;
    } else {
        let (delivered, resolved) = (count("delivered"), count("resolved"));
        output.line(&format!(
            "{}: {delivered} delivered, {resolved} of them dead letters settled, {rejected} rejected",
            export.id
        ))?;
        if let Some(stopped) = stopped {
            output.line(&format!("it ended early: {stopped}"))?;
        }
    }
    output.flush()?;
    Ok(if stopped.is_none() && rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The gateway's report, or why there is no gateway to ask.
async fn replay_by_gateway(
    config: &Config,
    id: &str,
    selection: Selection,
) -> anyhow::Result<Result<Value, NoGateway>> {
    let body = match selection {
        Selection::Dead => json!({ "dead": true }),
        Selection::Range { from, to } => json!({ "from": from, "to": to }),
    };
    match Client::new(config, true)? {
        Ok(client) => client.ask(&format!("exports/{id}/replay"), Some(&body)).await,
        Err(why) => Ok(Err(why)),
    }
}

async fn replay_from_store(
    config: &Config,
    export: &ExportConfig,
    selection: Selection,
    why: &NoGateway,
) -> anyhow::Result<ReplayReport> {
    let path = config.store.clone();
    let opened = crate::serve::blocking(move || {
        // Opening for writing would create it.
        drop(Store::open_read_only(&path)?);
        match Store::open(&path, StoreOptions::default()) {
            Ok(store) => Ok(Ok(store)),
            Err(error @ StoreError::Locked { .. }) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    let store = match (opened, why) {
        (Ok(store), _) => store,
        (Err(error), NoGateway::NoToken) => {
            return Err(error).context(
                "a gateway runs and could be asked, but `admin_tokens` has no token of role `admin` or `editor`",
            );
        }
        (Err(error), NoGateway::NotRunning) => {
            return Err(error)
                .with_context(|| format!("nothing answers at `{}`, yet the store is in use", config.listen));
        }
    };
    let report =
        audit::delivery::replay(Arc::clone(&store) as _, export, selection, Arc::new(SystemClock)).await;
    store.close().await?;
    Ok(report?)
}
