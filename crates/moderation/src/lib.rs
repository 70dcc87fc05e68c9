//! The embedded moderation classifier: text in, one score per category out, from one table inside the binary. Pure:
//! no file, clock, network or randomness, and the same scores on every machine. Providers, thresholds of a policy and
//! what is done with a score live elsewhere; training lives in `tools/moderation`.
//!
//! ```text
//! text → words (words.rs) → hashed n-grams (grams.rs) → weights (table.rs) → windows, scores (classifier.rs)
//! ```

mod category;
mod classifier;
mod grams;
mod metrics;
mod minors;
mod scores;
mod table;
mod words;

pub use category::{Category, Mode, Surface};
pub use classifier::{Classifier, WHOLE_REACH, blend, whole_root, window_root};
pub use grams::Grams;
pub use metrics::{Confusion, auprc, auroc};
pub use minors::Reference;
pub use scores::Scores;
pub use table::{
    GROUPS, LANES, Lookup, SLOTS, TABLE_BYTES, Table, TableError, TableParts, VERSION_BYTES, lane,
    lane_category,
};
pub use words::for_each_word;

/// Words of one segment; a window is a segment alone or two in a row, so that windows overlap by half.
pub const SEGMENT_WORDS: u32 = 16;
