//! `demo`: the built-in counterparts, each on its own, until a signal ends them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use demo::azure::{self, Ingestion, IngestionOptions};
use demo::bulk::{Bulk, BulkOptions};
use demo::hec::{Hec, HecOptions};
use demo::intake::{Intake, IntakeOptions};
use demo::model::{Model, ModelOptions};

use crate::args::DemoCommand;
use crate::output::Output;
use crate::serve::signal::Signals;

/// Runs a stand-in.
///
/// # Errors
/// Where it cannot listen.
pub(crate) async fn run(command: DemoCommand) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    match command {
        DemoCommand::Model { listen, models, api_key } => {
            let mut options = ModelOptions { listen, api_key, ..ModelOptions::default() };
            if !models.is_empty() {
                options.models = models;
            }
            let model = Model::start(options).await.with_context(|| cannot_listen(listen))?;
            announce(model.addr())?;
            signals.stop().await;
            model.shutdown().await;
        }
        DemoCommand::DatadogIntake { listen, api_keys, journal } => {
            let mut options = IntakeOptions { listen, journal, ..IntakeOptions::default() };
            if !api_keys.is_empty() {
                options.api_keys = api_keys;
            }
            let intake = Intake::start(options).await.with_context(|| cannot_listen(listen))?;
            announce(intake.addr())?;
            signals.stop().await;
            intake.shutdown().await;
        }
        DemoCommand::SplunkHec { listen, token, no_acks } => {
            let options = HecOptions { listen, token, acks: !no_acks, ..HecOptions::default() };
            let hec = Hec::start(options).await.with_context(|| cannot_listen(listen))?;
            announce(hec.addr())?;
            signals.stop().await;
            hec.shutdown().await;
        }
        DemoCommand::Elastic { listen, api_key } => {
            let bulk =
                Bulk::start(BulkOptions { listen, api_key }).await.with_context(|| cannot_listen(listen))?;
            announce(bulk.addr())?;
            signals.stop().await;
            bulk.shutdown().await;
        }
        DemoCommand::AzureIngestion { listen, client_secret, template } => {
            let mut options = IngestionOptions { listen, ..IngestionOptions::default() };
            if let Some(client_secret) = client_secret {
                options.client_secret = client_secret;
            }
            options.columns = template.as_deref().map(columns).transpose()?;
            let ingestion = Ingestion::start(options).await.with_context(|| cannot_listen(listen))?;
            announce(ingestion.addr())?;
            signals.stop().await;
            ingestion.shutdown().await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn columns(template: &Path) -> anyhow::Result<azure::Columns> {
    let file = template.display();
    let text = std::fs::read_to_string(template).with_context(|| format!("cannot read `{file}`"))?;
    let template = serde_json::from_str(&text).with_context(|| format!("`{file}` is not JSON"))?;
    azure::columns_of_template(&template)
        .with_context(|| format!("`{file}` has no data collection rule with a stream"))
}

fn announce(addr: SocketAddr) -> std::io::Result<()> {
    let mut output = Output::stdout();
    output.line(&format!("listening on http://{addr}"))?;
    output.flush()
}

fn cannot_listen(listen: SocketAddr) -> String {
    format!("cannot listen on {listen}: is something else there? port 0 takes any free one")
}
