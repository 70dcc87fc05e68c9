//! The commands, one file per subject. Each prints its result on stdout and answers the exit code; an error is for
//! `main` to print.

pub(crate) mod audit;
mod check;
mod completions;
mod datadog;
mod demo;
mod desired;
mod doctor;
mod escalation;
mod export;
mod flips;
mod moderation;
mod policy;
mod rollout;
mod schema;
pub(crate) mod usage;

use std::process::ExitCode;

use crate::args::{Command, ConfigCommand};

/// Runs a command to its end.
///
/// # Errors
/// Whatever kept it from its end, in plain words.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Quickstart(args) => crate::quickstart::run(args).await,
        Command::Serve(args) => crate::serve::run(args).await,
        Command::Check(args) => check::run(&args),
        Command::Config(ConfigCommand::Schema { policy }) => schema::run(policy),
        Command::Policy(command) => policy::run(command),
        Command::Moderation(command) => moderation::run(&command),
        Command::Rollout(command) => rollout::run(command),
        Command::Audit(command) => audit::run(command),
        Command::Export(command) => export::run(command).await,
        Command::Key(command) => desired::key(command).await,
        Command::Project(command) => desired::project(command).await,
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Completions { shell } => completions::run(shell),
        Command::Openapi => schema::openapi(),
        Command::Escalation(command) => escalation::run(command).await,
        Command::Usage(args) => usage::run(args).await,
        Command::Datadog(command) => datadog::run(command).await,
        Command::Demo(command) => demo::run(command).await,
    }
}
