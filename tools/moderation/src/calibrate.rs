//! Offsets that put each category's default threshold at a score of one half, from how held-out benign rows score.

use moderation::{Category, LANES, lane};
use serde::{Deserialize, Serialize};

/// The share of everyday rows that a category may flag: more where asking for harm shows, less where precision is poor.
const fn everyday_share(category: Category) -> f64 {
    match category {
        Category::Illicit => 0.004,
        Category::IllicitViolent => 0.002,
        Category::Sexual => 0.0015,
        Category::SelfHarm | Category::Harassment | Category::PromptInjection | Category::Jailbreak => 0.0012,
        _ => 0.0006,
    }
}

/// The share of look-alikes that one category may flag.
const LOOK_ALIKE_SHARE: f64 = 0.03;
/// The default threshold for requests and answers.
const THRESHOLD: f32 = 0.5;
/// That of `sexual/minors`, whose score is a share of that of `sexual`.
const THRESHOLD_MINORS: f32 = 0.3;
/// That of injections and jailbreaks in a tool's result.
const THRESHOLD_TOOL: f32 = 0.35;

/// Categories that block by default: see the model card for the precision behind it.
const BLOCK: &[Category] = &[
    Category::Sexual,
    Category::SexualMinors,
    Category::SelfHarm,
    Category::SelfHarmInstructions,
    Category::SelfHarmIntent,
    Category::IllicitViolent,
];

#[derive(Serialize, Deserialize)]
pub struct Calibration {
    pub slope: [f32; LANES],
    pub offset: [f32; LANES],
    pub thresholds: [[f32; 3]; 15],
    pub block: [bool; 15],
}

impl Calibration {
    /// Raw logits.
    pub fn none() -> Self {
        Self {
            slope: [1.0; LANES],
            offset: [0.0; LANES],
            thresholds: [[THRESHOLD; 3]; 15],
            block: [false; 15],
        }
    }

    /// From the raw logits of held-out benign rows.
    pub fn of(everyday: &[[f32; LANES]], look_alikes: &[[f32; LANES]]) -> Self {
        let mut calibration = Self::none();
        for category in Category::ALL {
            let thresholds = &mut calibration.thresholds[category.index()];
            match category {
                Category::SexualMinors => *thresholds = [THRESHOLD_MINORS; 3],
                Category::PromptInjection | Category::Jailbreak => thresholds[2] = THRESHOLD_TOOL,
                _ => {}
            }
            calibration.block[category.index()] = BLOCK.contains(&category);
            if let Some(lane) = lane(category) {
                let at = quantile(everyday, lane, everyday_share(category)).max(quantile(
                    look_alikes,
                    lane,
                    LOOK_ALIKE_SHARE,
                ));
                calibration.offset[lane] = -at;
            }
        }
        calibration
    }
}

/// The logit above which a share of the rows is.
fn quantile(rows: &[[f32; LANES]], lane: usize, share: f64) -> f32 {
    let mut logits: Vec<f32> = rows.iter().map(|row| row[lane]).collect();
    logits.sort_by(f32::total_cmp);
    let above = (rows.len() as f64 * share) as usize;
    logits.len().checked_sub(1 + above).map_or(0.0, |at| logits[at])
}
