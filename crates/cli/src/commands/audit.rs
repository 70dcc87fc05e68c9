//! `audit`: the log as evidence. Reads the store beside a gateway that runs, or files of events from anywhere; never
//! writes to either.

mod keygen;
mod prove;
mod sources;
mod verify;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use audit::event::{ChainedEvent, EventType};
use jiff::{SignedDuration, Timestamp};
use policy::Decision;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{Filter, Reader, Store};

use crate::args::{AuditCommand, AuditExportArgs, FilterArgs, QueryArgs, StoreArgs};
use crate::config::{store_of, validate::store_path};
use crate::output::Output;

/// Runs a command about the audit log.
///
/// # Errors
/// A store or file that cannot be read.
pub(crate) fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Query(args) => query(args),
        AuditCommand::Verify(args) => verify::run(&args),
        AuditCommand::Export(args) => export(args),
        AuditCommand::Prove(args) => prove::prove(&args),
        AuditCommand::Consistency(args) => prove::consistency(&args),
        AuditCommand::Keygen(args) => keygen::run(&args),
    }
}

/// A decision by its name.
///
/// # Errors
/// Says which there are.
pub(crate) fn parse_decision(text: &str) -> Result<Decision, String> {
    named(text).ok_or_else(|| "use allow, rewrite, summary, escalate or refuse".to_owned())
}

/// An event type by its name.
///
/// # Errors
/// Says which there are.
pub(crate) fn parse_event_type(text: &str) -> Result<EventType, String> {
    let all =
        "enforcement, simulation, revision, rollback, quota, error, admin, checkpoint, heartbeat or gap";
    named(text).ok_or_else(|| format!("use {all}"))
}

/// A time: RFC 3339, or back from now (`90s`, `15m`, `1h`, `7d`).
///
/// # Errors
/// Says how to write one.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_time_at(text, Timestamp::now())
}

fn parse_time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let hint = || "write it like 2026-01-16T18:22:11Z, or back from now like 90s, 15m, 1h, 7d".to_owned();
    let unit = text.chars().last().ok_or_else(hint)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(hint()),
    };
    let count = text.strip_suffix(unit).and_then(|count| count.parse::<u32>().ok()).ok_or_else(hint)?;
    let back = SignedDuration::from_secs(i64::from(count) * seconds);
    now.checked_sub(back).map_err(|_| "that long ago there was no time to speak of".to_owned())
}

fn named<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(Value::String(text.to_owned())).ok()
}

fn filter(args: FilterArgs) -> Filter {
    Filter {
        policy_id: args.policy_id,
        project_id: args.project_id,
        policy_user: args.policy_user,
        decision: args.decision,
        event_type: args.event_type,
        event_id: args.event_id,
        request_id: args.request_id,
        from_ms: args.from.map(Timestamp::as_millisecond),
        to_ms: args.to.map(Timestamp::as_millisecond),
        ..Filter::default()
    }
}

/// The store, beside a gateway that may run.
///
/// # Errors
/// Where it is named by nothing, or cannot be read.
pub(crate) fn open(config: Option<&Path>, store: Option<&str>) -> anyhow::Result<Reader> {
    let path = match (store, config) {
        (Some(store), _) if store.contains("://") => store_path(store).map_err(anyhow::Error::msg)?,
        (Some(store), _) => PathBuf::from(store),
        (None, Some(config)) => store_of(config)?,
        (None, None) => anyhow::bail!("give --config FILE or --store PATH"),
    };
    Ok(Store::open_read_only(&path)?)
}

fn query(args: QueryArgs) -> anyhow::Result<ExitCode> {
    let StoreArgs { config, store } = &args.store;
    let store = open(config.as_deref(), store.as_deref())?;
    let filter = Filter {
        limit: Some(usize::try_from(args.limit).unwrap_or(usize::MAX)),
        newest_first: !args.oldest_first,
        ..filter(args.filter)
    };
    let events = store.query(&filter);
    let mut output = Output::stdout();
    if args.json || !(args.table || io::stdout().is_terminal()) {
        for event in events {
            output.bytes(&event?.text)?;
        }
    } else {
        let mut rows = Vec::new();
        for event in events {
            rows.push(row(&event?.text)?);
        }
        output.table(&COLUMNS, &rows)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [&str; 11] =
    ["time", "seq", "type", "decision", "reason", "project", "user", "policy", "model", "status", "event id"];

fn row(text: &[u8]) -> anyhow::Result<Vec<String>> {
    let ChainedEvent { event, link } =
        serde_json::from_slice(text).context("the log holds what is no event")?;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let status = event.request.and_then(|request| request.http_status);
    Ok(vec![
        event.created_at,
        link.seq.to_string(),
        event.event_type.as_str().to_owned(),
        or_dash(event.decision.map(|decision| decision.as_str().to_owned())),
        or_dash(event.reason_code),
        or_dash(event.project_id),
        or_dash(event.policy_user),
        or_dash(event.policy_id),
        or_dash(event.model),
        or_dash(status.map(|status| status.to_string())),
        event.event_id.to_string(),
    ])
}

fn export(args: AuditExportArgs) -> anyhow::Result<ExitCode> {
    let StoreArgs { config, store } = &args.store;
    let store = open(config.as_deref(), store.as_deref())?;
    let filter = filter(args.filter);
    let events = store.query(&filter);
    match &args.output {
        None => {
            let mut output = Output::stdout();
            for event in events {
                output.bytes(&event?.text)?;
            }
            output.flush()?;
        }
        Some(path) => {
            let name = path.display();
            let file =
                OpenOptions::new().write(true).create_new(true).open(path).with_context(|| {
                    format!("`{name}` cannot be created: name a file that is not there yet")
                })?;
            let mut writer = BufWriter::new(file);
            for event in events {
                writer.write_all(&event?.text)?;
                writer.write_all(b"\n")?;
            }
            let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all().with_context(|| format!("`{name}` cannot be written"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_back_from_now() {
        let now: Timestamp = "2026-01-16T12:00:00Z".parse().unwrap();
        let parsed = |text: &str| parse_time_at(text, now).map(|time| time.to_string());
        assert_eq!(parsed("90s").unwrap(), "2026-01-16T11:58:30Z");
        assert_eq!(parsed("15m").unwrap(), "2026-01-16T11:45:00Z");
        assert_eq!(parsed("1h").unwrap(), "2026-01-16T11:00:00Z");
        assert_eq!(parsed("7d").unwrap(), "2026-01-09T12:00:00Z");
        assert_eq!(parsed("2026-01-16T13:00:00+02:00").unwrap(), "2026-01-16T11:00:00Z");
        for bad in ["", "h", "1", "1y", "-1h", "1.5h", "yesterday", "2026-01-16", "1ü"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_the_wire() {
        assert_eq!(parse_decision("refuse"), Ok(Decision::Refuse));
        assert!(parse_decision("Refuse").unwrap_err().contains("escalate"));
        assert_eq!(parse_event_type("gap"), Ok(EventType::Gap));
        assert!(parse_event_type("gaps").unwrap_err().contains("heartbeat"));
    }
}
