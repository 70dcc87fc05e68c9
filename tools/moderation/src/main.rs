//! Trains the table of `crates/moderation` and measures it on sources left out. Offline, one thread, seeded: the same
//! data gives the same bytes. How to run it is in README.md beside this.

mod calibrate;
mod compose;
mod data;
mod measure;
mod model;
mod quantise;
mod rng;
mod samples;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use sha2::{Digest, Sha256};

use crate::calibrate::Calibration;
use crate::data::{Corpus, Row};
use crate::model::Settings;

#[derive(Parser)]
#[command(about = "Trains and measures the embedded moderation table")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Leaves groups of sources out in turn, prints how the rest does on them, and writes the thresholds they give.
    Folds {
        #[command(flatten)]
        inputs: Inputs,
        /// Where thresholds and offsets go.
        #[arg(long)]
        calibration: PathBuf,
        /// Only this fold, from 0.
        #[arg(long)]
        only: Option<usize>,
        /// Where to list the texts of held-out benign rows with the highest scores.
        #[arg(long)]
        worst: Option<PathBuf>,
    },
    /// Trains on everything and writes the table and its digest.
    Table {
        #[command(flatten)]
        inputs: Inputs,
        /// What `folds` wrote.
        #[arg(long)]
        calibration: PathBuf,
        /// The folder of `table.bin` and `table.sha256`.
        #[arg(long)]
        out: PathBuf,
        /// The name of the table.
        #[arg(long)]
        version: String,
    },
}

#[derive(Args)]
struct Inputs {
    /// The folder with `moderation/` and `prompt_injection/`.
    #[arg(long)]
    data: PathBuf,
    /// What `python3 -m templates` wrote.
    #[arg(long)]
    templates: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

impl Inputs {
    fn corpus(&self) -> Result<Corpus> {
        Corpus::load(&self.data, &self.templates, &self.settings)
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Folds { inputs, calibration, only, worst } => {
            let corpus = inputs.corpus()?;
            let found = measure::folds(&corpus, &inputs.settings, only, worst.as_deref())?;
            std::fs::write(&calibration, serde_json::to_string_pretty(&found)?)
                .with_context(|| format!("write {}", calibration.display()))
        }
        Command::Table { inputs, calibration, out, version } => {
            let text = std::fs::read_to_string(&calibration)
                .with_context(|| format!("read {}: run `folds` first", calibration.display()))?;
            let calibration: Calibration = serde_json::from_str(&text)?;
            let corpus = inputs.corpus()?;
            let rows: Vec<&Row> = corpus.rows.iter().collect();
            let bytes = measure::train(&rows, &inputs.settings, &version, Some(&calibration))?;
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            std::fs::write(out.join("table.bin"), bytes)?;
            std::fs::write(out.join("table.sha256"), format!("{digest}\n"))?;
            eprintln!("table {version}: {digest}");
            Ok(())
        }
    }
}
