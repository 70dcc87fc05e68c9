//! `policy`: documents checked, tested, tried out and compared, without a gateway around them.

mod diff;
mod library;
mod simulate;
mod test;
mod validate;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ::policy::{PolicyDocument, Revision};

use crate::args::PolicyCommand;
use crate::config::policies::{PolicyFile, read_file};
use crate::config::problem::{ConfigError, Located};

/// Exit code where a file cannot be read or does not hold what it should.
const BAD_INPUT: u8 = 2;

/// Runs a command about policy documents.
///
/// # Errors
/// What kept it from its end: a file, stdout or stderr.
pub(crate) fn run(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Validate { files, json } => validate::run(&files, json),
        PolicyCommand::Test(args) => test::run(&args),
        PolicyCommand::Simulate(args) => simulate::run(&args),
        PolicyCommand::Diff(args) => diff::run(&args),
    }
}

/// The one document of a file, compiled. Of a stable document and its candidate it is the candidate.
pub(super) fn revision_of_file(file: &Path) -> Result<Arc<Revision>, ConfigError> {
    let policies = read_file(file).map_err(ConfigError)?;
    let id = policies.first().map(|policy| policy.document.policy_id.clone()).unwrap_or_default();
    if let Some(other) = policies.iter().find(|policy| policy.document.policy_id != id) {
        let message = format!(
            "the file holds policy `{id}` and policy `{}`: name a file of one policy",
            other.document.policy_id
        );
        let located =
            Located { file: file.to_owned(), line: other.line, path: "policy_id".to_owned(), message };
        return Err(ConfigError(vec![located]));
    }
    match newest(&policies) {
        Some(policy) => compile(policy.document.clone(), file),
        None => Err(ConfigError(Vec::new())),
    }
}

/// Of several documents of one policy the candidate, that is the one with a rollout; else the last.
fn newest(policies: &[PolicyFile]) -> Option<&PolicyFile> {
    policies.iter().rfind(|policy| is_candidate(&policy.document)).or(policies.last())
}

fn is_candidate(document: &PolicyDocument) -> bool {
    document.rollout.is_on()
}

fn compile(document: PolicyDocument, file: &Path) -> Result<Arc<Revision>, ConfigError> {
    Revision::compile(document, 1).map(Arc::new).map_err(|problems| {
        let located = problems.into_iter().map(|problem| Located {
            file: file.to_owned(),
            line: None,
            path: problem.path,
            message: problem.message,
        });
        ConfigError(located.collect())
    })
}
