//! What Datadog's API does beside the intake, as far as a gateway uses it: dashboards, monitors, log pipelines and
//! log-based metrics are kept where they have the documented shape, and logs are counted and listed. Needs both keys.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::ledger::Received;
use super::{Intake, IntakeError};
use crate::reply::{self, Cut, Frames};
use crate::server;

/// Largest request.
const BYTES_MAX: usize = 4 << 20;
/// Logs of one page.
const PAGE_MAX: u64 = 1000;
const DASHBOARDS: &str = "/api/v1/dashboard";
const MONITORS: &str = "/api/v1/monitor";
const PIPELINES: &str = "/api/v1/logs/config/pipelines";
const METRICS: &str = "/api/v2/logs/config/metrics";
const AGGREGATE: &str = "/api/v2/logs/analytics/aggregate";
const SEARCH: &str = "/api/v2/logs/events/search";
const HOUR_MS: i64 = 3_600_000;

/// Objects by their collection's path, in the order they were made.
#[derive(Default)]
pub(super) struct Objects {
    kept: BTreeMap<&'static str, Vec<(String, Value)>>,
    made: u64,
}

type Refused = (StatusCode, String);

fn bad<T>(detail: impl Into<String>) -> Result<T, Refused> {
    Err((StatusCode::BAD_REQUEST, detail.into()))
}

/// The collection that a path belongs to, and the id behind it.
fn collection(path: &str) -> Option<(&'static str, Option<&str>)> {
    [DASHBOARDS, MONITORS, PIPELINES, METRICS].into_iter().find_map(|kind| match path.strip_prefix(kind)? {
        "" => Some((kind, None)),
        rest => Some((kind, Some(rest.strip_prefix('/')?))),
    })
}

/// Whether such a path is handled here.
pub(super) fn is_for(path: &str) -> bool {
    matches!(path, AGGREGATE | SEARCH) || collection(path).is_some()
}

impl Intake {
    /// Answers a request of the management API.
    pub(super) async fn pack(&self, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let (head, body) = request.into_parts();
        if let Err(error) = self.check_key(&head.headers) {
            return Ok(error.response());
        }
        if head.headers.get("dd-application-key").is_none_or(|key| key.is_empty()) {
            return Ok(IntakeError::WrongKey.response());
        }
        let Ok(body) = server::read_body(body, BYTES_MAX).await else { return Err(Cut) };
        let body = if head.method == Method::GET { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        let answer = match (body, head.uri.path()) {
            (Err(error), _) => bad(error.to_string()),
            (Ok(body), AGGREGATE) => self.aggregate(&body),
            (Ok(body), SEARCH) => self.search(&body),
            (Ok(body), path) => match collection(path) {
                Some((kind, id)) => self.object(&head.method, kind, id, body, head.uri.query().unwrap_or("")),
                None => bad("no such path"),
            },
        };
        Ok(match answer {
            Ok(body) => reply::json(StatusCode::OK, &body),
            Err((status, detail)) => reply::json(status, &json!({ "errors": [detail] })),
        })
    }

    fn object(
        &self,
        method: &Method,
        kind: &'static str,
        id: Option<&str>,
        body: Value,
        query: &str,
    ) -> Result<Value, Refused> {
        let objects = &mut self.lock().objects;
        match (method, id) {
            (&Method::GET, None) => Ok(listed(kind, objects.kept.entry(kind).or_default(), query)),
            (&Method::POST, None) => {
                check(kind, &body)?;
                objects.made += 1;
                let kept = objects.kept.entry(kind).or_default();
                let (id, body) = with_id(kind, objects.made, body);
                if kept.iter().any(|(other, _)| *other == id) {
                    return Err((StatusCode::CONFLICT, format!("`{id}` is there already")));
                }
                kept.push((id, body.clone()));
                Ok(body)
            }
            (&Method::PUT | &Method::PATCH, Some(id)) if (method == Method::PATCH) == (kind == METRICS) => {
                let kept = objects.kept.entry(kind).or_default();
                let Some((_, there)) = kept.iter_mut().find(|(other, _)| other == id) else {
                    return Err((StatusCode::NOT_FOUND, format!("no `{id}`")));
                };
                if kind == METRICS {
                    return changed_metric(there, &body);
                }
                check(kind, &body)?;
                let id = there.get("id").cloned().unwrap_or_default();
                *there = body;
                if let Some(members) = there.as_object_mut() {
                    members.insert("id".to_owned(), id);
                }
                Ok(there.clone())
            }
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "no such method here".to_owned())),
        }
    }

    /// Logs that a `filter` finds, oldest first.
    fn found(&self, body: &Value) -> Result<Vec<std::sync::Arc<Received>>, Refused> {
        let text = |name: &str| body.pointer(&format!("/filter/{name}")).and_then(Value::as_str);
        let (Some(query), Some(from), Some(to)) = (text("query"), text("from"), text("to")) else {
            return bad("filter needs query, from and to, all of them texts");
        };
        let (Ok(from), Ok(to)) = (from.parse::<i64>(), to.parse::<i64>()) else {
            return bad("from and to are taken in milliseconds here");
        };
        let terms = query.split_whitespace().map(Term::read).collect::<Result<Vec<_>, _>>()?;
        let state = self.lock();
        let is_found = |log: &&std::sync::Arc<Received>| {
            (from..=to).contains(&log.time.as_millisecond()) && terms.iter().all(|term| term.fits(&log.log))
        };
        let mut found: Vec<_> = state.ledger.logs().filter(is_found).cloned().collect();
        found.sort_by_key(|log| (log.time, log.index));
        Ok(found)
    }

    /// `cardinality` of an attribute by the hour.
    fn aggregate(&self, body: &Value) -> Result<Value, Refused> {
        let compute = body.pointer("/compute/0").cloned().unwrap_or_default();
        let text = |name: &str| compute.get(name).and_then(Value::as_str).unwrap_or_default();
        if (text("aggregation"), text("type"), text("interval")) != ("cardinality", "timeseries", "1h") {
            return bad("here only cardinality is computed, as a timeseries by 1h");
        }
        let Some(path) = text("metric").strip_prefix('@') else { return bad("metric is an attribute: @…") };
        let mut hours: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for log in self.found(body)? {
            if let Some(value) = attribute(&log.log, path) {
                let hour = log.time.as_millisecond().div_euclid(HOUR_MS) * HOUR_MS;
                hours.entry(hour).or_default().insert(value);
            }
        }
        let points: Vec<Value> = hours
            .iter()
            .map(|(hour, values)| {
                let time = jiff::Timestamp::from_millisecond(*hour).unwrap_or_default();
                json!({ "time": time.to_string(), "value": values.len() })
            })
            .collect();
        let buckets =
            if points.is_empty() { json!([]) } else { json!([{ "by": {}, "computes": { "c0": points } }]) };
        Ok(json!({ "data": { "buckets": buckets }, "meta": { "status": "done" } }))
    }

    fn search(&self, body: &Value) -> Result<Value, Refused> {
        let limit = body.pointer("/page/limit").and_then(Value::as_u64).unwrap_or(10);
        if limit == 0 || limit > PAGE_MAX {
            return bad("page.limit is 1 to 1000");
        }
        let cursor = body.pointer("/page/cursor").and_then(Value::as_str).unwrap_or("0");
        let Ok(skip) = cursor.parse::<usize>() else { return bad("page.cursor is none of ours") };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.found(body)?;
        let page: Vec<Value> = found
            .iter()
            .skip(skip)
            .take(limit)
            .map(|log| {
                json!({ "id": log.index.to_string(), "type": "log",
                    "attributes": { "attributes": log.log, "timestamp": log.time.to_string(), "tags": log.tags } })
            })
            .collect();
        let next = skip + page.len();
        let mut answer = json!({ "data": page, "meta": { "status": "done" } });
        if let (true, Some(meta)) =
            (next < found.len(), answer.get_mut("meta").and_then(Value::as_object_mut))
        {
            meta.insert("page".to_owned(), json!({ "after": next.to_string() }));
        }
        Ok(answer)
    }
}

/// `key:value` or `-key:value`; what Datadog's search does beyond is refused.
struct Term {
    is_not: bool,
    path: String,
    value: String,
}

impl Term {
    fn read(term: &str) -> Result<Self, Refused> {
        let (is_not, term) = term.strip_prefix('-').map_or((false, term), |term| (true, term));
        let Some((key, value)) = term.split_once(':') else {
            return bad(format!("`{term}` is not understood here"));
        };
        let path = match key {
            "service" => "service",
            "source" => "ddsource",
            _ => match key.strip_prefix('@') {
                Some(path) => path,
                None => return bad(format!("`{key}` is not understood here")),
            },
        };
        let value = value.trim_matches('"');
        if value.contains(['*', '(', '[', '"']) {
            return bad(format!("`{term}` is not understood here"));
        }
        Ok(Self { is_not, path: path.to_owned(), value: value.to_owned() })
    }

    fn fits(&self, log: &Value) -> bool {
        (attribute(log, &self.path).as_deref() == Some(self.value.as_str())) != self.is_not
    }
}

fn attribute(log: &Value, path: &str) -> Option<String> {
    match log.pointer(&format!("/{}", path.replace('.', "/")))? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn with_id(kind: &str, number: u64, mut body: Value) -> (String, Value) {
    if kind == METRICS {
        let id = body.pointer("/data/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        return (id, body);
    }
    let id = if kind == MONITORS { json!(number) } else { json!(format!("made-{number}")) };
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    if let Some(members) = body.as_object_mut() {
        members.insert("id".to_owned(), id);
    }
    (text, body)
}

fn listed(kind: &str, kept: &[(String, Value)], query: &str) -> Value {
    let fields: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<usize>().ok());
    let tags = fields.get("monitor_tags");
    let has_tags = |one: &&Value| {
        tags.is_none_or(|tags| {
            let has = |tag: &str| {
                one.get("tags").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == tag))
            };
            tags.split(',').all(has)
        })
    };
    let (skip, take) = match kind {
        DASHBOARDS => (number("start").unwrap_or(0), number("count").unwrap_or(100)),
        MONITORS => {
            let size = number("page_size").unwrap_or(100);
            (number("page").unwrap_or(0).saturating_mul(size), size)
        }
        _ => (0, usize::MAX),
    };
    let page: Vec<Value> =
        kept.iter().map(|(_, one)| one).filter(has_tags).skip(skip).take(take).cloned().collect();
    match kind {
        DASHBOARDS => {
            // A list has the heads only.
            let head = |one: &Value| json!({ "id": one.get("id"), "title": one.get("title"), "description": one.get("description") });
            json!({ "dashboards": page.iter().map(head).collect::<Vec<_>>() })
        }
        METRICS => json!({ "data": page.iter().filter_map(|one| one.get("data")).collect::<Vec<_>>() }),
        _ => json!(page),
    }
}

/// Of a metric, what it counts stays.
fn changed_metric(there: &mut Value, body: &Value) -> Result<Value, Refused> {
    let Some(Value::Object(changed)) = body.pointer("/data/attributes") else {
        return bad("data.attributes is missing");
    };
    let compute = changed.get("compute").and_then(Value::as_object);
    if compute.is_some_and(|compute| compute.keys().any(|key| key != "include_percentiles")) {
        return bad("of compute only include_percentiles can be changed");
    }
    if let Some(Value::Object(members)) = there.pointer_mut("/data/attributes") {
        for name in ["filter", "group_by"] {
            if let Some(value) = changed.get(name) {
                members.insert(name.to_owned(), value.clone());
            }
        }
    }
    Ok(there.clone())
}

/// The documented shape, where a mistake is likely.
fn check(kind: &str, body: &Value) -> Result<(), Refused> {
    let (required, allowed): (&[&str], &[&str]) = match kind {
        DASHBOARDS => (
            &["/title", "/layout_type", "/widgets/0/definition/type"],
            &[
                "title",
                "description",
                "layout_type",
                "reflow_type",
                "widgets",
                "template_variables",
                "tags",
                "notify_list",
                "is_read_only",
                "restricted_roles",
            ],
        ),
        MONITORS => (
            &["/type", "/query", "/options/thresholds/critical"],
            &["name", "type", "query", "message", "tags", "priority", "options", "restricted_roles"],
        ),
        PIPELINES => (
            &["/name", "/filter/query", "/processors/0/type"],
            &["name", "description", "tags", "is_enabled", "filter", "processors"],
        ),
        _ => (&["/data/id", "/data/attributes/compute/aggregation_type"], &["data"]),
    };
    for pointer in required {
        if body.pointer(pointer).is_none_or(Value::is_null) {
            return bad(format!("{pointer} is missing"));
        }
    }
    let Some(members) = body.as_object() else { return bad("not an object") };
    if let Some(unknown) = members.keys().find(|key| !allowed.contains(&key.as_str())) {
        return bad(format!("`{unknown}` is unknown"));
    }
    match kind {
        MONITORS => check_monitor(body),
        DASHBOARDS
            if !matches!(body.get("layout_type").and_then(Value::as_str), Some("ordered" | "free")) =>
        {
            bad("layout_type is ordered or free")
        }
        METRICS if body.pointer("/data/type") != Some(&json!("logs_metrics")) => {
            bad("data.type is logs_metrics")
        }
        _ => Ok(()),
    }
}

fn check_monitor(body: &Value) -> Result<(), Refused> {
    if !matches!(body.get("type").and_then(Value::as_str), Some("log alert" | "query alert" | "metric alert"))
    {
        return bad("type is none that there is");
    }
    let query = body.get("query").and_then(Value::as_str).unwrap_or_default();
    let in_query = query.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
    let critical = body.pointer("/options/thresholds/critical").and_then(Value::as_f64);
    if in_query.is_none() || in_query != critical {
        return bad("Alert threshold does not match that used in the query.");
    }
    if query.starts_with("formula(") && body.pointer("/options/variables/0/name").is_none() {
        return bad("a formula needs options.variables");
    }
    Ok(())
}
