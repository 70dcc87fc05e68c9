//! Logistic heads over shared n-grams, trained by AdaGrad. A sample's logit is that of the classifier: a share of the
//! whole text and the rest of its best window, so training sees the windows that scoring will take.

use clap::Args;
use moderation::LANES;

use crate::rng::Rng;
use crate::samples::Sample;

/// Lanes, filled up to a power of two for the processor's sake.
const WIDE: usize = 16;

/// Where a guess of its own is sure enough to learn from.
const OWN_NO: f32 = 0.03;
const OWN_YES: f32 = 0.95;

#[derive(Args, Clone)]
pub struct Settings {
    /// Passes over the data.
    #[arg(long, default_value_t = 4)]
    pub epochs: usize,
    /// The length of a step.
    #[arg(long, default_value_t = 0.08)]
    pub rate: f32,
    /// How much a weight shrinks at each of its steps.
    #[arg(long, default_value_t = 1e-4)]
    pub decay: f32,
    /// The share of the whole text in a logit.
    #[arg(long, default_value_t = 0.25)]
    pub whole: f32,
    /// In how many rows a feature has to stand.
    #[arg(long, default_value_t = 3)]
    pub rows_min: u32,
    /// Whether an unknown label is taken for 0 where a text has no word that hints at the category.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub hints: bool,
    /// Composed documents with something harmful in them; half as many without.
    #[arg(long, default_value_t = 8000)]
    pub composed: usize,
    /// The share of the parents in a child's logit.
    #[arg(long, default_value_t = 0.3)]
    pub parents: f32,
    /// Whether the sentence families of `templates/` are used, but for injections.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub families: bool,
    /// How much the model's own sure guess of an unknown label counts, after the second pass.
    #[arg(long, default_value_t = 0.15)]
    pub own_weight: f32,
    /// The seed of every shuffle.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
}

pub struct Model {
    pub weights: Vec<[f32; WIDE]>,
    pub bias: [f32; WIDE],
    squares: Vec<[f32; WIDE]>,
    bias_squares: [f32; WIDE],
}

#[derive(Clone)]
struct Seen {
    sums: [f32; WIDE],
    features: f32,
}

impl Model {
    pub fn new(features: usize) -> Self {
        Self {
            weights: vec![[0.0; WIDE]; features],
            bias: [-2.0; WIDE],
            squares: vec![[1e-6; WIDE]; features],
            bias_squares: [1.0; WIDE],
        }
    }

    /// One of some of the features, in that order, to go on with.
    pub fn only(&self, numbers: &[u32]) -> Self {
        Self {
            weights: numbers.iter().map(|n| self.weights[*n as usize]).collect(),
            bias: self.bias,
            squares: numbers.iter().map(|n| self.squares[*n as usize]).collect(),
            bias_squares: self.bias_squares,
        }
    }

    pub fn train(&mut self, samples: &[Sample], epochs: usize, settings: &Settings) {
        let positive = positive_weights(samples);
        let mut rng = Rng::new(settings.seed);
        let mut order: Vec<u32> = (0..samples.len() as u32).collect();
        for epoch in 0..epochs {
            rng.shuffle(&mut order);
            let mut loss = 0.0;
            for at in &order {
                loss += self.step(&samples[*at as usize], &positive, settings, epoch >= 2 || epochs < 3);
            }
            eprintln!("  epoch {epoch}: loss {:.4}", loss / samples.len() as f64);
        }
    }

    /// One sample: its loss, and a step against it.
    fn step(&mut self, sample: &Sample, positive: &[f32; WIDE], settings: &Settings, settled: bool) -> f64 {
        let seen: Vec<Seen> = sample
            .segments
            .iter()
            .map(|segment| {
                let mut sums = [0.0; WIDE];
                for number in &segment.known {
                    for (sum, weight) in sums.iter_mut().zip(&self.weights[*number as usize]) {
                        *sum += weight;
                    }
                }
                Seen { sums, features: segment.all as f32 }
            })
            .collect();
        if seen.is_empty() {
            return 0.0;
        }
        let mut all = Seen { sums: [0.0; WIDE], features: 0.0 };
        let mut best = [f32::NEG_INFINITY; WIDE];
        // even: with the segment before; odd: alone
        let mut best_at = [0_usize; WIDE];
        let mut roots = Vec::with_capacity(2 * seen.len());
        for (at, segment) in seen.iter().enumerate() {
            let nothing = Seen { sums: [0.0; WIDE], features: 0.0 };
            let before = at.checked_sub(1).map_or(&nothing, |before| &seen[before]);
            let pair = moderation::window_root(segment.features + before.features);
            let alone = moderation::window_root(segment.features);
            for lane in 0..LANES {
                let candidates =
                    [(segment.sums[lane] + before.sums[lane]) / pair, segment.sums[lane] / alone];
                for (kind, logit) in candidates.into_iter().enumerate().take(if at == 0 { 1 } else { 2 }) {
                    if logit > best[lane] {
                        best[lane] = logit;
                        best_at[lane] = 2 * at + kind;
                    }
                }
                all.sums[lane] += segment.sums[lane];
            }
            all.features += segment.features;
            roots.extend([pair, alone]);
        }
        let whole_root = moderation::whole_root(all.features);
        let mut loss = 0.0;
        let mut pull = [0.0_f32; WIDE];
        let mut shares = [0.0_f32; WIDE];
        for lane in 0..LANES {
            let whole = all.sums[lane] / whole_root;
            shares[lane] = if (-moderation::WHOLE_REACH..0.0).contains(&(whole - best[lane])) {
                settings.whole
            } else {
                0.0
            };
            let logit = moderation::blend(best[lane], whole, settings.whole) + self.bias[lane];
            let guess = 1.0 / (1.0 + (-logit).exp());
            let mut label = sample.labels[lane];
            let mut trust = sample.weights[lane];
            if label.is_nan() {
                if !settled || (OWN_NO..OWN_YES).contains(&guess) {
                    continue;
                }
                label = guess.round();
                trust *= settings.own_weight;
            }
            let weight = trust * (1.0 + (positive[lane] - 1.0) * label);
            loss -= f64::from(
                weight * (label * guess.max(1e-6).ln() + (1.0 - label) * (1.0 - guess).max(1e-6).ln()),
            );
            pull[lane] = weight * (guess - label);
        }
        if pull.iter().all(|pull| pull.abs() < 0.01) {
            return loss;
        }
        for ((bias, square), pull) in self.bias.iter_mut().zip(&mut self.bias_squares).zip(pull) {
            *square += pull * pull;
            *bias -= settings.rate * pull / square.sqrt();
        }
        for (at, segment) in sample.segments.iter().enumerate() {
            let mut slope = [0.0_f32; WIDE];
            for lane in 0..LANES {
                let window = best_at[lane];
                let inside = window / 2 == at || window == 2 * (at + 1);
                let share = if inside { (1.0 - shares[lane]) / roots[window] } else { 0.0 };
                slope[lane] = pull[lane] * (share + shares[lane] / whole_root);
            }
            for number in &segment.known {
                let number = *number as usize;
                let (weights, squares) = (&mut self.weights[number], &mut self.squares[number]);
                for lane in 0..WIDE {
                    squares[lane] += slope[lane] * slope[lane];
                    weights[lane] -= settings.rate * slope[lane] / (squares[lane] + 1e-4).sqrt()
                        + settings.decay * slope[lane].abs().min(0.1) * weights[lane];
                }
            }
        }
        loss
    }
}

/// What a positive counts beside a negative: rare categories would otherwise learn to stay silent.
fn positive_weights(samples: &[Sample]) -> [f32; WIDE] {
    let mut positive = [1.0; WIDE];
    for (lane, weight) in positive.iter_mut().enumerate().take(LANES) {
        let count = |label: f32| samples.iter().filter(|sample| sample.labels[lane] == label).count() as f32;
        *weight = (count(0.0) / count(1.0).max(1.0)).sqrt().clamp(1.0, 4.0);
    }
    positive
}
