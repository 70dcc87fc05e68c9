//! The names with the most flips, in bounded memory: when the table is full the smaller half is dropped, and what could
//! have been dropped is kept as the error of every count that follows (Misra and Gries, "Finding repeated elements", 1982).

use std::collections::HashMap;

use super::Tally;

/// Counts by name.
#[derive(Clone, Debug)]
pub struct Top {
    entries: HashMap<Box<str>, Entry>,
    /// Entries that are kept at least; there are at most twice as many.
    kept: usize,
    /// No name that is not in the table has more flips than this.
    floor: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    tally: Tally,
    /// Flips that it may have had before it came into the table.
    missed_max: u64,
}

impl Entry {
    fn most(&self) -> u64 {
        self.tally.flips() + self.missed_max
    }
}

impl Top {
    /// An empty table.
    pub fn new(kept: usize) -> Self {
        Self { entries: HashMap::new(), kept: kept.max(1), floor: 0 }
    }

    /// The tally of a name.
    pub(crate) fn tally(&mut self, name: &str) -> &mut Tally {
        if !self.entries.contains_key(name) {
            if self.entries.len() >= 2 * self.kept {
                self.prune();
            }
            self.entries.insert(name.into(), Entry { tally: Tally::default(), missed_max: self.floor });
        }
        &mut self.entries.entry(name.into()).or_default().tally
    }

    /// Adds another table.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, entry) in &mut self.entries {
            match other.entries.get(name) {
                Some(theirs) => {
                    entry.tally.merge(&theirs.tally);
                    entry.missed_max += theirs.missed_max;
                }
                None => entry.missed_max += other.floor,
            }
        }
        for (name, theirs) in &other.entries {
            if !self.entries.contains_key(name) {
                let missed_max = theirs.missed_max + self.floor;
                self.entries.insert(name.clone(), Entry { tally: theirs.tally.clone(), missed_max });
            }
        }
        self.floor += other.floor;
        if self.entries.len() > 2 * self.kept {
            self.prune();
        }
    }

    /// The names with the most flips: name, tally, and flips that it may have beside.
    pub(crate) fn first(&self, count: usize) -> Vec<(&str, &Tally, u64)> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_unstable_by(|(one, left), (other, right)| {
            right.tally.flips().cmp(&left.tally.flips()).then_with(|| one.cmp(other))
        });
        all.into_iter().take(count).map(|(name, entry)| (&**name, &entry.tally, entry.missed_max)).collect()
    }

    /// How many names there are; none where some were dropped and it is not known.
    pub(crate) fn names(&self) -> Option<usize> {
        (self.floor == 0).then_some(self.entries.len())
    }

    /// No name that is not shown by [`Top::first`] with everything has more flips than this.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    fn prune(&mut self) {
        let mut all: Vec<(Box<str>, Entry)> = self.entries.drain().collect();
        all.sort_unstable_by(|(one, left), (other, right)| {
            right.most().cmp(&left.most()).then_with(|| one.cmp(other))
        });
        let dropped = all.split_off(self.kept.min(all.len()));
        let most = dropped.iter().map(|(_, entry)| entry.most()).max();
        self.floor = self.floor.max(most.unwrap_or(0));
        self.entries = all.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn count(top: &mut Top, name: u8) {
        top.tally(&format!("n{name}")).add(Ordering::Greater, None);
    }

    proptest! {
        /// Whatever is counted in whatever order, by one or by two that are merged: never too much, never less than the
        /// error says, and nobody above the floor is lost.
        #[test]
        fn counts_are_within_their_errors(names in proptest::collection::vec(0u8..40, 0..400), split in 0usize..400) {
            let mut truth = BTreeMap::new();
            let mut tables = [Top::new(4), Top::new(4)];
            for (at, name) in names.iter().enumerate() {
                *truth.entry(format!("n{name}")).or_insert(0u64) += 1;
                count(&mut tables[usize::from(at >= split)], *name);
            }
            let [mut top, other] = tables;
            top.merge(&other);
            prop_assert!(top.entries.len() <= 8);
            for (name, tally, missed_max) in top.first(usize::MAX) {
                prop_assert!(tally.flips() <= truth[name]);
                prop_assert!(truth[name] <= tally.flips() + missed_max, "{name}");
            }
            for (name, count) in truth {
                prop_assert!(top.entries.contains_key(name.as_str()) || count <= top.floor(), "{name}");
            }
        }
    }

    #[test]
    fn few_names_are_exact_and_in_order() {
        let mut top = Top::new(4);
        for name in [1, 2, 2, 3, 3, 3] {
            count(&mut top, name);
        }
        let first: Vec<_> =
            top.first(2).into_iter().map(|(name, tally, missed)| (name, tally.flips(), missed)).collect();
        assert_eq!(first, [("n3", 3, 0), ("n2", 2, 0)]);
        assert_eq!(top.names(), Some(3));
    }
}
