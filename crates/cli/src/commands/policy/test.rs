//! `policy test`: the cases beside the policies, run. What a case is and when it holds is `judge::cases`' business.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use judge::cases::check;
use judge::cases::report::{CaseResult, Located, Missed, PolicyResult, Report};
use serde::Serialize;

use super::BAD_INPUT;
use super::library::{Cases, Library, Policy};
use crate::args::TestArgs;
use crate::commands::check::Problem;
use crate::config::problem;
use crate::output::{Output, printable};

#[derive(Serialize)]
struct BadInput {
    ok: bool,
    problems: Vec<Problem>,
}

/// Runs the cases and reports.
///
/// # Errors
/// Where the JUnit file, stdout or stderr cannot be written.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut library = Library::read(&args.paths);
    let mut report = Report { min_coverage: args.min_coverage, ..Report::default() };
    let files = std::mem::take(&mut library.cases);
    for cases in &files {
        run_file(&mut library, cases, &mut report);
    }
    if files.is_empty() && library.problems.is_empty() {
        let paths: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
        library.problems.push(problem::Located {
            file: paths.join(", ").into(),
            line: None,
            path: String::new(),
            message: "holds no cases: a file of cases has `cases:` (docs/policy-tests.md)".to_owned(),
        });
    }
    if !library.problems.is_empty() {
        return bad_input(library.problems, args.json);
    }
    report.policies =
        library.policies.iter().filter(|policy| !library.is_superseded(policy)).map(coverage).collect();
    report.conclude();
    if let Some(junit) = &args.junit {
        let name = junit.display();
        std::fs::write(junit, report.junit()).with_context(|| format!("`{name}` cannot be written"))?;
    }
    let mut output = Output::stdout();
    if args.json {
        output.json(&report)?;
    } else {
        for other in &library.others {
            writeln!(io::stderr(), "{}: neither a policy nor cases, left out", other.display())?;
        }
        for line in report.text().lines() {
            output.line(&printable(line))?;
        }
    }
    output.flush()?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bad_input(problems: Vec<problem::Located>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let mut output = Output::stdout();
        output.json(&BadInput { ok: false, problems: problems.into_iter().map(Problem::from).collect() })?;
        output.flush()?;
    } else {
        writeln!(io::stderr(), "{}", problem::ConfigError(problems))?;
    }
    Ok(ExitCode::from(BAD_INPUT))
}

fn run_file(library: &mut Library, cases: &Cases, report: &mut Report) {
    for (at, case) in cases.document.cases.iter().enumerate() {
        let policy = match library.policy_of(cases, at) {
            Ok(policy) => policy,
            Err(problems) => {
                for problem in problems {
                    if !library.problems.contains(&problem) {
                        library.problems.push(problem);
                    }
                }
                continue;
            }
        };
        let Some(policy) = library.policies.get_mut(policy) else { continue };
        let path = format!("cases[{at}]");
        let line = |field: &str| cases.lines.of(&format!("{path}{field}"));
        match check(&policy.revision, case, &mut policy.coverage) {
            Ok(checked) => report.cases.push(CaseResult {
                file: cases.file.display().to_string(),
                line: line(""),
                name: case.name.clone(),
                policy_id: policy.revision.policy_id().to_owned(),
                ok: checked.mismatches.is_empty(),
                because: checked.because,
                mismatches: checked
                    .mismatches
                    .into_iter()
                    .map(|mismatch| Located { line: line(&format!(".expect.{}", mismatch.field)), mismatch })
                    .collect(),
                cuts: checked.cuts,
            }),
            Err(error) => library.problems.push(problem::Located {
                file: cases.file.clone(),
                line: line(""),
                path,
                message: error.to_string(),
            }),
        }
    }
}

/// What the cases reach of a policy.
fn coverage(policy: &Policy) -> PolicyResult {
    let rules = policy.coverage.rules(&policy.revision);
    let reached = rules.iter().filter(|(_, reached)| *reached).count();
    let missed = policy.coverage.missed(&policy.revision);
    PolicyResult {
        policy_id: policy.revision.policy_id().to_owned(),
        file: policy.file.display().to_string(),
        cases: policy.coverage.cases,
        rules: rules.len(),
        reached,
        percent: if rules.is_empty() { 100.0 } else { 100.0 * reached as f64 / rules.len() as f64 },
        missed: missed.into_iter().map(|rule| Missed { line: policy.line(&rule.path), rule }).collect(),
    }
}
