//! Scores a text: sums of weights by segment, logits of overlapping windows and of the whole, one score per category.
//! Sums are integers and what follows uses only IEEE 754 operations that are exactly rounded, so every machine gets
//! the same bits. What is done with a score is not here.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::SEGMENT_WORDS;
use crate::category::{Category, Mode, Surface};
use crate::grams::Grams;
use crate::minors::{Minors, Reference};
use crate::scores::Scores;
use crate::table::{LANES, Lookup, TABLE_BYTES, Table, TableError, lane, lane_category};
use crate::words::for_each_word;

static TABLE: &[u8; TABLE_BYTES] = include_bytes!("../table/table.bin");
const TABLE_SHA256: &str = include_str!("../table/table.sha256");

/// Features of a window of usual words.
const WINDOW_FEATURES: f32 = 400.0;

/// How far below its worst window a whole text may count.
pub const WHOLE_REACH: f32 = 2.5;

/// Features that every window is taken to have besides its own: those of some three words.
const SHORT_FEATURES: f32 = 40.0;

/// A classifier: a table and the arithmetic over it.
#[derive(Clone, Debug)]
pub struct Classifier {
    table: Table,
}

impl Classifier {
    /// The one inside the binary.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Classifier> = OnceLock::new();
        EMBEDDED.get_or_init(|| Self { table: Table::read_unchecked(Cow::Borrowed(TABLE.as_slice())) })
    }

    /// One of a table of one's own.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TableError> {
        Ok(Self { table: Table::read(Cow::Owned(bytes))? })
    }

    /// Whether the embedded table is the one that was released, by its SHA-256. Reads all of it, some milliseconds.
    pub fn verify_embedded() -> Result<(), TableError> {
        let table = Table::read(Cow::Borrowed(TABLE.as_slice()))?;
        match table.digest() == TABLE_SHA256.trim() {
            true => Ok(()),
            false => Err(TableError::Digest),
        }
    }

    /// The scores of a text, in time that grows with its length and constant memory. A text without a word scores 0.
    pub fn score(&self, text: &str) -> Scores {
        let mut reader = Reader::new(&self.table);
        for_each_word(text, |word| reader.word(word));
        reader.finish()
    }

    /// The version of the table, as events and replies name it.
    pub fn version(&self) -> &str {
        &self.table.parts().version
    }

    /// The score from which a category counts as found where a policy does not say.
    pub fn default_threshold(&self, category: Category, surface: Surface) -> f32 {
        let by_surface = self.table.parts().thresholds.get(category.index());
        by_surface.and_then(|thresholds| thresholds.get(surface as usize)).copied().unwrap_or(1.0)
    }

    /// What a category that is found does where a policy does not say.
    pub fn default_mode(&self, category: Category) -> Mode {
        self.table.parts().modes.get(category.index()).copied().unwrap_or(Mode::Log)
    }
}

/// Weights of a stretch of text.
#[derive(Clone, Copy, Default)]
struct Sums {
    lanes: [i32; LANES],
    features: u32,
    words: u32,
    minor: Reference,
}

impl Sums {
    fn with(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.lanes.iter_mut().zip(other.lanes) {
            *mine += theirs;
        }
        self.features += other.features;
        self.words += other.words;
        self.minor = self.minor.max(other.minor);
        self
    }
}

struct Reader<'a> {
    table: &'a Table,
    grams: Grams,
    minors: Minors,
    now: Sums,
    before: Sums,
    /// All closed segments; wide, for texts of any length.
    all: [i64; LANES],
    all_features: u64,
    all_minor: Reference,
    /// The highest logit of a window, by lane.
    best: [f32; LANES],
    best_minor: f32,
}

impl<'a> Reader<'a> {
    fn new(table: &'a Table) -> Self {
        Self {
            table,
            grams: Grams::default(),
            minors: Minors::default(),
            now: Sums::default(),
            before: Sums::default(),
            all: [0; LANES],
            all_features: 0,
            all_minor: Reference::None,
            best: [f32::NEG_INFINITY; LANES],
            best_minor: 0.0,
        }
    }

    fn word(&mut self, word: &[u8]) {
        let now = &mut self.now;
        self.grams.word(word, |feature| {
            now.features += 1;
            self.table.add(feature, &mut now.lanes);
        });
        now.words += 1;
        now.minor = now.minor.max(self.minors.word(word));
        if now.words == SEGMENT_WORDS {
            self.close();
        }
    }

    /// Ends a segment: it is scored alone and as a window with the one before.
    fn close(&mut self) {
        let window = self.before.with(&self.now);
        self.window(&window, window.minor);
        if self.before.words > 0 {
            let alone = self.now;
            self.window(&alone, window.minor);
        }
        for (all, sum) in self.all.iter_mut().zip(self.now.lanes) {
            *all += i64::from(sum);
        }
        self.all_features += u64::from(self.now.features);
        self.all_minor = self.all_minor.max(self.now.minor);
        self.before = self.now;
        self.now = Sums::default();
    }

    fn window(&mut self, sums: &Sums, minor: Reference) {
        let logits = self.logits(&sums.lanes.map(|sum| sum as f32), window_root(sums.features as f32));
        for (best, logit) in self.best.iter_mut().zip(logits) {
            *best = best.max(logit);
        }
        self.best_minor = self.best_minor.max(minor.share() * self.sexual(&logits));
    }

    /// Sums over a root of the number of features, on each lane's scale.
    fn logits(&self, sums: &[f32; LANES], root: f32) -> [f32; LANES] {
        let parts = self.table.parts();
        let mut logits = [0.0; LANES];
        for (((logit, sum), scale), bias) in logits.iter_mut().zip(sums).zip(parts.scale).zip(parts.bias) {
            *logit = sum * scale / root + bias;
        }
        logits
    }

    fn sexual(&self, logits: &[f32; LANES]) -> f32 {
        lane(Category::Sexual).map_or(0.0, |lane| self.squash(logits, lane))
    }

    /// The score of a lane's logit: its share of the parents' added, on the slope, between 0 and 1.
    fn squash(&self, logits: &[f32; LANES], lane: usize) -> f32 {
        let parts = self.table.parts();
        let of = |numbers: &[f32; LANES], index: usize| numbers.get(index).copied().unwrap_or(0.0);
        let mut logit = of(logits, lane);
        let share = of(&parts.parents, lane);
        if share != 0.0 {
            logit = logit * (1.0 - share) + share * parents(lane, logits, logit);
        }
        let logit = logit * of(&parts.slope, lane) + of(&parts.offset, lane);
        0.5 + 0.5 * (logit / (1.0 + logit.abs()))
    }

    fn finish(mut self) -> Scores {
        let mut scores = Scores::default();
        if self.now.words > 0 {
            self.close();
        }
        if self.all_features == 0 {
            return scores;
        }
        let whole = self.logits(&self.all.map(|sum| sum as f32), whole_root(self.all_features as f32));
        let share = self.table.parts().whole;
        let mut logits = [0.0; LANES];
        for ((logit, whole), best) in logits.iter_mut().zip(whole).zip(self.best) {
            *logit = blend(best, whole, share);
        }
        for index in 0..LANES {
            if let Some(category) = lane_category(index) {
                scores.set(category, self.squash(&logits, index));
            }
        }
        let minor = share * self.all_minor.share() * self.sexual(&whole) + (1.0 - share) * self.best_minor;
        scores.set(Category::SexualMinors, minor);
        scores
    }
}

/// The logit of a text: that of its worst window, lowered by a share of how much lower the whole is. Calm around it speaks
/// for a window, but only so much, else harm could hide in length.
pub fn blend(best: f32, whole: f32, share: f32) -> f32 {
    best + share * (whole - best).clamp(-WHOLE_REACH, 0.0)
}

/// What the sums of a window are divided by: the root of its features and some more, so that few words are weak evidence.
pub fn window_root(features: f32) -> f32 {
    (features + SHORT_FEATURES).sqrt()
}

/// What the sums of a whole text are divided by: as a window up to one of usual length, and in proportion beyond, so that
/// a text is no worse, and no better, for being long.
pub fn whole_root(features: f32) -> f32 {
    let usual = features.clamp(1.0, WINDOW_FEATURES);
    features / usual * window_root(usual)
}

/// The lowest logit of the categories that a child implies: a threat of hate is hate and violence.
fn parents(child: usize, logits: &[f32; LANES], own: f32) -> f32 {
    let implied: &[Category] = match lane_category(child) {
        Some(Category::HarassmentThreatening) => &[Category::Harassment, Category::Violence],
        Some(Category::HateThreatening) => &[Category::Hate, Category::Violence],
        Some(Category::IllicitViolent) => &[Category::Illicit],
        Some(Category::SelfHarmInstructions | Category::SelfHarmIntent) => &[Category::SelfHarm],
        Some(Category::ViolenceGraphic) => &[Category::Violence],
        _ => &[],
    };
    let of = |category: &Category| lane(*category).and_then(|lane| logits.get(lane)).copied();
    implied.iter().filter_map(of).fold(f32::INFINITY, f32::min).min(if implied.is_empty() {
        own
    } else {
        f32::INFINITY
    })
}
