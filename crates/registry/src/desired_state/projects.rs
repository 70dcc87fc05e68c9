//! Projects through the API. Their keys are in `keys`.

use audit::event::{AuditEvent, ChangeInfo, EventType};
use policy::problems::Problem;

use super::{Author, ChangeError, DesiredState, State, digest_of, event, known, now, plain, tag_of};
use crate::budget::BudgetConfig;
use crate::config::{EntitlementsConfig, ProjectConfig};
use crate::kept::{Change, Edit, StoredProject};
use crate::project::{Entitlements, Project, ProjectStatus};

/// Characters in the name of a project.
const NAME_CHARS_MAX: usize = 200;
/// Bytes of its description: a page.
const DESCRIPTION_BYTES_MAX: usize = 4000;
/// Entries of one list of entitlements.
const ENTITLEMENTS_MAX: usize = 1000;

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
    /// Tells this state of it from others.
    pub tag: String,
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
    /// The plan that its keys are on; `Some(None)`: none from now on.
    pub plan: Option<Option<String>>,
    /// The tag of the state that the caller had seen. None: whatever it is.
    pub expected: Option<String>,
}

impl DesiredState {
    /// All projects, by id.
    pub async fn projects(&self) -> Vec<ProjectView> {
        let state = self.lock().await;
        let declared = state.declared.base.projects.iter().map(|entry| declared_view(&state, &entry.project));
        let mut all: Vec<ProjectView> = declared.chain(state.kept.projects.values().map(kept_view)).collect();
        all.sort_by(|left, right| left.project.id.cmp(&right.project.id));
        all
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
        check_sizes(&stored.project)?;
        self.set_project(&mut state, None, stored, author, &at).await
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
        if patch.expected.is_some_and(|expected| expected != kept_view(&before).tag) {
            return Err(ChangeError::Stale(format!("project `{id}`")));
        }
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
        if let Some(plan) = patch.plan {
            project.plan = plan;
        }
        check_sizes(&project)?;
        if project == before.project {
            return Ok(kept_view(&before));
        }
        let at = now();
        let digest = digest_of(&before.project);
        let stored = StoredProject { project, updated_at: at.clone(), ..before };
        self.set_project(&mut state, Some(digest), stored, author, &at).await
    }

    async fn set_project(
        &self,
        state: &mut State,
        digest_before: Option<String>,
        stored: StoredProject,
        author: &Author,
        at: &str,
    ) -> Result<ProjectView, ChangeError> {
        let id = &stored.project.id;
        let action = if digest_before.is_some() { "PROJECT_UPDATED" } else { "PROJECT_CREATED" };
        let change = ChangeInfo {
            subject: format!("project {id}"),
            digest_before,
            digest_after: Some(digest_of(&stored.project)),
            ..ChangeInfo::default()
        };
        let told = project_event(action, author, change, id, at);
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

pub(super) fn find(state: &State, id: &str) -> Result<ProjectView, ChangeError> {
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

pub(super) fn declared(state: &State, what: String) -> ChangeError {
    ChangeError::Declared { what, file: state.declared.file.clone() }
}

fn declared_view(state: &State, project: &Project) -> ProjectView {
    ProjectView {
        project: project.clone(),
        file: Some(state.declared.file.clone()),
        created_at: None,
        updated_at: None,
        tag: tag_of(&digest_of(project)),
    }
}

fn kept_view(stored: &StoredProject) -> ProjectView {
    ProjectView {
        project: stored.project.clone(),
        file: None,
        created_at: Some(stored.created_at.clone()),
        updated_at: Some(stored.updated_at.clone()),
        tag: tag_of(&digest_of(&stored.project)),
    }
}

/// What the configuration leaves to whoever writes the file, and the API bounds.
fn check_sizes(project: &Project) -> Result<(), ChangeError> {
    let mut problems = Vec::new();
    if project.name.chars().count() > NAME_CHARS_MAX {
        problems
            .push(Problem::new("name", format!("is longer than {NAME_CHARS_MAX} characters: shorten it")));
    }
    if project.description.len() > DESCRIPTION_BYTES_MAX {
        let message = format!("is longer than {DESCRIPTION_BYTES_MAX} bytes: shorten it");
        problems.push(Problem::new("description", message));
    }
    let entitlements = &project.entitlements;
    for (name, list) in [
        ("policies", &entitlements.policies),
        ("projects", &entitlements.projects),
        ("models", &entitlements.models),
        ("upstreams", &entitlements.upstreams),
    ] {
        if list.len() > ENTITLEMENTS_MAX {
            let message = format!("has more than {ENTITLEMENTS_MAX} entries: `*` stands for everything");
            problems.push(Problem::new(format!("entitlements.{name}"), message));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ChangeError::Problems(problems)) }
}

/// An `admin` event about a project or what is its own.
pub(super) fn project_event(
    action: &str,
    author: &Author,
    change: ChangeInfo,
    project_id: &str,
    at: &str,
) -> AuditEvent {
    let mut told = event(EventType::Admin, action, author, change, at);
    told.project_id = Some(project_id.to_owned());
    told
}

/// Messages about the one project that the caller has named anyway.
fn own(problems: Vec<Problem>) -> Vec<Problem> {
    let bare = |problem: Problem| match problem.message.split_once(", which the management API created: ") {
        Some((_, message)) => Problem { message: message.to_owned(), ..problem },
        None => problem,
    };
    problems.into_iter().map(bare).collect()
}
