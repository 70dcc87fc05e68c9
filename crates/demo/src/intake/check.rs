//! What the intake does to a log it takes: the official time and the window around now, truncation, tags, and
//! the limits a log should keep. Pure; the clock is an argument. Sources: Datadog's pages on log collection
//! (<https://docs.datadoghq.com/logs/log_collection/>), preprocessing
//! (<https://docs.datadoghq.com/logs/log_configuration/pipelines/>) and tags
//! (<https://docs.datadoghq.com/getting_started/tagging/>).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::decode::Entry;

/// Bytes of a log past which it is cut.
pub const LOG_BYTES_MAX: usize = 1_000_000;

/// Oldest time taken.
pub const AGE_MAX: SignedDuration = SignedDuration::from_hours(18);

/// Furthest time ahead taken.
pub const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(2);

/// A log should have fewer attributes than this.
pub const ATTRIBUTES_LIMIT: usize = 256;

/// A key should have fewer characters than this.
pub const KEY_CHARS_LIMIT: usize = 50;

/// Attributes should nest in fewer levels than this.
pub const LEVELS_LIMIT: usize = 10;

/// Most tags of a log.
pub const TAGS_MAX: usize = 100;

/// Most characters of a tag; the rest is cut.
pub const TAG_CHARS_MAX: usize = 200;

/// Attributes whose value is taken for the log's time, the first one there winning.
const TIME_ATTRIBUTES: [&str; 7] =
    ["timestamp", "date", "_timestamp", "Timestamp", "eventTime", "published_date", "@timestamp"];

/// Why a log that was answered 202 is not to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// Its time is more than [`AGE_MAX`] ago.
    TooOld,
    /// Its time is more than [`AHEAD_MAX`] ahead.
    InFuture,
    /// The script had the intake answer 202 and lose it.
    Lost,
}

/// A rule that a log broke without being refused for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// No `message`, or not a string.
    Message,
    /// A time that is none of ISO 8601, epoch milliseconds and RFC 3164: the time of arrival counts.
    Time,
    /// This many attributes.
    Attributes(usize),
    /// A key this many characters long.
    Key(usize),
    /// This many levels.
    Levels(usize),
    /// `ddtags` is not a string.
    TagsShape,
    /// This many tags.
    Tags(usize),
    /// A tag that had to be changed by more than lower-casing it.
    Tag(String),
}

/// A log as it would be found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) log: Value,
    pub(crate) time: Timestamp,
    pub(crate) tags: Vec<String>,
    pub(crate) truncated: bool,
    pub(crate) dropped: Option<Dropped>,
    pub(crate) violations: Vec<Violation>,
}

/// Takes a log in at `now`. `query_tags` came with the request and are added.
pub(crate) fn check(entry: Entry, query_tags: &str, now: Timestamp) -> Checked {
    let mut violations = Vec::new();
    let truncated = entry.bytes > LOG_BYTES_MAX;
    let log = if truncated { truncate(entry.log) } else { entry.log };
    if !log.get("message").is_some_and(Value::is_string) {
        violations.push(Violation::Message);
    }
    let time = match time_of(&log, now) {
        Some(Ok(time)) => time,
        Some(Err(())) => {
            violations.push(Violation::Time);
            now
        }
        None => now,
    };
    let age = now.duration_since(time);
    let dropped = if age > AGE_MAX {
        Some(Dropped::TooOld)
    } else if -age > AHEAD_MAX {
        Some(Dropped::InFuture)
    } else {
        None
    };
    let mut shape = Shape::default();
    shape.measure(&log, 0);
    violations.extend(shape.violations());
    let tags = tags(log.get("ddtags"), query_tags, &mut violations);
    Checked { log, time, tags, truncated, dropped, violations }
}

/// Keeps the first [`LOG_BYTES_MAX`] bytes: of the message where that is what is long, else of the whole
/// text, which then is no object any more and stands as the message.
fn truncate(mut log: Value) -> Value {
    let text = log.to_string();
    let message = log.get("message").and_then(Value::as_str).unwrap_or_default();
    let others = text.len().saturating_sub(message.len());
    if others < LOG_BYTES_MAX {
        let kept = prefix(message, LOG_BYTES_MAX - others).to_owned();
        if let Some(object) = log.as_object_mut() {
            object.insert("message".to_owned(), Value::String(kept));
        }
        return log;
    }
    json!({"message": prefix(&text, LOG_BYTES_MAX)})
}

fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn time_of(log: &Value, now: Timestamp) -> Option<Result<Timestamp, ()>> {
    let named = TIME_ATTRIBUTES.iter().find_map(|name| log.get(*name));
    let value = named.or_else(|| log.pointer("/syslog/timestamp"))?;
    let time = match value {
        Value::Number(number) => number.as_f64().and_then(from_millis),
        Value::String(text) => parse_time(text.trim(), now),
        _ => None,
    };
    Some(time.ok_or(()))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "casts of floats saturate, and the range is checked after"
)]
fn from_millis(millis: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millis as i64).ok()
}

fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Timestamp::from_millisecond(millis).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return TimeZone::UTC.to_timestamp(time).ok();
    }
    // RFC 3164 has no year: the one of now is meant.
    let year = TimeZone::UTC.to_datetime(now).year();
    let with_year = format!("{year} {text}");
    DateTime::strptime("%Y %b %e %H:%M:%S", with_year).and_then(|time| TimeZone::UTC.to_timestamp(time)).ok()
}

/// The measures of a log's attributes.
#[derive(Default)]
struct Shape {
    attributes: usize,
    key_chars: usize,
    levels: usize,
}

impl Shape {
    /// An attribute is a value that is no object; the objects of an array share their keys' level.
    fn measure(&mut self, value: &Value, level: usize) {
        match value {
            Value::Object(members) => self.measure_members(members, level + 1),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for item in items {
                    self.measure(item, level);
                }
            }
            _ => self.attributes += 1,
        }
    }

    fn measure_members(&mut self, members: &Map<String, Value>, level: usize) {
        self.levels = self.levels.max(level);
        for (key, value) in members {
            self.key_chars = self.key_chars.max(key.chars().count());
            self.measure(value, level);
        }
    }

    fn violations(&self) -> impl Iterator<Item = Violation> {
        let attributes =
            (self.attributes >= ATTRIBUTES_LIMIT).then_some(Violation::Attributes(self.attributes));
        let key = (self.key_chars >= KEY_CHARS_LIMIT).then_some(Violation::Key(self.key_chars));
        let levels = (self.levels >= LEVELS_LIMIT).then_some(Violation::Levels(self.levels));
        [attributes, key, levels].into_iter().flatten()
    }
}

fn tags(ddtags: Option<&Value>, query_tags: &str, violations: &mut Vec<Violation>) -> Vec<String> {
    let sent = match ddtags {
        None => "",
        Some(Value::String(tags)) => tags.as_str(),
        Some(_) => {
            violations.push(Violation::TagsShape);
            ""
        }
    };
    let mut tags = Vec::new();
    for tag in [sent, query_tags].into_iter().flat_map(|list| list.split(',')).map(str::trim) {
        if tag.is_empty() {
            continue;
        }
        let lower = tag.to_lowercase();
        let stored = normalise(&lower);
        if stored != lower {
            violations.push(Violation::Tag(tag.to_owned()));
        }
        if !stored.is_empty() && !tags.contains(&stored) {
            tags.push(stored);
        }
    }
    if tags.len() > TAGS_MAX {
        violations.push(Violation::Tags(tags.len()));
        tags.truncate(TAGS_MAX);
    }
    tags
}

/// A lower-case tag as Datadog stores it: it starts with a letter; what is no letter, digit, `_ - : . /`
/// becomes `_`; it is cut, and ends in no colon.
fn normalise(tag: &str) -> String {
    let start = tag.find(char::is_alphabetic).unwrap_or(tag.len());
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/');
    let kept = tag.get(start..).unwrap_or_default().chars().take(TAG_CHARS_MAX);
    let stored: String = kept.map(|c| if allowed(c) { c } else { '_' }).collect();
    stored.trim_end_matches(':').to_owned()
}
