use proptest::prelude::*;

use super::*;
use crate::event::{hex, leaf_hash, unhex};

/// The leaves of the reference implementation's tests (google/certificate-transparency, `merkle_tree_test.cc`).
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// Their roots, of the trees of 1 to 8 leaves.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Leaf (from 1), tree size, path.
const INCLUSIONS: [(u64, u64, &[&str]); 5] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (3, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        2,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// Both sizes, path.
const CONSISTENCIES: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

struct Leaves(Vec<Hash>);

impl Leaves {
    fn some(count: u64) -> Self {
        Self((0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect())
    }

    fn peaks(&self, size: u64) -> Peaks {
        let mut peaks = Peaks::default();
        self.0.iter().take(size as usize).for_each(|leaf| peaks.push(*leaf));
        peaks
    }
}

impl Nodes for Leaves {
    type Error = ();

    fn perfect(&mut self, level: u32, index: u64) -> Result<Hash, ()> {
        if level == 0 {
            return self.0.get(index as usize).copied().ok_or(());
        }
        let left = self.perfect(level - 1, 2 * index)?;
        Ok(node_hash(&left, &self.perfect(level - 1, 2 * index + 1)?))
    }
}

fn official() -> Leaves {
    let bytes = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    Leaves(LEAVES.iter().map(|leaf| leaf_hash(&bytes(leaf))).collect())
}

fn hexes(path: &[Hash]) -> Vec<String> {
    path.iter().map(hex).collect()
}

#[test]
fn the_official_roots_come_out() {
    let leaves = official();
    let empty = Peaks::default().root();
    assert_eq!(hex(&empty), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (size, root) in (1..).zip(ROOTS) {
        assert_eq!(hex(&leaves.peaks(size).root()), root, "{size}");
    }
}

#[test]
fn the_official_proofs_come_out_and_hold() {
    let mut leaves = official();
    for (leaf, size, path) in INCLUSIONS {
        let made = inclusion_path(&mut leaves, leaf - 1, size).unwrap();
        assert_eq!(hexes(&made), path, "{leaf} of {size}");
        let root = unhex(ROOTS[size as usize - 1].as_bytes()).unwrap();
        assert!(proves_inclusion(leaf - 1, size, &leaves.0[leaf as usize - 1], &made, &root));
    }
    for (from, to, path) in CONSISTENCIES {
        let made = consistency_path(&mut leaves, from, to).unwrap();
        assert_eq!(hexes(&made), path, "{from} to {to}");
        let root = |size: u64| unhex(ROOTS[size as usize - 1].as_bytes()).unwrap();
        assert!(proves_consistency((from, &root(from)), (to, &root(to)), &made));
    }
}

#[test]
fn peaks_are_found_by_level_and_index_and_nothing_else_is() {
    let mut leaves = Leaves::some(40);
    for size in 0..40_u64 {
        let peaks = leaves.peaks(size);
        let mut found = 0;
        for level in 0..7 {
            for index in 0..40 {
                if let Some(peak) = peaks.peak(level, index) {
                    found += 1;
                    assert_eq!(Ok(peak), leaves.perfect(level, index), "{size}: {level}/{index}");
                }
            }
        }
        assert_eq!(found, size.count_ones());
        let again = Peaks::from_parts(size, peaks.hashes().to_vec()).unwrap();
        assert_eq!(again, peaks);
        let one_too_many = [peaks.hashes(), &[[0; 32]]].concat();
        assert_eq!(Peaks::from_parts(size, one_too_many), None);
    }
}

#[test]
fn completed_nodes_are_told() {
    let mut leaves = Leaves::some(33);
    let mut peaks = Peaks::default();
    let mut told = Vec::new();
    for leaf in leaves.0.clone() {
        peaks.push_noting(leaf, |level, index, hash| told.push((level, index, *hash)));
    }
    // 16 + 8 + 4 + 2 + 1
    assert_eq!(told.len(), 31);
    for (level, index, hash) in told {
        assert_eq!(Ok(hash), leaves.perfect(level, index));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_inclusion_proof_holds_and_no_changed_one(
        size in 1_u64..200, pick in any::<u64>(), bad in any::<usize>(), bit in 0_usize..256,
    ) {
        let index = pick % size;
        let mut leaves = Leaves::some(size);
        let root = leaves.peaks(size).root();
        prop_assert_eq!(super::root(&mut leaves, size), Ok(root));
        let path = inclusion_path(&mut leaves, index, size).unwrap();
        let leaf = leaves.0[index as usize];
        prop_assert!(proves_inclusion(index, size, &leaf, &path, &root));
        prop_assert!(!proves_inclusion(index, size, &node_hash(&leaf, &leaf), &path, &root));
        let mut other = path.clone();
        other.push(leaf);
        prop_assert!(!proves_inclusion(index, size, &leaf, &other, &root));
        if !path.is_empty() {
            let mut other = path.clone();
            other[bad % path.len()][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!proves_inclusion(index, size, &leaf, &other, &root));
            prop_assert!(!proves_inclusion(index, size, &leaf, &path[1..], &root));
            prop_assert!(!proves_inclusion((index + 1) % size, size, &leaf, &path, &root));
        }
    }

    #[test]
    fn every_consistency_proof_holds_and_no_changed_one(
        to in 1_u64..200, pick in any::<u64>(), bad in any::<usize>(), bit in 0_usize..256,
    ) {
        let from = pick % to + 1;
        let mut leaves = Leaves::some(to);
        let (old, new) = (leaves.peaks(from).root(), leaves.peaks(to).root());
        let path = consistency_path(&mut leaves, from, to).unwrap();
        prop_assert!(proves_consistency((from, &old), (to, &new), &path));
        let wrong = node_hash(&old, &new);
        prop_assert!(!proves_consistency((from, &wrong), (to, &new), &path));
        prop_assert!(!proves_consistency((from, &old), (to, &wrong), &path));
        if !path.is_empty() {
            let mut other = path.clone();
            other[bad % path.len()][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!proves_consistency((from, &old), (to, &new), &other));
            prop_assert!(!proves_consistency((from, &old), (to, &new), &path[1..]));
        }
        // A tree in which an early leaf was changed is no continuation.
        let mut forged = Leaves::some(to);
        forged.0[(pick % from) as usize] = wrong;
        let forged_root = forged.peaks(to).root();
        let path = consistency_path(&mut forged, from, to).unwrap();
        prop_assert!(!proves_consistency((from, &old), (to, &forged_root), &path));
    }
}
