//! What calls use, as it is summed up by day beside the log: what one call adds, what is asked of the sums, and how they
//! are told as JSON and CSV. Where the sums are kept is `store`'s business; what a call costs is the pricing's.
//!
//! Amounts of money are whole picodollars (10⁻¹² US dollars): every price with up to six decimals per million tokens comes
//! to a whole number of them per token, so that sums are exact in any order.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{AuditEvent, EventType, Usage};

const PICO: f64 = 1e12;
const DAY_S: i64 = 24 * 3600;

/// Sums over calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls that were judged.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// Tokens in total, as the upstreams reported them.
    pub total_tokens: u64,
    /// What they cost, in picodollars.
    pub cost_pico_usd: u128,
}

impl Sums {
    /// Of one call.
    pub fn of_call(usage: Option<&Usage>) -> Self {
        let Some(usage) = usage else { return Self { requests: 1, ..Self::default() } };
        Self {
            requests: 1,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            cost_pico_usd: pico_usd(usage.cost_usd),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.total_tokens = self.total_tokens.saturating_add(other.total_tokens);
        self.cost_pico_usd = self.cost_pico_usd.saturating_add(other.cost_pico_usd);
    }

    /// The cost in US dollars, as near as a float gets.
    pub fn cost_usd(&self) -> f64 {
        usd(self.cost_pico_usd)
    }
}

/// Picodollars of an amount in US dollars; 0 for what is no amount.
pub fn pico_usd(usd: f64) -> u128 {
    // Casting saturates, and makes 0 of NaN.
    (usd * PICO).round() as u128
}

/// US dollars of an amount in picodollars.
pub fn usd(pico_usd: u128) -> f64 {
    pico_usd as f64 / PICO
}

/// What one call adds to the sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The day in UTC on which the call came, counted from 1970-01-01; none where its event has no readable time.
    pub day: Option<i32>,
    /// As on the event.
    pub project_id: Option<String>,
    /// As on the event.
    pub policy_id: Option<String>,
    /// As on the event.
    pub model: Option<String>,
    /// As on the event.
    pub policy_user: Option<String>,
    /// As on the event.
    pub key_id: Option<String>,
    /// The call itself.
    pub sums: Sums,
}

impl Spent {
    /// Of an event. Only those count that close a judged call: a shadow's event tells of a call that has one of its own.
    pub fn of(event: &AuditEvent) -> Option<Arc<Self>> {
        if event.event_type != EventType::Enforcement || event.decision_hash.is_none() {
            return None;
        }
        Some(Arc::new(Self {
            day: day_of(&event.created_at),
            project_id: event.project_id.clone(),
            policy_id: event.policy_id.clone(),
            model: event.model.clone(),
            policy_user: event.policy_user.clone(),
            key_id: event.key_id.clone(),
            sums: Sums::of_call(event.usage.as_ref()),
        }))
    }

    /// The same of an event's text, whatever version wrote it.
    pub fn parse(text: &[u8]) -> Option<Arc<Self>> {
        let read: Read<'_> = serde_json::from_slice(text).ok()?;
        if read.event_type != EventType::Enforcement.as_str() || read.decision_hash.is_none() {
            return None;
        }
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Some(Arc::new(Self {
            day: day_of(&read.created_at),
            project_id: owned(read.project_id),
            policy_id: owned(read.policy_id),
            model: owned(read.model),
            policy_user: owned(read.policy_user),
            key_id: owned(read.key_id),
            sums: Sums::of_call(read.usage.as_ref()),
        }))
    }
}

/// The members of an event that count.
#[derive(Deserialize)]
struct Read<'t> {
    #[serde(borrow)]
    event_type: Cow<'t, str>,
    #[serde(borrow)]
    created_at: Cow<'t, str>,
    #[serde(borrow)]
    project_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    policy_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    model: Option<Cow<'t, str>>,
    #[serde(borrow)]
    policy_user: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    key_id: Option<Cow<'t, str>>,
    usage: Option<Usage>,
    #[serde(borrow, default)]
    decision_hash: Option<Cow<'t, str>>,
}

/// What rows of usage are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// `project_id`.
    Project,
    /// `policy_user`.
    User,
    /// `key_id`.
    Key,
    /// `model`.
    Model,
    /// `policy_id`.
    Policy,
    /// The day in UTC.
    Day,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Project, Self::User, Self::Key, Self::Model, Self::Policy, Self::Day];

    /// The wire name; the member of a row too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::User => "user",
            Self::Key => "key",
            Self::Model => "model",
            Self::Policy => "policy",
            Self::Day => "day",
        }
    }

    /// Reads a list, as in `project,day`. An empty one groups by nothing.
    ///
    /// # Errors
    /// What is wrong with it, to follow the name of the parameter.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut list = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let found = Self::ALL.into_iter().find(|one| one.as_str() == name);
            let one = found.ok_or_else(|| {
                format!("must be any of {} with commas between them", Self::ALL.map(Self::as_str).join(", "))
            })?;
            if list.contains(&one) {
                return Err(format!("names {name} twice"));
            }
            list.push(one);
        }
        Ok(list)
    }
}

/// What is asked of the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// The first day, counted from 1970-01-01.
    pub from_day: Option<i32>,
    /// The day after the last one.
    pub to_day: Option<i32>,
    /// A row for each combination of these; one row for none.
    pub group_by: Vec<Dimension>,
    /// Only this project.
    pub project_id: Option<String>,
    /// Only this policy.
    pub policy_id: Option<String>,
    /// Only this end user.
    pub policy_user: Option<String>,
    /// Only this model.
    pub model: Option<String>,
    /// Only this key, by its public id.
    pub key_id: Option<String>,
    /// Only rows after the one with these values of `group_by`.
    pub after: Option<Vec<Option<String>>>,
    /// At most so many rows, 1 or more.
    pub limit: usize,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The values of the query's `group_by`, in its order; a day as `YYYY-MM-DD`, none where the calls had none.
    pub group: Vec<Option<String>>,
    /// The sums.
    pub sums: Sums,
}

/// Rows in ascending order of their group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePage {
    /// At most as many as were asked for.
    pub rows: Vec<UsageRow>,
    /// Whether there are more after them.
    pub has_more: bool,
}

impl UsagePage {
    /// What to ask the next page with; none on the last one.
    pub fn next(&self, group_by: &[Dimension]) -> Option<String> {
        let last = self.rows.last().filter(|_| self.has_more)?;
        let text = serde_json::to_vec(&(group_by, &last.group)).ok()?;
        Some(text.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The rows as JSON objects.
    pub fn to_json(&self, group_by: &[Dimension]) -> Vec<Map<String, Value>> {
        self.rows.iter().map(|row| row.to_json(group_by)).collect()
    }
}

/// The group after which a page begins, from what [`UsagePage::next`] gave for the same `group_by`.
pub fn after(cursor: &str, group_by: &[Dimension]) -> Option<Vec<Option<String>>> {
    let digits = cursor.as_bytes();
    let mut text = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        text.push(u8::from_str_radix(pair, 16).ok()?);
    }
    let (of, group): (Vec<Dimension>, Vec<Option<String>>) = serde_json::from_slice(&text).ok()?;
    let has_days = of.iter().zip(&group).all(|(one, value)| {
        *one != Dimension::Day || value.as_deref().is_some_and(|day| parse_date(day).is_some())
    });
    (of == group_by && group.len() == of.len() && has_days).then_some(group)
}

/// The sums of a row by their wire names, which come after those of its group.
pub const COLUMNS: [&str; 5] = ["requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"];

impl UsageRow {
    /// As a JSON object: the group's values by their names, then the sums.
    pub fn to_json(&self, group_by: &[Dimension]) -> Map<String, Value> {
        let sums = &self.sums;
        let named = group_by.iter().zip(&self.group);
        let named = named.map(|(one, value)| (one.as_str().to_owned(), Value::from(value.clone())));
        let sums: [Value; 5] = [
            sums.requests.into(),
            sums.prompt_tokens.into(),
            sums.completion_tokens.into(),
            sums.total_tokens.into(),
            sums.cost_usd().into(),
        ];
        named.chain(COLUMNS.iter().map(|name| (*name).to_owned()).zip(sums)).collect()
    }
}

/// Rows as CSV (RFC 4180) with a header. A text that a spreadsheet would take for a formula gets a `'` before it: users
/// and models are named by whoever calls.
pub fn csv(group_by: &[Dimension], rows: &[Map<String, Value>]) -> String {
    let names: Vec<&str> = group_by.iter().map(|one| one.as_str()).chain(COLUMNS).collect();
    let mut out = names.join(",");
    out.push_str("\r\n");
    for row in rows {
        let cells: Vec<String> = names.iter().map(|name| cell(row.get(*name))).collect();
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => {
            let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let text = if formula { format!("'{text}") } else { text.clone() };
            if text.contains([',', '"', '\r', '\n']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text
            }
        }
        // Decimal, without an exponent.
        Some(Value::Number(number)) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        Some(other) => other.to_string(),
    }
}

/// The day in UTC of an RFC 3339 time, counted from 1970-01-01.
pub fn day_of(time: &str) -> Option<i32> {
    day_at(time.parse().ok()?)
}

/// The day in UTC of a time.
pub fn day_at(time: Timestamp) -> Option<i32> {
    i32::try_from(time.as_second().div_euclid(DAY_S)).ok()
}

/// When a day begins.
pub fn day_start_s(day: i32) -> i64 {
    i64::from(day) * DAY_S
}

/// A day as `YYYY-MM-DD`; its number where the calendar does not have it.
pub fn date_text(day: i32) -> String {
    match Timestamp::from_second(day_start_s(day)) {
        Ok(time) => TimeZone::UTC.to_datetime(time).date().to_string(),
        Err(_) => day.to_string(),
    }
}

/// Reads `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<i32> {
    // Other forms of a date that the calendar knows have other lengths.
    let date: Date = text.parse().ok().filter(|_| text.len() == "2026-01-16".len())?;
    day_at(TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?)
}

/// How days are written, to follow the name of a parameter.
pub const DAY_HINT: &str = "must be a day like 2026-01-16, or an RFC 3339 time in it";

/// Reads the first day of a period: a date, or a time, which stands for the day that it is in.
///
/// # Errors
/// [`DAY_HINT`].
pub fn parse_from(text: &str) -> Result<i32, String> {
    parse_date(text).or_else(|| day_of(text)).ok_or_else(|| DAY_HINT.to_owned())
}

/// Reads the day that ends a period and is not in it: a date, or a time; the day that a time is in belongs to the period
/// unless it is midnight.
///
/// # Errors
/// [`DAY_HINT`].
pub fn parse_to(text: &str) -> Result<i32, String> {
    let of_time = || {
        let time: Timestamp = text.parse().ok()?;
        let is_midnight = time.as_second().rem_euclid(DAY_S) == 0 && time.subsec_nanosecond() == 0;
        day_at(time)?.checked_add(i32::from(!is_midnight))
    };
    parse_date(text).or_else(of_time).ok_or_else(|| DAY_HINT.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::example_event;

    #[test]
    fn what_counts_is_read_alike_from_an_event_and_from_its_text() {
        let mut event = example_event();
        event.key_id = Some("key_0123456789ab".into());
        event.policy_user = Some("Ä \"quoted\"\n".into());
        let spent = Spent::of(&event).unwrap();
        assert_eq!(Spent::parse(&event.to_json()), Some(Arc::clone(&spent)));
        assert_eq!(spent.day, Some(20_469));
        assert_eq!((spent.sums.requests, spent.sums.cost_pico_usd), (1, 825_000_000));
        event.usage = None;
        event.key_id = None;
        let spent = Spent::of(&event).unwrap();
        assert_eq!(Spent::parse(&event.to_json()), Some(Arc::clone(&spent)));
        assert_eq!(spent.sums, Sums { requests: 1, ..Sums::default() });
    }

    #[test]
    fn only_what_closes_a_judged_call_counts() {
        let mut event = example_event();
        event.decision_hash = None;
        assert_eq!((Spent::of(&event), Spent::parse(&event.to_json())), (None, None), "a shadow's");
        let mut event = example_event();
        for other in [EventType::Error, EventType::Quota, EventType::Simulation, EventType::Admin] {
            event.event_type = other;
            assert_eq!((Spent::of(&event), Spent::parse(&event.to_json())), (None, None), "{other:?}");
        }
        assert_eq!(Spent::parse(b"{}"), None);
    }

    #[test]
    fn lists_say_what_is_wrong_with_them() {
        assert_eq!(Dimension::parse_list("day, project"), Ok(vec![Dimension::Day, Dimension::Project]));
        assert_eq!(Dimension::parse_list(""), Ok(vec![]));
        assert!(
            Dimension::parse_list("days").unwrap_err().contains("project, user, key, model, policy, day")
        );
        assert_eq!(Dimension::parse_list("day,day").unwrap_err(), "names day twice");
    }

    #[test]
    fn periods_are_whole_days_in_utc() {
        let day = parse_date("2026-01-16").unwrap();
        assert_eq!(date_text(day), "2026-01-16");
        for (text, from, to) in [
            ("2026-01-16", 0, 0),
            ("2026-01-16T00:00:00Z", 0, 0),
            ("2026-01-16T00:00:00.001Z", 0, 1),
            ("2026-01-16T23:59:59Z", 0, 1),
            ("2026-01-16T01:00:00+02:00", -1, 0),
        ] {
            assert_eq!((parse_from(text), parse_to(text)), (Ok(day + from), Ok(day + to)), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-02-30", "20260116", "2026-01-16T00:00:00", "1"] {
            assert!(parse_from(bad).is_err() && parse_to(bad).is_err(), "{bad}");
        }
        assert_eq!(date_text(i32::MAX), i32::MAX.to_string());
    }

    #[test]
    fn a_cursor_fits_its_own_query_only() {
        let group_by = [Dimension::User, Dimension::Day];
        let group = vec![None, Some("2026-01-16".to_owned())];
        let row = UsageRow { group: group.clone(), sums: Sums::default() };
        let mut page = UsagePage { rows: vec![row], has_more: true };
        let cursor = page.next(&group_by).unwrap();
        assert_eq!(after(&cursor, &group_by), Some(group));
        assert_eq!(after(&cursor, &[Dimension::Day, Dimension::User]), None);
        let days_missing: String = br#"[["day"],[null]]"#.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(after(&days_missing, &[Dimension::Day]), None);
        for bad in ["", "0", "zz", "5b5d", "ä"] {
            assert_eq!(after(bad, &group_by), None, "{bad}");
        }
        page.has_more = false;
        assert_eq!(page.next(&group_by), None);
    }

    #[test]
    fn csv_quotes_and_disarms() {
        let row = |user: Option<&str>| UsageRow {
            group: vec![user.map(str::to_owned)],
            sums: Sums {
                requests: 2,
                prompt_tokens: 3,
                completion_tokens: 4,
                total_tokens: 7,
                cost_pico_usd: 5,
            },
        };
        let group_by = [Dimension::User];
        let page = UsagePage {
            rows: vec![row(None), row(Some("a,\"b\"")), row(Some("=1+1")), row(Some("plain"))],
            has_more: false,
        };
        insta::assert_snapshot!(csv(&group_by, &page.to_json(&group_by)).replace("\r\n", "\n"), @r#"
        user,requests,prompt_tokens,completion_tokens,total_tokens,cost_usd
        ,2,3,4,7,0.000000000005
        "a,""b""",2,3,4,7,0.000000000005
        '=1+1,2,3,4,7,0.000000000005
        plain,2,3,4,7,0.000000000005
        "#);
    }

    proptest! {
        /// Prices have up to six decimals per million tokens; what a float makes of a call's cost is mended by rounding.
        #[test]
        fn costs_are_exact_in_any_order(
            tokens in prop::collection::vec(0_u64..2_000_000, 0..50),
            price_micro in 0_u32..100_000_000,
        ) {
            let price = f64::from(price_micro) / 1e6;
            let mut sums = Sums::default();
            for tokens in tokens.iter().rev() {
                let cost_usd = *tokens as f64 * price / 1e6;
                sums.add(&Sums::of_call(Some(&Usage { total_tokens: *tokens, cost_usd, ..Usage::default() })));
            }
            let total: u64 = tokens.iter().sum();
            prop_assert_eq!(sums.cost_pico_usd, u128::from(total) * u128::from(price_micro));
        }

        #[test]
        fn no_amount_is_too_odd(amount in any::<f64>()) {
            let mut sums = Sums { cost_pico_usd: pico_usd(amount), ..Sums::default() };
            let same = sums;
            sums.add(&same);
            prop_assert!(sums.cost_usd() >= 0.0);
        }
    }
}
