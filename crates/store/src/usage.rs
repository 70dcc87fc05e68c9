//! What calls used, summed up by day: raised with the closing records, in the same transaction, and read without a look at
//! the log. What counts is in `audit::usage`.

use std::collections::BTreeMap;
use std::sync::Arc;

use audit::event::leaf_hash;
use audit::usage::{Dimension, Spent, Sums, UsagePage, UsageQuery, UsageRow, date_text, day_at, parse_date};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::error::StoreError;
use crate::reader::Reader;

/// Combinations of project, policy, model and key that are told apart. Callers name models, so that somebody with a key
/// could make any number; what goes past this is summed up under [`OTHER_MODELS`].
const SERIES_MAX: i64 = 100_000;
const OTHER_MODELS: &str = "(other)";

/// Who was not named.
const NOBODY: i64 = 0;

/// Half the range: a sum held to it takes another such number and is still one that SQLite adds exactly.
const HALF: i64 = i64::MAX / 2;

/// Project, policy, model and key.
type Series<'a> = [Option<&'a str>; 4];

/// What the calls of one commit used.
#[derive(Debug)]
pub(crate) struct UsageSums {
    /// Stands in for the day of an event without a readable time.
    today: i32,
    calls: Vec<Arc<Spent>>,
}

impl UsageSums {
    pub(crate) fn new(now_ms: i64) -> Self {
        let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
        Self { today: day_at(now).unwrap_or_default(), calls: Vec::new() }
    }

    pub(crate) fn add(&mut self, spent: Option<&Arc<Spent>>) {
        self.calls.extend(spent.cloned());
    }

    /// Raises the sums within the running transaction.
    pub(crate) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut sums: BTreeMap<(i32, Series<'_>), BTreeMap<Option<&str>, Sums>> = BTreeMap::new();
        for call in &self.calls {
            let Spent { project_id, policy_id, model, key_id, policy_user, .. } = &**call;
            let series = [project_id, policy_id, model, key_id].map(Option::as_deref);
            let users = sums.entry((call.day.unwrap_or(self.today), series)).or_default();
            users.entry(policy_user.as_deref()).or_default().add(&call.sums);
        }
        for ((day, series), users) in &sums {
            let series = series_id(db, series)?;
            let mut whole = Sums::default();
            for (user, sums) in users {
                whole.add(sums);
                let user = user.map_or(Ok(NOBODY), |user| user_id(db, user))?;
                raise(db, RAISE_USER, &[(*day).into(), series, user], sums)?;
            }
            raise(db, RAISE, &[(*day).into(), series], &whole)?;
        }
        Ok(())
    }
}

const RAISE: &str = "
INSERT INTO usage_days(day, series, requests, prompt_tokens, completion_tokens, total_tokens, cost_pusd)
VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT(day, series) DO UPDATE SET
  requests = min(requests, 4611686018427387903) + ?3,
  prompt_tokens = min(prompt_tokens, 4611686018427387903) + ?4,
  completion_tokens = min(completion_tokens, 4611686018427387903) + ?5,
  total_tokens = min(total_tokens, 4611686018427387903) + ?6,
  cost_pusd = min(cost_pusd, 4611686018427387903) + ?7";

const RAISE_USER: &str = "
INSERT INTO usage_user_days(day, series, user, requests, prompt_tokens, completion_tokens, total_tokens, cost_pusd)
VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT(day, series, user) DO UPDATE SET
  requests = min(requests, 4611686018427387903) + ?4,
  prompt_tokens = min(prompt_tokens, 4611686018427387903) + ?5,
  completion_tokens = min(completion_tokens, 4611686018427387903) + ?6,
  total_tokens = min(total_tokens, 4611686018427387903) + ?7,
  cost_pusd = min(cost_pusd, 4611686018427387903) + ?8";

fn raise(db: &Connection, sql: &str, place: &[i64], sums: &Sums) -> rusqlite::Result<()> {
    let Sums { requests, prompt_tokens, completion_tokens, total_tokens, cost_pico_usd } = *sums;
    let counts = [requests, prompt_tokens, completion_tokens, total_tokens]
        .map(|count| i64::try_from(count).unwrap_or(HALF).min(HALF));
    let cost = i64::try_from(cost_pico_usd).unwrap_or(HALF).min(HALF);
    let values = place.iter().copied().chain(counts).chain([cost]);
    db.prepare_cached(sql)?.execute(params_from_iter(values)).map(drop)
}

fn series_id(db: &Connection, series: &Series<'_>) -> rusqlite::Result<i64> {
    if let Some(id) = known_series(db, series)? {
        return Ok(id);
    }
    let last: Option<i64> =
        db.prepare_cached("SELECT max(id) FROM usage_series")?.query_row([], |row| row.get(0))?;
    let [project_id, policy_id, _, key_id] = *series;
    let mut series = *series;
    if last.unwrap_or(0) >= SERIES_MAX {
        series = [project_id, policy_id, Some(OTHER_MODELS), key_id];
        if let Some(id) = known_series(db, &series)? {
            return Ok(id);
        }
    }
    let [project_id, policy_id, model, key_id] = series;
    db.prepare_cached(
        "INSERT INTO usage_series(digest, project_id, policy_id, model, key_id) VALUES(?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![digest(&series), project_id, policy_id, model, key_id])?;
    Ok(db.last_insert_rowid())
}

fn known_series(db: &Connection, series: &Series<'_>) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM usage_series WHERE digest = ?1")?
        .query_row([digest(series)], |row| row.get(0))
        .optional()
}

/// 16 bytes that stand for the combination.
fn digest(series: &Series<'_>) -> Vec<u8> {
    let hash = leaf_hash(&serde_json::to_vec(series).unwrap_or_default());
    hash.iter().take(16).copied().collect()
}

fn user_id(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    let known = db
        .prepare_cached("SELECT id FROM usage_users WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO usage_users(name) VALUES(?1)")?.execute([name])?;
    Ok(db.last_insert_rowid())
}

impl Reader {
    /// The sums of usage, as they are with the last commit.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub fn usage(&self, query: &UsageQuery) -> Result<UsagePage, StoreError> {
        let Statement { sql, values } = statement(query);
        let read = || {
            let mut select = self.db.prepare_cached(&sql)?;
            let rows = select.query_map(params_from_iter(values), |row| row_of(row, &query.group_by))?;
            rows.collect::<rusqlite::Result<Vec<UsageRow>>>()
        };
        let mut rows = read().map_err(self.failed())?;
        let has_more = rows.len() > query.limit;
        rows.truncate(query.limit);
        Ok(UsagePage { rows, has_more })
    }
}

/// A statement and what its `?` stand for, in order.
struct Statement {
    sql: String,
    values: Vec<Value>,
}

fn column(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Project => "s.project_id",
        Dimension::User => "n.name",
        Dimension::Key => "s.key_id",
        Dimension::Model => "s.model",
        Dimension::Policy => "s.policy_id",
        Dimension::Day => "d.day",
    }
}

/// Columns that are summed up, each in two parts, so that no sum is past what SQLite adds exactly.
const SUMMED: [&str; 5] = ["requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost_pusd"];

fn statement(query: &UsageQuery) -> Statement {
    let columns: Vec<&str> = query.group_by.iter().map(|one| column(*one)).collect();
    let sums = SUMMED.iter().map(|name| format!("sum(d.{name} >> 32), sum(d.{name} & 4294967295)"));
    let selected: Vec<String> = columns.iter().map(|&name| name.to_owned()).chain(sums).collect();
    let mut values = Vec::new();
    let mut wanted = vec!["TRUE".to_owned()];
    let mut sql = format!("SELECT {} FROM ", selected.join(", "));
    match (&query.policy_user, query.group_by.contains(&Dimension::User)) {
        // Each day and series is looked up for the user; nobody else's rows are read.
        (Some(user), groups) => {
            sql.push_str(
                "usage_days x CROSS JOIN usage_user_days d ON d.day = x.day AND d.series = x.series
                 AND d.user = (SELECT id FROM usage_users WHERE name = ?)",
            );
            values.push(Value::from(user.clone()));
            if groups {
                sql.push_str(" JOIN usage_users n ON n.id = d.user");
            }
        }
        (None, true) => sql.push_str("usage_user_days d LEFT JOIN usage_users n ON n.id = d.user"),
        (None, false) => sql.push_str("usage_days d"),
    }
    sql.push_str(" JOIN usage_series s ON s.id = d.series");
    // Where a user is asked for, the days that are gone through are those of `x`.
    let day = if query.policy_user.is_some() { "x.day" } else { "d.day" };
    let days = [(query.from_day, ">="), (query.to_day, "<")];
    for (bound, compare) in days {
        if let Some(bound) = bound {
            wanted.push(format!("{day} {compare} ?"));
            values.push(Value::from(i64::from(bound)));
        }
    }
    let named = [
        ("s.project_id", &query.project_id),
        ("s.policy_id", &query.policy_id),
        ("s.model", &query.model),
        ("s.key_id", &query.key_id),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            wanted.push(format!("{name} = ?"));
            values.push(Value::from(value.clone()));
        }
    }
    // What has no value comes before all that have one.
    let places: Vec<String> =
        columns.iter().map(|name| format!("{name} IS NOT NULL, coalesce({name}, '')")).collect();
    if let Some(after) = query.after.as_ref().filter(|_| !columns.is_empty()) {
        let marks = vec!["?"; 2 * columns.len()].join(", ");
        wanted.push(format!("({}) > ({marks})", places.join(", ")));
        for (dimension, value) in query.group_by.iter().zip(after) {
            values.push(Value::from(i64::from(value.is_some())));
            values.push(match (dimension, value) {
                (Dimension::Day, Some(day)) => Value::from(i64::from(parse_date(day).unwrap_or(i32::MIN))),
                (_, value) => Value::from(value.clone().unwrap_or_default()),
            });
        }
    }
    sql.push_str(&format!(" WHERE {}", wanted.join(" AND ")));
    if !columns.is_empty() {
        sql.push_str(&format!(" GROUP BY {} ORDER BY {}", columns.join(", "), places.join(", ")));
    }
    sql.push_str(" LIMIT ?");
    // One more tells whether there are more.
    values.push(Value::from(i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1)));
    Statement { sql, values }
}

fn row_of(row: &Row<'_>, group_by: &[Dimension]) -> rusqlite::Result<UsageRow> {
    let mut group = Vec::with_capacity(group_by.len());
    for (at, dimension) in group_by.iter().enumerate() {
        group.push(match dimension {
            Dimension::Day => Some(date_text(row.get(at)?)),
            _ => row.get(at)?,
        });
    }
    let sum = |index: usize| {
        let at = group_by.len() + 2 * index;
        // Null where there was nothing to sum up.
        let part = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.unwrap_or(0));
        Ok::<_, rusqlite::Error>((i128::from(part(at)?) << 32) + i128::from(part(at + 1)?))
    };
    let count = |index| Ok::<_, rusqlite::Error>(u64::try_from(sum(index)?).unwrap_or(u64::MAX));
    let sums = Sums {
        requests: count(0)?,
        prompt_tokens: count(1)?,
        completion_tokens: count(2)?,
        total_tokens: count(3)?,
        cost_pico_usd: sum(4)?.unsigned_abs(),
    };
    Ok(UsageRow { group, sums })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_past_the_limit_are_one() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE usage_series(
               id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, project_id, policy_id, model, key_id)",
        )
        .unwrap();
        let series = |model| [Some("p"), None, Some(model), Some("key_1")];
        let first = series_id(&db, &series("first")).unwrap();
        db.execute("INSERT INTO usage_series(id, digest) VALUES(?1, x'00')", [SERIES_MAX]).unwrap();
        let other = series_id(&db, &series("second")).unwrap();
        assert_eq!(series_id(&db, &series("third")).unwrap(), other);
        assert_eq!(series_id(&db, &series("first")).unwrap(), first);
        let model: String =
            db.query_row("SELECT model FROM usage_series WHERE id = ?1", [other], |row| row.get(0)).unwrap();
        assert_eq!(model, OTHER_MODELS);
        // No value and an empty one are not the same.
        assert_ne!(digest(&[None, None, None, None]), digest(&[Some(""), None, None, None]));
    }
}
