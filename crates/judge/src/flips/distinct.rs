//! How many different names there are, in bounded memory: exact while few, then HyperLogLog
//! (<https://algo.inria.fr/flajolet/Publications/FlFuGaMe07.pdf>) with a standard error of 1.6 %.

/// Names that are counted exactly.
const EXACT_MAX: usize = 128;
/// Bits of the hash that choose a register: 4096 registers, 1.04 / √4096 = 1.6 %.
const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;

/// A set that knows its size and not its members.
#[derive(Clone, Debug)]
pub struct Distinct(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Hashes, sorted.
    Exact(Vec<u64>),
    Estimate(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self(Kind::Exact(Vec::new()))
    }
}

impl Distinct {
    /// Standard error of [`Distinct::count`] past the exact part.
    pub const ERROR: f64 = 0.016;

    /// Adds a member by its [`hash`].
    pub(crate) fn insert(&mut self, hash: u64) {
        match &mut self.0 {
            Kind::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return };
                if hashes.len() < EXACT_MAX {
                    hashes.insert(at, hash);
                } else {
                    let mut registers = Box::new([0; REGISTERS]);
                    for hash in hashes.iter().copied().chain([hash]) {
                        register(&mut registers, hash);
                    }
                    self.0 = Kind::Estimate(registers);
                }
            }
            Kind::Estimate(registers) => register(registers, hash),
        }
    }

    /// Adds the members of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        match &other.0 {
            Kind::Exact(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
            Kind::Estimate(others) => {
                let mut registers = others.clone();
                match &self.0 {
                    Kind::Exact(hashes) => hashes.iter().for_each(|hash| register(&mut registers, *hash)),
                    Kind::Estimate(own) => {
                        registers.iter_mut().zip(own.iter()).for_each(|(one, own)| *one = (*one).max(*own));
                    }
                }
                self.0 = Kind::Estimate(registers);
            }
        }
    }

    /// How many members there are.
    pub fn count(&self) -> u64 {
        match &self.0 {
            Kind::Exact(hashes) => hashes.len() as u64,
            Kind::Estimate(registers) => estimate(registers),
        }
    }

    /// Whether [`Distinct::count`] is an estimate.
    pub fn is_estimate(&self) -> bool {
        matches!(self.0, Kind::Estimate(_))
    }
}

fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let index = (hash >> (u64::BITS - INDEX_BITS)) as usize;
    let rank = ((hash << INDEX_BITS).leading_zeros() + 1).min(u64::BITS - INDEX_BITS + 1);
    if let Some(register) = registers.get_mut(index) {
        *register = (*register).max(u8::try_from(rank).unwrap_or(u8::MAX));
    }
}

fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let count = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
    let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    // The paper's small range correction.
    let corrected = if raw <= 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { raw };
    corrected.round() as u64
}

/// A name's hash: FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) with MurmurHash3's finaliser, whose every bit
/// depends on all of the name.
pub(crate) fn hash(name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u32>) -> Distinct {
        let mut distinct = Distinct::default();
        range.for_each(|number| distinct.insert(hash(&format!("user-{number}"))));
        distinct
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_three_standard_errors() {
        for count in [0, 1, 100, 128, 129, 1000, 10_000, 200_000] {
            let distinct = of(0..count);
            assert_eq!(distinct.is_estimate(), count > 128);
            let error = (distinct.count() as f64 - f64::from(count)).abs() / f64::from(count.max(1));
            assert!(error <= if count <= 128 { 0.0 } else { 3.0 * Distinct::ERROR }, "{count}: {error}");
        }
    }

    #[test]
    fn merging_is_the_same_as_having_counted_together() {
        for (first, second) in [(0..50, 25..80), (0..50, 0..5000), (0..5000, 0..50), (0..5000, 2000..9000)] {
            let together = of(first.start..first.end.max(second.end));
            let mut merged = of(first);
            merged.merge(&of(second));
            assert_eq!(merged.count(), together.count());
        }
    }

    #[test]
    fn a_name_twice_is_one() {
        let mut distinct = of(0..3000);
        let before = distinct.count();
        distinct.merge(&of(0..3000));
        assert_eq!(distinct.count(), before);
    }
}
