//! Proofs as they are handed around: that an event is in a log, and that a log goes on from an earlier one. JSON on one line
//! each, complete in themselves; whoever has the public key needs nothing else to check them.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checkpoint::Checkpoint;
use crate::event::{Hash, hex, unhex};
use crate::merkle::{Nodes, consistency_path, inclusion_path, proves_consistency, proves_inclusion, root};
use crate::note::{PublicKey, Signed};
use crate::verify::{Link, Problem};

/// A log at some size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeHead {
    /// Events of the log.
    pub tree_size: u64,
    /// Root of the Merkle tree over their hashes, hex.
    pub root_hash: String,
    /// The signed checkpoint that says so; null where there is none of this size.
    pub checkpoint: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Proof {
    /// An event is in the log.
    Inclusion {
        /// The log.
        chain: Uuid,
        /// The event's place.
        seq: u64,
        /// The event's `hash`, hex.
        leaf_hash: String,
        /// What it is in.
        #[serde(flatten)]
        head: TreeHead,
        /// Hashes from the leaf up, hex (RFC 6962 §2.1.1).
        path: Vec<String>,
    },
    /// A log goes on from an earlier one.
    Consistency {
        /// The log.
        chain: Uuid,
        /// The earlier one.
        from: TreeHead,
        /// The later one.
        to: TreeHead,
        /// Hashes, hex (RFC 6962 §2.1.2).
        path: Vec<String>,
    },
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the JSON of a proof.
    #[error("it is not a proof as `audit prove` and `audit consistency` print it: {0}")]
    Shape(String),
    /// The hashes do not lead to the root.
    #[error("its hashes do not lead to its root: it was changed, or is of another log")]
    Path,
    /// Its checkpoint is about something else.
    #[error("its checkpoint is no signed note about the {tree_size} events of chain {chain} with its root")]
    Checkpoint {
        /// What it should be about.
        chain: Uuid,
        /// What it should be about.
        tree_size: u64,
    },
    /// Nobody known signed.
    #[error("it is not signed by a key that was given")]
    Unsigned,
}

impl TreeHead {
    /// With the checkpoint of that size, where there is one.
    fn of<N: Nodes>(nodes: &mut N, tree_size: u64, checkpoint: Option<String>) -> Result<Self, N::Error> {
        Ok(Self { tree_size, root_hash: hex(&root(nodes, tree_size)?), checkpoint })
    }

    /// Its root, once it is found to be signed by one of the keys; any or none where there are no keys.
    fn check(
        &self,
        chain: Uuid,
        keys: &[PublicKey],
        signers: &mut BTreeSet<String>,
    ) -> Result<Hash, ProofError> {
        let hash = hash_of(&self.root_hash)?;
        let tree_size = self.tree_size;
        let Some(note) = &self.checkpoint else {
            return if keys.is_empty() { Ok(hash) } else { Err(ProofError::Unsigned) };
        };
        let fits = |checkpoint: &Checkpoint| {
            let statement = &checkpoint.statement;
            (statement.chain, statement.size, statement.root) == (chain, tree_size, hash)
        };
        let checkpoint =
            Checkpoint::parse(note).filter(fits).ok_or(ProofError::Checkpoint { chain, tree_size })?;
        let signed: Vec<&PublicKey> =
            keys.iter().filter(|key| checkpoint.note.signed_by(key) == Signed::Yes).collect();
        if signed.is_empty() && !keys.is_empty() {
            return Err(ProofError::Unsigned);
        }
        signers.extend(signed.into_iter().map(ToString::to_string));
        Ok(hash)
    }
}

fn hash_of(text: &str) -> Result<Hash, ProofError> {
    unhex(text.as_bytes()).ok_or_else(|| ProofError::Shape("a hash has 64 hex digits".to_owned()))
}

fn hashes(path: &[String]) -> Result<Vec<Hash>, ProofError> {
    path.iter().map(|text| hash_of(text)).collect()
}

impl Proof {
    /// That the event with this seq, 1 to `tree_size`, is in the log.
    ///
    /// # Errors
    /// As [`Nodes::perfect`].
    pub fn inclusion<N: Nodes>(
        nodes: &mut N,
        chain: Uuid,
        seq: u64,
        (tree_size, checkpoint): (u64, Option<String>),
    ) -> Result<Self, N::Error> {
        let index = seq.saturating_sub(1);
        let leaf_hash = hex(&nodes.perfect(0, index)?);
        let path = inclusion_path(nodes, index, tree_size)?.iter().map(hex).collect();
        Ok(Self::Inclusion { chain, seq, leaf_hash, head: TreeHead::of(nodes, tree_size, checkpoint)?, path })
    }

    /// That the log of `to` events goes on from that of `from`, which is 1 or more and not larger.
    ///
    /// # Errors
    /// As [`Nodes::perfect`].
    pub fn consistency<N: Nodes>(
        nodes: &mut N,
        chain: Uuid,
        (from, from_checkpoint): (u64, Option<String>),
        (to, to_checkpoint): (u64, Option<String>),
    ) -> Result<Self, N::Error> {
        let path = consistency_path(nodes, from, to)?.iter().map(hex).collect();
        let from = TreeHead::of(nodes, from, from_checkpoint)?;
        Ok(Self::Consistency { chain, from, to: TreeHead::of(nodes, to, to_checkpoint)?, path })
    }

    /// Checks it. Gives the public keys that signed; where `keys` is empty, signatures are not asked for.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, keys: &[PublicKey]) -> Result<BTreeSet<String>, ProofError> {
        let mut signers = BTreeSet::new();
        let holds = match self {
            Self::Inclusion { chain, seq, leaf_hash, head, path } => {
                let root = head.check(*chain, keys, &mut signers)?;
                let (leaf, path) = (hash_of(leaf_hash)?, hashes(path)?);
                seq.checked_sub(1)
                    .is_some_and(|index| proves_inclusion(index, head.tree_size, &leaf, &path, &root))
            }
            Self::Consistency { chain, from, to, path } => {
                let old = from.check(*chain, keys, &mut signers)?;
                let new = to.check(*chain, keys, &mut signers)?;
                proves_consistency((from.tree_size, &old), (to.tree_size, &new), &hashes(path)?)
            }
        };
        if holds { Ok(signers) } else { Err(ProofError::Path) }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProofError::Shape`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        serde_json::from_str(text).map_err(|error| ProofError::Shape(error.to_string()))
    }
}

/// Proofs that were found to hold.
#[derive(Clone, Debug, Default)]
pub struct Proven {
    leaves: HashMap<(Uuid, u64), Hash>,
    consistencies: u64,
    keys: BTreeSet<String>,
}

impl Proven {
    /// Checks one more.
    ///
    /// # Errors
    /// As [`Proof::check`].
    pub fn add(&mut self, proof: &Proof, keys: &[PublicKey]) -> Result<(), ProofError> {
        self.keys.extend(proof.check(keys)?);
        match proof {
            Proof::Inclusion { chain, seq, leaf_hash, .. } => {
                self.leaves.insert((*chain, *seq), hash_of(leaf_hash)?);
            }
            Proof::Consistency { .. } => self.consistencies += 1,
        }
        Ok(())
    }

    /// Events that are in their log.
    pub fn inclusions(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Logs that go on from earlier ones.
    pub fn consistencies(&self) -> u64 {
        self.consistencies
    }

    /// The keys that signed, as they are written.
    pub fn into_keys(self) -> BTreeSet<String> {
        self.keys
    }

    /// Whether there is a proof of this event.
    ///
    /// # Errors
    /// Where it is of another hash, or there is none and there must be one.
    pub fn holds(&self, link: &Link, is_required: bool) -> Result<bool, Problem> {
        match self.leaves.get(&(link.chain, link.seq)) {
            Some(leaf) if *leaf == link.hash => Ok(true),
            Some(leaf) => Err(Problem::Proof { proven: hex(leaf), found: hex(&link.hash) }),
            None if is_required => Err(Problem::NoProof),
            None => Ok(false),
        }
    }
}
