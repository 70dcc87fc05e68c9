//! One score per category.

use std::ops::Index;

use crate::category::Category;

/// A score per category, each from 0 to 1 and never NaN: higher is more likely, but it is no probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores([f32; 15]);

impl Scores {
    /// The score of a category.
    pub fn get(&self, category: Category) -> f32 {
        self.0.get(category.index()).copied().unwrap_or(0.0)
    }

    /// Sets a score; what is no number becomes 0, what is outside 0 to 1 is clamped.
    pub fn set(&mut self, category: Category, score: f32) {
        if let Some(slot) = self.0.get_mut(category.index()) {
            *slot = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
        }
    }

    /// Raises each score to the other's where that is higher: the scores of a text made of several.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.max(theirs);
        }
    }

    /// Every category with its score, in the order of [`Category::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Category, f32)> + '_ {
        Category::ALL.into_iter().zip(self.0)
    }
}

impl Index<Category> for Scores {
    type Output = f32;

    fn index(&self, category: Category) -> &f32 {
        self.0.get(category.index()).unwrap_or(&0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores() -> impl Strategy<Value = Scores> {
        proptest::array::uniform15(any::<f32>()).prop_map(|raw| {
            let mut scores = Scores::default();
            for (category, score) in Category::ALL.into_iter().zip(raw) {
                scores.set(category, score);
            }
            scores
        })
    }

    proptest! {
        #[test]
        fn scores_stay_in_range_and_merging_only_raises(a in scores(), b in scores()) {
            let mut merged = a;
            merged.merge(&b);
            for category in Category::ALL {
                prop_assert!((0.0..=1.0).contains(&a[category]));
                prop_assert!(merged[category] >= a[category] && merged[category] >= b[category]);
                prop_assert!(merged[category] == a[category] || merged[category] == b[category]);
            }
            let mut other = b;
            other.merge(&a);
            prop_assert_eq!(merged, other);
        }
    }
}
