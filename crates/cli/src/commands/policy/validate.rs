//! `policy validate`: whether policy files hold, without a configuration around them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::commands::check::Problem;
use crate::config::policies::{PolicyFile, read_file};
use crate::output::Output;

#[derive(Serialize)]
struct Report {
    ok: bool,
    policies: Vec<Good>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Good {
    file: String,
    line: Option<u64>,
    policy_id: String,
    /// SHA-256 of the document in canonical form: what decides whether a save is a new revision.
    digest: String,
}

/// Checks and reports.
///
/// # Errors
/// Where stdout or stderr cannot be written.
pub(super) fn run(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report { ok: true, policies: Vec::new(), problems: Vec::new() };
    let mut output = Output::stdout();
    for file in files {
        match read_file(file) {
            Ok(policies) => {
                for policy in &policies {
                    let good = good(file, policy);
                    if !json {
                        output.line(&format!("{}: policy `{}` is good", good.file, good.policy_id))?;
                    }
                    report.policies.push(good);
                }
            }
            Err(problems) => {
                report.ok = false;
                for problem in problems {
                    if !json {
                        writeln!(io::stderr(), "{problem}")?;
                    }
                    report.problems.push(problem.into());
                }
            }
        }
    }
    if json {
        output.json(&report)?;
    }
    output.flush()?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn good(file: &Path, policy: &PolicyFile) -> Good {
    Good {
        file: file.display().to_string(),
        line: policy.line,
        policy_id: policy.document.policy_id.clone(),
        digest: audit::event::hex(&policy.document.digest()),
    }
}
