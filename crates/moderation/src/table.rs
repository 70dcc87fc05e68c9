//! The table of weights, its format and its look-up. All numbers are little endian.
//!
//! ```text
//! offset  bytes  what
//!      0      8  magic "PGMODER1"
//!      8     24  version, ASCII, filled with zero bytes
//!     32      4  f32: share of the whole text in a score, the rest is the best window's
//!     36    112  14 lanes of two f32: scale of the weights, bias
//!    148    180  15 categories of three f32: default thresholds for input, output and tool results
//!    328     15  one byte a category: 1 blocks by default, 0 is recorded only
//!    343      1  zero
//!    344     56  14 lanes of one f32: share of the parents in a child's logit
//!    400    112  14 lanes of two f32: slope and offset of the logit
//!    512     60  65,536 groups: four fingerprints of one byte (0: the slot is empty), then four times 14 weights, i8
//! ```
//!
//! A feature's low 16 bits choose its group and its high 8 bits are its fingerprint (0 counts as 1). A feature that no
//! slot of its group has weighs nothing, so most features that training never saw add no noise.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::category::{Category, Mode, Surface};

/// Categories that are learned: all but `sexual/minors`.
pub const LANES: usize = 14;
/// Groups of the table.
pub const GROUPS: usize = 1 << 16;
/// Slots of a group.
pub const SLOTS: usize = 4;
/// Bytes for the version.
pub const VERSION_BYTES: usize = 24;
/// Bytes of a whole table.
pub const TABLE_BYTES: usize = HEAD_BYTES + GROUPS * GROUP_BYTES;

const HEAD_BYTES: usize = 512;
const GROUP_BYTES: usize = SLOTS + SLOTS * LANES;
const MAGIC: &[u8; 8] = b"PGMODER1";
const CATEGORIES: usize = Category::ALL.len();
const SURFACES: usize = Surface::ALL.len();

/// Why bytes are no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Another length than every table has.
    #[error(
        "the moderation table has {0} bytes, not {TABLE_BYTES}: take it from the release, or train it again"
    )]
    Length(usize),
    /// Another format.
    #[error("the moderation table does not begin as one: take it from the release, or train it again")]
    Magic,
    /// A number in its head is not finite.
    #[error("the moderation table holds a number that is not finite in its head: train it again")]
    NotFinite,
    /// Not the bytes that were released.
    #[error("the moderation table's SHA-256 is not the one beside it: take both from the same release")]
    Digest,
}

/// A category's lane; none for `sexual/minors`.
pub fn lane(category: Category) -> Option<usize> {
    let index = category.index();
    match category {
        Category::SexualMinors => None,
        _ if index > Category::SexualMinors.index() => Some(index - 1),
        _ => Some(index),
    }
}

/// The category of a lane.
pub fn lane_category(index: usize) -> Option<Category> {
    Category::ALL.into_iter().find(|category| lane(*category) == Some(index))
}

/// What a table says besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TableParts {
    /// The name of the table.
    pub version: String,
    /// The share of the whole text in a score, 0 to 1.
    pub whole: f32,
    /// What one step of a weight is worth.
    pub scale: [f32; LANES],
    /// The logit of a text without features.
    pub bias: [f32; LANES],
    /// Default thresholds by category and surface.
    pub thresholds: [[f32; SURFACES]; CATEGORIES],
    /// Default modes by category.
    pub modes: [Mode; CATEGORIES],
    /// The share of the parents in a child's logit.
    pub parents: [f32; LANES],
    /// The slope of the final logit.
    pub slope: [f32; LANES],
    /// The offset of the final logit.
    pub offset: [f32; LANES],
}

impl TableParts {
    /// The bytes of a table with these parts and slots: for each feature its weights, by falling importance. A feature
    /// whose group is full is left out; the second value says of each whether it found room.
    pub fn encode(&self, slots: impl IntoIterator<Item = (u64, [i8; LANES])>) -> (Vec<u8>, Vec<bool>) {
        let mut bytes = Vec::with_capacity(TABLE_BYTES);
        bytes.extend_from_slice(MAGIC);
        let mut version: Vec<u8> = self.version.bytes().take(VERSION_BYTES).collect();
        version.resize(VERSION_BYTES, 0);
        bytes.extend_from_slice(&version);
        let mut put = |number: f32| bytes.extend_from_slice(&number.to_le_bytes());
        put(self.whole);
        for (scale, bias) in self.scale.iter().zip(self.bias) {
            put(*scale);
            put(bias);
        }
        self.thresholds.iter().flatten().for_each(|threshold| put(*threshold));
        bytes.extend(self.modes.iter().map(|mode| u8::from(*mode == Mode::Block)));
        bytes.push(0);
        let mut put = |number: f32| bytes.extend_from_slice(&number.to_le_bytes());
        self.parents.iter().for_each(|parents| put(*parents));
        for (slope, offset) in self.slope.iter().zip(self.offset) {
            put(*slope);
            put(offset);
        }
        bytes.resize(TABLE_BYTES, 0);
        let (groups, _) = bytes.get_mut(HEAD_BYTES..).unwrap_or_default().as_chunks_mut::<GROUP_BYTES>();
        let placed = slots.into_iter().map(|(feature, weights)| place(groups, feature, weights)).collect();
        (bytes, placed)
    }
}

/// Puts a feature into the first empty slot of its group.
fn place(groups: &mut [[u8; GROUP_BYTES]], feature: u64, weights: [i8; LANES]) -> bool {
    let Some(group) = groups.get_mut(group_of(feature)) else { return false };
    let Some((marks, slots)) = group.split_first_chunk_mut::<SLOTS>() else { return false };
    let mark = mark_of(feature);
    for (slot, held) in slots.as_chunks_mut::<LANES>().0.iter_mut().zip(marks) {
        if *held == mark {
            return false;
        }
        if *held == 0 {
            *held = mark;
            *slot = weights.map(|weight| weight as u8);
            return true;
        }
    }
    false
}

const fn group_of(feature: u64) -> usize {
    feature as u16 as usize
}

const fn mark_of(feature: u64) -> u8 {
    let mark = (feature >> 56) as u8;
    if mark == 0 { 1 } else { mark }
}

/// Weights by feature, summed up as integers.
pub trait Lookup {
    /// Adds a feature's weights to the sums; whether it has any.
    fn add(&self, feature: u64, sums: &mut [i32; LANES]) -> bool;
}

/// A table that was read.
#[derive(Clone, Debug)]
pub struct Table {
    bytes: Cow<'static, [u8]>,
    parts: TableParts,
}

impl Table {
    /// Reads a table, all but its digest.
    pub fn read(bytes: Cow<'static, [u8]>) -> Result<Self, TableError> {
        if bytes.len() != TABLE_BYTES {
            return Err(TableError::Length(bytes.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(TableError::Magic);
        }
        let table = Self::read_unchecked(bytes);
        let parts = &table.parts;
        let numbers = [parts.whole].into_iter();
        let lanes = [parts.scale, parts.bias, parts.parents, parts.slope, parts.offset].into_iter().flatten();
        match numbers.chain(lanes).chain(parts.thresholds.into_iter().flatten()).all(f32::is_finite) {
            true => Ok(table),
            false => Err(TableError::NotFinite),
        }
    }

    /// Reads what is known to be a table; a number that is not there is 0.
    pub(crate) fn read_unchecked(bytes: Cow<'static, [u8]>) -> Self {
        let float = |at: usize| {
            let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            f32::from_le_bytes(four.copied().unwrap_or_default())
        };
        let lanes = |from: usize, stride: usize| -> [f32; LANES] {
            std::array::from_fn(|lane| float(from + stride * lane))
        };
        let version = bytes.get(8..8 + VERSION_BYTES).unwrap_or_default();
        let parts = TableParts {
            version: version.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect(),
            whole: float(32),
            scale: lanes(36, 8),
            bias: lanes(40, 8),
            thresholds: std::array::from_fn(|category| {
                std::array::from_fn(|surface| float(148 + 4 * (category * SURFACES + surface)))
            }),
            modes: std::array::from_fn(|category| match bytes.get(328 + category) {
                Some(1) => Mode::Block,
                _ => Mode::Log,
            }),
            parents: lanes(344, 4),
            slope: lanes(400, 8),
            offset: lanes(404, 8),
        };
        Self { bytes, parts }
    }

    /// What the table says besides its weights.
    pub fn parts(&self) -> &TableParts {
        &self.parts
    }

    /// The SHA-256 of all its bytes, in hexadecimal.
    pub fn digest(&self) -> String {
        Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Lookup for Table {
    #[inline]
    fn add(&self, feature: u64, sums: &mut [i32; LANES]) -> bool {
        let at = HEAD_BYTES + group_of(feature) * GROUP_BYTES;
        let Some(group) = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<GROUP_BYTES>()) else {
            return false;
        };
        let Some((marks, slots)) = group.split_first_chunk::<SLOTS>() else { return false };
        let mark = mark_of(feature);
        for (held, slot) in marks.iter().zip(slots.as_chunks::<LANES>().0) {
            if *held == mark {
                for (sum, weight) in sums.iter_mut().zip(slot) {
                    *sum += i32::from(*weight as i8);
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parts() -> TableParts {
        let mut thresholds = [[0.5; SURFACES]; CATEGORIES];
        thresholds[3][1] = 0.75;
        let mut modes = [Mode::Log; CATEGORIES];
        modes[14] = Mode::Block;
        TableParts {
            version: "test-1".to_owned(),
            whole: 0.25,
            scale: std::array::from_fn(|lane| 0.5 + lane as f32),
            bias: std::array::from_fn(|lane| -(lane as f32)),
            thresholds,
            modes,
            parents: [0.125; LANES],
            slope: [2.0; LANES],
            offset: std::array::from_fn(|lane| lane as f32 / 8.0),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let features = [(0x0100_0000_0000_0007, [1; LANES]), (0x0200_0000_0000_0007, [-128; LANES])];
        let (bytes, placed) = parts().encode(features);
        assert_eq!((bytes.len(), placed), (TABLE_BYTES, vec![true, true]));
        let table = Table::read(bytes.into()).unwrap();
        assert_eq!(table.parts(), &parts());
        let mut sums = [0; LANES];
        assert!(table.add(0x0100_0000_0000_0007, &mut sums));
        assert!(table.add(0x0200_0000_0000_0007, &mut sums));
        assert!(!table.add(0x0300_0000_0000_0007, &mut sums));
        assert!(!table.add(0x0100_0000_0000_0008, &mut sums));
        assert_eq!(sums, [-127; LANES]);
    }

    #[test]
    fn a_full_group_takes_no_more_and_an_equal_fingerprint_neither() {
        let features = (0..6).map(|mark| ((mark + 1) << 56, [1; LANES]));
        assert_eq!(parts().encode(features).1, [true, true, true, true, false, false]);
        assert_eq!(parts().encode([(5 << 56, [1; LANES]), (5 << 56 | 1 << 20, [2; LANES])]).1, [true, false]);
        // a fingerprint of 0 would mean an empty slot
        let (bytes, placed) = parts().encode([(9, [3; LANES])]);
        assert_eq!(placed, [true]);
        let mut sums = [0; LANES];
        assert!(Table::read(bytes.into()).unwrap().add(9, &mut sums));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let (good, _) = parts().encode([]);
        assert_eq!(Table::read(Cow::Borrowed(b"PGMODER1")).unwrap_err(), TableError::Length(8));
        let mut bad = good.clone();
        bad[0] = b'X';
        assert_eq!(Table::read(bad.into()).unwrap_err(), TableError::Magic);
        let mut bad = good;
        bad[36..40].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(Table::read(bad.into()).unwrap_err(), TableError::NotFinite);
    }

    #[test]
    fn lanes_are_the_categories_but_one() {
        for index in 0..LANES {
            assert_eq!(lane_category(index).and_then(lane), Some(index));
        }
        assert_eq!(lane(Category::SexualMinors), None);
        assert_eq!(lane_category(LANES), None);
    }
}
