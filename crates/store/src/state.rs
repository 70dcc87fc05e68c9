//! The desired state as it is kept: policies with their revisions and log of changes, projects, keys. A change rides in
//! one commit of the writer with its events. What any of it means is in `registry`.

use audit::outbox::BoxFuture;
use registry::kept::{
    Change, Edit, Kept, KeptAnswer, PolicyState, Source, StateChange, StateError, StateStore, StoredExport,
    StoredKey, StoredProject, StoredRevision,
};
use registry::{KeySecret, KeyedDigest};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::StoreError;
use crate::orders::Order;
use crate::reader::Reader;
use crate::{Store, schema};

/// Where `meta` has the secret that keys the digests of keys.
const KEY_SECRET: &str = "key_secret";

/// Makes the edits within the running transaction.
pub(crate) fn apply(db: &Connection, edits: &[Edit]) -> rusqlite::Result<()> {
    for edit in edits {
        match edit {
            Edit::AddRevision(revision) => add_revision(db, revision)?,
            Edit::SetPolicy(policy, change) => {
                set_policy(db, policy)?;
                log_change(db, &policy.policy_id, change)?;
            }
            Edit::SetProject(project) => set_project(db, project)?,
            Edit::AddKey(key) => add_key(db, key)?,
            Edit::RevokeKey { key_id, at } => {
                db.prepare_cached(
                    "UPDATE keys SET revoked_at = ?2 WHERE key_id = ?1 AND revoked_at IS NULL",
                )?
                .execute([key_id, at])?;
            }
            Edit::ExpireKey { key_id, at_ms } => {
                db.prepare_cached("UPDATE keys SET expires_at_ms = ?2 WHERE key_id = ?1")?
                    .execute(params![key_id, at_ms])?;
            }
            Edit::UseKeys(uses) => {
                let mut set = db.prepare_cached(
                    "INSERT INTO key_uses(key_id, used_ms) VALUES(?1, ?2)
                     ON CONFLICT(key_id) DO UPDATE SET used_ms = max(used_ms, ?2)",
                )?;
                for (key_id, ms) in uses {
                    set.execute(params![key_id, ms])?;
                }
            }
            Edit::AddExport(export) | Edit::SetExport(export) => set_export(db, export)?,
            Edit::RemoveExport(id) => {
                db.prepare_cached("DELETE FROM exports WHERE id = ?1")?.execute([id])?;
            }
            Edit::KeepAnswer(answer) => crate::answers::keep(db, answer)?,
            Edit::ForgetAnswer(id) => crate::answers::forget(db, id)?,
        }
    }
    Ok(())
}

/// Why the edits cannot be made, before anything is written: a constraint that fails later would end the log.
pub(crate) fn check(db: &Connection, edits: &[Edit]) -> rusqlite::Result<Option<String>> {
    let mut added: Vec<(&str, u64)> = Vec::new();
    for edit in edits {
        match edit {
            Edit::AddRevision(revision) => {
                let id = revision.policy_id.as_str();
                let newest = match added.iter().rev().find(|(other, _)| *other == id) {
                    Some((_, number)) => *number,
                    None => newest(db, id)?.map_or(0, |(number, _)| number),
                };
                if revision.number != newest + 1 {
                    let message = format!("policy `{id}` is at revision {newest} already: try again");
                    return Ok(Some(message));
                }
                added.push((id, revision.number));
            }
            Edit::AddKey(key) => {
                let taken: Option<i64> = db
                    .prepare_cached("SELECT 1 FROM keys WHERE key_id = ?1 OR digest = ?2")?
                    .query_row([&key.key_id, &key.digest.to_hex()], |row| row.get(0))
                    .optional()?;
                if taken.is_some() {
                    return Ok(Some("there is such a key already: try again".to_owned()));
                }
            }
            Edit::SetPolicy(..)
            | Edit::SetProject(_)
            | Edit::RevokeKey { .. }
            | Edit::ExpireKey { .. }
            | Edit::UseKeys(_)
            | Edit::AddExport(_)
            | Edit::SetExport(_)
            | Edit::RemoveExport(_)
            | Edit::KeepAnswer(_)
            | Edit::ForgetAnswer(_) => {}
        }
    }
    Ok(None)
}

fn add_revision(db: &Connection, revision: &StoredRevision) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO revisions(policy_id, number, digest, digest_without_rollout, document, created_at, author)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        revision.policy_id,
        revision.number.cast_signed(),
        revision.digest,
        revision.digest_without_rollout,
        revision.document,
        revision.created_at,
        revision.author
    ])
    .map(drop)
}

fn set_policy(db: &Connection, policy: &PolicyState) -> rusqlite::Result<()> {
    let number = |number: Option<u64>| number.map(u64::cast_signed);
    db.prepare_cached(
        "INSERT INTO policies(policy_id, stable, candidate, former_stable, allow_without_stable, source, created_at,
           updated_at)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT(policy_id) DO UPDATE SET stable = ?2, candidate = ?3, former_stable = ?4,
           allow_without_stable = ?5, source = ?6, updated_at = ?8",
    )?
    .execute(params![
        policy.policy_id,
        number(policy.stable),
        number(policy.candidate),
        number(policy.former_stable),
        policy.allow_without_stable,
        policy.source.as_str(),
        policy.created_at,
        policy.updated_at
    ])
    .map(drop)
}

fn log_change(db: &Connection, policy_id: &str, change: &StateChange) -> rusqlite::Result<()> {
    let number = |number: Option<u64>| number.map(u64::cast_signed);
    db.prepare_cached(
        "INSERT INTO policy_changes(policy_id, at, author, action, stable, candidate) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        policy_id,
        change.at,
        change.author,
        change.action,
        number(change.stable),
        number(change.candidate)
    ])
    .map(drop)
}

fn set_project(db: &Connection, stored: &StoredProject) -> rusqlite::Result<()> {
    let body = serde_json::to_string(&stored.project).map_err(|error| unwritable(error.into()))?;
    db.prepare_cached(
        "INSERT INTO projects(project_id, body, created_at, updated_at) VALUES(?1, ?2, ?3, ?4)
         ON CONFLICT(project_id) DO UPDATE SET body = ?2, updated_at = ?4",
    )?
    .execute(params![stored.project.id, body, stored.created_at, stored.updated_at])
    .map(drop)
}

fn add_key(db: &Connection, key: &StoredKey) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO keys(key_id, project_id, digest, name, prefix, created_at, expires_at_ms, revoked_at)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        key.key_id,
        key.project_id,
        key.digest.to_hex(),
        key.name,
        key.prefix,
        key.created_at,
        key.expires_at_ms,
        key.revoked_at
    ])
    .map(drop)
}

fn set_export(db: &Connection, export: &StoredExport) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO exports(id, body, created_at, updated_at) VALUES(?1, ?2, ?3, ?4)
         ON CONFLICT(id) DO UPDATE SET body = ?2, updated_at = ?4",
    )?
    .execute(params![export.id, export.body, export.created_at, export.updated_at])
    .map(drop)
}

/// The secret that keys the digests of keys, made where there is none yet.
pub(crate) fn make_key_secret(db: &Connection) -> rusqlite::Result<()> {
    if schema::meta::<[u8; 32]>(db, KEY_SECRET)?.is_none() {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| unwritable(error.into()))?;
        schema::set_meta(db, KEY_SECRET, secret)?;
    }
    Ok(())
}

fn unwritable(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error)
}

fn unreadable(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

fn numbered(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

/// Number and digest of a policy's newest revision.
fn newest(db: &Connection, policy_id: &str) -> rusqlite::Result<Option<(u64, String)>> {
    db.prepare_cached(
        "SELECT number, digest FROM revisions WHERE policy_id = ?1 ORDER BY number DESC LIMIT 1",
    )?
    .query_row([policy_id], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))
    .optional()
}

fn load(db: &Connection) -> rusqlite::Result<Kept> {
    let mut kept = Kept::default();
    let secret = schema::meta::<[u8; 32]>(db, KEY_SECRET)?;
    kept.key_secret = KeySecret::new(secret.ok_or_else(|| unreadable(0, "the secret of keys is gone"))?);
    let mut select = db.prepare(
        "SELECT policy_id, stable, candidate, former_stable, allow_without_stable, source, created_at, updated_at
         FROM policies",
    )?;
    let policies = select.query_map([], |row| {
        Ok(PolicyState {
            policy_id: row.get(0)?,
            stable: numbered(row, 1)?,
            candidate: numbered(row, 2)?,
            former_stable: numbered(row, 3)?,
            allow_without_stable: row.get(4)?,
            source: match row.get::<_, String>(5)?.as_str() {
                "file" => Source::File,
                "api" => Source::Api,
                _ => return Err(unreadable(5, "the source is neither `file` nor `api`")),
            },
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
            newest: 0,
            newest_digest: String::new(),
        })
    })?;
    for policy in policies {
        let mut policy = policy?;
        if let Some((number, digest)) = newest(db, &policy.policy_id)? {
            (policy.newest, policy.newest_digest) = (number, digest);
        }
        kept.policies.insert(policy.policy_id.clone(), policy);
    }
    let mut select = db.prepare("SELECT body, created_at, updated_at FROM projects")?;
    let projects = select.query_map([], |row| {
        let project = serde_json::from_str(&row.get::<_, String>(0)?)
            .map_err(|_| unreadable(0, "the project is not what was written"))?;
        Ok(StoredProject { project, created_at: row.get(1)?, updated_at: row.get(2)? })
    })?;
    for project in projects {
        let project = project?;
        kept.projects.insert(project.project.id.clone(), project);
    }
    let mut select = db.prepare(
        "SELECT key_id, project_id, digest, name, prefix, created_at, expires_at_ms, revoked_at FROM keys",
    )?;
    let keys = select.query_map([], |row| {
        Ok(StoredKey {
            key_id: row.get(0)?,
            project_id: row.get(1)?,
            digest: KeyedDigest::from_hex(&row.get::<_, String>(2)?)
                .ok_or_else(|| unreadable(2, "the digest is none"))?,
            name: row.get(3)?,
            prefix: row.get(4)?,
            created_at: row.get(5)?,
            expires_at_ms: row.get(6)?,
            revoked_at: row.get(7)?,
        })
    })?;
    for key in keys {
        let key = key?;
        kept.keys.insert(key.key_id.clone(), key);
    }
    let mut select = db.prepare("SELECT key_id, used_ms FROM key_uses")?;
    let uses = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    kept.uses = uses.collect::<rusqlite::Result<_>>()?;
    kept.exports = exports(db)?.into_iter().map(|export| (export.id.clone(), export)).collect();
    Ok(kept)
}

/// The destinations that the management API made, by id.
fn exports(db: &Connection) -> rusqlite::Result<Vec<StoredExport>> {
    let mut select = db.prepare("SELECT id, body, created_at, updated_at FROM exports ORDER BY id")?;
    let exports = select.query_map([], |row| {
        Ok(StoredExport {
            id: row.get(0)?,
            body: row.get(1)?,
            created_at: row.get(2)?,
            updated_at: row.get(3)?,
        })
    })?;
    exports.collect()
}

impl Reader {
    /// The destinations that the management API made, by id.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub fn exports(&self) -> Result<Vec<StoredExport>, StoreError> {
        exports(&self.db).map_err(self.failed())
    }
}

/// Revisions of a policy, the oldest first.
fn revisions(
    db: &Connection,
    policy_id: &str,
    numbers: Option<&[u64]>,
) -> rusqlite::Result<Vec<StoredRevision>> {
    let mut select = db.prepare_cached(
        "SELECT number, digest, digest_without_rollout, document, created_at, author FROM revisions
         WHERE policy_id = ?1 AND (?2 IS NULL OR number = ?2) ORDER BY number",
    )?;
    let mut read = |number: Option<u64>| -> rusqlite::Result<Vec<StoredRevision>> {
        // A number past i64 does not exist.
        let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let rows = select.query_map(params![policy_id, number], |row| {
            Ok(StoredRevision {
                policy_id: policy_id.to_owned(),
                number: row.get::<_, i64>(0)?.cast_unsigned(),
                digest: row.get(1)?,
                digest_without_rollout: row.get(2)?,
                document: row.get(3)?,
                created_at: row.get(4)?,
                author: row.get(5)?,
            })
        })?;
        rows.collect()
    };
    let Some(numbers) = numbers else { return read(None) };
    let mut found = Vec::with_capacity(numbers.len());
    for number in numbers {
        found.extend(read(Some(*number))?);
    }
    found.sort_by_key(|revision| revision.number);
    Ok(found)
}

fn changes(db: &Connection, policy_id: &str) -> rusqlite::Result<Vec<StateChange>> {
    let mut select = db.prepare_cached(
        "SELECT at, author, action, stable, candidate FROM policy_changes WHERE policy_id = ?1 ORDER BY id",
    )?;
    let rows = select.query_map([policy_id], |row| {
        Ok(StateChange {
            at: row.get(0)?,
            author: row.get(1)?,
            action: row.get(2)?,
            stable: numbered(row, 3)?,
            candidate: numbered(row, 4)?,
        })
    })?;
    rows.collect()
}

impl Store {
    /// Reads on a thread that may wait for the disk.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StateError>> {
        let path = self.path().to_owned();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                let db = schema::open_reader(&path)?;
                read(&db).map_err(schema::failed(&path, "read"))
            });
            match done.await {
                Ok(read) => read.map_err(|error| StateError(error.to_string())),
                Err(_) => Err(StateError("the read ended early: try again".to_owned())),
            }
        })
    }
}

impl StateStore for Store {
    fn load(&self) -> BoxFuture<'_, Result<Kept, StateError>> {
        self.read(load)
    }

    fn revisions<'a>(
        &'a self,
        policy_id: &'a str,
        numbers: Option<Vec<u64>>,
    ) -> BoxFuture<'a, Result<Vec<StoredRevision>, StateError>> {
        let policy_id = policy_id.to_owned();
        self.read(move |db| revisions(db, &policy_id, numbers.as_deref()))
    }

    fn changes<'a>(&'a self, policy_id: &'a str) -> BoxFuture<'a, Result<Vec<StateChange>, StateError>> {
        let policy_id = policy_id.to_owned();
        self.read(move |db| changes(db, &policy_id))
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<Option<KeptAnswer>, StateError>> {
        let id = id.to_owned();
        self.read(move |db| crate::answers::find(db, &id, since_ms))
    }

    fn commit(&self, change: Change) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            let done = self.ask(|reply| Order::Change { change: Box::new(change), reply }).await;
            done.map_err(|error| StateError(error.to_string()))
        })
    }
}
