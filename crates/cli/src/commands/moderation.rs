//! `moderation eval`: what the embedded classifier makes of labelled texts. Scoring is `judge`'s, the arithmetic is
//! `moderation`'s.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::sync::Arc;

use ::moderation::{Confusion, auprc};
use ::policy::{Category, CategoryMode, PolicyDocument, Revision, Source};
use anyhow::{Context, bail};
use judge::moderation::Embedded;
use serde::{Deserialize, Serialize};

use crate::args::{EvalArgs, ModerationCommand};
use crate::commands::policy;
use crate::output::Output;

/// Longest line: a text of 16 MiB.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Runs one of the commands.
///
/// # Errors
/// A file or a line of it that cannot be read.
pub(super) fn run(command: &ModerationCommand) -> anyhow::Result<ExitCode> {
    let ModerationCommand::Eval(args) = command;
    let revision = match &args.policy {
        Some(file) => policy::revision_of_file(file)?,
        None => of_all()?,
    };
    if revision.document().rules.flagged_categories.is_empty() {
        bail!("the policy lists no `rules.flagged_categories`, so that there is nothing to measure");
    }
    let source = Source::from(args.surface);
    let mut counts = Counts::default();
    read(args, |row| counts.add(&revision, source, &row))?;
    let report = counts.report(&revision, source);
    let mut output = Output::stdout();
    if args.json {
        output.json(&report)?;
    } else {
        print(&report, &mut output)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A policy of every category, as the classifier has them by itself.
fn of_all() -> anyhow::Result<Arc<Revision>> {
    let names = Category::ALL.map(Category::as_str);
    let document = serde_json::json!({"policy_id": "all", "rules": {"flagged_categories": names}});
    let revision = PolicyDocument::parse(&document).and_then(|document| Revision::compile(document, 1));
    match revision {
        Ok(revision) => Ok(Arc::new(revision)),
        Err(problems) => bail!("{problems:?}"),
    }
}

/// A labelled text.
#[derive(Deserialize)]
struct Row {
    text: String,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Labels {
    All(Vec<String>),
    Known(BTreeMap<String, bool>),
}

impl Labels {
    /// # Errors
    /// A name that is no category's.
    fn check(&self) -> Result<(), String> {
        let names: Vec<&String> = match self {
            Self::All(names) => names.iter().collect(),
            Self::Known(known) => known.keys().collect(),
        };
        match names.into_iter().find(|name| Category::parse(name).is_none()) {
            None => Ok(()),
            Some(name) => {
                let known = Category::ALL.map(|category| format!("`{}`", category.as_str())).join(", ");
                Err(format!("`{name}` is no category; there are {known}"))
            }
        }
    }

    /// Whether the text is in a category; none where that is not known.
    fn of(&self, category: Category) -> Option<bool> {
        let covers = |name: &str| {
            let named = Category::parse(name);
            named == Some(category) || named.and_then(Category::parent) == Some(category)
        };
        match self {
            Self::All(names) => Some(names.iter().any(|name| covers(name))),
            Self::Known(known) => match known.iter().any(|(name, is)| *is && covers(name)) {
                true => Some(true),
                false => known.get(category.as_str()).copied(),
            },
        }
    }

    /// Whether nothing is said to be wrong with it.
    fn is_benign(&self) -> bool {
        match self {
            Self::All(names) => names.is_empty(),
            Self::Known(known) => known.values().all(|is| !is),
        }
    }
}

fn read(args: &EvalArgs, mut take: impl FnMut(Row)) -> anyhow::Result<()> {
    let name = args.file.display();
    let mut reader: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).with_context(|| format!("`{name}` cannot be read"))?))
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).with_context(|| format!("`{name}` cannot be read"))?;
        if read == 0 {
            break;
        }
        if read > LINE_BYTES_MAX {
            bail!("{name}:{number}: is longer than {LINE_BYTES_MAX} bytes");
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // The error's own text could quote the line.
        let row: Row = serde_json::from_slice(&line).map_err(|error| {
            let column = error.column();
            anyhow::anyhow!(
                "{name}:{number}:{column}: not a line like {{\"text\": \"…\", \"labels\": [\"hate\"]}}"
            )
        })?;
        if let Err(problem) = row.labels.check() {
            bail!("{name}:{number}: {problem}");
        }
        take(row);
    }
    Ok(())
}

/// What was seen.
#[derive(Default)]
struct Counts {
    rows: u64,
    benign: u64,
    benign_flagged: u64,
    benign_blocked: u64,
    by_category: BTreeMap<Category, Seen>,
}

#[derive(Default)]
struct Seen {
    scored: Vec<(f32, bool)>,
    confusion: Confusion,
}

impl Counts {
    fn add(&mut self, revision: &Revision, source: Source, row: &Row) {
        self.rows += 1;
        let scored = Embedded::score(&row.text, source);
        let (mut flagged, mut blocked) = (false, false);
        for rated in revision.rate(&scored, source, &Embedded) {
            flagged |= rated.fires.is_some();
            blocked |= rated.fires == Some(CategoryMode::Block);
            let Some(positive) = row.labels.of(rated.category) else { continue };
            let seen = self.by_category.entry(rated.category).or_default();
            seen.scored.push((rated.score, positive));
            seen.confusion.add(rated.fires.is_some(), positive);
        }
        if row.labels.is_benign() {
            self.benign += 1;
            self.benign_flagged += u64::from(flagged);
            self.benign_blocked += u64::from(blocked);
        }
    }

    fn report(&self, revision: &Revision, source: Source) -> Report {
        let line = |(category, seen): (&Category, &Seen)| {
            let (threshold, mode) = revision.category_settings(*category, source, &Embedded);
            let confusion = &seen.confusion;
            Line {
                category: category.as_str(),
                threshold: rounded(
                    threshold.unwrap_or_else(|| Embedded::threshold(*category, source)).into(),
                ),
                mode,
                texts: seen.scored.len() as u64,
                positives: confusion.true_positives + confusion.false_negatives,
                auprc: auprc(&seen.scored).map(rounded),
                precision: confusion.precision().map(rounded),
                recall: confusion.recall().map(rounded),
                false_positive_rate: confusion.false_positive_rate().map(rounded),
                flag_rate: confusion.flag_rate().map(rounded),
            }
        };
        Report {
            classifier: Embedded::version(),
            texts: self.rows,
            benign: Benign { texts: self.benign, flagged: self.benign_flagged, blocked: self.benign_blocked },
            categories: self.by_category.iter().map(line).collect(),
        }
    }
}

/// Four digits: more would be noise.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

#[derive(Serialize)]
struct Report {
    classifier: &'static str,
    texts: u64,
    /// Texts that are in no category, as far as labels say.
    benign: Benign,
    categories: Vec<Line>,
}

#[derive(Serialize)]
struct Benign {
    texts: u64,
    /// Some category fires.
    flagged: u64,
    /// Some category fires that blocks.
    blocked: u64,
}

#[derive(Serialize)]
struct Line {
    category: &'static str,
    threshold: f64,
    mode: CategoryMode,
    /// Texts of which it is known.
    texts: u64,
    positives: u64,
    auprc: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    false_positive_rate: Option<f64>,
    flag_rate: Option<f64>,
}

fn print(report: &Report, output: &mut Output) -> io::Result<()> {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
    let rows: Vec<Vec<String>> = report
        .categories
        .iter()
        .map(|line| {
            let mode = if line.mode == CategoryMode::Block { "block" } else { "log" };
            vec![
                line.category.to_owned(),
                line.texts.to_string(),
                line.positives.to_string(),
                share(line.auprc),
                format!("{:.3}", line.threshold),
                mode.to_owned(),
                share(line.precision),
                share(line.recall),
                share(line.false_positive_rate),
                share(line.flag_rate),
            ]
        })
        .collect();
    let header = [
        "category",
        "texts",
        "positives",
        "auprc",
        "threshold",
        "mode",
        "precision",
        "recall",
        "false alarms",
        "flagged",
    ];
    output.table(&header, &rows)?;
    let Benign { texts, flagged, blocked } = report.benign;
    let of = |count: u64| if texts == 0 { 0.0 } else { count as f64 / texts as f64 * 100.0 };
    output.line("")?;
    output.line(&format!(
        "{} texts, scored by the embedded classifier {}; of {texts} without a label {flagged} ({:.1} %) are flagged, \
         {blocked} ({:.1} %) in a category that blocks",
        report.texts,
        report.classifier,
        of(flagged),
        of(blocked),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Labels {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn labels_say_what_is_known() {
        let all = labels(r#"["self-harm/intent"]"#);
        assert_eq!(all.of(Category::SelfHarm), Some(true));
        assert_eq!((all.of(Category::SelfHarmInstructions), all.is_benign()), (Some(false), false));
        let known = labels(r#"{"hate": false, "violence/graphic": true}"#);
        assert_eq!((known.of(Category::Hate), known.of(Category::Sexual)), (Some(false), None));
        assert_eq!(
            (known.of(Category::Violence), known.of(Category::ViolenceGraphic)),
            (Some(true), Some(true))
        );
        assert!(labels("[]").is_benign() && labels(r#"{"hate": false}"#).is_benign());
        assert!(labels(r#"["Hate"]"#).check().unwrap_err().starts_with("`Hate` is no category"));
        assert_eq!(known.check(), Ok(()));
    }
}
