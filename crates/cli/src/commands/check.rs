//! `check`: whether a configuration holds, with everything it names.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::args::CheckArgs;
use crate::config::Config;
use crate::config::problem::Located;
use crate::output::Output;

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    file: &'a Path,
    problems: Vec<Problem>,
}

/// A problem as `--json` prints it.
#[derive(Serialize)]
pub(crate) struct Problem {
    file: String,
    line: Option<u64>,
    path: String,
    message: String,
}

impl From<Located> for Problem {
    fn from(located: Located) -> Self {
        let Located { file, line, path, message } = located;
        Self { file: file.display().to_string(), line, path, message }
    }
}

/// Checks and reports.
///
/// # Errors
/// Where stdout or stderr cannot be written.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.config.as_path();
    let loaded = Config::load(file);
    let mut output = Output::stdout();
    match loaded {
        Ok(config) if !args.json => output.line(&summary(&config))?,
        Ok(_) => output.json(&Report { ok: true, file, problems: Vec::new() })?,
        Err(error) => {
            if args.json {
                let problems = error.0.into_iter().map(Problem::from).collect();
                output.json(&Report { ok: false, file, problems })?;
                output.flush()?;
            } else {
                writeln!(io::stderr(), "{error}")?;
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn summary(config: &Config) -> String {
    let count =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    format!(
        "{} is good: {}, {}, {}, {}",
        config.file.display(),
        count(config.desired.upstreams.len(), "upstream", "upstreams"),
        count(config.policies.len(), "policy", "policies"),
        count(config.desired.projects.len(), "project", "projects"),
        count(config.exports.len(), "export", "exports"),
    )
}
