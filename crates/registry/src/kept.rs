//! What is kept of the desired state beyond files: policies with their numbered revisions, and the projects, keys and
//! destinations that the management API created. Also what a change of it is made of, and the seam through which a change and its audit
//! events become durable as one. Deciding what a change is, is not done here.

use std::collections::BTreeMap;

use audit::event::AuditEvent;
use audit::outbox::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::key::{KeySecret, KeyedDigest};
use crate::project::Project;

/// Who declares a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A policy file: read-only in the API.
    File,
    /// The management API.
    Api,
}

impl Source {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// A policy: which of its revisions are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyState {
    /// Its name.
    pub policy_id: String,
    /// Number of the revision that is applied.
    pub stable: Option<u64>,
    /// Number of the revision that is tried out beside it.
    pub candidate: Option<u64>,
    /// The stable revision before this one: what a rollback returns to.
    pub former_stable: Option<u64>,
    /// Whether it may have a candidate without a stable revision.
    pub allow_without_stable: bool,
    /// Who declares it.
    pub source: Source,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// When what is in force changed, RFC 3339 UTC.
    pub updated_at: String,
    /// Number of the newest revision; follows from the revisions.
    pub newest: u64,
    /// Its digest.
    pub newest_digest: String,
}

/// One revision of a policy. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevision {
    /// The policy.
    pub policy_id: String,
    /// From 1, without holes.
    pub number: u64,
    /// Digest of the document, hex.
    pub digest: String,
    /// The same without its `rollout`.
    pub digest_without_rollout: String,
    /// The document as JSON.
    pub document: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// Who saved it: the name of an admin token, or the policy file.
    pub author: String,
}

/// A line of a policy's log of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// RFC 3339 UTC.
    pub at: String,
    /// The name of an admin token, or the policy file.
    pub author: String,
    /// `REVISION_SAVED`, `REVISION_PROMOTED`, `REVISION_ROLLED_BACK`, `REVISION_ABORTED` or `POLICY_REMOVED`.
    pub action: String,
    /// What was stable from then on.
    pub stable: Option<u64>,
    /// What was the candidate from then on.
    pub candidate: Option<u64>,
}

/// A project that the API created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProject {
    /// The project.
    pub project: Project,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// RFC 3339 UTC.
    pub updated_at: String,
}

/// A key that the API created. The key itself is kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Public id.
    pub key_id: String,
    /// The project that it belongs to.
    pub project_id: String,
    /// Stands for the key.
    pub digest: KeyedDigest,
    /// As its owner named it.
    pub name: Option<String>,
    /// Its first characters, for people to recognise it by.
    pub prefix: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// Unix time in milliseconds from which it is refused.
    pub expires_at_ms: Option<i64>,
    /// When it was taken back, RFC 3339 UTC.
    pub revoked_at: Option<String>,
}

/// A destination that the API created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExport {
    /// Its id; its place in the log is kept under it.
    pub id: String,
    /// Its configuration as JSON, each literal secret encrypted.
    pub body: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// RFC 3339 UTC.
    pub updated_at: String,
}

/// What a request of the API was answered, kept so that the same one sent again gets the same answer and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Digest of who asked and of their `Idempotency-Key`.
    pub id: String,
    /// Digest of what was asked.
    pub request: String,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Status and body; none while it has begun and not ended. The body is encrypted where it holds a secret.
    pub answer: Option<(u16, Vec<u8>)>,
}

/// One row of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A new revision; its number must be the next one of its policy.
    AddRevision(StoredRevision),
    /// What is in force of a policy, and the line for its log of changes.
    SetPolicy(PolicyState, StateChange),
    /// A project, new or changed.
    SetProject(StoredProject),
    /// A new key.
    AddKey(StoredKey),
    /// A key is taken back.
    RevokeKey {
        /// Its public id.
        key_id: String,
        /// RFC 3339 UTC.
        at: String,
    },
    /// A key ends at another time.
    ExpireKey {
        /// Its public id.
        key_id: String,
        /// Unix time in milliseconds from which it is refused.
        at_ms: i64,
    },
    /// When keys were last presented, by public id, in Unix milliseconds.
    UseKeys(Vec<(String, i64)>),
    /// A new destination. It has no past: its place in the log is the log's head.
    AddExport(StoredExport),
    /// A destination that changed.
    SetExport(StoredExport),
    /// A destination is no more.
    RemoveExport(String),
    /// What a request is answered.
    KeepAnswer(KeptAnswer),
    /// A request came to nothing: it may be sent again.
    ForgetAnswer(String),
}

/// Edits and the events that tell of them: all of it becomes durable, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// In order.
    pub edits: Vec<Edit>,
    /// In order.
    pub events: Vec<AuditEvent>,
}

impl Change {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

/// Everything that is kept, but for the documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// By id.
    pub policies: BTreeMap<String, PolicyState>,
    /// By id.
    pub projects: BTreeMap<String, StoredProject>,
    /// By key id.
    pub keys: BTreeMap<String, StoredKey>,
    /// When keys were last presented, whoever declares them: by key id, in Unix milliseconds.
    pub uses: BTreeMap<String, i64>,
    /// By id.
    pub exports: BTreeMap<String, StoredExport>,
    /// Keys the digests that stand for keys.
    pub key_secret: KeySecret,
}

impl Kept {
    /// Makes the edits.
    pub fn apply(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::AddRevision(revision) => {
                    if let Some(policy) = self.policies.get_mut(&revision.policy_id) {
                        policy.newest = revision.number;
                        policy.newest_digest.clone_from(&revision.digest);
                    }
                }
                Edit::SetPolicy(policy, _) => {
                    self.policies.insert(policy.policy_id.clone(), policy.clone());
                }
                Edit::SetProject(project) => {
                    self.projects.insert(project.project.id.clone(), project.clone());
                }
                Edit::AddKey(key) => {
                    self.keys.insert(key.key_id.clone(), key.clone());
                }
                Edit::RevokeKey { key_id, at } => {
                    if let Some(key) = self.keys.get_mut(key_id) {
                        key.revoked_at = Some(at.clone());
                    }
                }
                Edit::ExpireKey { key_id, at_ms } => {
                    if let Some(key) = self.keys.get_mut(key_id) {
                        key.expires_at_ms = Some(*at_ms);
                    }
                }
                Edit::UseKeys(uses) => self.uses.extend(uses.iter().cloned()),
                Edit::AddExport(export) | Edit::SetExport(export) => {
                    self.exports.insert(export.id.clone(), export.clone());
                }
                Edit::RemoveExport(id) => drop(self.exports.remove(id)),
                // Looked up where it is kept.
                Edit::KeepAnswer(_) | Edit::ForgetAnswer(_) => {}
            }
        }
    }
}

/// Why something kept could not be read or written, in plain words and without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

/// Where the desired state is kept. One process writes at a time.
pub trait StateStore: Send + Sync + 'static {
    /// Everything but the documents.
    fn load(&self) -> BoxFuture<'_, Result<Kept, StateError>>;

    /// The revisions of a policy with these numbers (none: all), the oldest first.
    fn revisions<'a>(
        &'a self,
        policy_id: &'a str,
        numbers: Option<Vec<u64>>,
    ) -> BoxFuture<'a, Result<Vec<StoredRevision>, StateError>>;

    /// A policy's log of changes, the oldest first.
    fn changes<'a>(&'a self, policy_id: &'a str) -> BoxFuture<'a, Result<Vec<StateChange>, StateError>>;

    /// What was kept of a request, by the digest of who asked and of their key, where that is at or after `since_ms` (Unix
    /// milliseconds).
    fn answer<'a>(
        &'a self,
        id: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<Option<KeptAnswer>, StateError>>;

    /// Makes a change durable together with its events, in one commit. A number that is taken is an error, and changes
    /// nothing.
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<(), StateError>>;
}
