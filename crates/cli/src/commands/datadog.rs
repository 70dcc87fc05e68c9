//! `datadog`: what makes the logs useful there (dashboard, monitors, pipeline, metrics), printed or applied, and the
//! comparison of our ledger with what Datadog has.

mod api;
mod apply;
mod ledger;
mod pack;
mod reconcile;

use std::process::ExitCode;

use serde_json::{Value, json};

use self::api::Api;
use self::pack::Part;
use crate::args::{DatadogCommand, PackArgs};
use crate::output::Output;

/// Runs a command about Datadog.
///
/// # Errors
/// Keys that are not there, and whatever Datadog refuses.
pub(crate) async fn run(command: DatadogCommand) -> anyhow::Result<ExitCode> {
    match command {
        DatadogCommand::Dashboard(args) => part(Part::Dashboard, &args).await,
        DatadogCommand::Monitors(args) => part(Part::Monitors, &args).await,
        DatadogCommand::Pipeline(args) => part(Part::Pipeline, &args).await,
        DatadogCommand::Metrics(args) => part(Part::Metrics, &args).await,
        DatadogCommand::Reconcile(args) => reconcile::run(&args).await,
    }
}

async fn part(part: Part, args: &PackArgs) -> anyhow::Result<ExitCode> {
    let objects = part.objects(&args.service)?;
    let mut output = Output::stdout();
    if !args.apply {
        // As it is sent: one object, or a list of those that are sent one by one.
        match objects.as_slice() {
            [one] if part.is_single() => output.json(one)?,
            many => output.json(&many)?,
        }
        output.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = apply::apply(&Api::new(&args.api)?, part, objects).await?;
    if args.json {
        let rows: Vec<Value> = done
            .iter()
            .map(|one| json!({ "name": one.name, "id": one.id, "done": one.done.as_str() }))
            .collect();
        output.json(&json!({ part.name(): rows }))?;
    } else {
        for one in &done {
            output.line(&format!("{} {}: {} ({})", part.kind(), one.done.as_str(), one.name, one.id))?;
        }
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
