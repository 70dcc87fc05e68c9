//! `check`: whether a configuration holds, with everything it names.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use gateway::SERVED;
use judge::coverage::{self, How, Line, Rule, Stage, Surface};
use judge::moderation::Embedded;
use policy::{Category, CategoryMode, Moderator, Revision, Source};
use registry::moderation::Provider;
use serde::Serialize;

use crate::args::CheckArgs;
use crate::config::Config;
use crate::config::policies::PolicyFile;
use crate::config::problem::Located;
use crate::output::Output;

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    file: &'a Path,
    problems: Vec<Problem>,
    /// What each policy reaches; of a configuration that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Vec<Coverage>>,
}

/// One rule of one policy at one stage of one route.
#[derive(Serialize)]
struct Coverage {
    policy_id: String,
    method: &'static str,
    route: &'static str,
    #[serde(flatten)]
    line: Option<Line>,
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
        Ok(config) if !args.json => {
            output.line(&summary(&config))?;
            tables(&config, &mut output)?;
        }
        Ok(config) => {
            let coverage = Some(covered(&config));
            output.json(&Report { ok: true, file, problems: Vec::new(), coverage })?;
        }
        Err(error) => {
            if args.json {
                let problems = error.0.into_iter().map(Problem::from).collect();
                output.json(&Report { ok: false, file, problems, coverage: None })?;
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

/// Every route by every policy; a route through which nothing goes that could be judged has one entry without a line.
fn covered(config: &Config) -> Vec<Coverage> {
    let mut covered = Vec::new();
    for policy in &config.policies {
        for served in SERVED {
            let entry = |line| Coverage {
                policy_id: policy.document.policy_id.clone(),
                method: served.method,
                route: served.path,
                line,
            };
            let lines = coverage::of(&policy.document, served.surface());
            if lines.is_empty() {
                covered.push(entry(None));
            }
            covered.extend(lines.into_iter().map(|line| entry(Some(line))));
        }
    }
    covered
}

/// The same for people: routes that are judged alike stand together, rules that are off are left out.
fn tables(config: &Config, output: &mut Output) -> io::Result<()> {
    let routes = |surface| {
        let paths = SERVED.iter().filter(|served| served.surface() == surface).map(|served| served.path);
        paths.collect::<Vec<_>>().join(", ")
    };
    for policy in &config.policies {
        let lines = coverage::of(&policy.document, Surface::Chat);
        let cell = |stage, rule| {
            let line = lines.iter().find(|line| line.stage == stage && line.rule == rule);
            line.map(told).unwrap_or_default()
        };
        let mut rows = Vec::new();
        for rule in Rule::ALL {
            let of_rule = || lines.iter().filter(|line| line.rule == rule);
            if of_rule().all(|line| line.how == How::Off) {
                continue;
            }
            let reach = of_rule().filter_map(|line| line.reach_characters).max();
            let mut row = vec![rule.as_str().to_owned()];
            row.extend(Stage::ALL.into_iter().map(|stage| cell(stage, rule)));
            row.push(reach.map_or_else(String::new, |characters| format!("{characters} characters")));
            rows.push(row);
        }
        output.line("")?;
        output.line(&format!("policy {} on {}", policy.document.policy_id, routes(Surface::Chat)))?;
        output.table(&["rule", "request", "answer", "stream", "reach"], &rows)?;
        if let Some(categories) = categories(config, policy) {
            output.line(&categories)?;
        }
    }
    output.line("")?;
    output.line(&format!("nothing to judge goes through {}", routes(Surface::NoContent)))
}

/// What each flagged category does, and from which score on; none where there is none.
fn categories(config: &Config, policy: &PolicyFile) -> Option<String> {
    let revision = Revision::compile(policy.document.clone(), 1).ok()?;
    let (by, remote) = match &config.desired.moderation.provider {
        Provider::Remote(remote) => (format!("{} ({})", remote.kind.as_str(), remote.model), true),
        Provider::Embedded | Provider::None => (Embedded.name().to_string(), false),
    };
    let told = |category: &Category| {
        let (own, mode) = revision.category_settings(*category, Source::User, &Embedded);
        let blocks = match policy.document.rules.moderation.mode_of(*category) {
            Some(mode) => mode == CategoryMode::Block,
            None => remote || mode == CategoryMode::Block,
        };
        let does = if blocks { "blocks" } else { "logs" };
        let from = match own {
            Some(threshold) => format!(" from {threshold:.2}"),
            None if remote => String::new(),
            None => format!(" from {:.2}", Embedded::threshold(*category, Source::User)),
        };
        format!("{} {does}{from}", category.as_str())
    };
    let told: Vec<String> = policy.document.rules.flagged_categories.iter().map(told).collect();
    (!told.is_empty()).then(|| format!("categories by {by}: {}", told.join(", ")))
}

fn told(line: &Line) -> String {
    let decisions: Vec<&str> = line.decisions.iter().map(|decision| decision.as_str()).collect();
    if decisions.is_empty() || line.how == How::Counted || line.how == How::Unread {
        return line.how.as_str().to_owned();
    }
    format!("{}: {}", line.how.as_str(), decisions.join("|"))
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
