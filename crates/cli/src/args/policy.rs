//! The command line of everything about policies: documents, their tests, trials and rollouts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::StoreArgs;

/// Commands about policy documents.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check policy files and report all problems.
    Validate {
        /// Policy files (YAML or JSON); several documents in one file are read.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the cases that live beside policies, and say which rules none of them reaches.
    ///
    /// A case says what is asked and answered and what must come of it; docs/policy-tests.md has the format. Streamed
    /// answers are judged again at every place where they can be cut. Exits with 0 if all cases hold, 1 if one does not
    /// (or coverage is too low), 2 if a file cannot be read.
    Test(TestArgs),
    /// Judge messages by a policy and say why it decides as it does. Without effect: no model is called.
    ///
    /// Without --text or --messages, stdin is read: a JSON list of messages, a request with `messages`, or a text.
    Simulate(SimulateArgs),
    /// Judge a file of requests by two policies and show whose decisions change.
    ///
    /// Exits with 1 if more requests than --fail-over come to a more severe decision, 2 if a file or a line of it cannot
    /// be read.
    Diff(DiffArgs),
}

/// Arguments of `policy test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Folders or files (YAML or JSON) of policies and cases; hidden folders are left out.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Fail where the cases reach less of a policy's terms, categories and overrides than this.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) min_coverage: Option<f64>,
    /// Write the result to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `policy simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A policy file, or with --config the id of a policy.
    #[arg(long, value_name = "FILE|ID")]
    pub(crate) policy: String,
    /// Configuration file whose policies are looked through.
    #[arg(short, long, value_name = "FILE", env = "POLICY_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A JSON file: a list of messages, or a request with `messages`.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub(crate) messages: Option<PathBuf>,
    /// One user message.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// What the model answers.
    #[arg(long, value_name = "TEXT")]
    pub(crate) answer: Option<String>,
    /// Judge the answer as a stream.
    #[arg(long, requires = "answer")]
    pub(crate) stream: bool,
    /// `policy_target` of the call.
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `policy diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The policy as it is: a file of one document.
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,
    /// The policy as it is to be.
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,
    /// Requests, one JSON object a line: a chat completions body, with `policy_user`, `policy_project_id` and
    /// `policy_target` where they are known, and with `answer` (a text or a completion) where one is; `-` is stdin.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) requests: PathBuf,
    /// Fail where a larger share of the requests comes to a more severe decision, as in `1%` or `0.01`.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) fail_over: Option<f64>,
    /// Leave lines out that are no requests, instead of failing.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    #[command(flatten)]
    pub(crate) shown: ShownArgs,
}

/// How flips are shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ShownArgs {
    /// Rows of each table.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top: u16,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a Markdown summary, for a pull request.
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
}

/// Commands about rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show from the audit log what candidates in shadow or canary decide otherwise than the stable policy, and for how
    /// many users.
    Report(ReportArgs),
}

/// Arguments of `rollout report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Only this policy.
    #[arg(long, value_name = "ID")]
    pub(crate) policy: Option<String>,
    /// Only events from this time on: RFC 3339, or back from now as in 90s, 15m, 1h, 7d.
    #[arg(long, value_name = "TIME", value_parser = crate::commands::audit::parse_time)]
    pub(crate) from: Option<jiff::Timestamp>,
    /// Only events before this time, written as for --from.
    #[arg(long, value_name = "TIME", value_parser = crate::commands::audit::parse_time)]
    pub(crate) to: Option<jiff::Timestamp>,
    #[command(flatten)]
    pub(crate) shown: ShownArgs,
}

/// A percentage from 0 to 100, with or without its sign.
fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>();
    percent.ok().filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| "use 0 to 100".to_owned())
}

/// A share: a percentage with its sign, or a number from 0 to 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => parse_percent(percent).ok().map(|percent| percent / 100.0),
        None => text.parse().ok().filter(|share| (0.0..=1.0).contains(share)),
    };
    share.ok_or_else(|| "write a share like 1% or 0.01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_percentages_are_told_apart() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert_eq!(parse_share("0.5"), Ok(0.5));
        assert_eq!(parse_percent("80"), Ok(80.0));
        assert_eq!(parse_percent("80%"), Ok(80.0));
        for bad in ["", "%", "2", "-1%", "101%", "NaN", "x"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
        assert!(parse_percent("101").is_err());
    }
}
