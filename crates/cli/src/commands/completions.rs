//! `completions`: what a shell needs to complete this command line, made from the command line itself.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::Output;

/// Prints the completions for a shell.
///
/// # Errors
/// Where stdout cannot be written.
pub(crate) fn run(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "policy-gateway", &mut text);
    let mut output = Output::stdout();
    output.bytes(text.trim_ascii_end())?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
