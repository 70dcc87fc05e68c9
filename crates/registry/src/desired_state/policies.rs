//! Policies through the API: save, promote, roll back, abort, and reading what there is.

use std::sync::Arc;

use audit::event::{AuditEvent, ChangeInfo, EventType, hex};
use policy::{PolicyDocument, Revision};
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::declared::{compile_stored, stored_problems};
use super::{Author, ChangeError, DesiredState, State, event, known, now};
use crate::kept::{Change, Edit, PolicyState, Source, StateChange, StoredRevision};
use crate::place::{self, Standing, without_rollout};

/// A document to be saved.
#[derive(Clone, Debug)]
pub struct Save {
    /// The document as it was sent.
    pub document: Value,
    /// The newest revision that the author had seen; 0 for none. None: whatever there is.
    pub expected: Option<u64>,
    /// Whether it may be a candidate without a stable revision.
    pub allow_without_stable: bool,
    /// Who saves it.
    pub author: Author,
}

/// A revision and where it stands.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Its policy as it is now.
    pub policy: PolicyState,
    /// The revision.
    pub revision: StoredRevision,
    /// Where it stands.
    pub standing: Standing,
    /// The file that declares the policy, where one does.
    pub file: Option<String>,
}

/// A policy as it is listed.
#[derive(Clone, Debug)]
pub struct PolicyView {
    /// What is in force.
    pub policy: PolicyState,
    /// The file that declares it, where one does.
    pub file: Option<String>,
    /// The document of the stable revision, or else of the candidate.
    pub document: Option<PolicyDocument>,
}

/// A revision in its policy's history.
#[derive(Clone, Debug)]
pub struct RevisionView {
    /// The revision.
    pub revision: StoredRevision,
    /// Where it stands.
    pub standing: Standing,
}

/// Two revisions to be compared.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The one compared with.
    pub from: StoredRevision,
    /// The one compared.
    pub to: StoredRevision,
}

impl DesiredState {
    /// Saves a document as a new revision: stable with its rollout off, else the candidate. The document of the newest
    /// revision makes no new one.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn save(&self, save: Save) -> Result<Saved, ChangeError> {
        let document = read_document(&save.document)?;
        let mut state = self.lock().await;
        check_expected(&state, &document.policy_id, save.expected)?;
        check_not_declared(&state, &document.policy_id)?;
        let allow = save.allow_without_stable;
        self.place(&mut state, document, None, "REVISION_SAVED", allow, &save.author).await
    }

    /// Makes a revision stable. One with its rollout on is saved anew with it off.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn promote(
        &self,
        policy_id: &str,
        number: u64,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let state = self.lock().await;
        self.make_stable(state, policy_id, number, expected, "REVISION_PROMOTED", author).await
    }

    /// Takes a policy back: to the revision named, else by ending its candidate, else to the stable revision before.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn roll_back(
        &self,
        policy_id: &str,
        to: Option<u64>,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let state = self.lock().await;
        let policy = find(&state, policy_id)?;
        let number = match (to, policy.candidate, policy.former_stable) {
            (Some(to), _, _) => to,
            (None, Some(_), _) => {
                return self.end_candidate(state, policy_id, expected, "REVISION_ROLLED_BACK", author).await;
            }
            (None, None, Some(former)) => former,
            (None, None, None) => {
                let message = format!(
                    "policy `{policy_id}` has no candidate and no earlier stable revision to return to"
                );
                return Err(ChangeError::Conflict(message));
            }
        };
        self.make_stable(state, policy_id, number, expected, "REVISION_ROLLED_BACK", author).await
    }

    /// Ends a candidate; the stable revision is all that is in force.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn abort(
        &self,
        policy_id: &str,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let state = self.lock().await;
        self.end_candidate(state, policy_id, expected, "REVISION_ABORTED", author).await
    }

    /// All policies.
    pub async fn policies(&self) -> Vec<PolicyView> {
        let state = self.lock().await;
        state.kept.policies.values().map(|policy| view(&state, policy)).collect()
    }

    /// One policy.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub async fn policy(&self, policy_id: &str) -> Result<PolicyView, ChangeError> {
        let state = self.lock().await;
        let policy = find(&state, policy_id)?;
        Ok(view(&state, policy))
    }

    /// A revision: the one named, or the newest that is in force (or, where none is, the newest).
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn revision(&self, policy_id: &str, number: Option<u64>) -> Result<Saved, ChangeError> {
        let view = self.policy(policy_id).await?;
        let policy = view.policy;
        let number = number.or(policy.candidate).or(policy.stable).unwrap_or(policy.newest);
        let revision = self.stored(&policy, number).await?;
        Ok(Saved { standing: Standing::of(&policy, number), file: view.file, policy, revision })
    }

    /// A policy's revisions, the newest first, and its log of changes, likewise.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn revisions(
        &self,
        policy_id: &str,
    ) -> Result<(PolicyView, Vec<RevisionView>, Vec<StateChange>), ChangeError> {
        let view = self.policy(policy_id).await?;
        let mut revisions: Vec<RevisionView> = self
            .store
            .revisions(policy_id, None)
            .await?
            .into_iter()
            .map(|revision| RevisionView { standing: Standing::of(&view.policy, revision.number), revision })
            .collect();
        revisions.reverse();
        let mut changes = self.store.changes(policy_id).await?;
        changes.reverse();
        Ok((view, revisions, changes))
    }

    /// Two revisions: by default the candidate (or the newest) with the stable one (or the one before).
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn difference(
        &self,
        policy_id: &str,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Difference, ChangeError> {
        let policy = self.policy(policy_id).await?.policy;
        let to = to.or(policy.candidate).unwrap_or(policy.newest);
        let before = policy.stable.filter(|stable| *stable != to).or(policy.former_stable);
        let from = from.or(before).unwrap_or_else(|| to.saturating_sub(1).max(1));
        Ok(Difference { from: self.stored(&policy, from).await?, to: self.stored(&policy, to).await? })
    }

    /// A kept revision, compiled: to judge by without putting it in force.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn compiled(&self, policy_id: &str, number: u64) -> Result<Arc<Revision>, ChangeError> {
        let policy = self.policy(policy_id).await?.policy;
        let stored = self.stored(&policy, number).await?;
        let revision = compile_stored(&stored.document, number)
            .map_err(|problems| stored_problems(&stored, problems))?;
        Ok(Arc::new(revision))
    }

    async fn stored(&self, policy: &PolicyState, number: u64) -> Result<StoredRevision, ChangeError> {
        let found = self.store.revisions(&policy.policy_id, Some(vec![number])).await?.pop();
        found.ok_or_else(|| {
            let message = format!(
                "policy `{}` has no revision {number}: it has 1 to {}",
                policy.policy_id, policy.newest
            );
            ChangeError::Unknown(message)
        })
    }

    async fn make_stable(
        &self,
        mut state: MutexGuard<'_, State>,
        policy_id: &str,
        number: u64,
        expected: Option<u64>,
        action: &'static str,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let policy = find(&state, policy_id)?.clone();
        check_expected(&state, policy_id, expected)?;
        check_not_declared(&state, policy_id)?;
        let stored = self.stored(&policy, number).await?;
        let value = serde_json::from_str(&stored.document).unwrap_or(Value::Null);
        let document = match read_document(&value) {
            Ok(document) => document,
            Err(ChangeError::Problems(problems)) => return Err(stored_problems(&stored, problems)),
            Err(error) => return Err(error),
        };
        // One with its rollout off is the very thing that becomes stable; else it is a document of its own.
        let known = (!document.rollout.is_on()).then_some(number);
        self.place(&mut state, without_rollout(document), known, action, false, author).await
    }

    async fn end_candidate(
        &self,
        mut state: MutexGuard<'_, State>,
        policy_id: &str,
        expected: Option<u64>,
        action: &'static str,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let before = find(&state, policy_id)?.clone();
        check_expected(&state, policy_id, expected)?;
        check_not_declared(&state, policy_id)?;
        let Some(candidate) = before.candidate else {
            return Err(ChangeError::Conflict(format!("policy `{policy_id}` has no candidate")));
        };
        let at = now();
        let policy = place::aborted(&before, &at);
        let told = revision_event(action, author, Some(&before), &policy, &[], &at);
        let change =
            Change { edits: vec![set_policy(policy.clone(), action, author, &at)], events: vec![told] };
        self.make(&mut state, change, Vec::new()).await?;
        let number = policy.stable.unwrap_or(candidate);
        let revision = self.stored(&policy, number).await?;
        Ok(Saved { standing: Standing::of(&policy, number), file: None, policy, revision })
    }

    fn is_taken_back(&self, policy_id: &str, number: u64) -> bool {
        let snapshot = self.snapshot.load();
        let candidate = snapshot.policy(policy_id).and_then(|policy| policy.candidate());
        candidate.is_some_and(|one| one.revision.number() == number && one.is_taken_back())
    }

    /// Puts a document where it belongs. `known` is its number where it has one already.
    async fn place(
        &self,
        state: &mut State,
        document: PolicyDocument,
        known: Option<u64>,
        action: &'static str,
        allow_without_stable: bool,
        author: &Author,
    ) -> Result<Saved, ChangeError> {
        let at = now();
        let policy_id = document.policy_id.clone();
        let before = state.kept.policies.get(&policy_id).cloned();
        let blank = blank_policy(&policy_id, Source::Api, &at);
        let mut policy = PolicyState { source: Source::Api, ..before.clone().unwrap_or(blank) };
        let digest = hex(&document.digest());
        let is_newest = policy.newest > 0 && policy.newest_digest == digest;
        // A candidate that was taken back returns by being saved again: as another revision.
        let newest = (is_newest && !self.is_taken_back(&policy_id, policy.newest)).then_some(policy.newest);
        let mut edits = Vec::new();
        let number = known.or(newest).unwrap_or(policy.newest + 1);
        if number > policy.newest {
            policy.newest = number;
            policy.newest_digest.clone_from(&digest);
            edits.push(Edit::AddRevision(new_revision(&document, number, &author.name, &at)));
        }
        let after = if document.rollout.is_on() {
            let allowed = policy.allow_without_stable || allow_without_stable;
            if policy.stable.is_none() && !allowed {
                let message = format!(
                    "policy `{policy_id}` has no stable revision for this candidate to stand beside: save one with \
                     its rollout off first, or send `\"allow_without_stable\": true` to only log what it would do"
                );
                return Err(ChangeError::Conflict(message));
            }
            PolicyState {
                allow_without_stable: policy.stable.is_none(),
                ..place::candidate(&policy, number, &at)
            }
        } else {
            place::stable(&policy, number, &at)
        };
        let stands = |policy: &PolicyState| (policy.stable, policy.candidate);
        let policy = match &before {
            // It stands there already.
            Some(before) if edits.is_empty() && stands(before) == stands(&after) => before.clone(),
            _ => {
                let documents = vec![(number, document)];
                let told = revision_event(action, author, before.as_ref(), &after, &documents, &at);
                edits.push(set_policy(after.clone(), action, author, &at));
                self.make(state, Change { edits, events: vec![told] }, documents).await?;
                after
            }
        };
        let revision = self.stored(&policy, number).await?;
        Ok(Saved { standing: Standing::of(&policy, number), file: None, policy, revision })
    }
}

/// Reads a document.
fn read_document(value: &Value) -> Result<PolicyDocument, ChangeError> {
    PolicyDocument::parse(value).map_err(ChangeError::Problems)
}

fn find<'a>(state: &'a State, policy_id: &str) -> Result<&'a PolicyState, ChangeError> {
    state.kept.policies.get(policy_id).ok_or_else(|| {
        let known = known(state.kept.policies.keys());
        ChangeError::Unknown(format!("there is no policy `{policy_id}`; {known}"))
    })
}

fn view(state: &State, policy: &PolicyState) -> PolicyView {
    let file = state.declared.file_of_policy(&policy.policy_id).map(str::to_owned);
    let in_force = policy.stable.or(policy.candidate);
    let compiled = in_force.and_then(|number| state.compiled.get(&(policy.policy_id.clone(), number)));
    let document = compiled.map(|revision| revision.document().clone());
    PolicyView { policy: policy.clone(), file, document }
}

fn check_not_declared(state: &State, policy_id: &str) -> Result<(), ChangeError> {
    match state.declared.file_of_policy(policy_id) {
        Some(file) => {
            Err(ChangeError::Declared { what: format!("policy `{policy_id}`"), file: file.to_owned() })
        }
        None => Ok(()),
    }
}

fn check_expected(state: &State, policy_id: &str, expected: Option<u64>) -> Result<(), ChangeError> {
    let newest = state.kept.policies.get(policy_id).map_or(0, |policy| policy.newest);
    match expected {
        Some(expected) if expected != newest => {
            Err(ChangeError::Moved { policy_id: policy_id.to_owned(), newest, expected })
        }
        _ => Ok(()),
    }
}

/// A policy with nothing in force.
pub(super) fn blank_policy(policy_id: &str, source: Source, at: &str) -> PolicyState {
    PolicyState {
        policy_id: policy_id.to_owned(),
        stable: None,
        candidate: None,
        former_stable: None,
        allow_without_stable: false,
        source,
        created_at: at.to_owned(),
        updated_at: at.to_owned(),
        newest: 0,
        newest_digest: String::new(),
    }
}

pub(super) fn new_revision(document: &PolicyDocument, number: u64, author: &str, at: &str) -> StoredRevision {
    StoredRevision {
        policy_id: document.policy_id.clone(),
        number,
        digest: hex(&document.digest()),
        digest_without_rollout: hex(&document.digest_without_rollout()),
        // Its types cannot fail to serialise.
        document: serde_json::to_string(document).unwrap_or_default(),
        created_at: at.to_owned(),
        author: author.to_owned(),
    }
}

pub(super) fn set_policy(policy: PolicyState, action: &str, author: &Author, at: &str) -> Edit {
    let change = StateChange {
        at: at.to_owned(),
        author: author.name.clone(),
        action: action.to_owned(),
        stable: policy.stable,
        candidate: policy.candidate,
    };
    Edit::SetPolicy(policy, change)
}

/// What an event tells of a policy's change: revisions before and after, and the digests of the newest.
pub(super) fn change_info(
    before: Option<&PolicyState>,
    after: &PolicyState,
    digest_before: Option<String>,
    digest_after: Option<String>,
) -> ChangeInfo {
    let subject = format!("policy {}", after.policy_id);
    ChangeInfo {
        subject,
        stable_before: before.and_then(|policy| policy.stable),
        stable_after: after.stable,
        candidate_before: before.and_then(|policy| policy.candidate),
        candidate_after: after.candidate,
        digest_before,
        digest_after,
        ..ChangeInfo::default()
    }
}

/// The `revision` event of a change. `documents` are those of its new revisions.
pub(super) fn revision_event(
    action: &str,
    author: &Author,
    before: Option<&PolicyState>,
    after: &PolicyState,
    documents: &[(u64, PolicyDocument)],
    at: &str,
) -> AuditEvent {
    let digest_before = before.filter(|policy| policy.newest > 0).map(|policy| policy.newest_digest.clone());
    let change = change_info(before, after, digest_before, Some(after.newest_digest.clone()));
    let mut told = event(EventType::Revision, action, author, change, at);
    told.policy_id = Some(after.policy_id.clone());
    told.policy_revision = after.candidate.or(after.stable);
    let own = documents.iter().rev().find(|(_, document)| document.policy_id == after.policy_id);
    told.data_classification =
        own.and_then(|(_, document)| document.org_controls.data_classification.clone());
    told
}
