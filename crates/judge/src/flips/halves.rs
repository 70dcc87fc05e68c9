//! Two halves of one thing that come one after the other in a long sequence, brought together in bounded memory: a shadow
//! event and the main event of its request, which the log keeps close to each other.

use std::collections::{HashMap, VecDeque};

/// Halves that wait for the other one.
#[derive(Debug)]
pub struct Halves<T> {
    waiting: HashMap<String, (u64, T)>,
    /// In the order in which they came. A half that has met its other one is still here until its turn comes.
    order: VecDeque<(u64, String)>,
    kept: usize,
    next: u64,
}

impl<T> Halves<T> {
    /// Keeps so many.
    pub fn new(kept: usize) -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), kept: kept.max(1), next: 0 }
    }

    /// The half that waits under this key, which then waits no more.
    pub fn take(&mut self, key: &str) -> Option<T> {
        self.waiting.remove(key).map(|(_, half)| half)
    }

    /// Lets a half wait. Gives those that waited longest where there are too many, and one of the same key.
    #[must_use]
    pub fn wait(&mut self, key: String, half: T) -> Vec<T> {
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, key.clone()));
        let mut given_up: Vec<T> =
            self.waiting.insert(key, (number, half)).map(|(_, half)| half).into_iter().collect();
        while self.order.len() > self.kept {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.waiting.get(&key).is_some_and(|(waiting, _)| *waiting == number) {
                given_up.extend(self.take(&key));
            }
        }
        given_up
    }

    /// Everything that still waits.
    pub fn left(&self) -> impl Iterator<Item = &T> {
        self.waiting.values().map(|(_, half)| half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_meet_and_those_that_wait_longest_are_given_up() {
        let mut halves = Halves::new(3);
        for (key, half) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(halves.wait(key.to_owned(), half), Vec::<i32>::new());
        }
        assert_eq!(halves.take("b"), Some(2));
        assert_eq!(halves.take("b"), None);
        assert_eq!(halves.wait("d".to_owned(), 4), [1]);
        assert_eq!(halves.wait("e".to_owned(), 5), Vec::<i32>::new(), "the place of b was free");
        assert_eq!(halves.wait("d".to_owned(), 6), [4, 3], "the same key again, and the oldest");
        assert_eq!(halves.take("d"), Some(6));
        assert_eq!(halves.left().collect::<Vec<_>>(), [&5]);
    }
}
