//! `config schema`: the JSON schema of the configuration file, made from the types that read it.

use std::process::ExitCode;

use crate::config::raw::RawConfig;
use crate::output::Output;

/// Prints the schema of the configuration, or of policy documents.
///
/// # Errors
/// Where stdout cannot be written.
pub(crate) fn run(policy: bool) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    if policy {
        output.json(&policy::PolicyDocument::schema())?;
    } else {
        output.json(&schemars::schema_for!(RawConfig))?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
