//! `datadog reconcile`: what the ledger says Datadog took, against what can be found there. Datadog's count of distinct
//! ids is asked for by the hour; where it is short, the ids themselves are, so that each missing event has a name.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, bail};
use audit::export::datadog_logs::DatadogLogs;
use audit::export::{DestinationConfig, ExportConfig};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::ledger::{self, Delivered, HOUR_MS, Hour, Ours, hour_of};
use crate::args::ReconcileArgs;
use crate::config::Config;
use crate::output::Output;

/// Hours that are counted in one request.
const HOURS_AT_ONCE: i64 = 7 * 24;
/// Logs of one page, the most that Datadog gives.
const PAGE: usize = 1000;
/// Missing events that are named; all are counted.
const NAMED_MAX: usize = 100;

/// An hour with what was found of it.
struct Compared {
    start_ms: i64,
    ours: Hour,
    /// Distinct ids at Datadog.
    found: u64,
    /// Of those, the ones that were delivered late.
    late: u64,
    missing: Vec<Delivered>,
}

/// Compares.
///
/// # Errors
/// A store or Datadog that cannot be asked. A gap is no error: the exit code is 1.
pub(super) async fn run(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let (from, to) = (args.from.as_millisecond(), args.to.as_millisecond());
    if from >= to {
        bail!("--from {} is not before --to {}", args.from, args.to);
    }
    let config = Config::load(&args.config.config)?;
    let (export, logs) = destination(&config, args.id.as_deref()).await?;
    let api = Api::new(&args.api)?;
    let (path, of) = (config.store.clone(), export.clone());
    let ours = crate::serve::blocking(move || ledger::count(&path, &of, from, to)).await?;
    let search = search(&logs, &ours);
    let late = late(&api, &search, from, to).await?;
    let counted = counted(&api, &search, from, to).await?;
    let mut compared = Vec::with_capacity(ours.hours.len());
    for (start_ms, hour) in ours.hours {
        let late = late.get(&start_ms);
        let late_count = late.map_or(0, |ids| ids.len() as u64);
        let found = counted.get(&start_ms).copied().unwrap_or_default() + late_count;
        let mut one = Compared { start_ms, ours: hour, found, late: late_count, missing: Vec::new() };
        if found < hour.delivered {
            let (begin, end) = (start_ms.max(from), (start_ms + HOUR_MS).min(to));
            let mut there: BTreeSet<String> = listed(&api, &in_time(&search), begin, end)
                .await?
                .into_iter()
                .map(|log| log.event_id)
                .collect();
            there.extend(late.into_iter().flatten().cloned());
            one.found = there.len() as u64;
            let (path, of) = (config.store.clone(), export.clone());
            let delivered = crate::serve::blocking(move || ledger::delivered(&path, &of, begin, end)).await?;
            one.missing = delivered.into_iter().filter(|event| !there.contains(&event.event_id)).collect();
        }
        compared.push(one);
    }
    let missing: usize = compared.iter().map(|hour| hour.missing.len()).sum();
    show(args, &export.id, &search, &compared, missing)?;
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The one that is meant.
async fn destination(config: &Config, id: Option<&str>) -> anyhow::Result<(ExportConfig, DatadogLogs)> {
    let mut found = Vec::new();
    for export in crate::commands::export::all(config).await? {
        if let DestinationConfig::DatadogLogs(logs) = &export.destination
            && id.is_none_or(|id| export.id == id)
        {
            let logs = logs.clone();
            found.push((export, logs));
        }
    }
    match (found.len(), id) {
        (1, _) => found.pop().context("it is there"),
        (0, Some(id)) => bail!("no destination of kind `datadog_logs` has the id `{id}`"),
        (0, None) => bail!("no destination of kind `datadog_logs` is configured: add one under `exports`"),
        _ => {
            let ids: Vec<&str> = found.iter().map(|(export, _)| export.id.as_str()).collect();
            bail!("there are {} of kind `datadog_logs`: name one of {}", ids.len(), ids.join(", "))
        }
    }
}

/// Finds the logs of this ledger, and no other gateway's.
fn search(logs: &DatadogLogs, ours: &Ours) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut search = format!("service:{} source:{}", quoted(&logs.service), quoted(&logs.ddsource));
    // A store has one chain; with more of them something is wrong that `audit verify` tells.
    if let (Some(chain), 1) = (ours.chains.first(), ours.chains.len()) {
        search.push_str(&format!(" @audit.chain:{}", quoted(chain)));
    }
    search
}

fn in_time(search: &str) -> String {
    format!("{search} -@event.late:true")
}

fn filter(search: &str, from_ms: i64, to_ms: i64) -> Value {
    // Theirs includes the end.
    json!({ "query": search, "from": from_ms.to_string(), "to": (to_ms - 1).to_string(), "indexes": ["*"] })
}

/// Distinct ids by the hour, of what has its own time.
async fn counted(api: &Api, search: &str, from_ms: i64, to_ms: i64) -> anyhow::Result<BTreeMap<i64, u64>> {
    let mut counted = BTreeMap::new();
    let mut begin = from_ms;
    while begin < to_ms {
        let end = to_ms.min(hour_of(begin) + HOURS_AT_ONCE * HOUR_MS);
        let body = json!({
            "compute": [{ "aggregation": "cardinality", "metric": "@event.id", "type": "timeseries", "interval": "1h" }],
            "filter": filter(&in_time(search), begin, end),
        });
        let answer = api.send(Method::POST, "/api/v2/logs/analytics/aggregate", Some(&body)).await?;
        if answer.pointer("/meta/status").and_then(Value::as_str) == Some("timeout") {
            bail!("Datadog gave up counting: ask for a shorter time with --from and --to");
        }
        let points = answer.pointer("/data/buckets/0/computes/c0").and_then(Value::as_array);
        for point in points.map(Vec::as_slice).unwrap_or_default() {
            let time: Option<Timestamp> =
                point.get("time").and_then(Value::as_str).and_then(|time| time.parse().ok());
            let value = point.get("value").and_then(Value::as_f64);
            let (Some(time), Some(value)) = (time, value) else {
                bail!("Datadog's counts have another shape than documented");
            };
            // Never negative, and far below 2^53.
            *counted.entry(hour_of(time.as_millisecond())).or_default() += value.round() as u64;
        }
        begin = end;
    }
    Ok(counted)
}

/// Ids that were delivered late, by the hour of their true time: their logs have the time of sending.
async fn late(
    api: &Api,
    search: &str,
    from_ms: i64,
    to_ms: i64,
) -> anyhow::Result<BTreeMap<i64, BTreeSet<String>>> {
    let mut late: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let now_ms = Timestamp::now().as_millisecond();
    for log in listed(api, &format!("{search} @event.late:true"), from_ms, now_ms.max(to_ms)).await? {
        let time_ms = log.time.map(Timestamp::as_millisecond);
        if let Some(ms) = time_ms.filter(|ms| (from_ms..to_ms).contains(ms)) {
            late.entry(hour_of(ms)).or_default().insert(log.event_id);
        }
    }
    Ok(late)
}

/// A log that is there.
struct Log {
    event_id: String,
    /// `@event.time`.
    time: Option<Timestamp>,
}

/// The logs themselves, page by page.
async fn listed(api: &Api, search: &str, from_ms: i64, to_ms: i64) -> anyhow::Result<Vec<Log>> {
    let mut logs = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut page = json!({ "limit": PAGE });
        if let (Some(cursor), Some(page)) = (&cursor, page.as_object_mut()) {
            page.insert("cursor".to_owned(), json!(cursor));
        }
        let body = json!({ "filter": filter(search, from_ms, to_ms), "sort": "timestamp", "page": page });
        let answer = api.send(Method::POST, "/api/v2/logs/events/search", Some(&body)).await?;
        let found = answer.get("data").and_then(Value::as_array);
        for log in found.context("Datadog's list of logs has another shape than documented")? {
            let event = log.pointer("/attributes/attributes/event");
            let text = |name: &str| event.and_then(|event| event.get(name)).and_then(Value::as_str);
            if let Some(event_id) = text("id") {
                let time = text("time").and_then(|time| time.parse().ok());
                logs.push(Log { event_id: event_id.to_owned(), time });
            }
        }
        let next = answer.pointer("/meta/page/after").and_then(Value::as_str).map(str::to_owned);
        if next.is_none() || next == cursor {
            return Ok(logs);
        }
        cursor = next;
    }
}

fn time_text(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

fn show(
    args: &ReconcileArgs,
    id: &str,
    search: &str,
    compared: &[Compared],
    missing: usize,
) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    let named = |hour: &Compared| -> Vec<Value> {
        let some = hour.missing.iter().take(NAMED_MAX);
        some.map(|event| json!({ "seq": event.seq, "event_id": event.event_id })).collect()
    };
    if args.json {
        let hours: Vec<Value> = compared
            .iter()
            .map(|hour| {
                json!({
                    "hour": time_text(hour.start_ms), "accepted": hour.ours.accepted,
                    "delivered": hour.ours.delivered, "pending": hour.ours.pending, "dead": hour.ours.dead,
                    "found": hour.found, "late": hour.late, "missing": hour.missing.len(),
                    "first_seq": hour.ours.first_seq, "last_seq": hour.ours.last_seq,
                    "missing_events": named(hour),
                })
            })
            .collect();
        output.json(&json!({
            "destination": id, "search": search, "from": args.from.to_string(), "to": args.to.to_string(),
            "missing": missing, "hours": hours,
        }))?;
    } else {
        let header = ["hour", "accepted", "delivered", "pending", "dead", "found", "late", "missing"];
        let row = |hour: &Compared| {
            let counts = [hour.ours.accepted, hour.ours.delivered, hour.ours.pending, hour.ours.dead];
            let counts = counts.into_iter().chain([hour.found, hour.late, hour.missing.len() as u64]);
            std::iter::once(time_text(hour.start_ms)).chain(counts.map(|count| count.to_string())).collect()
        };
        output.table(&header, &compared.iter().map(row).collect::<Vec<_>>())?;
        let all = compared.iter().flat_map(|hour| &hour.missing);
        for event in all.take(NAMED_MAX) {
            output.line(&format!("missing: seq {}, @event.id {}", event.seq, event.event_id))?;
        }
        if missing > 0 {
            output.line(&format!(
                "{missing} events that Datadog took cannot be found there: look for exclusion filters, daily quotas and \
                retention of the index, then send them again with `export replay {id} --from SEQ --to SEQ`"
            ))?;
        } else {
            output.line("nothing is missing")?;
        }
    }
    output.flush()?;
    Ok(())
}
