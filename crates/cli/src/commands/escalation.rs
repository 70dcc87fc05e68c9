//! `escalation`: the review queue, through the gateway that runs. Decisions need it: only it tells waiting requests.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use crate::args::{ConfigArgs, EscalationCommand, EscalationListArgs};
use crate::client::{Client, NoGateway};
use crate::config::Config;
use crate::output::Output;

/// Runs a command about reviews.
///
/// # Errors
/// A configuration that does not hold, a gateway that does not answer or refuses.
pub(crate) async fn run(command: EscalationCommand) -> anyhow::Result<ExitCode> {
    match command {
        EscalationCommand::List(args) => list(&args).await,
        EscalationCommand::Show { config, id, json } => {
            let ticket = ask(&config, Access::Review, &format!("escalations/{id}"), None).await?;
            print(&ticket, json)
        }
        EscalationCommand::Approve(args) => {
            decide(&args.config, args.id, "approve", &args.reason, args.json).await
        }
        EscalationCommand::Deny(args) => decide(&args.config, args.id, "deny", &args.reason, args.json).await,
    }
}

/// Which token is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    /// One that decides, and that content is shown to; another where there is none.
    Review,
    /// One that decides.
    Decide,
}

async fn ask(config: &ConfigArgs, access: Access, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    use control::config::Role;
    let config = Config::load(&config.config)?;
    let reviews = |role: Role| matches!(role, Role::Admin | Role::Reviewer);
    let client = match Client::with(&config, |role| access == Access::Read || reviews(role))? {
        Err(NoGateway::NoToken) if access == Access::Review => Client::with(&config, |_| true)?,
        client => client,
    };
    let no_gateway = match client {
        Ok(client) => match client.ask(path, body).await? {
            Ok(answer) => return Ok(answer),
            Err(why) => why,
        },
        Err(why) => why,
    };
    match no_gateway {
        NoGateway::NotRunning => {
            bail!(
                "nothing answers at `{}`: reviews are read and decided while the gateway runs",
                config.listen
            )
        }
        NoGateway::NoToken => {
            bail!("`admin_tokens` has no token that may do this: add one of role `admin` or `reviewer`")
        }
    }
}

async fn list(args: &EscalationListArgs) -> anyhow::Result<ExitCode> {
    let mut path = format!("escalations?limit={}", args.limit);
    let filters = [
        ("state", args.state.map(|state| state.as_str().to_owned())),
        ("policy_id", args.policy_id.clone()),
        ("project_id", args.project_id.clone()),
        ("cursor", args.cursor.clone()),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(&value)));
        }
    }
    let page = ask(&args.config, Access::Read, &path, None).await?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&page)?;
    } else {
        let columns =
            ["id", "state", "policy_id", "project_id", "policy_user", "stage", "created_at", "expires_at"];
        let rows: Vec<Vec<String>> = page
            .get("entries")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|row| columns.iter().map(|column| cell(row.get(column))).collect())
            .collect();
        output.table(&columns, &rows)?;
        if let Some(next) = page.get("next").and_then(Value::as_str) {
            output.line(&format!("more with --cursor {next}"))?;
        }
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn decide(
    config: &ConfigArgs,
    id: uuid::Uuid,
    verdict: &str,
    reason: &str,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let body = json!({ "reason": reason });
    let ticket = ask(config, Access::Decide, &format!("escalations/{id}/{verdict}"), Some(&body)).await?;
    print(&ticket, json)
}

fn print(ticket: &Value, json: bool) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    if json {
        output.json(ticket)?;
    } else {
        let rows: Vec<Vec<String>> = ticket
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !is_nothing(value))
            .map(|(name, value)| vec![name.clone(), cell(Some(value))])
            .collect();
        output.table(&["field", "value"], &rows)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// A value for the query of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
