//! The command line of `datadog`: what is set up there, and the comparison of counts.

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// Commands about Datadog.
#[derive(Debug, Subcommand)]
pub(crate) enum DatadogCommand {
    /// A dashboard by decision, reason code, policy, project, rollout mode, latency and cost.
    Dashboard(PackArgs),
    /// Monitors on spikes of refusals and escalations, a missing heartbeat, late and dropped logs, gaps, rollbacks.
    Monitors(PackArgs),
    /// A log pipeline that adds Datadog's standard attributes to ours.
    Pipeline(PackArgs),
    /// Metrics made from the logs, which dashboard and monitors read: no facets are needed for those.
    Metrics(PackArgs),
    /// Compare the ledger with Datadog's own counts of distinct event ids, hour by hour, and name what is missing.
    ///
    /// The exit code is 1 where something is missing. Events still to be delivered, dead letters and what filters leave
    /// out are not expected there.
    Reconcile(ReconcileArgs),
}

/// Where Datadog's API is, and the keys to it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiArgs {
    /// Datadog site.
    #[arg(long, value_name = "SITE", env = "DD_SITE", default_value = "datadoghq.com")]
    pub(crate) site: String,
    /// URL of the API in place of the site's, `https://api.SITE`; plain http on this machine only.
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,
}

/// Arguments of what is set up at Datadog.
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// Make it at Datadog, or bring it up to date, with the keys in DD_API_KEY and DD_APP_KEY. Without, print what would
    /// be sent.
    #[arg(long)]
    pub(crate) apply: bool,
    /// The `service` of the destination, by which the logs are found.
    #[arg(long, value_name = "NAME", default_value = "policy-gateway")]
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// Print what was done as JSON; what would be sent is JSON anyway.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `datadog reconcile`.
#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The destination. Default: the only one of kind `datadog_logs`.
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// From this time on: RFC 3339, or back from now as in 24h, 7d.
    #[arg(long, value_name = "TIME", value_parser = crate::commands::audit::parse_time)]
    pub(crate) from: jiff::Timestamp,
    /// Before this time, written as for --from. What is younger may not be searchable there yet.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::commands::audit::parse_time)]
    pub(crate) to: jiff::Timestamp,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
