//! The Merkle tree of RFC 6962 §2.1 over the leaf hashes of a log: grown leaf by leaf in a few hashes of memory, and its
//! inclusion and consistency proofs, made from whoever has the inner nodes and checked by anybody. Knows hashes and
//! numbers only; a leaf is an event's `hash`, at the index `seq - 1`.

use sha2::{Digest, Sha256};

use crate::event::Hash;

/// Hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1_u8; 65];
    for (place, byte) in bytes.iter_mut().skip(1).zip(left.iter().chain(right)) {
        *place = *byte;
    }
    Sha256::digest(bytes).into()
}

/// A tree that grows, as the roots of its perfect subtrees: one for each bit set in its size, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    size: u64,
    peaks: Vec<Hash>,
}

impl Peaks {
    /// As kept; `None` where there are not as many peaks as a tree of that size has.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, the largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_noting(leaf, |_, _, _| {});
    }

    /// Adds a leaf, and tells every inner node that it completes: its level (1 is above two leaves), its index among those
    /// of that level, its hash.
    pub fn push_noting(&mut self, leaf: Hash, mut made: impl FnMut(u32, u64, &Hash)) {
        let mut hash = leaf;
        let mut level = 0;
        while (self.size >> level) & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            level += 1;
            made(level, self.size >> level, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The tree's root; that of an empty tree is the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest(b"").into() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The root of the perfect subtree of this level and index, where it is one of the peaks.
    pub fn peak(&self, level: u32, index: u64) -> Option<Hash> {
        let width = 1_u64.checked_shl(level)?;
        let start = index.checked_mul(width)?;
        // The peaks before it are those of the higher bits, which must fill the tree up to where it starts.
        let above = if level >= 63 { 0 } else { self.size >> (level + 1) << (level + 1) };
        if self.size & width == 0 || above != start {
            return None;
        }
        self.peaks.get(above.count_ones() as usize).copied()
    }
}

/// Whoever has the nodes of a tree.
pub trait Nodes {
    /// Why a node cannot be had.
    type Error;

    /// Root of the perfect subtree of this level (0: the leaf itself) at this index among those of its level. All of its
    /// leaves are in the tree.
    ///
    /// # Errors
    /// Where it cannot be had.
    fn perfect(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `n`, which must be 2 or more: where RFC 6962 splits.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// `MTH(D[start:end])`. The start is a multiple of a power of two not below the length: every range that the RFC's
/// recursions come to is like that.
fn range<N: Nodes>(nodes: &mut N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let length = end - start;
    if length.is_power_of_two() {
        let level = length.trailing_zeros();
        return nodes.perfect(level, start >> level);
    }
    let middle = start + split(length);
    let left = range(nodes, start, middle)?;
    Ok(node_hash(&left, &range(nodes, middle, end)?))
}

/// Root of the tree of the first `size` leaves, 1 or more.
///
/// # Errors
/// As [`Nodes::perfect`].
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    range(nodes, 0, size)
}

/// The proof that the leaf at `index` is in the tree of the first `size` leaves (RFC 6962 §2.1.1); empty where it is not.
///
/// # Errors
/// As [`Nodes::perfect`].
pub fn inclusion_path<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if index < size {
        climb(nodes, index, (0, size), &mut path)?;
    }
    Ok(path)
}

fn climb<N: Nodes>(
    nodes: &mut N,
    index: u64,
    (start, end): (u64, u64),
    path: &mut Vec<Hash>,
) -> Result<(), N::Error> {
    if end - start <= 1 {
        return Ok(());
    }
    let middle = start + split(end - start);
    if index < middle {
        climb(nodes, index, (start, middle), path)?;
        path.push(range(nodes, middle, end)?);
    } else {
        climb(nodes, index, (middle, end), path)?;
        path.push(range(nodes, start, middle)?);
    }
    Ok(())
}

/// The proof that the tree of the first `from` leaves is the beginning of that of the first `to` (RFC 6962 §2.1.2); empty
/// where it cannot be.
///
/// # Errors
/// As [`Nodes::perfect`].
pub fn consistency_path<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if 0 < from && from < to {
        subproof(nodes, from, (0, to), true, &mut path)?;
    }
    Ok(path)
}

fn subproof<N: Nodes>(
    nodes: &mut N,
    from: u64,
    (start, end): (u64, u64),
    is_known: bool,
    path: &mut Vec<Hash>,
) -> Result<(), N::Error> {
    if from == end {
        if !is_known {
            path.push(range(nodes, start, end)?);
        }
        return Ok(());
    }
    let middle = start + split(end - start);
    if from <= middle {
        subproof(nodes, from, (start, middle), is_known, path)?;
        path.push(range(nodes, middle, end)?);
    } else {
        subproof(nodes, from, (middle, end), false, path)?;
        path.push(range(nodes, start, middle)?);
    }
    Ok(())
}

/// Whether the path proves that the leaf is at `index` of the tree of that size and root (RFC 9162 §2.1.3.2).
pub fn proves_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether the path proves that a tree of size `from` is the beginning of one of size `to` (RFC 9162 §2.1.4.2).
pub fn proves_consistency(from: (u64, &Hash), to: (u64, &Hash), path: &[Hash]) -> bool {
    let ((from, from_root), (to, to_root)) = (from, to);
    if from == 0 || from >= to {
        return from == to && from_root == to_root && path.is_empty();
    }
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut path = path.iter();
    let first = if from.is_power_of_two() { Some(from_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut old, mut new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *from_root && new == *to_root
}

#[cfg(test)]
mod tests;
