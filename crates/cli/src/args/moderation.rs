//! The command line of everything about moderation.

use std::path::PathBuf;

use ::policy::Source;
use clap::{Args, Subcommand, ValueEnum};

/// Commands about moderation.
#[derive(Debug, Subcommand)]
pub(crate) enum ModerationCommand {
    /// Measure the embedded classifier on texts of your own.
    ///
    /// FILE has one JSON object a line: {"text": "…", "labels": ["hate"]} lists all categories that the text is in;
    /// {"text": "…", "labels": {"hate": true, "sexual": false}} says it of those that are known, and the others are left
    /// out of the count. A label of a child counts for its parent.
    Eval(EvalArgs),
}

/// Arguments of `moderation eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Labelled texts, one JSON object a line; `-` reads stdin.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Measure at the thresholds and in the modes of this policy, and only its categories. Default: all categories at the
    /// classifier's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Where the texts stand: thresholds differ by it.
    #[arg(long, value_enum, default_value_t = Surface::Input)]
    pub(crate) surface: Surface,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Surface {
    /// In a request.
    Input,
    /// In an answer.
    Output,
    /// In what a tool gave.
    Tool,
}

impl From<Surface> for Source {
    fn from(surface: Surface) -> Self {
        match surface {
            Surface::Input => Self::User,
            Surface::Output => Self::Answer,
            Surface::Tool => Self::Tool,
        }
    }
}
