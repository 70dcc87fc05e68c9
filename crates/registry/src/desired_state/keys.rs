//! Keys through the API. One is shown once, when it is made; what is kept is what stands for it.

use audit::event::ChangeInfo;
use policy::problems::Problem;
use serde_json::json;

use super::projects::{declared, find, project_event};
use super::{Author, ChangeError, DesiredState, State, digest_of, now};
use crate::kept::{Change, Edit, Source, StateError, StoredKey};
use crate::key::{KeyDigest, new_key, prefix_of};

/// Characters in the name of a key.
const KEY_NAME_CHARS_MAX: usize = 200;
/// The longest that a key and its successor are both good: a month is enough for any roll-out.
const OVERLAP_SECONDS_MAX: u64 = 31 * 24 * 3600;

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// For people.
    pub name: Option<String>,
    /// RFC 3339 time from which it is refused.
    pub expires_at: Option<String>,
}

/// How a key is followed by another.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// How long the old one is good still.
    pub overlap_seconds: u64,
    /// RFC 3339 time from which the new one is refused. None: it lives as long as the old one was to live.
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
    /// When it was last presented, to the minute, RFC 3339 UTC; none: never.
    pub last_used_at: Option<String>,
}

/// A key that was just made: the only time that it is shown.
pub struct MadeKey {
    /// What is known of it.
    pub view: KeyView,
    /// The key itself.
    pub key: String,
    /// The one that it follows, as that is now.
    pub replaces: Option<KeyView>,
}

impl DesiredState {
    /// A project's keys, the newest first, those of the configuration file last.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub async fn keys(&self, project_id: &str) -> Result<Vec<KeyView>, ChangeError> {
        let state = self.lock().await;
        find(&state, project_id)?;
        let mut kept: Vec<&StoredKey> =
            state.kept.keys.values().filter(|key| key.project_id == project_id).collect();
        kept.sort_by(|left, right| (&right.created_at, &right.key_id).cmp(&(&left.created_at, &left.key_id)));
        let mut views: Vec<KeyView> = kept.into_iter().map(|key| key_view(&state, key)).collect();
        let declared = state.declared.base.projects.iter().filter(|entry| entry.project.id == project_id);
        views.extend(declared.flat_map(|entry| &entry.keys).map(|key| {
            let key_id = key.digest.id();
            KeyView {
                name: key.name.clone(),
                prefix: None,
                source: Source::File,
                created_at: None,
                expires_at: key.expires_at_ms.and_then(rfc3339),
                revoked_at: None,
                last_used_at: state.uses.last_ms(&key_id).and_then(rfc3339),
                key_id,
            }
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
        let at = now();
        let (key, stored) = fresh(&state, project_id, new.name, expires_at_ms, &at)?;
        let told = key_event("KEY_CREATED", author, None, Some(&stored), &at);
        let view = key_view(&state, &stored);
        let change = Change { edits: vec![Edit::AddKey(stored)], events: vec![told] };
        self.make(&mut state, change, Vec::new()).await?;
        Ok(MadeKey { view, key, replaces: None })
    }

    /// Makes a key that follows another, of the same name, which is good for a while still.
    ///
    /// # Errors
    /// [`ChangeError`]; a key that is over cannot be followed.
    pub async fn rotate_key(
        &self,
        project_id: &str,
        key_id: &str,
        rotation: Rotation,
        author: &Author,
    ) -> Result<MadeKey, ChangeError> {
        if rotation.overlap_seconds > OVERLAP_SECONDS_MAX {
            let message = format!(
                "`{}` is out of range: give a number of seconds from 0 to {OVERLAP_SECONDS_MAX}",
                rotation.overlap_seconds
            );
            return Err(ChangeError::Problems(vec![Problem::new("overlap_seconds", message)]));
        }
        let given = check_new(&NewKey { name: None, expires_at: rotation.expires_at.clone() })?;
        let mut state = self.lock().await;
        let old = own_key(&state, project_id, key_id)?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        if old.revoked_at.is_some() || old.expires_at_ms.is_some_and(|end| end <= now_ms) {
            let message = format!("key `{key_id}` is over already: make a new one with `POST …/keys`");
            return Err(ChangeError::Conflict(message));
        }
        let at = now();
        let overlap_ms = i64::try_from(rotation.overlap_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let end_ms = old.expires_at_ms.unwrap_or(i64::MAX).min(now_ms.saturating_add(overlap_ms));
        let expires_at_ms = given.or_else(|| Some(now_ms.saturating_add(lifetime_ms(&old)?)));
        let (key, stored) = fresh(&state, project_id, old.name.clone(), expires_at_ms, &at)?;
        let former = StoredKey { expires_at_ms: Some(end_ms), ..old.clone() };
        let events = vec![
            key_event("KEY_ROTATED", author, Some(&old), Some(&former), &at),
            key_event("KEY_CREATED", author, None, Some(&stored), &at),
        ];
        let (view, replaced) = (key_view(&state, &stored), key_view(&state, &former));
        let edits = vec![Edit::AddKey(stored), Edit::ExpireKey { key_id: key_id.to_owned(), at_ms: end_ms }];
        self.make(&mut state, Change { edits, events }, Vec::new()).await?;
        Ok(MadeKey { view, key, replaces: Some(replaced) })
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
        let old = own_key(&state, project_id, key_id)?;
        if old.revoked_at.is_some() {
            return Ok(key_view(&state, &old));
        }
        let at = now();
        let key = StoredKey { revoked_at: Some(at.clone()), ..old.clone() };
        let told = key_event("KEY_REVOKED", author, Some(&old), Some(&key), &at);
        let edit = Edit::RevokeKey { key_id: key_id.to_owned(), at };
        self.make(&mut state, Change { edits: vec![edit], events: vec![told] }, Vec::new()).await?;
        Ok(key_view(&state, &key))
    }
}

/// A key of the project that the API made.
fn own_key(state: &State, project_id: &str, key_id: &str) -> Result<StoredKey, ChangeError> {
    find(state, project_id)?;
    let in_file = state.declared.base.projects.iter().any(|entry| {
        entry.project.id == project_id && entry.keys.iter().any(|key| key.digest.id() == key_id)
    });
    if in_file {
        return Err(declared(state, format!("key `{key_id}`")));
    }
    let found = state.kept.keys.get(key_id).filter(|key| key.project_id == project_id);
    found
        .cloned()
        .ok_or_else(|| ChangeError::Unknown(format!("project `{project_id}` has no key `{key_id}`")))
}

fn fresh(
    state: &State,
    project_id: &str,
    name: Option<String>,
    expires_at_ms: Option<i64>,
    at: &str,
) -> Result<(String, StoredKey), ChangeError> {
    let key = new_key().map_err(|error| StateError(format!("the system gives no random bytes: {error}")))?;
    let digest = KeyDigest::of(&key)
        .map_err(|_| ChangeError::Store(StateError("the key that was made is none: try again".to_owned())))?;
    let stored = StoredKey {
        key_id: digest.id(),
        project_id: project_id.to_owned(),
        digest: state.kept.key_secret.keyed(&digest),
        name,
        prefix: prefix_of(&key),
        created_at: at.to_owned(),
        expires_at_ms,
        revoked_at: None,
    };
    Ok((key, stored))
}

/// How long a key was to live; none: for ever.
fn lifetime_ms(key: &StoredKey) -> Option<i64> {
    let created = key.created_at.parse::<jiff::Timestamp>().ok()?;
    Some(key.expires_at_ms?.saturating_sub(created.as_millisecond()))
}

/// The event of a key's change: digests of what is known of it, which is nothing of the key itself.
fn key_event(
    action: &str,
    author: &Author,
    before: Option<&StoredKey>,
    after: Option<&StoredKey>,
    at: &str,
) -> audit::event::AuditEvent {
    let known = |key: &StoredKey| {
        digest_of(&json!({
            "key_id": key.key_id, "project_id": key.project_id, "name": key.name, "created_at": key.created_at,
            "expires_at_ms": key.expires_at_ms, "revoked_at": key.revoked_at,
        }))
    };
    let any = before.or(after);
    let change = ChangeInfo {
        subject: format!("key {}", any.map_or("", |key| &key.key_id)),
        digest_before: before.map(known),
        digest_after: after.map(known),
        ..ChangeInfo::default()
    };
    project_event(action, author, change, any.map_or("", |key| &key.project_id), at)
}

fn key_view(state: &State, key: &StoredKey) -> KeyView {
    KeyView {
        key_id: key.key_id.clone(),
        name: key.name.clone(),
        prefix: Some(key.prefix.clone()),
        source: Source::Api,
        created_at: Some(key.created_at.clone()),
        expires_at: key.expires_at_ms.and_then(rfc3339),
        revoked_at: key.revoked_at.clone(),
        last_used_at: state.uses.last_ms(&key.key_id).and_then(rfc3339),
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
