//! A compact trie over byte strings, stepped through one byte at a time. It knows nothing of text.

/// A set of byte strings, numbered in sorted order.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// First byte of the edge into each node; the children of a node lie side by side.
    firsts: Vec<u8>,
    /// What follows the first byte on each edge.
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    children: u32,
    label: u32,
    /// Number of the string that ends here, plus one; 0 for none.
    group: u32,
    children_len: u16,
    label_len: u16,
}

/// A place in the trie: within the edge into `node`, `rest` bytes short of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    node: Node,
    rest: u16,
}

/// What a byte leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// No string goes on like this.
    Dead,
    /// Some string goes on like this.
    On,
    /// A string ends here; a `leaf` if no other goes on.
    Term { group: u32, leaf: bool },
}

impl Trie {
    /// Builds the trie of sorted, distinct, non-empty strings.
    pub(crate) fn new(sorted: &[String]) -> Self {
        let mut trie = Self { nodes: vec![Node::default()], firsts: vec![0], labels: Vec::new() };
        // Each entry: a node, the strings below it, and the length of their common beginning.
        let mut open = vec![(0usize, 0usize, sorted.len(), 0usize)];
        while let Some((id, mut low, high, depth)) = open.pop() {
            if sorted.get(low).is_some_and(|string| string.len() == depth && low < high) {
                if let Some(node) = trie.nodes.get_mut(id) {
                    node.group = number(low) + 1;
                }
                low += 1;
            }
            let children = trie.nodes.len();
            while low < high {
                let Some(string) = sorted.get(low).map(|string| string.as_bytes()) else { break };
                let first = string.get(depth).copied().unwrap_or(0);
                let below = sorted.get(low..high).unwrap_or_default();
                let count = below.partition_point(|string| string.as_bytes().get(depth) == Some(&first));
                let last = below.get(count - 1).map_or(string, |string| string.as_bytes());
                let common = string.iter().zip(last).take_while(|(a, b)| a == b).count();
                let label = string.get(depth + 1..common).unwrap_or_default();
                open.push((trie.nodes.len(), low, low + count, common));
                trie.nodes.push(Node {
                    label: number(trie.labels.len()),
                    label_len: u16::try_from(label.len()).unwrap_or(u16::MAX),
                    ..Node::default()
                });
                trie.firsts.push(first);
                trie.labels.extend_from_slice(label);
                low += count;
            }
            let children_len = trie.nodes.len() - children;
            if let Some(node) = trie.nodes.get_mut(id) {
                node.children = number(children);
                node.children_len = u16::try_from(children_len).unwrap_or(u16::MAX);
            }
        }
        trie.labels.shrink_to_fit();
        trie.nodes.shrink_to_fit();
        trie.firsts.shrink_to_fit();
        trie
    }

    pub(crate) fn root(&self) -> Place {
        Place { node: self.nodes.first().copied().unwrap_or_default(), rest: 0 }
    }

    /// Goes one byte on.
    pub(crate) fn step(&self, place: &mut Place, byte: u8) -> Step {
        let node = place.node;
        if place.rest > 0 {
            let at = node.label as usize + usize::from(node.label_len - place.rest);
            if self.labels.get(at) != Some(&byte) {
                return Step::Dead;
            }
            place.rest -= 1;
        } else {
            let start = node.children as usize;
            let firsts = self.firsts.get(start..start + usize::from(node.children_len)).unwrap_or_default();
            let Some(child) = firsts.iter().position(|first| *first == byte) else { return Step::Dead };
            let Some(child) = self.nodes.get(start + child) else { return Step::Dead };
            *place = Place { node: *child, rest: child.label_len };
        }
        match (place.rest, place.node.group.checked_sub(1)) {
            (0, Some(group)) => Step::Term { group, leaf: place.node.children_len == 0 },
            _ => Step::On,
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_exactly_its_strings(
            strings in proptest::collection::btree_set("[abc]{1,6}", 0..20),
            probes in proptest::collection::vec("[abcd]{0,8}", 0..20),
        ) {
            let sorted: Vec<String> = strings.iter().cloned().collect();
            let trie = Trie::new(&sorted);
            for probe in probes.iter().chain(&sorted) {
                let mut place = trie.root();
                let mut found = BTreeSet::new();
                for byte in probe.bytes() {
                    match trie.step(&mut place, byte) {
                        Step::Dead => break,
                        Step::On => {}
                        Step::Term { group, leaf } => {
                            let string = &sorted[group as usize];
                            let longer = sorted.iter().any(|other| other != string && other.starts_with(string.as_str()));
                            prop_assert_eq!(leaf, !longer);
                            found.insert(string.clone());
                        }
                    }
                }
                let expected: BTreeSet<String> =
                    sorted.iter().filter(|string| probe.starts_with(string.as_str())).cloned().collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
