//! The desired state and the one way to change it: what files declare and what the management API created, merged into a
//! new [`Snapshot`] off the request path. A change is checked as a whole, made durable with its audit events, and then
//! in force; or nothing happens and every reason is told. Where it is kept is behind [`StateStore`].

mod answers;
mod declared;
mod exports;
mod keys;
mod policies;
mod projects;

use std::collections::HashMap;
use std::sync::Arc;

use audit::event::{AuditEvent, ChangeInfo, EventType};
use policy::problems::Problem;
use policy::{PolicyDocument, Revision};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};
use uuid::Uuid;

pub use answers::ANSWER_HOURS;
pub use declared::{Declared, DeclaredPolicy, Prepared, Requirements};
pub use exports::{ExportChange, ExportRules, ExportView, PreparedExport, build_exports};
pub use keys::{KeyView, MadeKey, NewKey, Rotation};
pub use policies::{Difference, PolicyView, RevisionView, Save, Saved};
pub use projects::{ProjectPatch, ProjectView};

use crate::KeyStandIn;
use crate::kept::{Change, Kept, Source, StateError, StateStore};
use crate::key_use::KeyUses;
use crate::policy_set::PolicySet;
use crate::rollback::Rollouts;
use crate::snapshot::{Desired, DesiredKey, DesiredProject, Snapshot, SnapshotCell};

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The name of an admin token.
    pub name: String,
    /// The request that asks for it.
    pub request_id: Option<String>,
    /// The route that it came by, as in `PATCH projects/{id}`.
    pub route: Option<String>,
}

impl Author {
    /// Somebody whom no request is behind: a file, the command line.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), request_id: None, route: None }
    }

    /// The `admin` event of something that they do now.
    pub fn admin_event(&self, action: &str, change: ChangeInfo) -> AuditEvent {
        event(EventType::Admin, action, self, change, &now())
    }
}

/// Why something was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// What was asked for cannot be.
    #[error("{}", joined(.0))]
    Problems(Vec<Problem>),
    /// A file declares it.
    #[error("{what} is declared in `{file}` and read-only here: change it there")]
    Declared {
        /// What, as in ``policy `a` ``.
        what: String,
        /// The file.
        file: String,
    },
    /// Somebody else was faster.
    #[error(
        "policy `{policy_id}` is at revision {newest}, not at {expected}: read it again, then save again"
    )]
    Moved {
        /// The policy.
        policy_id: String,
        /// Its newest revision.
        newest: u64,
        /// What the caller had seen.
        expected: u64,
    },
    /// It is not what the caller had seen any more.
    #[error("{0} is not as you have seen it any more: read it again, then change it again")]
    Stale(String),
    /// It does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StateError),
}

/// The desired state.
pub struct DesiredState {
    store: Arc<dyn StateStore>,
    snapshot: Arc<SnapshotCell>,
    /// INVARIANT: whoever changes anything holds it from the first look to the swap of the snapshot.
    state: Arc<Mutex<State>>,
}

/// What is declared, what is kept, and the revisions in force, compiled.
#[derive(Clone, Debug)]
struct State {
    rollouts: Arc<Rollouts>,
    declared: Arc<Declared>,
    kept: Kept,
    uses: KeyUses,
    compiled: HashMap<(String, u64), Arc<Revision>>,
}

impl DesiredState {
    /// Loads what is kept, puts what files declare beside it, and has the first snapshot.
    ///
    /// # Errors
    /// [`ChangeError`] where it does not hold together or cannot be kept.
    pub async fn open(
        store: Arc<dyn StateStore>,
        declared: Declared,
        rollouts: Arc<Rollouts>,
    ) -> Result<Self, ChangeError> {
        let (kept, uses) = (store.load().await?, KeyUses::default());
        for (key_id, ms) in &kept.uses {
            uses.restore(key_id, *ms);
        }
        let mut state = State { rollouts, declared: Arc::default(), kept, uses, compiled: HashMap::new() };
        for policy in state.kept.policies.values() {
            let numbers: Vec<u64> = policy.stable.into_iter().chain(policy.candidate).collect();
            if numbers.is_empty() {
                continue;
            }
            for stored in store.revisions(&policy.policy_id, Some(numbers)).await? {
                let revision = declared::compile_stored(&stored.document, stored.number)
                    .map_err(|problems| declared::stored_problems(&stored, problems))?;
                state.compiled.insert((stored.policy_id, stored.number), Arc::new(revision));
            }
        }
        let empty = Snapshot::build(Desired::default()).map_err(ChangeError::Problems)?;
        let opened = Self {
            store,
            snapshot: Arc::new(SnapshotCell::from_pointee(empty)),
            state: Arc::new(Mutex::new(state)),
        };
        opened.prepare(declared).await?.commit().await?.put_in_force();
        Ok(opened)
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> &Arc<SnapshotCell> {
        &self.snapshot
    }

    async fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    async fn lock_owned(&self) -> OwnedMutexGuard<State> {
        Arc::clone(&self.state).lock_owned().await
    }

    /// Checks a change as a whole, makes it durable and puts it in force. `documents` are those of its new revisions.
    async fn make(
        &self,
        state: &mut State,
        change: Change,
        documents: Vec<(u64, PolicyDocument)>,
    ) -> Result<(), ChangeError> {
        let (next, snapshot) = state.after(Arc::clone(&state.declared), &change, documents).await?;
        self.store.commit(change).await?;
        *state = next;
        put_in_force(&state.rollouts, &self.snapshot, snapshot);
        Ok(())
    }
}

impl State {
    /// The state and the snapshot once the edits are made. Compiling a long list of terms takes a moment, which calls
    /// being served must not wait for.
    async fn after(
        &self,
        declared: Arc<Declared>,
        change: &Change,
        documents: Vec<(u64, PolicyDocument)>,
    ) -> Result<(Self, Snapshot), ChangeError> {
        let mut next = Self { declared, ..self.clone() };
        next.kept.apply(&change.edits);
        let built = tokio::task::spawn_blocking(move || {
            for (number, document) in documents {
                let id = document.policy_id.clone();
                let revision = Revision::compile(document, number)?;
                next.compiled.insert((id, number), Arc::new(revision));
            }
            let (kept, compiled) = (&next.kept, &mut next.compiled);
            compiled.retain(|(id, number), _| {
                let in_force = |policy: &crate::kept::PolicyState| {
                    policy.stable == Some(*number) || policy.candidate == Some(*number)
                };
                kept.policies.get(id).is_some_and(in_force)
            });
            let unmet = next.unmet();
            if !unmet.is_empty() {
                return Err(unmet);
            }
            let snapshot = Snapshot::build(next.desired()).map_err(|problems| next.explain(problems))?;
            Ok::<_, Vec<Problem>>((next, snapshot))
        });
        match built.await {
            Ok(built) => built.map_err(ChangeError::Problems),
            Err(_) => Err(ChangeError::Store(StateError("the work ended early: try again".to_owned()))),
        }
    }

    /// What policies in force need of the configuration and do not find there.
    fn unmet(&self) -> Vec<Problem> {
        let declared = &self.declared;
        let unmet = |((id, _), revision): (&(String, u64), &Arc<Revision>)| {
            let by_api = self.kept.policies.get(id).is_some_and(|policy| policy.source == Source::Api);
            let mut unmet = declared.requirements.unmet(revision.document());
            if by_api {
                unmet.extend(declared.api_requirements.unmet(revision.document()));
            }
            unmet
        };
        self.compiled.iter().flat_map(unmet).collect()
    }

    /// Everything that is wanted: what files declare first, so that problems with it keep their places.
    fn desired(&self) -> Desired {
        let mut desired = self.declared.base.clone();
        desired.key_secret = self.kept.key_secret.clone();
        desired.uses = self.uses.clone();
        for policy in self.kept.policies.values() {
            let revision =
                |number: Option<u64>| self.compiled.get(&(policy.policy_id.clone(), number?)).cloned();
            let (stable, candidate) = (revision(policy.stable), revision(policy.candidate));
            let rules = stable.as_ref().and_then(|stable| self.rollouts.rules(stable));
            let candidate = candidate.map(|revision| self.rollouts.candidate(revision));
            let set = match (stable, candidate) {
                (stable, Some(candidate)) => Some(PolicySet::with_candidate(stable, candidate)),
                (Some(stable), None) => Some(PolicySet::stable(stable)),
                (None, None) => None,
            };
            desired.policies.extend(set.map(|set| set.and_rules(rules)));
        }
        for stored in self.kept.projects.values() {
            desired.projects.push(DesiredProject { project: stored.project.clone(), keys: Vec::new() });
        }
        for key in self.kept.keys.values() {
            // A key of a project that a file no longer declares waits for it.
            let project = desired.projects.iter_mut().find(|entry| entry.project.id == key.project_id);
            if let Some(entry) = project {
                entry.keys.push(DesiredKey {
                    digest: KeyStandIn::Keyed { id: key.key_id.clone(), digest: key.digest },
                    name: key.name.clone(),
                    expires_at_ms: key.expires_at_ms,
                    revoked: key.revoked_at.is_some(),
                    plan: None,
                });
            }
        }
        desired
    }

    /// Problems whose paths lead to a project that no file declares, by that project's name.
    fn explain(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let first = self.declared.base.projects.len();
        let own = |problem: Problem| {
            let rest = problem.path.strip_prefix("projects[").and_then(|rest| rest.split_once(']'));
            let Some((Ok(index), field)) = rest.map(|(at, field)| (at.parse::<usize>(), field)) else {
                return problem;
            };
            let Some(id) = index.checked_sub(first).and_then(|at| self.kept.projects.keys().nth(at)) else {
                return problem;
            };
            let message = format!("project `{id}`, which the management API created: {}", problem.message);
            Problem { path: field.trim_start_matches('.').to_owned(), message }
        };
        problems.into_iter().map(own).collect()
    }
}

/// Calls are judged by it from now on.
fn put_in_force(rollouts: &Rollouts, cell: &SnapshotCell, snapshot: Snapshot) {
    rollouts.put_in_force(&snapshot);
    cell.store(Arc::new(snapshot));
}

/// An audit event of a change.
fn event(
    event_type: EventType,
    reason_code: &str,
    author: &Author,
    change: ChangeInfo,
    at: &str,
) -> AuditEvent {
    let change = ChangeInfo { route: author.route.clone(), ..change };
    let mut event = AuditEvent::blank(Uuid::now_v7(), event_type, at.to_owned());
    event.reason_code = Some(reason_code.to_owned());
    event.request_id.clone_from(&author.request_id);
    event.actor = Some(author.name.clone());
    event.change = Some(change);
    event
}

/// Stands for what is known of something: SHA-256 of its JSON, hex.
fn digest_of(what: &impl serde::Serialize) -> String {
    // Its types cannot fail to serialise.
    let text = serde_json::to_vec(what).unwrap_or_default();
    audit::event::hex(&<[u8; 32]>::from(Sha256::digest(&text)))
}

/// The tag of what has this digest: enough of it to tell one state from another.
fn tag_of(digest: &str) -> String {
    digest.chars().take(32).collect()
}

/// Paths of a section without a name begin with a dot.
fn plain(problems: Vec<Problem>) -> Vec<Problem> {
    let bare =
        |problem: Problem| Problem { path: problem.path.trim_start_matches('.').to_owned(), ..problem };
    problems.into_iter().map(bare).collect()
}

/// Now, RFC 3339 UTC with milliseconds.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) }
}
