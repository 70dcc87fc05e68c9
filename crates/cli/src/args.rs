//! The command line as it is typed. What the commands do is in `commands` and `serve`.

mod admin;
mod datadog;
mod evidence;
mod moderation;
mod policy;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use admin::{DoctorArgs, ExportCommand, KeyCommand, ProjectCommand, ProjectFields};
pub(crate) use datadog::{ApiArgs, DatadogCommand, PackArgs, ReconcileArgs};
pub(crate) use evidence::{AuditCommand, ConsistencyArgs, KeygenArgs, ProveArgs, VerifyArgs};
pub(crate) use moderation::{EvalArgs, ModerationCommand};
pub(crate) use policy::{DiffArgs, PolicyCommand, ReportArgs, RolloutCommand, SimulateArgs, TestArgs};

/// Policy Gateway: governs LLM traffic by policy-as-code and delivers an audit record of every decision.
#[derive(Debug, Parser)]
#[command(name = "policy-gateway", version, about, max_term_width = 110, propagate_version = true)]
#[command(after_help = "Every command explains itself: policy-gateway COMMAND --help. \
    The exit code is 0 only on success; errors go to stderr.")]
pub(crate) struct Cli {
    /// How the log on stderr is written; RUST_LOG says how much of it (default `info`).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "POLICY_GATEWAY_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: a gateway, a model and a Datadog intake, five calls and the logs that arrive.
    ///
    /// Needs nothing but this binary. DD_API_KEY (and DD_SITE) deliver to the real Datadog, --upstream (and
    /// OPENAI_API_KEY) asks a real model, in place of the built-in ones. Serves until interrupted unless --once.
    Quickstart(QuickstartArgs),
    /// Run the gateway.
    ///
    /// Prints `listening on http://ADDR` once it serves. SIGTERM or SIGINT lets requests in flight finish, delivers
    /// what it can and ends; a second signal ends at once. SIGHUP reads the configuration, policies and secrets
    /// again, all or nothing.
    Serve(ServeArgs),
    /// Check a configuration and everything it names, and report all problems.
    Check(CheckArgs),
    /// Look for what keeps a gateway from working, and say what to mend: configuration, store, clock, upstreams,
    /// destinations, tokens, policies.
    Doctor(DoctorArgs),
    /// The configuration file itself.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Policy documents: check, test, try out and compare them.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Scoring texts by moderation category.
    #[command(subcommand)]
    Moderation(ModerationCommand),
    /// Candidates in shadow and canary.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Read, check and copy the audit log; works while a gateway runs.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Destinations that audit events are delivered to.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Keys that applications present: through the gateway where it runs, in the store otherwise.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Projects, the owners of keys: through the gateway where it runs, in the store otherwise.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Print the description of the API (OpenAPI 3.1), as a gateway serves it at /openapi.json.
    Openapi,
    /// Requests that wait for a review: list, read and decide them; while the gateway runs.
    #[command(subcommand)]
    Escalation(EscalationCommand),
    /// What calls used and cost, by day, project, policy, model, user and key; works while a gateway runs.
    Usage(UsageArgs),
    /// Dashboard, monitors, pipeline and metrics at Datadog, and whether all that was delivered is there.
    #[command(subcommand)]
    Datadog(DatadogCommand),
    /// Print the completions of this command line for a shell.
    ///
    /// For bash: policy-gateway completions bash > /etc/bash_completion.d/policy-gateway
    Completions {
        /// The shell.
        #[arg(value_enum, value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Stand-ins for a model and for Datadog, for tests and trials.
    #[command(subcommand)]
    Demo(DemoCommand),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (YAML or JSON).
    #[arg(short, long, value_name = "FILE", env = "POLICY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
}

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// End after the five calls; the exit code is 0 only if every log arrived.
    #[arg(long)]
    pub once: bool,
    /// Base URL of a real OpenAI-compatible API, ending with `/v1`; its key is read from OPENAI_API_KEY.
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Model to ask for. Default: `demo-model`, or `gpt-4o-mini` with --upstream.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Listen here, `HOST:PORT`. Default: 127.0.0.1:8080, or any free port with --once.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Listen here instead of where the configuration says, `HOST:PORT`; port 0 takes any free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands about the configuration file.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON schema of the configuration file; `--policy` that of a policy document.
    Schema {
        /// The schema of policy documents instead.
        #[arg(long)]
        policy: bool,
    },
}

/// Where the audit log is: named by the configuration, or itself.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct StoreArgs {
    /// Configuration file that names the store.
    #[arg(short, long, value_name = "FILE", env = "POLICY_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The store itself: a path, or `sqlite://PATH`. Beats --config.
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only this policy.
    #[arg(long, value_name = "ID")]
    pub(crate) policy_id: Option<String>,
    /// Only this project.
    #[arg(long, value_name = "ID")]
    pub(crate) project_id: Option<String>,
    /// Only this end user.
    #[arg(long, value_name = "USER")]
    pub(crate) policy_user: Option<String>,
    /// Only this decision: allow, rewrite, summary, escalate or refuse.
    #[arg(long, value_name = "DECISION", value_parser = crate::commands::audit::parse_decision)]
    pub(crate) decision: Option<::policy::Decision>,
    /// Only this type: enforcement, simulation, revision, rollback, quota, error, admin, checkpoint, heartbeat, gap.
    #[arg(long, value_name = "TYPE", value_parser = crate::commands::audit::parse_event_type)]
    pub(crate) event_type: Option<audit::event::EventType>,
    /// Only this event.
    #[arg(long, value_name = "UUID")]
    pub(crate) event_id: Option<uuid::Uuid>,
    /// Only events of this request.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Only events from this time on: RFC 3339, or back from now as in 90s, 15m, 1h, 7d.
    #[arg(long, value_name = "TIME", value_parser = crate::commands::audit::parse_time)]
    pub(crate) from: Option<jiff::Timestamp>,
    /// Only events before this time, written as for --from.
    #[arg(long, value_name = "TIME", value_parser = crate::commands::audit::parse_time)]
    pub(crate) to: Option<jiff::Timestamp>,
}

/// Arguments of `audit query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// At most so many events.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Oldest first.
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// Print events as they are stored, one JSON object a line; the default where stdout is not a terminal.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a table even where stdout is not a terminal.
    #[arg(long, conflicts_with = "json")]
    pub(crate) table: bool,
}

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub(crate) struct AuditExportArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Write here instead of to stdout; the file must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `export replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The destination.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is sent again.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct SelectionArgs {
    /// First event of the range, by `seq`.
    #[arg(long, value_name = "SEQ", requires = "to", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// Last event of the range, by `seq`.
    #[arg(long, value_name = "SEQ", requires = "from")]
    pub(crate) to: Option<u64>,
    /// The events that the destination would not take; those that go through now count as delivered.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) dead: bool,
}

/// Commands about reviews.
#[derive(Debug, Subcommand)]
pub(crate) enum EscalationCommand {
    /// List reviews, newest first.
    List(EscalationListArgs),
    /// Show one, with the judged messages where the policy keeps them.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// The review's id.
        #[arg(value_name = "ID")]
        id: uuid::Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the same request pass for the policy's `grant_minutes`.
    Approve(DecideArgs),
    /// Refuse the same request for the policy's `sla_minutes`.
    Deny(DecideArgs),
}

/// Arguments of `escalation list`.
#[derive(Debug, Args)]
pub(crate) struct EscalationListArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Only in this state: open, approved, denied or expired.
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    pub(crate) state: Option<escalation::State>,
    /// Only of this policy.
    #[arg(long, value_name = "ID")]
    pub(crate) policy_id: Option<String>,
    /// Only of this project.
    #[arg(long, value_name = "ID")]
    pub(crate) project_id: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) limit: u64,
    /// Where the page before ended.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `escalation approve` and `escalation deny`.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The review's id.
    #[arg(value_name = "ID")]
    pub(crate) id: uuid::Uuid,
    /// Why; it is kept with the review and in no event.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_state(name: &str) -> Result<escalation::State, String> {
    escalation::State::ALL
        .into_iter()
        .find(|state| state.as_str() == name)
        .ok_or_else(|| "one of open, approved, denied, expired".to_owned())
}

/// Arguments of `usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Only from this day on (UTC): 2026-01-16, an RFC 3339 time in it, or back from now as in 7d. Default: all time.
    #[arg(long, value_name = "DAY", value_parser = crate::commands::usage::parse_from)]
    pub(crate) from: Option<i32>,
    /// Only before this day, written as for --from.
    #[arg(long, value_name = "DAY", value_parser = crate::commands::usage::parse_to)]
    pub(crate) to: Option<i32>,
    /// A row for each of these: any of project, user, key, model, policy, day with commas between them; "" for one row.
    #[arg(long, value_name = "LIST", default_value = "day", value_parser = crate::commands::usage::parse_group_by)]
    pub(crate) group_by: crate::commands::usage::GroupBy,
    /// Only this project.
    #[arg(long, value_name = "ID")]
    pub(crate) project_id: Option<String>,
    /// Only this policy.
    #[arg(long, value_name = "ID")]
    pub(crate) policy_id: Option<String>,
    /// Only this end user.
    #[arg(long, value_name = "USER")]
    pub(crate) policy_user: Option<String>,
    /// Only this model.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Only this key, by its public id.
    #[arg(long, value_name = "KEY_ID")]
    pub(crate) key_id: Option<String>,
    /// Print JSON, as the API answers it.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print CSV.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// Stand-ins, each on its own.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// A model that speaks OpenAI's API and answers without thinking.
    #[command(after_long_help = demo::model::DIRECTIVES_HELP)]
    Model {
        /// Listen here; port 0 takes any free one.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// Names that it answers to; may be given several times, `*` stands for any. Default: `demo-model`.
        #[arg(long = "model", value_name = "NAME")]
        models: Vec<String>,
        /// Take requests with this bearer token only. Default: any, or none.
        #[arg(long, value_name = "KEY", env = "DEMO_MODEL_API_KEY", hide_env_values = true)]
        api_key: Option<String>,
    },
    /// A Datadog Logs intake that checks what it is sent as the real one would.
    #[command(after_long_help = demo::intake::CONTROL_HELP)]
    DatadogIntake {
        /// Listen here; port 0 takes any free one.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// Take logs with this key only; may be given several times. Default: `demo-datadog-key`.
        #[arg(long = "api-key", value_name = "KEY")]
        api_keys: Vec<String>,
        /// Write every log taken to this file, one JSON object a line.
        #[arg(long, value_name = "FILE")]
        journal: Option<PathBuf>,
    },
    /// A Splunk HTTP Event Collector; what was indexed is at `/demo/events`.
    SplunkHec {
        /// Listen here; port 0 takes any free one.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// Take events with this token only.
        #[arg(long, value_name = "TOKEN", default_value = demo::hec::DEFAULT_TOKEN)]
        token: String,
        /// Indexer acknowledgement is off for the token.
        #[arg(long)]
        no_acks: bool,
    },
    /// Elasticsearch's `_bulk` endpoint with data streams; what was taken is at `/demo/documents`.
    Elastic {
        /// Listen here; port 0 takes any free one.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// Take documents with this (encoded) API key only.
        #[arg(long, value_name = "KEY", default_value = demo::bulk::DEFAULT_API_KEY)]
        api_key: String,
    },
    /// Azure's token endpoint and Logs Ingestion API, which check what they are sent as the real ones would.
    #[command(after_long_help = demo::azure::CONTROL_HELP)]
    AzureIngestion {
        /// Listen here; port 0 takes any free one.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// Secret of the one application. Default: `demo-azure-secret`.
        #[arg(long, value_name = "SECRET", env = "DEMO_AZURE_SECRET", hide_env_values = true)]
        client_secret: Option<String>,
        /// Template whose stream says which columns there are (`deploy/azure/template.json`). Default: any.
        #[arg(long, value_name = "FILE")]
        template: Option<PathBuf>,
    },
}
