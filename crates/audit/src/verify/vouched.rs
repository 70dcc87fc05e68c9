//! What vouches for a log beyond its own chain: the Merkle tree grown from its hashes, held against signed checkpoints. Those
//! stand in the log itself, or come from wherever it was exported to.

use std::collections::{BTreeSet, VecDeque};

use uuid::Uuid;

use super::problem::{Problem, VerifyError};
use crate::checkpoint::Checkpoint;
use crate::event::Hash;
use crate::merkle::Peaks;
use crate::note::{Note, PublicKey, Signed};

/// Hashes that are kept to look back at. A checkpoint is recorded within some thousands of events of the last that it is
/// about.
const WINDOW: usize = 1 << 18;

/// Keys that are believed.
#[derive(Debug, Default)]
pub(super) struct Trust {
    keys: Vec<PublicKey>,
    /// One of them signed something.
    is_met: bool,
}

/// Whose a note is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// No key was given.
    Unasked,
    /// Of a key that is believed.
    Known(PublicKey),
    /// Of somebody else.
    Unknown,
}

impl Trust {
    pub(super) fn new(keys: Vec<PublicKey>) -> Self {
        Self { keys, is_met: false }
    }

    fn is_asked(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whose the note is.
    ///
    /// # Errors
    /// [`Problem::Signature`] where it is of neither.
    pub(super) fn judge(&self, note: &Note) -> Result<Whose, Problem> {
        let mut whose = if self.is_asked() { Whose::Unknown } else { Whose::Unasked };
        for key in &self.keys {
            match note.signed_by(key) {
                Signed::Yes => whose = Whose::Known(key.clone()),
                Signed::No => {}
                Signed::Badly => return Err(Problem::Signature(key.name().to_owned())),
            }
        }
        Ok(whose)
    }

    /// A checkpoint of a known key may name the one that takes over.
    fn hand_over(&mut self, checkpoint: &Checkpoint) -> Result<(), Problem> {
        let Some(next) = &checkpoint.statement.next_key else { return Ok(()) };
        if checkpoint.note.signed_by(next) != Signed::Yes {
            return Err(Problem::Signature(next.name().to_owned()));
        }
        if !self.keys.contains(next) {
            self.keys.push(next.clone());
        }
        Ok(())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Checkpoints in the log that it was held against.
    pub(super) checkpoints: u64,
    /// Events up to here are those that a checkpoint was made of, whoever signed it.
    pub(super) proven: u64,
    /// The same, signed by a key that was given.
    pub(super) signed: u64,
    /// Keys that signed.
    pub(super) keys: BTreeSet<String>,
    /// The largest checkpoint from outside that it was held against.
    pub(super) held: u64,
}

/// The log's hashes so far, and what they were held against.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    trust: Trust,
    /// From outside, the smallest first.
    outside: Vec<Checkpoint>,
    /// Of these, how many the log has passed.
    passed: usize,
    /// Of the events before the window; `None` where the log's beginning is not known, or there are holes in it.
    tree: Option<Peaks>,
    /// The last events' seqs and hashes, in order.
    window: VecDeque<(u64, Hash)>,
    pub(super) found: Found,
}

impl Vouched {
    pub(super) fn new(keys: Vec<PublicKey>, mut outside: Vec<Checkpoint>) -> Self {
        outside.sort_by_key(|checkpoint| checkpoint.statement.size);
        Self { trust: Trust::new(keys), outside, ..Self::default() }
    }

    /// The tree of the events before the first. It may say less than it should, never more: what is held against it is
    /// signed.
    pub(super) fn begin(&mut self, tree: Option<Peaks>) {
        self.tree = tree;
    }

    /// From here on nothing is known of the whole.
    pub(super) fn hole(&mut self) {
        self.tree = None;
    }

    /// The hash of an event that was there a while ago; `None` where it is too long ago, or was not there.
    pub(super) fn hash_of(&self, seq: u64) -> Option<Hash> {
        let at = self.window.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.window.get(at).map(|(_, hash)| *hash)
    }

    /// The next event's hash.
    ///
    /// # Errors
    /// Where a checkpoint from outside says otherwise.
    pub(super) fn event(&mut self, seq: u64, hash: Hash, chain: Uuid) -> Result<(), VerifyError> {
        self.window.push_back((seq, hash));
        if self.window.len() > WINDOW {
            self.shorten();
        }
        while let Some(checkpoint) = self.outside.get(self.passed)
            && checkpoint.statement.size <= seq
        {
            let statement = checkpoint.statement.clone();
            self.passed += 1;
            let at = |seq, problem| VerifyError { seq, problem };
            check_chain(statement.chain, chain).map_err(|problem| at(statement.size, problem))?;
            let tree = match &self.tree {
                Some(tree) if tree.size() <= statement.size => self.grown(tree.clone(), statement.size),
                _ => None,
            };
            match self.fits(&statement.head, &statement.root, statement.size, tree.as_ref()) {
                Some(true) => self.found.held = statement.size,
                Some(false) => {
                    return Err(at(
                        self.found.proven.max(self.found.held) + 1,
                        Problem::Rewritten { to: statement.size },
                    ));
                }
                None => return Err(at(statement.size, not_held(statement.size))),
            }
        }
        Ok(())
    }

    fn shorten(&mut self) {
        let Some((seq, hash)) = self.window.pop_front() else { return };
        if let Some(tree) = &mut self.tree
            && tree.size() + 1 == seq
        {
            tree.push(hash);
        }
    }

    /// The tree, grown to `size` by what is in the window.
    fn grown(&self, mut tree: Peaks, size: u64) -> Option<Peaks> {
        let first = self.window.front()?.0;
        let skip = usize::try_from((tree.size() + 1).checked_sub(first)?).ok()?;
        for (seq, hash) in self.window.iter().skip(skip).take_while(|(seq, _)| *seq <= size) {
            debug_assert_eq!(*seq, tree.size() + 1);
            tree.push(*hash);
        }
        (tree.size() == size).then_some(tree)
    }

    /// Whether the log up to `size` is what a checkpoint says; `None` where there is nothing to hold it against.
    fn fits(&self, head: &Hash, root: &Hash, size: u64, tree: Option<&Peaks>) -> Option<bool> {
        let own_head = self.hash_of(size).map(|hash| hash == *head);
        match tree {
            Some(tree) => Some(tree.root() == *root && own_head != Some(false)),
            // Each event carries the hash of the one before it: the head alone binds what is here before it.
            None => own_head,
        }
    }

    /// The note of a checkpoint event, which has this seq itself.
    ///
    /// # Errors
    /// Where it is none, or says what is not so.
    pub(super) fn checkpoint(&mut self, seq: u64, chain: Uuid, note: &str) -> Result<(), VerifyError> {
        let at = |problem| VerifyError { seq, problem };
        let says = |text: &str| at(Problem::Checkpoint(text.to_owned()));
        let Some(checkpoint) = Checkpoint::parse(note) else {
            return Err(says("its `checkpoint.note` is no signed note about a log"));
        };
        let statement = &checkpoint.statement;
        check_chain(statement.chain, chain).map_err(at)?;
        let size = statement.size;
        if size >= seq {
            return Err(says("its checkpoint is about events after it"));
        }
        let whose = self.trust.judge(&checkpoint.note).map_err(at)?;
        if whose == Whose::Unknown && self.trust.is_met {
            let names: Vec<String> = checkpoint.note.signers().map(|name| format!("`{name}`")).collect();
            return Err(at(Problem::UnknownKey(names.join(" and "))));
        }
        if let Some(tree) = self.tree.take_if(|tree| tree.size() < size) {
            self.tree = self.grown(tree, size);
        }
        let tree = self.tree.as_ref().filter(|tree| tree.size() == size);
        match self.fits(&statement.head, &statement.root, size, tree) {
            Some(true) => {}
            Some(false) => {
                return Err(VerifyError {
                    seq: self.found.proven + 1,
                    problem: Problem::Rewritten { to: size },
                });
            }
            // Of long before what is here: it vouches for nothing.
            None => return Ok(()),
        }
        self.found.checkpoints += 1;
        self.found.proven = self.found.proven.max(size);
        if let Whose::Known(key) = whose {
            self.trust.is_met = true;
            self.found.signed = self.found.signed.max(size);
            self.found.keys.insert(key.to_string());
            self.trust.hand_over(&checkpoint).map_err(at)?;
        }
        Ok(())
    }

    /// Nothing follows. `head` is the last seq, 0 where there is none.
    ///
    /// # Errors
    /// Where a checkpoint says that something should, or nothing is signed although keys were given.
    pub(super) fn finish(&mut self, head: u64) -> Result<(), VerifyError> {
        for checkpoint in &self.outside {
            let size = checkpoint.statement.size;
            let at = |problem| VerifyError { seq: size, problem };
            match self.trust.judge(&checkpoint.note).map_err(at)? {
                Whose::Known(key) => {
                    if size <= head {
                        self.found.signed = self.found.signed.max(size);
                        self.found.keys.insert(key.to_string());
                    }
                }
                Whose::Unasked => {}
                Whose::Unknown => {
                    let names: Vec<String> =
                        checkpoint.note.signers().map(|name| format!("`{name}`")).collect();
                    return Err(at(Problem::UnknownKey(names.join(" and "))));
                }
            }
            if size > head {
                return Err(VerifyError { seq: head + 1, problem: Problem::CutTail { size, head } });
            }
        }
        self.found.proven = self.found.proven.max(self.found.held);
        Ok(())
    }

    /// # Errors
    /// Where keys were given and none of them vouches for anything.
    pub(super) fn must_be_signed(&self, head: u64) -> Result<(), VerifyError> {
        if self.trust.is_asked() && self.found.signed == 0 {
            return Err(VerifyError { seq: head, problem: Problem::Unsigned });
        }
        Ok(())
    }
}

fn check_chain(found: Uuid, wanted: Uuid) -> Result<(), Problem> {
    if found == wanted {
        return Ok(());
    }
    Err(Problem::Checkpoint(format!("the checkpoint is of chain {found}, the log is chain {wanted}")))
}

fn not_held(size: u64) -> Problem {
    Problem::Checkpoint(format!(
        "the checkpoint of {size} events cannot be held against this log, which does not have that event or not what \
         came before it: give a later checkpoint, or the whole log"
    ))
}
