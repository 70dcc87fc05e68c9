//! The routes of the management API: one table that requests are dispatched by, that roles are checked against and that
//! the API's description is made from, so that the three cannot differ.

mod find;

use http::Method;
use schemars::{Schema, SchemaGenerator};

use crate::config::Role;
use crate::routes::{checkpoints, escalations, exports, history, policies, projects, simulate, usage};

pub(crate) use find::{Found, find};

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    SaveConfig,
    ReadConfig,
    ListPolicies,
    ListRevisions,
    PromoteRevision,
    RollBack,
    AbortCandidate,
    DiffRevisions,
    Simulate,
    CreateProject,
    ListProjects,
    ReadProject,
    PatchProject,
    CreateKey,
    ListKeys,
    RotateKey,
    RevokeKey,
    CreateExport,
    ListExports,
    ReadExport,
    PatchExport,
    DeleteExport,
    ExportStatus,
    TestExport,
    ReplayExport,
    ListEscalations,
    ReadEscalation,
    ApproveEscalation,
    DenyEscalation,
    History,
    Audit,
    ListCheckpoints,
    Usage,
}

impl Operation {
    /// Whether it changes something, in a moment.
    pub(crate) fn must_end(self) -> bool {
        match self {
            Self::SaveConfig
            | Self::PromoteRevision
            | Self::RollBack
            | Self::AbortCandidate
            | Self::CreateProject
            | Self::PatchProject
            | Self::CreateKey
            | Self::RotateKey
            | Self::RevokeKey
            | Self::CreateExport
            | Self::PatchExport
            | Self::DeleteExport
            | Self::ApproveEscalation
            | Self::DenyEscalation => true,
            Self::ReadConfig
            | Self::ListPolicies
            | Self::ListRevisions
            | Self::DiffRevisions
            | Self::Simulate
            | Self::ListProjects
            | Self::ReadProject
            | Self::ListKeys
            | Self::ListExports
            | Self::ReadExport
            | Self::ExportStatus
            | Self::TestExport
            | Self::ReplayExport
            | Self::ListEscalations
            | Self::ReadEscalation
            | Self::History
            | Self::Audit
            | Self::ListCheckpoints
            | Self::Usage => false,
        }
    }

    /// Whether its answer holds a secret.
    pub(crate) fn answers_secret(self) -> bool {
        matches!(self, Self::CreateKey | Self::RotateKey)
    }

    /// Whether it takes the `ETag` of what was seen.
    pub(crate) fn takes_tag(self) -> bool {
        matches!(
            self,
            Self::SaveConfig
                | Self::PromoteRevision
                | Self::RollBack
                | Self::AbortCandidate
                | Self::PatchProject
                | Self::PatchExport
                | Self::DeleteExport
        )
    }
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// Every role.
    Read,
    /// Whoever changes and operates what is governed: `admin` and `editor`.
    Edit,
    /// Whoever decides on escalations: `admin` and `reviewer`.
    Review,
}

impl Access {
    /// Whether the role may.
    pub(crate) fn allows(self, role: Role) -> bool {
        match self {
            Self::Read => true,
            Self::Edit => matches!(role, Role::Admin | Role::Editor),
            Self::Review => matches!(role, Role::Admin | Role::Reviewer),
        }
    }

    /// The roles that may, for people.
    pub(crate) fn roles(self) -> &'static str {
        match self {
            Self::Read => "`admin`, `editor`, `reviewer` or `auditor`",
            Self::Edit => "`admin` or `editor`",
            Self::Review => "`admin` or `reviewer`",
        }
    }
}

/// A part of the URL's query.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) required: bool,
}

/// Makes the schema of a body.
pub(crate) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// One row of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// Below [`PREFIX`]; `{name}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) operation: Operation,
    pub(crate) access: Access,
    /// One sentence.
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Option<Describe>,
    pub(crate) answer: Describe,
}

const fn parameter(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, required: false }
}

/// What `history` and `audit` filter by.
const FILTERS: &[Parameter] = &[
    parameter("policy_id", "Only this policy."),
    parameter("project_id", "Only this project."),
    parameter("policy_user", "Only this end user."),
    parameter("decision", "Only this decision."),
    parameter("event_type", "Only this type."),
    parameter("event_id", "Only this event."),
    parameter("request_id", "Only events of this request."),
    parameter("from", "Only from this time on, RFC 3339."),
    parameter("to", "Only before this time, RFC 3339."),
    parameter("limit", "At most so many, 1 to 1000; 100 where absent."),
    parameter("cursor", "What `next` of the page before said."),
];

/// What `usage` takes.
const USAGE: &[Parameter] = &[
    parameter("from", "Only from this day on (UTC): a date, or an RFC 3339 time in it. Absent: all time."),
    parameter("to", "Only before this day; the day of a time past midnight is still counted."),
    parameter(
        "group_by",
        "Any of project, user, key, model, policy, day with commas between them; absent: one row.",
    ),
    parameter("project_id", "Only this project."),
    parameter("policy_id", "Only this policy."),
    parameter("policy_user", "Only this end user."),
    parameter("model", "Only this model."),
    parameter("key_id", "Only this key, by its public id."),
    parameter("limit", "At most so many rows, 1 to 10000; where absent 1000, of CSV 10000."),
    parameter("cursor", "What `next` (of CSV, the header `x-next-cursor`) of the page before said."),
    parameter("format", "json or csv; absent: by `Accept`, else json."),
];
const LIMIT: Parameter = parameter("limit", "At most so many, 1 to 1000; 100 where absent.");
const CURSOR: Parameter = parameter("cursor", "What `next` of the page before said.");
const SOURCE: Parameter = parameter("source", "Only these: `api` or `file`.");

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "config",
        operation: Operation::SaveConfig,
        access: Access::Edit,
        summary: "Save a policy document as a new revision: stable with its rollout off, else the candidate.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<policies::SaveBody>()),
        answer: |schemas| schemas.subschema_for::<policies::Config>(),
    },
    Route {
        method: Method::GET,
        path: "config",
        operation: Operation::ReadConfig,
        access: Access::Read,
        summary: "A policy document and where it stands.",
        query: &[
            Parameter { name: "policy_id", about: "The policy.", required: true },
            parameter("revision", "A revision; absent: the newest in force."),
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<policies::Config>(),
    },
    Route {
        method: Method::GET,
        path: "policies",
        operation: Operation::ListPolicies,
        access: Access::Read,
        summary: "The policies and which of their revisions are in force.",
        query: &[SOURCE, LIMIT, CURSOR],
        body: None,
        answer: |schemas| schemas.subschema_for::<policies::Policies>(),
    },
    Route {
        method: Method::GET,
        path: "policies/{id}/revisions",
        operation: Operation::ListRevisions,
        access: Access::Read,
        summary: "A policy's revisions and its log of changes, newest first.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<policies::Revisions>(),
    },
    Route {
        method: Method::POST,
        path: "policies/{id}/revisions/{revision}/promote",
        operation: Operation::PromoteRevision,
        access: Access::Edit,
        summary: "Make a revision stable. That ends the candidate.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<policies::PromoteBody>()),
        answer: |schemas| schemas.subschema_for::<policies::Config>(),
    },
    Route {
        method: Method::POST,
        path: "policies/{id}/rollback",
        operation: Operation::RollBack,
        access: Access::Edit,
        summary: "End the candidate, or return to an earlier stable revision.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<policies::RollbackBody>()),
        answer: |schemas| schemas.subschema_for::<policies::Config>(),
    },
    Route {
        method: Method::POST,
        path: "policies/{id}/abort",
        operation: Operation::AbortCandidate,
        access: Access::Edit,
        summary: "End the candidate.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<policies::PromoteBody>()),
        answer: |schemas| schemas.subschema_for::<policies::Config>(),
    },
    Route {
        method: Method::GET,
        path: "policies/{id}/diff",
        operation: Operation::DiffRevisions,
        access: Access::Read,
        summary: "What lies between two revisions.",
        query: &[
            parameter("from", "A revision; absent: the stable one."),
            parameter("to", "A revision; absent: the candidate, else the newest."),
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<policies::Diff>(),
    },
    Route {
        method: Method::POST,
        path: "simulate",
        operation: Operation::Simulate,
        access: Access::Edit,
        summary: "Judge messages by a document or a revision, with the reasons and without any effect.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<simulate::SimulateBody>()),
        answer: |schemas| schemas.subschema_for::<simulate::Simulation>(),
    },
    Route {
        method: Method::POST,
        path: "projects",
        operation: Operation::CreateProject,
        access: Access::Edit,
        summary: "Make a project.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<projects::ProjectBody>()),
        answer: |schemas| schemas.subschema_for::<projects::Project>(),
    },
    Route {
        method: Method::GET,
        path: "projects",
        operation: Operation::ListProjects,
        access: Access::Read,
        summary: "The projects.",
        query: &[
            parameter("status", "Only these: `active` or `disabled`."),
            parameter("policy_id", "Only those with this policy."),
            SOURCE,
            LIMIT,
            CURSOR,
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<projects::Projects>(),
    },
    Route {
        method: Method::GET,
        path: "projects/{id}",
        operation: Operation::ReadProject,
        access: Access::Read,
        summary: "One project.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<projects::Project>(),
    },
    Route {
        method: Method::PATCH,
        path: "projects/{id}",
        operation: Operation::PatchProject,
        access: Access::Edit,
        summary: "Change a project.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<projects::PatchBody>()),
        answer: |schemas| schemas.subschema_for::<projects::Project>(),
    },
    Route {
        method: Method::POST,
        path: "projects/{id}/keys",
        operation: Operation::CreateKey,
        access: Access::Edit,
        summary: "Make a key. It is shown this once only.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<projects::KeyBody>()),
        answer: |schemas| schemas.subschema_for::<projects::MadeKey>(),
    },
    Route {
        method: Method::GET,
        path: "projects/{id}/keys",
        operation: Operation::ListKeys,
        access: Access::Read,
        summary: "A project's keys, without the keys themselves.",
        query: &[parameter("status", "Only these: `active`, `revoked` or `expired`."), LIMIT, CURSOR],
        body: None,
        answer: |schemas| schemas.subschema_for::<projects::Keys>(),
    },
    Route {
        method: Method::POST,
        path: "projects/{id}/keys/{key_id}/rotate",
        operation: Operation::RotateKey,
        access: Access::Edit,
        summary: "Make a key that follows this one, which is good for `overlap_seconds` still.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<projects::RotateBody>()),
        answer: |schemas| schemas.subschema_for::<projects::MadeKey>(),
    },
    Route {
        method: Method::DELETE,
        path: "projects/{id}/keys/{key_id}",
        operation: Operation::RevokeKey,
        access: Access::Edit,
        summary: "Take a key back: the next request with it is refused.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<projects::Key>(),
    },
    Route {
        method: Method::POST,
        path: "exports",
        operation: Operation::CreateExport,
        access: Access::Edit,
        summary: "Make a destination. Its secrets are never answered.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<exports::CreateBody>()),
        answer: |schemas| schemas.subschema_for::<exports::Entry>(),
    },
    Route {
        method: Method::GET,
        path: "exports",
        operation: Operation::ListExports,
        access: Access::Read,
        summary: "The destinations and how they are doing.",
        query: &[
            SOURCE,
            parameter("state", "Only in this state: `running`, `retrying` or `held`."),
            parameter("destination", "Only of this kind."),
            LIMIT,
            CURSOR,
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<exports::List>(),
    },
    Route {
        method: Method::GET,
        path: "exports/{id}",
        operation: Operation::ReadExport,
        access: Access::Read,
        summary: "One destination and how it is doing.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<exports::Entry>(),
    },
    Route {
        method: Method::PATCH,
        path: "exports/{id}",
        operation: Operation::PatchExport,
        access: Access::Edit,
        summary: "Change a destination. It goes on where it is in the log.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<exports::PatchBody>()),
        answer: |schemas| schemas.subschema_for::<exports::Entry>(),
    },
    Route {
        method: Method::DELETE,
        path: "exports/{id}",
        operation: Operation::DeleteExport,
        access: Access::Edit,
        summary: "Delete a destination. With events still to deliver it must be confirmed.",
        query: &[parameter("confirm", "`true`: even with events still to deliver.")],
        body: None,
        answer: |schemas| schemas.subschema_for::<exports::Deleted>(),
    },
    Route {
        method: Method::GET,
        path: "exports/{id}/status",
        operation: Operation::ExportStatus,
        access: Access::Read,
        summary: "What a destination accepted, has delivered, still has to deliver, and would not take.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<exports::Status>(),
    },
    Route {
        method: Method::POST,
        path: "exports/{id}/test",
        operation: Operation::TestExport,
        access: Access::Edit,
        summary: "Send one synthetic event and say what came of it.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<exports::Test>(),
    },
    Route {
        method: Method::POST,
        path: "exports/{id}/replay",
        operation: Operation::ReplayExport,
        access: Access::Edit,
        summary: "Send events again: a range by `seq`, or the dead letters.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<exports::ReplayBody>()),
        answer: |schemas| schemas.subschema_for::<exports::Replayed>(),
    },
    Route {
        method: Method::GET,
        path: "escalations",
        operation: Operation::ListEscalations,
        access: Access::Read,
        summary: "Requests that wait for a review or had one, newest first.",
        query: &[
            parameter("state", "Only in this state: open, approved, denied or expired."),
            parameter("policy_id", "Only of this policy."),
            parameter("project_id", "Only of this project."),
            parameter("limit", "At most so many, 1 to 1000; 100 where absent."),
            parameter("cursor", "What `next` of the page before said."),
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<escalations::Page>(),
    },
    Route {
        method: Method::GET,
        path: "escalations/{id}",
        operation: Operation::ReadEscalation,
        access: Access::Read,
        summary: "One of them, with the judged messages where the policy keeps them and the role may read them.",
        query: &[],
        body: None,
        answer: |schemas| schemas.subschema_for::<escalations::Entry>(),
    },
    Route {
        method: Method::POST,
        path: "escalations/{id}/approve",
        operation: Operation::ApproveEscalation,
        access: Access::Review,
        summary: "Let the same request pass for the policy's `grant_minutes`.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<escalations::DecisionBody>()),
        answer: |schemas| schemas.subschema_for::<escalations::Entry>(),
    },
    Route {
        method: Method::POST,
        path: "escalations/{id}/deny",
        operation: Operation::DenyEscalation,
        access: Access::Review,
        summary: "Refuse the same request for the policy's `sla_minutes`.",
        query: &[],
        body: Some(|schemas| schemas.subschema_for::<escalations::DecisionBody>()),
        answer: |schemas| schemas.subschema_for::<escalations::Entry>(),
    },
    Route {
        method: Method::GET,
        path: "history",
        operation: Operation::History,
        access: Access::Read,
        summary: "What policies did and what became of them, newest first.",
        query: FILTERS,
        body: None,
        answer: |schemas| schemas.subschema_for::<history::Page>(),
    },
    Route {
        method: Method::GET,
        path: "audit",
        operation: Operation::Audit,
        access: Access::Read,
        summary: "All events of the audit log, newest first.",
        query: FILTERS,
        body: None,
        answer: |schemas| schemas.subschema_for::<history::Page>(),
    },
    Route {
        method: Method::GET,
        path: "audit/checkpoints",
        operation: Operation::ListCheckpoints,
        access: Access::Read,
        summary: "Signed checkpoints of the audit log, newest first.",
        query: &[
            parameter("limit", "At most so many, 1 to 1000; 100 where absent."),
            parameter("cursor", "What `next` of the page before said."),
        ],
        body: None,
        answer: |schemas| schemas.subschema_for::<checkpoints::Page>(),
    },
    Route {
        method: Method::GET,
        path: "usage",
        operation: Operation::Usage,
        access: Access::Read,
        summary: "Requests, tokens and cost, summed up by day and what else is asked for.",
        query: USAGE,
        body: None,
        answer: |schemas| schemas.subschema_for::<usage::Report>(),
    },
];
