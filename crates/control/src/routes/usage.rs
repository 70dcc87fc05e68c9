//! `usage`: what calls used and cost, summed up by whatever is asked for, as JSON or CSV.

use audit::usage::{self, Dimension, UsageQuery, csv, date_text, parse_from, parse_to};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::ports::Evidence;
use crate::reply::{Failure, ok, ok_csv};
use crate::routes::Query;

/// A page that nobody sized.
const LIMIT: u64 = 1000;
/// A row is some hundred bytes: the largest page stays around a few megabytes.
const LIMIT_MAX: u64 = 10_000;

/// Where the next page of CSV begins.
const NEXT: HeaderName = HeaderName::from_static("x-next-cursor");

/// All parameters.
const PARAMETERS: [&str; 11] = [
    "from",
    "to",
    "group_by",
    "project_id",
    "policy_id",
    "policy_user",
    "model",
    "key_id",
    "limit",
    "cursor",
    "format",
];

/// Rows in ascending order of their group.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
pub(crate) struct Report {
    /// With the members that `group_by` names, and the sums.
    #[schemars(with = "Vec<Entry>")]
    rows: Vec<Map<String, Value>>,
    /// The first day that is counted, UTC; null: all before `to`.
    from: Option<String>,
    /// The first day that is not counted any more; null: up to now.
    to: Option<String>,
    /// Where the next page begins; null on the last one.
    next: Option<String>,
}

/// A row of usage.
#[derive(JsonSchema)]
#[schemars(rename = "UsageRow")]
#[expect(dead_code, reason = "only its schema is used: which members a row has depends on `group_by`")]
struct Entry {
    /// The project; null where the calls had none. Only where `group_by` names it, like the other five.
    #[schemars(default)]
    project: Option<String>,
    /// The end user; null where the application named none.
    #[schemars(default)]
    user: Option<String>,
    /// The key's public id.
    #[schemars(default)]
    key: Option<String>,
    /// The model that was asked for.
    #[schemars(default)]
    model: Option<String>,
    /// The policy.
    #[schemars(default)]
    policy: Option<String>,
    /// The day in UTC on which the calls came, `YYYY-MM-DD`.
    #[schemars(default)]
    day: Option<String>,
    /// Calls that were judged.
    requests: u64,
    /// Tokens of their prompts.
    prompt_tokens: u64,
    /// Tokens of the answers.
    completion_tokens: u64,
    /// Tokens in total, as the upstreams reported them.
    total_tokens: u64,
    /// What they cost by the configured prices, in US dollars.
    cost_usd: f64,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

pub(crate) async fn report(
    evidence: &dyn Evidence,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response<Bytes>, Failure> {
    let (query, format) = read(query, headers)?;
    let (from, to) = (query.from_day.map(date_text), query.to_day.map(date_text));
    let group_by = query.group_by.clone();
    let page = evidence.usage(query).await.map_err(|error| Failure::unavailable(error.0))?;
    let (rows, next) = (page.to_json(&group_by), page.next(&group_by));
    if format == Format::Json {
        return Ok(ok(&Report { rows, from, to, next }));
    }
    let mut answer = ok_csv(csv(&group_by, &rows));
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        answer.headers_mut().insert(NEXT, next);
    }
    Ok(answer)
}

fn read(query: Option<&str>, headers: &HeaderMap) -> Result<(UsageQuery, Format), Failure> {
    let mut query = Query::read(query, &PARAMETERS)?;
    // Some clients name a parameter once for each of its values.
    let mut group_by = Vec::new();
    while let Some(list) = query.take("group_by") {
        group_by.insert(0, list);
    }
    let group_by = Dimension::parse_list(&group_by.join(",")).map_err(bad("group_by"))?;
    let from_day = query.take("from").map(|text| parse_from(&text)).transpose().map_err(bad("from"))?;
    let to_day = query.take("to").map(|text| parse_to(&text)).transpose().map_err(bad("to"))?;
    if from_day.is_some_and(|from| to_day.is_some_and(|to| to <= from)) {
        return Err(bad("to")("must be after `from`: its day is not counted".to_owned()));
    }
    let format = match query.take("format").as_deref() {
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        None if wants_csv(headers) => Format::Csv,
        None => Format::Json,
        Some(_) => return Err(bad("format")("must be json or csv".to_owned())),
    };
    let limit = match query.take("limit").map(|text| text.parse()) {
        // Who reads a table seldom asks for the next page of it.
        None if format == Format::Csv => LIMIT_MAX,
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
        Some(_) => return Err(bad("limit")(format!("must be a whole number from 1 to {LIMIT_MAX}"))),
    };
    let after = match query.take("cursor").map(|text| usage::after(&text, &group_by)) {
        None => None,
        Some(Some(after)) => Some(after),
        Some(None) => {
            let hint = "must be what `next` of the page before said, with the same `group_by`";
            return Err(bad("cursor")(hint.to_owned()));
        }
    };
    let query = UsageQuery {
        from_day,
        to_day,
        group_by,
        project_id: query.take("project_id"),
        policy_id: query.take("policy_id"),
        policy_user: query.take("policy_user"),
        model: query.take("model"),
        key_id: query.take("key_id"),
        after,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    Ok((query, format))
}

fn bad(name: &str) -> impl Fn(String) -> Failure {
    move |hint| Failure::bad_request(format!("`{name}` {hint}"))
}

/// Whether CSV is accepted, and JSON is not named before it.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = accepted
        .flat_map(|list| list.split(','))
        .map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .find(|one| one == "text/csv" || one == "application/json");
    first.is_some_and(|first| first == "text/csv")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn asked(query: &str) -> UsageQuery {
        read(Some(query), &HeaderMap::new()).unwrap().0
    }

    #[test]
    fn everything_can_be_asked_for() {
        let cursor = {
            let group = vec![Some("p".to_owned()), Some("2026-01-16".to_owned())];
            let row = usage::UsageRow { group, sums: usage::Sums::default() };
            let page = usage::UsagePage { rows: vec![row], has_more: true };
            page.next(&[Dimension::Project, Dimension::Day]).unwrap()
        };
        let line = format!(
            "from=2026-01-16&to=2026-02-01T00:00:00Z&group_by=project&group_by=day&project_id=p&policy_id=q\
             &policy_user=a%20b&model=m&key_id=key_1&limit=10000&cursor={cursor}"
        );
        let text = |text: &str| Some(text.to_owned());
        let expected = UsageQuery {
            from_day: Some(20_469),
            to_day: Some(20_485),
            group_by: vec![Dimension::Project, Dimension::Day],
            project_id: text("p"),
            policy_id: text("q"),
            policy_user: text("a b"),
            model: text("m"),
            key_id: text("key_1"),
            after: Some(vec![text("p"), text("2026-01-16")]),
            limit: 10_000,
        };
        assert_eq!(asked(&line), expected);
        assert_eq!(asked(""), UsageQuery { limit: 1000, ..UsageQuery::default() });
        assert_eq!(asked("format=csv"), UsageQuery { limit: 10_000, ..UsageQuery::default() });
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        for (query, message) in [
            (
                "group_by=colour",
                "`group_by` must be any of project, user, key, model, policy, day with commas",
            ),
            ("group_by=day,day", "`group_by` names day twice"),
            ("group_by=day&group_by=day", "`group_by` names day twice"),
            ("from=yesterday", "`from` must be a day like 2026-01-16"),
            ("to=2026-02-30", "`to` must be a day like 2026-01-16"),
            ("from=2026-01-16&to=2026-01-16", "`to` must be after `from`"),
            ("limit=0", "`limit` must be a whole number from 1 to 10000"),
            ("limit=1e3", "`limit` must be a whole number from 1 to 10000"),
            ("limit=99999999999999999999", "`limit` must be a whole number from 1 to 10000"),
            ("cursor=x", "`cursor` must be what `next` of the page before said"),
            ("format=xml", "`format` must be json or csv"),
            ("since=2026-01-16", "there is no parameter `since`; there is from, to, group_by"),
        ] {
            let failure = read(Some(query), &HeaderMap::new()).unwrap_err().into_response();
            assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
            let body: Value = serde_json::from_slice(failure.body()).unwrap();
            assert!(body["error"]["message"].as_str().unwrap().starts_with(message), "{query}: {body}");
        }
    }

    #[test]
    fn csv_is_asked_for_by_parameter_or_header() {
        let format = |query: &str, accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            read(Some(query), &headers).unwrap().1
        };
        assert_eq!(format("", None), Format::Json);
        assert_eq!(format("", Some("*/*")), Format::Json);
        assert_eq!(format("", Some("application/json, text/csv")), Format::Json);
        assert_eq!(format("", Some("text/CSV;q=0.9, */*")), Format::Csv);
        assert_eq!(format("format=csv", None), Format::Csv);
        assert_eq!(format("format=json", Some("text/csv")), Format::Json);
    }
}
