//! `usage`: what calls used and cost. A gateway that runs is asked; without one, the store is read.

use std::process::ExitCode;

use anyhow::bail;
use audit::usage::{COLUMNS, Dimension, UsageQuery, csv, date_text};
use serde_json::{Map, Value, json};
use store::Store;

use crate::args::UsageArgs;
use crate::client::Client;
use crate::config::{Config, store_of};
use crate::output::Output;

/// Rows of one question.
const PAGE_ROWS: usize = 10_000;

/// What the query follows.
const ROUTE: &str = "usage?";

/// One row, as the API answers it.
type Row = Map<String, Value>;

/// Prints usage.
///
/// # Errors
/// A configuration that does not hold, a gateway or store that does not answer.
pub(crate) async fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let group_by = args.group_by.0.clone();
    let rows = match from_gateway(&args).await? {
        Some(rows) => rows,
        None => from_store(&args).await?,
    };
    let mut output = Output::stdout();
    if args.json {
        let (from, to) = (args.from.map(date_text), args.to.map(date_text));
        output.json(&json!({ "rows": rows, "from": from, "to": to }))?;
    } else if args.csv {
        output.text(&csv(&group_by, &rows))?;
    } else {
        let columns: Vec<&str> = group_by.iter().map(|one| one.as_str()).chain(COLUMNS).collect();
        let row = |row: &Row| columns.iter().map(|column| cell(row.get(*column))).collect();
        output.table(&columns, &rows.iter().map(row).collect::<Vec<_>>())?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        // Decimal, without an exponent.
        Some(Value::Number(number)) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        Some(other) => other.to_string(),
    }
}

/// All rows that the gateway has; none where there is no gateway to ask.
async fn from_gateway(args: &UsageArgs) -> anyhow::Result<Option<Vec<Row>>> {
    // A store can be read without what serving needs; then there is nobody to ask either.
    let Ok(config) = Config::load(&args.config.config) else { return Ok(None) };
    let Ok(client) = Client::new(&config, false)? else { return Ok(None) };
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let Ok(mut page) = client.ask(&path(args, cursor.as_deref()), None).await? else { return Ok(None) };
        let Some(Value::Array(more)) = page.get_mut("rows").map(Value::take) else {
            bail!("what answers at `{}` is no gateway of this version: check `listen`", config.listen)
        };
        rows.extend(more.into_iter().filter_map(|row| match row {
            Value::Object(row) => Some(row),
            _ => None,
        }));
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(Some(rows));
        }
    }
}

fn path(args: &UsageArgs, cursor: Option<&str>) -> String {
    let group_by: Vec<&str> = args.group_by.0.iter().map(|one| one.as_str()).collect();
    let mut query = form_urlencoded::Serializer::for_suffix(String::from(ROUTE), ROUTE.len());
    query.append_pair("limit", &PAGE_ROWS.to_string()).append_pair("group_by", &group_by.join(","));
    let filters = [
        ("from", args.from.map(date_text)),
        ("to", args.to.map(date_text)),
        ("project_id", args.project_id.clone()),
        ("policy_id", args.policy_id.clone()),
        ("policy_user", args.policy_user.clone()),
        ("model", args.model.clone()),
        ("key_id", args.key_id.clone()),
        ("cursor", cursor.map(str::to_owned)),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    query.finish()
}

async fn from_store(args: &UsageArgs) -> anyhow::Result<Vec<Row>> {
    let path = store_of(&args.config.config)?;
    let query = UsageQuery {
        from_day: args.from,
        to_day: args.to,
        group_by: args.group_by.0.clone(),
        project_id: args.project_id.clone(),
        policy_id: args.policy_id.clone(),
        policy_user: args.policy_user.clone(),
        model: args.model.clone(),
        key_id: args.key_id.clone(),
        after: None,
        limit: usize::MAX,
    };
    crate::serve::blocking(move || {
        let page = Store::open_read_only(&path)?.usage(&query)?;
        Ok(page.to_json(&query.group_by))
    })
    .await
}

/// `--group-by`.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupBy(pub(crate) Vec<Dimension>);

/// Reads `--group-by`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_group_by(text: &str) -> Result<GroupBy, String> {
    Dimension::parse_list(text).map(GroupBy)
}

/// A day that begins a period, also back from now as in `7d`.
///
/// # Errors
/// How to write one.
pub(crate) fn parse_from(text: &str) -> Result<i32, String> {
    audit::usage::parse_from(text).or_else(|error| back(text).ok_or(error))
}

/// A day that ends a period and is not in it, also back from now as in `7d`.
///
/// # Errors
/// How to write one.
pub(crate) fn parse_to(text: &str) -> Result<i32, String> {
    audit::usage::parse_to(text).or_else(|error| back(text).ok_or(error))
}

fn back(text: &str) -> Option<i32> {
    audit::usage::day_at(crate::commands::audit::parse_time(text).ok()?)
}
