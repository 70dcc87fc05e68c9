//! Turns rows into features by segment, with a dictionary in place of 64-bit hashes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use moderation::{Grams, LANES, SEGMENT_WORDS, for_each_word};

use crate::data::Row;

/// Feature hashes are mixed already.
#[derive(Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed");
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub type FeatureMap<V> = HashMap<u64, V, BuildHasherDefault<Same>>;

/// The features that are kept, each with a number.
pub struct Dictionary {
    pub numbers: FeatureMap<u32>,
    pub features: Vec<u64>,
    /// In how many rows each stands.
    pub rows: Vec<u32>,
}

impl Dictionary {
    /// Features that stand in at least `rows_min` of the texts.
    pub fn of(texts: &[&str], rows_min: u32) -> Self {
        let mut counts: FeatureMap<(u32, u32)> = FeatureMap::default();
        for (row, text) in texts.iter().enumerate() {
            each_feature(text, |_, feature| {
                let (count, last) = counts.entry(feature).or_insert((0, u32::MAX));
                if *last != row as u32 {
                    *last = row as u32;
                    *count += 1;
                }
            });
        }
        let mut kept: Vec<(u64, u32)> = counts
            .into_iter()
            .filter(|(_, (count, _))| *count >= rows_min)
            .map(|(f, (count, _))| (f, count))
            .collect();
        kept.sort_unstable();
        Self::from_kept(kept)
    }

    /// Only these features of it, by number.
    pub fn only(&self, numbers: &[u32]) -> Self {
        Self::from_kept(
            numbers.iter().map(|n| (self.features[*n as usize], self.rows[*n as usize])).collect(),
        )
    }

    fn from_kept(kept: Vec<(u64, u32)>) -> Self {
        let numbers =
            kept.iter().enumerate().map(|(number, (feature, _))| (*feature, number as u32)).collect();
        Self {
            numbers,
            features: kept.iter().map(|k| k.0).collect(),
            rows: kept.iter().map(|k| k.1).collect(),
        }
    }
}

/// One segment: how many features it has, and those that the dictionary knows.
#[derive(Clone, Default)]
pub struct Segment {
    pub all: u32,
    pub known: Vec<u32>,
}

pub struct Sample {
    pub segments: Vec<Segment>,
    pub labels: [f32; LANES],
    pub weights: [f32; LANES],
}

impl Sample {
    pub fn of(row: &Row, dictionary: &Dictionary) -> Self {
        let mut segments: Vec<Segment> = Vec::new();
        each_feature(&row.text, |segment, feature| {
            if segments.len() <= segment {
                segments.resize_with(segment + 1, Segment::default);
            }
            segments[segment].all += 1;
            if let Some(number) = dictionary.numbers.get(&feature) {
                segments[segment].known.push(*number);
            }
        });
        Self { segments, labels: row.labels, weights: row.weights }
    }
}

/// Every feature with the number of its segment.
fn each_feature(text: &str, mut sink: impl FnMut(usize, u64)) {
    let mut grams = Grams::default();
    let mut words = 0;
    for_each_word(text, |word| {
        grams.word(word, |feature| sink((words / SEGMENT_WORDS) as usize, feature));
        words += 1;
    });
}
