//! The commands about what the management API makes: projects, keys, destinations; and about whether all is well.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgs, ReplayArgs};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key for a project and print it. It is shown this once only.
    Create {
        #[command(flatten)]
        config: ConfigArgs,
        /// The project.
        #[arg(long, value_name = "ID")]
        project: String,
        /// A name for people.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Refused from this time on, RFC 3339. Default: never.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys of a project, without the keys themselves.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// The project.
        #[arg(long, value_name = "ID")]
        project: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key that follows another, and print it. The old one is good for a while still.
    Rotate {
        #[command(flatten)]
        config: ConfigArgs,
        /// The project.
        #[arg(long, value_name = "ID")]
        project: String,
        /// The key's public id, as `key list` shows it.
        #[arg(value_name = "KEY_ID")]
        key_id: String,
        /// Seconds that the old key is good still, up to 31 days.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        overlap_seconds: u64,
        /// The new one is refused from this time on, RFC 3339. Default: it lives as long as the old one was to live.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a key back: the next request with it is refused.
    Revoke {
        #[command(flatten)]
        config: ConfigArgs,
        /// The project.
        #[arg(long, value_name = "ID")]
        project: String,
        /// The key's public id, as `key list` shows it.
        #[arg(value_name = "KEY_ID")]
        key_id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What a project is given.
#[derive(Debug, Default, Args)]
pub(crate) struct ProjectFields {
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A description for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The policy that judges its requests.
    #[arg(long, value_name = "ID")]
    pub(crate) policy_id: Option<String>,
    /// The one of `plans` that its keys are on.
    #[arg(long, value_name = "NAME")]
    pub(crate) plan: Option<String>,
}

/// Commands about projects.
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List the projects of the configuration and those that were made.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a project.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a project.
    Create {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        fields: ProjectFields,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change what is given of a project.
    Update {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        fields: ProjectFields,
        /// Answer its keys 403.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Serve its keys again.
        #[arg(long)]
        enable: bool,
        /// Take its policy away: its requests are refused with 400.
        #[arg(long, conflicts_with = "policy_id")]
        no_policy: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Commands about destinations.
#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// List the destinations of the configuration and those that were made.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a destination.
    ///
    /// A literal secret is kept encrypted with the configuration's `secrets_key`; `$NAME` must be in `egress.env`.
    Create {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its configuration, YAML or JSON, as an entry of `exports` would be; `-` is stdin.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a destination that was made.
    Update {
        #[command(flatten)]
        config: ConfigArgs,
        /// The destination.
        #[arg(value_name = "ID")]
        id: String,
        /// The fields that change, YAML or JSON; null takes one away; `-` is stdin.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a destination that was made.
    Delete {
        #[command(flatten)]
        config: ConfigArgs,
        /// The destination.
        #[arg(value_name = "ID")]
        id: String,
        /// Even with events still to deliver, which it never gets then.
        #[arg(long)]
        confirm: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send one synthetic event to each destination (or to one) and say what came of it.
    Test {
        #[command(flatten)]
        config: ConfigArgs,
        /// Only this destination.
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what was accepted, delivered, is pending and is dead: from the gateway, or from the store where none
    /// answers.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Only this destination.
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send events to a destination again: through the gateway where it runs, from the store otherwise.
    Replay(ReplayArgs),
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Ask nothing outside this machine: no upstream, no destination.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
