//! What files declare, and how it comes into force: at the start and at each reload. A declared document that is new
//! becomes a revision like any other; one that is in force or the newest already keeps its number.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use audit::event::EventType;
use policy::problems::Problem;
use policy::{PolicyDocument, Revision};
use tokio::sync::OwnedMutexGuard;

use super::exports::{ExportRules, taken_ids};
use super::policies::{blank_policy, change_info, new_revision, revision_event, set_policy};
use super::{Author, ChangeError, DesiredState, State, event, now};
use crate::kept::{Change, Edit, PolicyState, Source, StateStore, StoredRevision};
use crate::place;
use crate::snapshot::{Desired, Snapshot, SnapshotCell};

/// A policy document of a file.
#[derive(Clone, Debug)]
pub struct DeclaredPolicy {
    /// What it says.
    pub document: PolicyDocument,
    /// Its file.
    pub file: String,
}

/// What files declare.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Upstreams, projects with their keys, and prices; its policies are empty.
    pub base: Desired,
    /// Policy documents: of each policy one that is stable, and perhaps one that is its candidate.
    pub policies: Vec<DeclaredPolicy>,
    /// The configuration file.
    pub file: String,
    /// What policies may need that only the configuration gives.
    pub requirements: Requirements,
    /// What those may need besides that the management API saved.
    pub api_requirements: Requirements,
    /// Ids of the destinations that the configuration file declares.
    pub exports: Vec<String>,
    /// What destinations of the management API may reach and read.
    pub export_rules: ExportRules,
}

/// Asks a policy for what it needs of the configuration (a mail server, a key) and does not find there. Nothing by default.
#[derive(Clone, Default)]
pub struct Requirements(Option<Arc<Unmet>>);

/// The problems of a document, by paths into it.
type Unmet = dyn Fn(&PolicyDocument) -> Vec<Problem> + Send + Sync;

impl Requirements {
    /// Asks so.
    pub fn new(unmet: impl Fn(&PolicyDocument) -> Vec<Problem> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(unmet)))
    }

    pub(super) fn unmet(&self, document: &PolicyDocument) -> Vec<Problem> {
        self.0.as_ref().map(|unmet| unmet(document)).unwrap_or_default()
    }
}

impl fmt::Debug for Requirements {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Requirements")
    }
}

impl Declared {
    /// The file that declares the policy.
    pub(super) fn file_of_policy(&self, policy_id: &str) -> Option<&str> {
        let declared = self.policies.iter().find(|one| one.document.policy_id == policy_id)?;
        Some(&declared.file)
    }

    /// Whether the configuration file declares the project.
    pub(super) fn has_project(&self, project_id: &str) -> bool {
        self.base.projects.iter().any(|entry| entry.project.id == project_id)
    }

    /// By policy: the stable document and the candidate's.
    fn by_policy(&self) -> BTreeMap<&str, (Option<&DeclaredPolicy>, Option<&DeclaredPolicy>)> {
        let mut all: BTreeMap<_, (Option<_>, Option<_>)> = BTreeMap::new();
        for one in &self.policies {
            let (stable, candidate) = all.entry(one.document.policy_id.as_str()).or_default();
            let place = if one.document.rollout.is_on() { candidate } else { stable };
            *place = Some(one);
        }
        all
    }
}

/// Another declaration, checked and ready to come into force. Nothing else changes meanwhile.
pub struct Prepared {
    state: OwnedMutexGuard<State>,
    store: Arc<dyn StateStore>,
    cell: Arc<SnapshotCell>,
    next: State,
    snapshot: Snapshot,
    change: Change,
}

/// The same, durable.
pub struct Committed {
    /// Nothing else changes until the swap.
    state: OwnedMutexGuard<State>,
    cell: Arc<SnapshotCell>,
    snapshot: Snapshot,
}

impl DesiredState {
    /// Checks another declaration with everything that the API created.
    ///
    /// # Errors
    /// [`ChangeError::Problems`] with every reason why it does not hold.
    pub async fn prepare(&self, declared: Declared) -> Result<Prepared, ChangeError> {
        let state = self.lock_owned().await;
        let declared = Arc::new(declared);
        let taken = taken_ids(&state.kept, &declared);
        if !taken.is_empty() {
            return Err(ChangeError::Problems(taken));
        }
        let (change, documents) = plan(&state, &declared);
        let (next, snapshot) = state.after(Arc::clone(&declared), &change, documents).await?;
        let (store, cell) = (Arc::clone(&self.store), Arc::clone(&self.snapshot));
        Ok(Prepared { state, store, cell, next, snapshot, change })
    }
}

impl Prepared {
    /// Makes its new revisions durable, with their events.
    ///
    /// # Errors
    /// [`ChangeError::Store`]; nothing has changed then.
    pub async fn commit(mut self) -> Result<Committed, ChangeError> {
        if !self.change.is_empty() {
            self.store.commit(self.change).await?;
        }
        *self.state = self.next;
        Ok(Committed { state: self.state, cell: self.cell, snapshot: self.snapshot })
    }
}

impl Committed {
    /// Calls are judged by it from now on.
    pub fn put_in_force(self) {
        super::put_in_force(&self.state.rollouts, &self.cell, self.snapshot);
    }
}

/// What has to change so that what is declared is in force, and the documents of the new revisions.
fn plan(state: &State, declared: &Declared) -> (Change, Vec<(u64, PolicyDocument)>) {
    let kept = &state.kept;
    let mut plan = Plan { at: now(), state, change: Change::default(), documents: Vec::new() };
    for (policy_id, (stable, candidate)) in declared.by_policy() {
        plan.declare(kept.policies.get(policy_id), stable, candidate);
    }
    for policy in kept.policies.values() {
        let in_force = policy.stable.is_some() || policy.candidate.is_some();
        if policy.source == Source::File && in_force && declared.file_of_policy(&policy.policy_id).is_none() {
            plan.remove(policy, &declared.file);
        }
    }
    (plan.change, plan.documents)
}

struct Plan<'a> {
    at: String,
    state: &'a State,
    change: Change,
    documents: Vec<(u64, PolicyDocument)>,
}

impl Plan<'_> {
    fn declare(
        &mut self,
        before: Option<&PolicyState>,
        stable: Option<&DeclaredPolicy>,
        candidate: Option<&DeclaredPolicy>,
    ) {
        let Some(any) = stable.or(candidate) else { return };
        let author = Author::named(&any.file);
        let blank = blank_policy(&any.document.policy_id, Source::File, &self.at);
        let mut policy = PolicyState { source: Source::File, ..before.unwrap_or(&blank).clone() };
        let was_candidate = policy.candidate;
        match stable {
            Some(stable) => {
                let in_force = policy.stable;
                let number = self.number(&mut policy, stable, in_force);
                if policy.stable != Some(number) {
                    policy = place::stable(&policy, number, &self.at);
                }
            }
            None => policy.stable = None,
        }
        policy.candidate = candidate.map(|candidate| self.number(&mut policy, candidate, was_candidate));
        let unchanged = before.is_some_and(|before| {
            (before.stable, before.candidate, before.source)
                == (policy.stable, policy.candidate, policy.source)
        });
        if unchanged {
            return;
        }
        policy.updated_at.clone_from(&self.at);
        let told = revision_event("REVISION_SAVED", &author, before, &policy, &self.documents, &self.at);
        self.change.edits.push(set_policy(policy, "REVISION_SAVED", &author, &self.at));
        self.change.events.push(told);
    }

    /// The document's number: that of the revision in force or of the newest where it is the same, else a new one.
    fn number(&mut self, policy: &mut PolicyState, declared: &DeclaredPolicy, in_force: Option<u64>) -> u64 {
        let document = &declared.document;
        let digest = document.digest();
        let compiled = |number: u64| self.state.compiled.get(&(policy.policy_id.clone(), number));
        if let Some(number) = in_force
            && compiled(number).is_some_and(|revision| *revision.digest() == digest)
        {
            return number;
        }
        if policy.newest > 0 && policy.newest_digest == audit::event::hex(&digest) {
            self.documents.push((policy.newest, document.clone()));
            return policy.newest;
        }
        let revision = new_revision(document, policy.newest + 1, &declared.file, &self.at);
        policy.newest = revision.number;
        policy.newest_digest.clone_from(&revision.digest);
        self.documents.push((revision.number, document.clone()));
        self.change.edits.push(Edit::AddRevision(revision));
        policy.newest
    }

    /// A policy that its file no longer declares: its revisions stay, none is in force.
    fn remove(&mut self, before: &PolicyState, file: &str) {
        let author = Author::named(file);
        let policy = PolicyState {
            stable: None,
            candidate: None,
            former_stable: before.stable,
            updated_at: self.at.clone(),
            ..before.clone()
        };
        let change = change_info(Some(before), &policy, None, None);
        let mut told = event(EventType::Revision, "POLICY_REMOVED", &author, change, &self.at);
        told.policy_id = Some(policy.policy_id.clone());
        self.change.edits.push(set_policy(policy, "POLICY_REMOVED", &author, &self.at));
        self.change.events.push(told);
    }
}

/// Reads and compiles a document that was kept.
pub(super) fn compile_stored(document: &str, number: u64) -> Result<Revision, Vec<Problem>> {
    let value = serde_json::from_str(document).map_err(|_| {
        vec![Problem::new("", "what is kept of it is not JSON: restore the store from a backup")]
    })?;
    Revision::compile(PolicyDocument::parse(&value)?, number)
}

/// Problems of a kept revision, which says where it is from.
pub(super) fn stored_problems(stored: &StoredRevision, problems: Vec<Problem>) -> ChangeError {
    let name = format!("policy `{}`, revision {}", stored.policy_id, stored.number);
    let own = |problem: Problem| Problem { message: format!("{name}: {}", problem.message), ..problem };
    ChangeError::Problems(problems.into_iter().map(own).collect())
}
