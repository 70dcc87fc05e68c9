//! How good scores are: average precision, the area under the ROC curve, and what a threshold gives. Pure arithmetic for
//! `moderation eval` and for training, so that both measure alike.

/// Average precision (the area under the precision-recall curve, as a sum of steps; equal scores are one step). None
/// without a positive.
pub fn auprc(scored: &[(f32, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    if positives == 0 {
        return None;
    }
    let (mut found, mut seen, mut area) = (0_usize, 0_usize, 0.0);
    for step in steps(scored).rev() {
        let hits = step.iter().filter(|(_, positive)| *positive).count();
        found += hits;
        seen += step.len();
        area += hits as f64 / positives as f64 * (found as f64 / seen as f64);
    }
    Some(area)
}

/// The chance that a positive scores above a negative, a tie counting half. None without one of each.
pub fn auroc(scored: &[(f32, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let negatives = scored.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut below, mut wins) = (0_usize, 0.0);
    for step in steps(scored) {
        let hits = step.iter().filter(|(_, positive)| *positive).count();
        let misses = step.len() - hits;
        wins += hits as f64 * (below as f64 + misses as f64 / 2.0);
        below += misses;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

/// Runs of equal scores, lowest first.
fn steps(scored: &[(f32, bool)]) -> impl DoubleEndedIterator<Item = Vec<(f32, bool)>> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let runs: Vec<Vec<(f32, bool)>> =
        sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()).map(<[(f32, bool)]>::to_vec).collect();
    runs.into_iter()
}

/// What one threshold makes of labelled scores: a score at or above it is flagged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Flagged and positive.
    pub true_positives: u64,
    /// Flagged and negative.
    pub false_positives: u64,
    /// Not flagged and positive.
    pub false_negatives: u64,
    /// Not flagged and negative.
    pub true_negatives: u64,
}

impl Confusion {
    /// Counts labelled scores by a threshold.
    pub fn at(scored: &[(f32, bool)], threshold: f32) -> Self {
        let mut counts = Self::default();
        for (score, positive) in scored {
            counts.add(*score >= threshold, *positive);
        }
        counts
    }

    /// Counts one.
    pub fn add(&mut self, flagged: bool, positive: bool) {
        *match (flagged, positive) {
            (true, true) => &mut self.true_positives,
            (true, false) => &mut self.false_positives,
            (false, true) => &mut self.false_negatives,
            (false, false) => &mut self.true_negatives,
        } += 1;
    }

    /// The share of what is flagged that is positive; none where nothing is flagged.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of the positives that is flagged; none without a positive.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The share of the negatives that is flagged; none without a negative.
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// The share of everything that is flagged.
    pub fn flag_rate(&self) -> Option<f64> {
        let flagged = self.true_positives + self.false_positives;
        share(flagged, flagged + self.false_negatives + self.true_negatives)
    }

    /// The harmonic mean of precision and recall; none where there is neither a hit nor a miss.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_perfect_order_is_one_and_a_constant_is_the_base_rate() {
        let perfect = [(0.9, true), (0.8, true), (0.1, false), (0.0, false)];
        assert_eq!(auprc(&perfect), Some(1.0));
        assert_eq!(auroc(&perfect), Some(1.0));
        let constant = [(0.5, true), (0.5, false), (0.5, false), (0.5, false)];
        assert_eq!(auprc(&constant), Some(0.25));
        assert_eq!(auroc(&constant), Some(0.5));
        assert_eq!(auprc(&[(0.1, false)]), None);
        assert_eq!(auroc(&[(0.1, true)]), None);
    }

    #[test]
    fn a_known_order_has_its_known_area() {
        // + - + -: precision 1 at the first positive, 2/3 at the second
        let scored = [(0.9, true), (0.8, false), (0.7, true), (0.6, false)];
        assert!((auprc(&scored).unwrap() - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!(auroc(&scored), Some(0.75));
    }

    #[test]
    fn a_threshold_counts_what_reaches_it() {
        let counts =
            Confusion::at(&[(0.5, true), (0.5, false), (0.4, true), (0.1, false), (0.2, false)], 0.5);
        assert_eq!(
            counts,
            Confusion { true_positives: 1, false_positives: 1, false_negatives: 1, true_negatives: 2 }
        );
        assert_eq!((counts.precision(), counts.recall(), counts.f1()), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((counts.false_positive_rate(), counts.flag_rate()), (Some(1.0 / 3.0), Some(0.4)));
        assert_eq!(Confusion::default().precision(), None);
    }

    proptest! {
        #[test]
        fn areas_are_shares_and_do_not_depend_on_the_scale(
            scored in proptest::collection::vec((0_u8..20, any::<bool>()), 0..60),
        ) {
            let small: Vec<(f32, bool)> = scored.iter().map(|(s, p)| (f32::from(*s) / 20.0, *p)).collect();
            let large: Vec<(f32, bool)> = scored.iter().map(|(s, p)| (f32::from(*s) * 3.0, *p)).collect();
            prop_assert_eq!(auprc(&small), auprc(&large));
            prop_assert_eq!(auroc(&small), auroc(&large));
            for area in [auprc(&small), auroc(&small)].into_iter().flatten() {
                prop_assert!((0.0..=1.0 + 1e-9).contains(&area));
            }
        }
    }
}
