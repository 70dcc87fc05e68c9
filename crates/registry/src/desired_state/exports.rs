//! Destinations through the API: what may be written, what is kept of it, and what that comes to. A literal secret is
//! encrypted before it is kept, and none is ever shown. Running them is not done here.

use std::sync::Arc;

use audit::egress::Egress;
use audit::event::ChangeInfo;
use audit::export::{ExportConfig, each_secret, take_secrets};
use audit::seal::Sealer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::problems::Problem;
use serde_json::{Map, Value};
use tokio::sync::OwnedMutexGuard;

use super::{Author, ChangeError, Declared, DesiredState, State, digest_of, now, plain, tag_of};
use crate::kept::{Change, Edit, Kept, StateStore, StoredExport};

/// What an encrypted secret starts with where it is kept. What the API is sent is encrypted whatever it starts with.
const SEALED: &str = "sealed:1:";
/// Kinds that write where the gateway runs, or speak to hosts that no URL names: these are the operator's to declare.
const FILE_ONLY: [&str; 2] = ["stdout", "file"];
/// Destinations that the API may make: each has a task and reads the log on its own.
const EXPORTS_MAX: usize = 64;

/// What destinations of the management API may reach and read.
#[derive(Clone, Debug, Default)]
pub struct ExportRules {
    /// Where they may go.
    pub egress: Egress,
    /// Environment variables that they may name.
    pub env: Vec<String>,
    /// Encrypts literal secrets; none where the configuration has no `secrets_key`.
    pub sealer: Option<Sealer>,
}

/// A destination that the API made, as it is shown: without secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportView {
    /// Its id.
    pub id: String,
    /// Its configuration without its secrets.
    pub config: Value,
    /// Paths of the secrets that it has.
    pub secrets: Vec<String>,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// RFC 3339 UTC.
    pub updated_at: String,
    /// Tells this state of it from others.
    pub tag: String,
}

/// What is to become of the destinations.
#[derive(Clone, Debug)]
pub enum ExportChange {
    /// A new one.
    Create(Value),
    /// Other values of some fields; null takes a field away.
    Patch {
        /// Which.
        id: String,
        /// The fields.
        patch: Value,
        /// The tag that the caller had seen.
        expected: Option<String>,
    },
    /// One is no more.
    Remove {
        /// Which.
        id: String,
        /// The tag that the caller had seen.
        expected: Option<String>,
    },
}

/// A change that holds. Nothing else changes meanwhile.
pub struct PreparedExport {
    state: OwnedMutexGuard<State>,
    store: Arc<dyn StateStore>,
    change: Change,
    view: ExportView,
    config: Option<ExportConfig>,
}

impl PreparedExport {
    /// The destination as it will be; none where it is removed.
    pub fn config(&self) -> Option<&ExportConfig> {
        self.config.as_ref()
    }

    /// Makes it durable, with its event. It runs once the destinations in force are replaced.
    ///
    /// # Errors
    /// [`ChangeError::Store`]; nothing has changed then.
    pub async fn commit(mut self) -> Result<ExportView, ChangeError> {
        if !self.change.is_empty() {
            let edits = self.change.edits.clone();
            self.store.commit(self.change).await?;
            self.state.kept.apply(&edits);
        }
        Ok(self.view)
    }
}

impl DesiredState {
    /// The destinations that the API made, by id.
    pub async fn exports(&self) -> Vec<ExportView> {
        self.lock().await.kept.exports.values().map(view).collect()
    }

    /// The ids that the configuration file declares, and the file.
    pub async fn declared_exports(&self) -> (Vec<String>, String) {
        let state = self.lock().await;
        (state.declared.exports.clone(), state.declared.file.clone())
    }

    /// Those that the API made, ready to be run.
    ///
    /// # Errors
    /// [`ChangeError::Problems`] where the configuration no longer gives what one of them needs.
    pub async fn running_exports(&self) -> Result<Vec<ExportConfig>, ChangeError> {
        let state = self.lock().await;
        let rules = state.declared.export_rules.clone();
        running(&state.kept, &rules)
    }

    /// The same by another configuration's rules, to see whether they hold.
    ///
    /// # Errors
    /// As [`DesiredState::running_exports`].
    pub async fn exports_under(&self, rules: &ExportRules) -> Result<Vec<ExportConfig>, ChangeError> {
        running(&self.lock().await.kept, rules)
    }

    /// Checks a change of the destinations.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn prepare_export(
        &self,
        change: ExportChange,
        author: &Author,
    ) -> Result<PreparedExport, ChangeError> {
        let state = self.lock_owned().await;
        let at = now();
        let (id, before, after) = match change {
            ExportChange::Create(value) => {
                let (id, body) = created(&state, value)?;
                (id, None, Some(body))
            }
            ExportChange::Patch { id, patch, expected } => {
                let before = own(&state, &id, expected.as_deref())?.clone();
                let body = patched(&state, &before, patch)?;
                (id, Some(before), Some(body))
            }
            ExportChange::Remove { id, expected } => {
                let before = own(&state, &id, expected.as_deref())?.clone();
                (id, Some(before), None)
            }
        };
        let config = after.as_ref().map(|body| build(&id, body, &state.declared.export_rules)).transpose()?;
        let stored = after.map(|body| StoredExport {
            id: id.clone(),
            body: body.to_string(),
            created_at: before.as_ref().map_or_else(|| at.clone(), |before| before.created_at.clone()),
            updated_at: at.clone(),
        });
        let unchanged = match (&before, &stored) {
            (Some(before), Some(stored)) => before.body == stored.body,
            _ => false,
        };
        let shown = if unchanged { before.as_ref() } else { stored.as_ref().or(before.as_ref()) };
        let shown = shown.map(view).ok_or_else(|| unknown(&state, &id))?;
        let mut change = Change::default();
        if !unchanged {
            let (action, edit) = match (&before, stored.clone()) {
                (None, Some(stored)) => ("EXPORT_CREATED", Edit::AddExport(stored)),
                (Some(_), Some(stored)) => ("EXPORT_UPDATED", Edit::SetExport(stored)),
                (_, None) => ("EXPORT_DELETED", Edit::RemoveExport(id.clone())),
            };
            let told = ChangeInfo {
                subject: format!("destination {id}"),
                digest_before: before.as_ref().map(digest),
                digest_after: stored.as_ref().map(digest),
                ..ChangeInfo::default()
            };
            change.edits.push(edit);
            change.events.push(super::event(audit::event::EventType::Admin, action, author, told, &at));
        }
        Ok(PreparedExport { state, store: Arc::clone(&self.store), change, view: shown, config })
    }
}

/// Ids that a file declares although the API made such destinations: their cursors would be one.
pub(super) fn taken_ids(kept: &Kept, declared: &Declared) -> Vec<Problem> {
    let taken = declared.exports.iter().enumerate().filter(|(_, id)| kept.exports.contains_key(*id));
    taken
        .map(|(at, id)| {
            let message = format!(
                "the management API made a destination `{id}` already: give this one another `id`, or delete that one"
            );
            Problem::new(format!("exports[{at}].id"), message)
        })
        .collect()
}

fn running(kept: &Kept, rules: &ExportRules) -> Result<Vec<ExportConfig>, ChangeError> {
    build_exports(kept.exports.values(), rules)
}

/// Destinations that were kept, ready to be run by these rules.
///
/// # Errors
/// [`ChangeError::Problems`] with what the rules do not give.
pub fn build_exports<'a>(
    stored: impl IntoIterator<Item = &'a StoredExport>,
    rules: &ExportRules,
) -> Result<Vec<ExportConfig>, ChangeError> {
    let (mut exports, mut problems) = (Vec::new(), Vec::new());
    for stored in stored {
        let body = serde_json::from_str(&stored.body).unwrap_or(Value::Null);
        match build(&stored.id, &body, rules) {
            Ok(export) => exports.push(export),
            Err(error) => {
                let message = format!("destination `{}`, which the management API made: {error}", stored.id);
                problems.push(Problem::new("", message));
            }
        }
    }
    if problems.is_empty() { Ok(exports) } else { Err(ChangeError::Problems(problems)) }
}

/// The id and body of a new one.
fn created(state: &State, value: Value) -> Result<(String, Value), ChangeError> {
    let Value::Object(mut fields) = value else {
        return Err(problem("", "must be an object with a `destination`"));
    };
    if state.kept.exports.len() >= EXPORTS_MAX {
        let message = format!("there are {EXPORTS_MAX} destinations already: delete one");
        return Err(ChangeError::Conflict(message));
    }
    let id = match fields.get("id") {
        None | Some(Value::Null) => free_id(state, fields.get("destination")),
        Some(Value::String(id)) => id.clone(),
        Some(_) => return Err(problem("id", "must be a string")),
    };
    if state.declared.exports.contains(&id) {
        return Err(declared(state, &id));
    }
    if state.kept.exports.contains_key(&id) {
        let message = format!("there is a destination `{id}` already: change that one, or give another `id`");
        return Err(ChangeError::Conflict(message));
    }
    fields.insert("id".to_owned(), Value::String(id.clone()));
    let mut body = Value::Object(fields);
    seal(&id, &mut body, &state.declared.export_rules)?;
    Ok((id, body))
}

/// The name of the kind, or with a number where that is taken.
fn free_id(state: &State, kind: Option<&Value>) -> String {
    let name = kind.and_then(Value::as_str).unwrap_or("destination");
    let is_taken =
        |id: &String| state.declared.exports.contains(id) || state.kept.exports.contains_key(id.as_str());
    let mut ids = std::iter::once(name.to_owned()).chain((2..).map(|at| format!("{name}-{at}")));
    ids.find(|id| !is_taken(id)).unwrap_or_default()
}

/// The body with these fields changed. Secrets that are not given stay.
fn patched(state: &State, before: &StoredExport, patch: Value) -> Result<Value, ChangeError> {
    let Value::Object(fields) = patch else {
        return Err(problem("", "must be an object with the fields that are to change"));
    };
    let mut body: Map<String, Value> = serde_json::from_str(&before.body).unwrap_or_default();
    for name in ["id", "destination"] {
        if fields.get(name).is_some_and(|value| body.get(name) != Some(value)) {
            return Err(problem(name, "cannot be changed: make another destination, then delete this one"));
        }
    }
    let mut fields = Value::Object(fields);
    seal(&before.id, &mut fields, &state.declared.export_rules)?;
    let Value::Object(fields) = fields else { return Ok(Value::Object(body)) };
    for (name, value) in fields {
        if value.is_null() {
            body.shift_remove(&name);
        } else {
            body.insert(name, value);
        }
    }
    Ok(Value::Object(body))
}

/// Checks the secrets that were sent, and encrypts the literal ones.
fn seal(id: &str, body: &mut Value, rules: &ExportRules) -> Result<(), ChangeError> {
    let mut problems = Vec::new();
    each_secret(body, |path, text| {
        let message = match (text.strip_prefix('$'), &rules.sealer) {
            (Some(rest), _) => {
                let name = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest);
                let listed = rules.env.iter().any(|listed| listed == name);
                (!listed).then(|| {
                    format!("`${name}` may not be read: list `{name}` in `egress.env` of the configuration")
                })
            }
            (None, _) if text.starts_with("file:") => Some(
                "a secret file is for destinations of the configuration file: send the secret, or `$NAME`".to_owned(),
            ),
            (None, _) if text.is_empty() => Some("is empty: send the secret, or `$NAME`".to_owned()),
            (None, None) => Some(
                "a secret is kept encrypted only: give `secrets_key` in the configuration, or send `$NAME` of a \
                 variable that `egress.env` lists"
                    .to_owned(),
            ),
            (None, Some(sealer)) => match sealer.seal(owner(id, path).as_bytes(), text.as_bytes()) {
                Ok(sealed) => {
                    *text = format!("{SEALED}{}", STANDARD.encode(sealed));
                    None
                }
                Err(_) => Some("it could not be encrypted: the system gives no random bytes".to_owned()),
            },
        };
        problems.extend(message.map(|message| Problem::new(path, message)));
    });
    if problems.is_empty() { Ok(()) } else { Err(ChangeError::Problems(problems)) }
}

/// What is kept, decrypted and checked as the configuration file's are, and where it goes.
fn build(id: &str, body: &Value, rules: &ExportRules) -> Result<ExportConfig, ChangeError> {
    if let Some(kind) =
        body.get("destination").and_then(Value::as_str).filter(|kind| FILE_ONLY.contains(kind))
    {
        let message = format!("`{kind}` can be declared in the configuration file only");
        return Err(problem("destination", &message));
    }
    let (mut opened, mut problems) = (body.clone(), Vec::new());
    each_secret(&mut opened, |path, text| {
        if let Some(name) = text.strip_prefix('$') {
            let name = name.trim_start_matches('{').trim_end_matches('}');
            if !rules.env.iter().any(|listed| listed == name) {
                let message = format!("`${name}` may not be read: list `{name}` in `egress.env`");
                problems.push(Problem::new(path, message));
            }
            return;
        }
        let sealed = text.strip_prefix(SEALED).and_then(|sealed| STANDARD.decode(sealed).ok());
        let secret = rules
            .sealer
            .as_ref()
            .zip(sealed)
            .and_then(|(sealer, sealed)| sealer.open(owner(id, path).as_bytes(), &sealed).ok());
        match secret.and_then(|secret| String::from_utf8(secret).ok()) {
            Some(secret) => *text = secret,
            None => problems.push(Problem::new(
                path,
                "the secret that is kept cannot be decrypted: was `secrets_key` changed? send it again",
            )),
        }
    });
    if !problems.is_empty() {
        return Err(ChangeError::Problems(problems));
    }
    let mut export =
        audit::export::parse(&opened, "").map_err(|found| ChangeError::Problems(plain(found)))?;
    let mut urls = vec![(String::new(), export.endpoint().to_owned())];
    each_url(&opened, String::new(), &mut urls);
    for (path, url) in urls.iter().filter(|(path, url)| !path.is_empty() || url.contains("://")) {
        if let Err(error) = rules.egress.check(url) {
            let path = if path.is_empty() { "endpoint" } else { path };
            problems.push(Problem::new(path, error.to_string()));
        }
    }
    if let Some(field) = export.borrows_credentials() {
        let message =
            "is missing: the gateway's own credentials serve destinations of the configuration file only";
        problems.push(Problem::new(field, message));
    }
    problems.dedup_by(|one, other| one.path == other.path);
    if !problems.is_empty() {
        return Err(ChangeError::Problems(problems));
    }
    export.egress = Some(rules.egress.clone());
    Ok(export)
}

/// Everything in a configuration that is a URL, with its path.
fn each_url(value: &Value, path: String, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains("://") => found.push((path, text.clone())),
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                each_url(value, format!("{path}[{at}]"), found);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                each_url(value, path, found);
            }
        }
        _ => {}
    }
}

/// What an encrypted secret belongs to.
fn owner(id: &str, path: &str) -> String {
    format!("{id} {path}")
}

fn own<'a>(state: &'a State, id: &str, expected: Option<&str>) -> Result<&'a StoredExport, ChangeError> {
    if state.declared.exports.iter().any(|declared| declared == id) {
        return Err(declared(state, id));
    }
    let stored = state.kept.exports.get(id).ok_or_else(|| unknown(state, id))?;
    match expected {
        Some(expected) if expected != tag_of(&digest(stored)) => {
            Err(ChangeError::Stale(format!("destination `{id}`")))
        }
        _ => Ok(stored),
    }
}

fn declared(state: &State, id: &str) -> ChangeError {
    ChangeError::Declared { what: format!("destination `{id}`"), file: state.declared.file.clone() }
}

fn unknown(state: &State, id: &str) -> ChangeError {
    let known = super::known(state.declared.exports.iter().chain(state.kept.exports.keys()));
    ChangeError::Unknown(format!("there is no destination `{id}`; {known}"))
}

fn problem(path: &str, message: &str) -> ChangeError {
    ChangeError::Problems(vec![Problem::new(path, message)])
}

/// Of what is kept: secrets are in it encrypted only, and each time otherwise.
fn digest(stored: &StoredExport) -> String {
    digest_of(&stored.body)
}

fn view(stored: &StoredExport) -> ExportView {
    let mut config: Value = serde_json::from_str(&stored.body).unwrap_or(Value::Null);
    let secrets = take_secrets(&mut config);
    ExportView {
        id: stored.id.clone(),
        config,
        secrets,
        created_at: stored.created_at.clone(),
        updated_at: stored.updated_at.clone(),
        tag: tag_of(&digest(stored)),
    }
}
