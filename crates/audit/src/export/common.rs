//! The settings that every kind of destination has: its id, filters, the sample of allows, pseudonyms, the rate. They are
//! taken out of an entry before its kind reads the rest, so that no kind has to know them.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use policy::Decision;
use policy::problems::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::delivery::{Filters, Screen};
use crate::event::EventType;
use crate::secret::{SecretError, SecretSource};

/// What all kinds share, checked. The secret is still a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Common {
    /// Which events go.
    pub filters: Filters,
    /// Of plain allows this share goes, 0 to 1; `None`: all.
    pub sample_allows: Option<f64>,
    /// Users go under pseudonyms made with this secret.
    pub pseudonymise_users: Option<SecretSource>,
    /// Most events a second.
    pub rate_limit: Option<NonZeroU32>,
}

impl Common {
    /// What of the log the destination gets to see; reads the secret.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn screen(&self) -> Result<Screen, SecretError> {
        let secret = self.pseudonymise_users.as_ref().map(SecretSource::resolve).transpose()?;
        Ok(Screen::new(self.filters.clone(), self.sample_allows, secret))
    }
}

/// Settings that every destination has.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its schema is what it is for; the fields are read one by one")]
struct RawCommon {
    /// Name of this destination: its place in the log is kept under it. Of `a-z`, `0-9`, `_`, `-`. Default: the kind's
    /// name (with `-2` for a second one).
    id: Option<String>,
    /// Which events go to this destination. Default: all.
    filters: Option<RawFilters>,
    /// The share of plain allows that goes, 0 to 1, chosen by event id; everything else always goes. Default: 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    sample_allows: Option<f64>,
    /// Users go under pseudonyms, made with this secret: `$NAME` (environment), `file:/path` or the secret itself. Read at
    /// a start.
    pseudonymise_users: Option<String>,
    /// Most events a second, so that a backlog does not flood the destination. Default: none.
    #[schemars(range(min = 1, max = 1_000_000))]
    rate_limit: Option<u32>,
}

/// Which events go to a destination: those that every given list names. Checkpoints, heartbeats and gaps always go.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFilters {
    /// Only events with one of these decisions.
    #[schemars(with = "Option<Vec<String>>")]
    decisions: Option<Vec<Decision>>,
    /// Only events of these types.
    #[schemars(with = "Option<Vec<String>>")]
    event_types: Option<Vec<EventType>>,
    /// Only events of these policies.
    policies: Option<Vec<String>>,
    /// Only events of these projects.
    projects: Option<Vec<String>>,
}

/// The names of [`RawCommon`]'s fields.
const FIELDS: [&str; 5] = ["id", "filters", "sample_allows", "pseudonymise_users", "rate_limit"];
/// More events a second than any destination takes.
const RATE_MAX: u32 = 1_000_000;

/// Takes the common settings out of an entry: the rest of it, its id if it has one, and the settings.
pub(super) fn take(
    entry: &Map<String, Value>,
    path_prefix: &str,
    problems: &mut Vec<Problem>,
) -> (Value, Option<String>, Common) {
    let mut rest = entry.clone();
    let mut taken: Map<String, Value> = Map::new();
    for name in FIELDS {
        // Null is as good as absent.
        if let Some(value) = rest.remove(name).filter(|value| !value.is_null()) {
            taken.insert(name.to_owned(), value);
        }
    }
    let mut taking = Taking { taken, path_prefix, problems };
    let id = taking.read::<String>("id");
    let filters = taking.read::<RawFilters>("filters").map(filters).unwrap_or_default();
    let sample_allows = taking.read::<f64>("sample_allows");
    let sample_allows = taking.check("sample_allows", sample_allows, |share| {
        if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".to_owned()) }
    });
    let secret = taking.read::<String>("pseudonymise_users");
    let pseudonymise_users = taking.check("pseudonymise_users", secret, |secret| {
        SecretSource::parse(&secret).map_err(|error| error.to_string())
    });
    let rate = taking.read::<u32>("rate_limit");
    let rate_limit = taking.check("rate_limit", rate, |rate| {
        NonZeroU32::new(rate)
            .filter(|rate| rate.get() <= RATE_MAX)
            .ok_or_else(|| format!("`{rate}` is out of range: give a number from 1 to {RATE_MAX}"))
    });
    (Value::Object(rest), id, Common { filters, sample_allows, pseudonymise_users, rate_limit })
}

struct Taking<'a> {
    taken: Map<String, Value>,
    path_prefix: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Taking<'_> {
    fn read<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.taken.get(name)?;
        match policy::problems::read_all(value, &format!("{}.{name}", self.path_prefix)) {
            Ok(read) => Some(read),
            Err(more) => {
                self.problems.extend(more);
                None
            }
        }
    }

    fn check<T, U>(
        &mut self,
        name: &str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        match check(value?) {
            Ok(checked) => Some(checked),
            Err(message) => {
                self.problems.push(Problem { path: format!("{}.{name}", self.path_prefix), message });
                None
            }
        }
    }
}

fn filters(raw: RawFilters) -> Filters {
    let texts = |list: Option<Vec<String>>| list.map(BTreeSet::from_iter);
    Filters {
        decisions: raw.decisions.map(|list| list.iter().map(|one| one.as_str().to_owned()).collect()),
        event_types: raw.event_types.map(|list| list.iter().map(|one| one.as_str().to_owned()).collect()),
        policies: texts(raw.policies),
        projects: texts(raw.projects),
    }
}

/// The schema of a kind's own settings with the common ones among its properties.
pub(super) fn with_common(mut kind: Schema, generator: &mut SchemaGenerator) -> Schema {
    let mut common = RawCommon::json_schema(generator);
    let shared = common.ensure_object().remove("properties");
    let properties = kind.ensure_object().entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(properties), Some(Value::Object(shared))) = (properties, shared) {
        properties.extend(shared);
    }
    kind
}
