//! Projects and keys through the API. A key is shown once, when it is made; what is kept is its digest.

use audit::event::{AuditEvent, ChangeInfo, EventType};
use policy::problems::Problem;

use super::{Author, ChangeError, DesiredState, State, event, known, now};
use crate::budget::BudgetConfig;
use crate::config::{EntitlementsConfig, ProjectConfig};
use crate::kept::{Change, Edit, Source, StateError, StoredKey, StoredProject};
use crate::key::{KeyDigest, new_key, prefix_of};
use crate::project::{Entitlements, Project, ProjectStatus};

/// Characters in the name of a key.
const KEY_NAME_CHARS_MAX: usize = 200;

/// A project as it is listed.
#[derive(Clone, Debug)]
pub struct ProjectView {
    /// The project.
    pub project: Project,
    /// The file that declares it, where one does.
    pub file: Option<String>,
    /// RFC 3339 UTC; none for one that a file declares.
    pub created_at: Option<String>,
    /// RFC 3339 UTC; none for one that a file declares.
    pub updated_at: Option<String>,
}

/// What is to change of a project. None leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct ProjectPatch {
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Whether its keys are served.
    pub status: Option<ProjectStatus>,
    /// Its policy; `Some(None)`: none from now on.
    pub policy_id: Option<Option<String>>,
    /// What its keys may use.
    pub entitlements: Option<EntitlementsConfig>,
    /// What it may spend; `Some(None)`: anything from now on.
    pub budget: Option<Option<BudgetConfig>>,
}

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// For people.
    pub name: Option<String>,
    /// RFC 3339 time from which it is refused.
    pub expires_at: Option<String>,
}

/// A key as it is listed.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// Public id.
    pub key_id: String,
    /// As its owner named it.
    pub name: Option<String>,
    /// Its first characters; none for one that a file declares.
    pub prefix: Option<String>,
    /// Who declares it.
    pub source: Source,
    /// RFC 3339 UTC; none for one that a file declares.
    pub created_at: Option<String>,
    /// RFC 3339 UTC; none: never.
    pub expires_at: Option<String>,
    /// RFC 3339 UTC; none: it was not taken back.
    pub revoked_at: Option<String>,
}

/// A key that was just made: the only time that it is shown.
pub struct MadeKey {
    /// What is known of it.
    pub view: KeyView,
    /// The key itself.
    pub key: String,
}

impl DesiredState {
    /// All projects, those of the configuration file first.
    pub async fn projects(&self) -> Vec<ProjectView> {
        let state = self.lock().await;
        let declared = state.declared.base.projects.iter().map(|entry| declared_view(&state, &entry.project));
        declared.chain(state.kept.projects.values().map(kept_view)).collect()
    }

    /// One project.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub async fn project(&self, id: &str) -> Result<ProjectView, ChangeError> {
        let state = self.lock().await;
        find(&state, id)
    }

    /// Makes a project.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn create_project(
        &self,
        config: &ProjectConfig,
        author: &Author,
    ) -> Result<ProjectView, ChangeError> {
        let project = config.build("").map_err(|problems| ChangeError::Problems(plain(problems)))?.project;
        let mut state = self.lock().await;
        if let Ok(other) = find(&state, &project.id) {
            let place = other.file.map_or(String::new(), |file| format!(" (in `{file}`)"));
            let message =
                format!("there is a project `{}` already{place}: change that one, or rename", project.id);
            return Err(ChangeError::Conflict(message));
        }
        let at = now();
        let stored = StoredProject { project, created_at: at.clone(), updated_at: at.clone() };
        self.set_project(&mut state, stored, "PROJECT_CREATED", author, &at).await
    }

    /// Changes a project.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn patch_project(
        &self,
        id: &str,
        patch: ProjectPatch,
        author: &Author,
    ) -> Result<ProjectView, ChangeError> {
        let mut state = self.lock().await;
        if state.declared.has_project(id) {
            return Err(declared(&state, format!("project `{id}`")));
        }
        let Some(before) = state.kept.projects.get(id).cloned() else { return find(&state, id) };
        let mut project = before.project.clone();
        if let Some(name) = patch.name {
            project.name = name;
        }
        if let Some(description) = patch.description {
            project.description = description;
        }
        if let Some(status) = patch.status {
            project.status = status;
        }
        if let Some(policy_id) = patch.policy_id {
            project.policy_id = policy_id;
        }
        if let Some(entitlements) = patch.entitlements {
            project.entitlements = Entitlements::from(entitlements);
        }
        if let Some(budget) = patch.budget {
            let built = budget.map(|budget| budget.build("budget")).transpose();
            project.budget = built.map_err(ChangeError::Problems)?;
        }
        if project == before.project {
            return Ok(kept_view(&before));
        }
        let at = now();
        let stored = StoredProject { project, updated_at: at.clone(), ..before };
        self.set_project(&mut state, stored, "PROJECT_UPDATED", author, &at).await
    }

    /// A project's keys, the newest first, those of the configuration file last.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub async fn keys(&self, project_id: &str) -> Result<Vec<KeyView>, ChangeError> {
        let state = self.lock().await;
        find(&state, project_id)?;
        let mut kept: Vec<&StoredKey> =
            state.kept.keys.values().filter(|key| key.project_id == project_id).collect();
        kept.sort_by(|left, right| right.created_at.cmp(&left.created_at));
        let mut views: Vec<KeyView> = kept.into_iter().map(key_view).collect();
        let declared = state.declared.base.projects.iter().filter(|entry| entry.project.id == project_id);
        views.extend(declared.flat_map(|entry| &entry.keys).map(|key| KeyView {
            key_id: key.digest.id(),
            name: key.name.clone(),
            prefix: None,
            source: Source::File,
            created_at: None,
            expires_at: key.expires_at_ms.and_then(rfc3339),
            revoked_at: None,
        }));
        Ok(views)
    }

    /// Makes a key for a project, whoever declares that.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn create_key(
        &self,
        project_id: &str,
        new: NewKey,
        author: &Author,
    ) -> Result<MadeKey, ChangeError> {
        let expires_at_ms = check_new(&new)?;
        let mut state = self.lock().await;
        find(&state, project_id)?;
        let key =
            new_key().map_err(|error| StateError(format!("the system gives no random bytes: {error}")))?;
        let Ok(digest) = KeyDigest::of(&key) else {
            return Err(ChangeError::Store(StateError(
                "the key that was made is none: try again".to_owned(),
            )));
        };
        let at = now();
        let stored = StoredKey {
            key_id: digest.id(),
            project_id: project_id.to_owned(),
            digest,
            name: new.name,
            prefix: prefix_of(&key),
            created_at: at.clone(),
            expires_at_ms,
            revoked_at: None,
        };
        let told = admin_event("KEY_CREATED", author, &format!("key {}", stored.key_id), project_id, &at);
        let view = key_view(&stored);
        let change = Change { edits: vec![Edit::AddKey(stored)], events: vec![told] };
        self.make(&mut state, change, Vec::new()).await?;
        Ok(MadeKey { view, key })
    }

    /// Takes a key back: the next request with it is refused. Done again, it stays as it was.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn revoke_key(
        &self,
        project_id: &str,
        key_id: &str,
        author: &Author,
    ) -> Result<KeyView, ChangeError> {
        let mut state = self.lock().await;
        find(&state, project_id)?;
        let in_file = state.declared.base.projects.iter().any(|entry| {
            entry.project.id == project_id && entry.keys.iter().any(|key| key.digest.id() == key_id)
        });
        if in_file {
            return Err(declared(&state, format!("key `{key_id}`")));
        }
        let found = state.kept.keys.get(key_id).filter(|key| key.project_id == project_id).cloned();
        let Some(mut key) = found else {
            return Err(ChangeError::Unknown(format!("project `{project_id}` has no key `{key_id}`")));
        };
        if key.revoked_at.is_some() {
            return Ok(key_view(&key));
        }
        let at = now();
        let told = admin_event("KEY_REVOKED", author, &format!("key {key_id}"), project_id, &at);
        let edit = Edit::RevokeKey { key_id: key_id.to_owned(), at: at.clone() };
        self.make(&mut state, Change { edits: vec![edit], events: vec![told] }, Vec::new()).await?;
        key.revoked_at = Some(at);
        Ok(key_view(&key))
    }

    async fn set_project(
        &self,
        state: &mut State,
        stored: StoredProject,
        action: &str,
        author: &Author,
        at: &str,
    ) -> Result<ProjectView, ChangeError> {
        let id = &stored.project.id;
        let told = admin_event(action, author, &format!("project {id}"), id, at);
        let edits = vec![Edit::SetProject(stored.clone())];
        self.make(state, Change { edits, events: vec![told] }, Vec::new()).await.map_err(
            |error| match error {
                // They can only be about this project: all else held before.
                ChangeError::Problems(problems) => ChangeError::Problems(own(problems)),
                other => other,
            },
        )?;
        Ok(kept_view(&stored))
    }
}

fn find(state: &State, id: &str) -> Result<ProjectView, ChangeError> {
    if let Some(entry) = state.declared.base.projects.iter().find(|entry| entry.project.id == id) {
        return Ok(declared_view(state, &entry.project));
    }
    if let Some(stored) = state.kept.projects.get(id) {
        return Ok(kept_view(stored));
    }
    let declared = state.declared.base.projects.iter().map(|entry| &entry.project.id);
    let known = known(declared.chain(state.kept.projects.keys()));
    Err(ChangeError::Unknown(format!("there is no project `{id}`; {known}")))
}

fn declared(state: &State, what: String) -> ChangeError {
    ChangeError::Declared { what, file: state.declared.file.clone() }
}

fn declared_view(state: &State, project: &Project) -> ProjectView {
    ProjectView {
        project: project.clone(),
        file: Some(state.declared.file.clone()),
        created_at: None,
        updated_at: None,
    }
}

fn kept_view(stored: &StoredProject) -> ProjectView {
    ProjectView {
        project: stored.project.clone(),
        file: None,
        created_at: Some(stored.created_at.clone()),
        updated_at: Some(stored.updated_at.clone()),
    }
}

fn key_view(key: &StoredKey) -> KeyView {
    KeyView {
        key_id: key.key_id.clone(),
        name: key.name.clone(),
        prefix: Some(key.prefix.clone()),
        source: Source::Api,
        created_at: Some(key.created_at.clone()),
        expires_at: key.expires_at_ms.and_then(rfc3339),
        revoked_at: key.revoked_at.clone(),
    }
}

fn rfc3339(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|time| format!("{time:.3}"))
}

/// When the key to be made ends, in unix milliseconds.
fn check_new(new: &NewKey) -> Result<Option<i64>, ChangeError> {
    let mut problems = Vec::new();
    let mut ends_ms = None;
    if let Some(text) = &new.expires_at {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) if time > jiff::Timestamp::now() => ends_ms = Some(time.as_millisecond()),
            Ok(_) => problems.push(Problem::new("expires_at", "is over already: give a time to come")),
            Err(_) => problems.push(Problem::new(
                "expires_at",
                "not an RFC 3339 time: write it like `2030-01-31T00:00:00Z`",
            )),
        }
    }
    if new.name.as_ref().is_some_and(|name| name.chars().count() > KEY_NAME_CHARS_MAX) {
        let message = format!("is longer than {KEY_NAME_CHARS_MAX} characters: shorten it");
        problems.push(Problem::new("name", message));
    }
    if problems.is_empty() { Ok(ends_ms) } else { Err(ChangeError::Problems(problems)) }
}

fn admin_event(action: &str, author: &Author, subject: &str, project_id: &str, at: &str) -> AuditEvent {
    let change = ChangeInfo { subject: subject.to_owned(), ..ChangeInfo::default() };
    let mut told = event(EventType::Admin, action, author, change, at);
    told.project_id = Some(project_id.to_owned());
    told
}

/// Paths of a section without a name begin with a dot.
fn plain(problems: Vec<Problem>) -> Vec<Problem> {
    let bare =
        |problem: Problem| Problem { path: problem.path.trim_start_matches('.').to_owned(), ..problem };
    problems.into_iter().map(bare).collect()
}

/// Messages about the one project that the caller has named anyway.
fn own(problems: Vec<Problem>) -> Vec<Problem> {
    let bare = |problem: Problem| match problem.message.split_once(", which the management API created: ") {
        Some((_, message)) => Problem { message: message.to_owned(), ..problem },
        None => problem,
    };
    problems.into_iter().map(bare).collect()
}
