//! What the configurations of all destinations check alike. Every problem is collected with its path; none ends the search.

use std::time::Duration;

use policy::problems::Problem;
use reqwest::Url;

use crate::delivery::Limits;
use crate::secret::SecretSource;

/// Below this a batch would hardly carry one event.
const BATCH_BYTES_FLOOR: u64 = 1000;
/// The contract's default.
const CONCURRENCY: u64 = 4;
/// Each request in flight holds a batch in memory.
const CONCURRENCY_CAP: u64 = 64;
/// Past this a hung connection would stall the queue for no gain.
const TIMEOUT_SECONDS_CAP: u64 = 300;

/// Sizes, waits and times as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) batch_events_max: Option<u64>,
    pub(super) batch_bytes_max: Option<u64>,
    pub(super) linger_ms: Option<u64>,
    pub(super) concurrency: Option<u64>,
    pub(super) timeout_seconds: Option<u64>,
}

/// What a configuration gives of them; each kind has the same fields, with its own bounds in its description.
macro_rules! sizes {
    ($raw:expr) => {
        $crate::export::check::Given {
            batch_events_max: $raw.batch_events_max,
            batch_bytes_max: $raw.batch_bytes_max,
            linger_ms: $raw.linger_ms,
            concurrency: $raw.concurrency,
            timeout_seconds: $raw.timeout_seconds,
        }
    };
}
pub(super) use sizes;

/// What a destination bears: default and most of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) events: (u64, u64),
    pub(super) bytes: (u64, u64),
    pub(super) linger_ms: (u64, u64),
    pub(super) timeout_seconds: u64,
}

/// Collects problems under one prefix.
pub(super) struct Check<'a> {
    prefix: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Nothing found yet.
    pub(super) fn new(prefix: &'a str) -> Self {
        Self { prefix, problems: Vec::new() }
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, field: &str, message: &str) {
        self.problems.push(Problem { path: format!("{}.{field}", self.prefix), message: message.to_owned() });
    }

    /// Takes a value, or notes why there is none.
    pub(super) fn found<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problem(field, &message)).ok()
    }

    /// A secret's source.
    pub(super) fn secret(&mut self, field: &str, text: &str) -> Option<SecretSource> {
        self.found(field, SecretSource::parse(text).map_err(|error| error.to_string()))
    }

    /// A number within bounds, or its default.
    pub(super) fn number(
        &mut self,
        field: &str,
        value: Option<u64>,
        default: u64,
        min: u64,
        max: u64,
    ) -> u64 {
        match value {
            Some(value) if !(min..=max).contains(&value) => {
                self.problem(field, &format!("`{value}` is out of range: give a number from {min} to {max}"));
                default
            }
            value => value.unwrap_or(default),
        }
    }

    fn count(&mut self, field: &str, value: Option<u64>, default: u64, min: u64, max: u64) -> usize {
        usize::try_from(self.number(field, value, default, min, max)).unwrap_or(usize::MAX)
    }

    /// A text of `chars_max` characters at most, not blank.
    pub(super) fn text(&mut self, field: &str, value: &str, chars_max: usize) -> String {
        if value.trim().is_empty() || value.chars().count() > chars_max {
            self.problem(field, &format!("must be 1 to {chars_max} characters"));
        }
        value.to_owned()
    }

    /// Sizes, waits and times as given, within what the destination bears.
    pub(super) fn limits(&mut self, given: Given, bounds: &Bounds) -> Limits {
        let (events, bytes, linger) = (bounds.events, bounds.bytes, bounds.linger_ms);
        Limits {
            batch_events_max: self.count("batch_events_max", given.batch_events_max, events.0, 1, events.1),
            batch_bytes_max: self.count(
                "batch_bytes_max",
                given.batch_bytes_max,
                bytes.0,
                BATCH_BYTES_FLOOR,
                bytes.1,
            ),
            linger: Duration::from_millis(self.number("linger_ms", given.linger_ms, linger.0, 0, linger.1)),
            concurrency: self.count("concurrency", given.concurrency, CONCURRENCY, 1, CONCURRENCY_CAP),
            timeout: Duration::from_secs(self.number(
                "timeout_seconds",
                given.timeout_seconds,
                bounds.timeout_seconds,
                1,
                TIMEOUT_SECONDS_CAP,
            )),
            rate: None,
        }
    }

    /// The URL of a service: no user, query or fragment.
    pub(super) fn url(&mut self, field: &str, text: &str, example: &str) -> Option<Url> {
        self.found(field, service_url(text, example))
    }

    /// The problems, if any; else what `made` has, which is there then.
    pub(super) fn finish<T>(self, made: Option<T>) -> Result<T, Vec<Problem>> {
        match made {
            Some(made) if self.problems.is_empty() => Ok(made),
            _ => Err(self.problems),
        }
    }
}

fn service_url(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim())
        .map_err(|error| format!("is not a URL ({error}): give for example `{example}`"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("must be an http or https URL, for example `{example}`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password: secrets have fields of their own".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("must not hold a `?` or `#` part: give for example `{example}`"));
    }
    Ok(url)
}
