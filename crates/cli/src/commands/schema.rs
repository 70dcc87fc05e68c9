//! `config schema` and `openapi`: what can be read by machines of the configuration file and of the API, made from the
//! types that read them.

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

/// Prints the description of the API.
///
/// # Errors
/// Where stdout cannot be written.
pub(crate) fn openapi() -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    output.line(crate::description::text().trim_end())?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
