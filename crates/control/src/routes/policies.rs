//! `config` and `policies`: documents saved as revisions, which of them are in force, and what lies between two of them.

use audit::event::RolloutMode;
use bytes::Bytes;
use http::header::IF_MATCH;
use http::{HeaderMap, Response};
use policy::PolicyDocument;
use registry::DesiredState;
use registry::desired_state::{Author, ChangeError, PolicyView, RevisionView, Save, Saved};
use registry::kept::StateChange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reply::{Failure, ok, tagged};
use crate::routes::difference::{Changed, changes, unified};
use crate::routes::{Page, Query, one_of, read_body, read_optional};

/// A document to be saved.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaveBody {
    /// The policy document.
    #[schemars(with = "serde_json::Map<String, Value>")]
    config: Value,
    /// The newest revision that was seen, 0 for none: a save that comes after another one is answered 409. The header
    /// `If-Match: "N"` says the same.
    expected_revision: Option<u64>,
    /// Whether the document may be a candidate without a stable revision: it is logged only then.
    #[serde(default)]
    allow_without_stable: bool,
}

/// A revision and where it stands.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Config {
    /// The policy document.
    #[schemars(with = "serde_json::Map<String, Value>")]
    config: Value,
    /// The revision's number.
    revision: u64,
    /// `stable`, `candidate`, or `inactive` for one that is history.
    #[schemars(with = "String")]
    state: &'static str,
    /// When the policy was made.
    created_at: String,
    /// When what is in force of it changed.
    updated_at: String,
    /// The policy's newest revision: what a save expects.
    newest_revision: u64,
    /// Who saved it: the name of an admin token, or the policy file.
    author: String,
    /// Digest of the document, SHA-256 in hex.
    digest: String,
    /// The same without its `rollout`.
    digest_without_rollout: String,
    /// `api`, or `file` where the policy is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// A page of policies, by id.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Policies {
    policies: Vec<Policy>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// A policy and what is in force of it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Policy {
    policy_id: String,
    name: Option<String>,
    owner: Option<String>,
    /// The revision that is applied.
    stable: Option<u64>,
    /// The revision that is tried out beside it.
    candidate: Option<u64>,
    newest_revision: u64,
    /// `api`, or `file` where the policy is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    created_at: String,
    updated_at: String,
}

/// A policy's revisions and its log of changes, the newest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Revisions {
    policy_id: String,
    revisions: Vec<Revision>,
    changes: Vec<Change>,
}

/// One revision. Its document is at `config?policy_id=&revision=`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Revision {
    revision: u64,
    /// `stable`, `candidate` or `inactive`.
    #[schemars(with = "String")]
    state: &'static str,
    digest: String,
    digest_without_rollout: String,
    author: String,
    created_at: String,
}

/// One change of what is in force.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Change {
    at: String,
    author: String,
    /// `REVISION_SAVED`, `REVISION_PROMOTED`, `REVISION_ROLLED_BACK`, `REVISION_ABORTED` or `POLICY_REMOVED`.
    action: String,
    stable: Option<u64>,
    candidate: Option<u64>,
}

/// What lies between two revisions.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Diff {
    policy_id: String,
    from: u64,
    to: u64,
    /// Each value that differs, by its JSON pointer.
    changes: Vec<Changed>,
    /// The same as a unified diff of both documents.
    unified: String,
}

/// What a promotion may be told.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromoteBody {
    /// The newest revision that was seen.
    expected_revision: Option<u64>,
}

/// Where to roll back to.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackBody {
    /// A revision. Absent: the candidate ends or, where there is none, the stable revision before is stable again.
    to: Option<u64>,
    /// The newest revision that was seen.
    expected_revision: Option<u64>,
}

pub(crate) async fn save(
    state: &DesiredState,
    headers: &HeaderMap,
    body: &[u8],
    author: Author,
) -> Result<Response<Bytes>, Failure> {
    let body: SaveBody = read_body(body, "send {\"config\": DOCUMENT}")?;
    let expected = expected(headers, body.expected_revision)?;
    let allow_without_stable = body.allow_without_stable;
    let save = Save { document: body.config, expected, allow_without_stable, author };
    match state.save(save).await {
        Ok(saved) => answer(saved),
        Err(error) => Err(refused(state, error).await),
    }
}

pub(crate) async fn read(state: &DesiredState, query: Option<&str>) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["policy_id", "revision"])?;
    let revision = query.number("revision")?;
    let Some(policy_id) = query.take("policy_id") else {
        let ids: Vec<String> =
            state.policies().await.into_iter().map(|view| format!("`{}`", view.policy.policy_id)).collect();
        let known =
            if ids.is_empty() { "there is none yet".into() } else { format!("there is {}", ids.join(", ")) };
        return Err(Failure::bad_request(format!("say which policy: `config?policy_id=ID`; {known}")));
    };
    answer(state.revision(&policy_id, revision).await?)
}

pub(crate) async fn list(state: &DesiredState, query: Option<&str>) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["source", "limit", "cursor"])?;
    let source = one_of(&mut query, "source", &["api", "file"])?;
    let page = Page::read(&mut query)?;
    let fits = |view: &PolicyView| source.is_none_or(|source| view.policy.source.as_str() == source);
    let id = |view: &PolicyView| view.policy.policy_id.clone();
    let (policies, next) = page.cut(state.policies().await, id, fits)?;
    Ok(ok(&Policies { policies: policies.into_iter().map(Policy::from).collect(), next }))
}

pub(crate) async fn revisions(state: &DesiredState, policy_id: &str) -> Result<Response<Bytes>, Failure> {
    let (view, revisions, changes) = state.revisions(policy_id).await?;
    Ok(ok(&Revisions {
        policy_id: view.policy.policy_id,
        revisions: revisions.into_iter().map(Revision::from).collect(),
        changes: changes.into_iter().map(Change::from).collect(),
    }))
}

pub(crate) async fn promote(
    state: &DesiredState,
    (policy_id, number): (&str, &str),
    headers: &HeaderMap,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let number = revision_number(number)?;
    let body: PromoteBody = read_optional(body, "send {} or {\"expected_revision\": N}")?;
    let expected = expected(headers, body.expected_revision)?;
    match state.promote(policy_id, number, expected, author).await {
        Ok(saved) => answer(saved),
        Err(error) => Err(refused(state, error).await),
    }
}

pub(crate) async fn roll_back(
    state: &DesiredState,
    policy_id: &str,
    headers: &HeaderMap,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: RollbackBody = read_optional(body, "send {} or {\"to\": REVISION}")?;
    let expected = expected(headers, body.expected_revision)?;
    match state.roll_back(policy_id, body.to, expected, author).await {
        Ok(saved) => answer(saved),
        Err(error) => Err(refused(state, error).await),
    }
}

pub(crate) async fn abort(
    state: &DesiredState,
    policy_id: &str,
    headers: &HeaderMap,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let body: PromoteBody = read_optional(body, "send {} or {\"expected_revision\": N}")?;
    let expected = expected(headers, body.expected_revision)?;
    match state.abort(policy_id, expected, author).await {
        Ok(saved) => answer(saved),
        Err(error) => Err(refused(state, error).await),
    }
}

pub(crate) async fn diff(
    state: &DesiredState,
    policy_id: &str,
    query: Option<&str>,
) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["from", "to"])?;
    let (from, to) = (query.number("from")?, query.number("to")?);
    let between = state.difference(policy_id, from, to).await?;
    let (before, after) = (document(&between.from.document), document(&between.to.document));
    let title = |number: u64| format!("{policy_id} revision {number}");
    Ok(ok(&Diff {
        policy_id: policy_id.to_owned(),
        from: between.from.number,
        to: between.to.number,
        changes: changes(&before, &after),
        unified: unified(&before, &after, &title(between.from.number), &title(between.to.number)),
    }))
}

/// How a document that is not in force would be applied.
pub(crate) fn mode_of(document: &PolicyDocument) -> RolloutMode {
    if document.rollout.canary.enabled {
        RolloutMode::Canary
    } else if document.rollout.shadow.enabled {
        RolloutMode::Shadow
    } else {
        RolloutMode::Enforced
    }
}

fn answer(saved: Saved) -> Result<Response<Bytes>, Failure> {
    let newest = saved.policy.newest;
    Ok(tagged(ok(&Config::from(saved)), &newest.to_string()))
}

/// A change that came too late is answered with what is there now.
async fn refused(state: &DesiredState, error: ChangeError) -> Failure {
    let ChangeError::Moved { policy_id, newest, .. } = &error else { return error.into() };
    let current = state.revision(policy_id, Some(*newest)).await.ok();
    let current = current.and_then(|saved| serde_json::to_value(Config::from(saved)).ok());
    Failure::from(error).with_current(current)
}

/// What the caller had seen, by header or body.
fn expected(headers: &HeaderMap, in_body: Option<u64>) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(in_body) };
    let wrong = || Failure::bad_request("`If-Match` is the revision that was seen: write it like `\"3\"`");
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let in_header: u64 = number.parse().map_err(|_| wrong())?;
    match in_body {
        Some(other) if other != in_header => {
            let message = "`If-Match` and `expected_revision` name different revisions: send one of them";
            Err(Failure::bad_request(message))
        }
        _ => Ok(Some(in_header)),
    }
}

fn revision_number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::bad_request("a revision is a whole number from 1 on"))
}

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

impl From<Saved> for Config {
    fn from(saved: Saved) -> Self {
        let Saved { policy, revision, standing, file } = saved;
        Self {
            config: document(&revision.document),
            revision: revision.number,
            state: standing.as_str(),
            created_at: policy.created_at,
            updated_at: policy.updated_at,
            newest_revision: policy.newest,
            author: revision.author,
            digest: revision.digest,
            digest_without_rollout: revision.digest_without_rollout,
            source: policy.source.as_str(),
            file,
        }
    }
}

impl From<PolicyView> for Policy {
    fn from(view: PolicyView) -> Self {
        let PolicyView { policy, file, document } = view;
        Self {
            policy_id: policy.policy_id,
            name: document.as_ref().and_then(|document| document.name.clone()),
            owner: document.and_then(|document| document.owner),
            stable: policy.stable,
            candidate: policy.candidate,
            newest_revision: policy.newest,
            source: policy.source.as_str(),
            file,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
        }
    }
}

impl From<RevisionView> for Revision {
    fn from(view: RevisionView) -> Self {
        let RevisionView { revision, standing } = view;
        Self {
            revision: revision.number,
            state: standing.as_str(),
            digest: revision.digest,
            digest_without_rollout: revision.digest_without_rollout,
            author: revision.author,
            created_at: revision.created_at,
        }
    }
}

impl From<StateChange> for Change {
    fn from(change: StateChange) -> Self {
        let StateChange { at, author, action, stable, candidate } = change;
        Self { at, author, action, stable, candidate }
    }
}
