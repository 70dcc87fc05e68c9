//! Makes what is to be at Datadog, or brings what we made before up to date: applied twice, there is one of each.
//! Whatever has not our mark is left alone, whatever its name is.

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::pack::Part;

/// What we made is known by this: a tag, or a word of the description where Datadog takes no such tags.
const MARK: &str = "managed_by:policy-gateway";
const DASHBOARDS: &str = "/api/v1/dashboard";
const MONITORS: &str = "/api/v1/monitor";
const PIPELINES: &str = "/api/v1/logs/config/pipelines";
const METRICS: &str = "/api/v2/logs/config/metrics";
/// Monitors and dashboards of one page.
const PAGE: usize = 100;
/// Pages that are looked at: 100,000 objects.
const PAGES_MAX: usize = 1000;

/// What became of an object.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) done: Outcome,
}

/// Whether there was one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Created,
    Updated,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
        }
    }
}

/// Applies objects one after the other.
///
/// # Errors
/// Of the first that fails; those before are applied.
pub(super) async fn apply(api: &Api, part: Part, objects: Vec<Value>) -> anyhow::Result<Vec<Applied>> {
    let there = match part {
        Part::Dashboard => dashboards(api).await?,
        Part::Monitors => monitors(api).await?,
        Part::Pipeline => pipelines(api).await?,
        Part::Metrics => metrics(api).await?,
    };
    let mut done = Vec::with_capacity(objects.len());
    for object in objects {
        let name = name_of(part, &object).to_owned();
        let ids: Vec<&str> = there.iter().filter(|one| one.name == name).map(|one| one.id.as_str()).collect();
        let applied = match ids.as_slice() {
            [] => create(api, part, &object).await,
            [id] => update(api, part, id, object).await,
            many => bail!(
                "there are {} of ours named `{name}` ({}): delete all but one in Datadog",
                many.len(),
                many.join(", ")
            ),
        };
        let (id, outcome) = applied.with_context(|| format!("{} `{name}`", part.kind()))?;
        done.push(Applied { name, id, done: outcome });
    }
    Ok(done)
}

/// Something of ours that is there.
struct There {
    name: String,
    id: String,
}

fn name_of(part: Part, object: &Value) -> &str {
    let name = match part {
        Part::Dashboard => object.get("title"),
        Part::Monitors | Part::Pipeline => object.get("name"),
        Part::Metrics => object.pointer("/data/id"),
    };
    name.and_then(Value::as_str).unwrap_or_default()
}

async fn create(api: &Api, part: Part, object: &Value) -> anyhow::Result<(String, Outcome)> {
    let path = match part {
        Part::Dashboard => DASHBOARDS,
        Part::Monitors => MONITORS,
        Part::Pipeline => PIPELINES,
        Part::Metrics => METRICS,
    };
    let made = api.send(Method::POST, path, Some(object)).await?;
    let id = made.get("id").or_else(|| made.pointer("/data/id")).and_then(id_text);
    Ok((id.context("Datadog does not tell the id of what it made")?, Outcome::Created))
}

async fn update(api: &Api, part: Part, id: &str, object: Value) -> anyhow::Result<(String, Outcome)> {
    let (method, path, body) = match part {
        Part::Dashboard => (Method::PUT, DASHBOARDS, object),
        Part::Monitors => (Method::PUT, MONITORS, object),
        Part::Pipeline => (Method::PUT, PIPELINES, object),
        Part::Metrics => (Method::PATCH, METRICS, metric_update(&object)),
    };
    api.send(method, &format!("{path}/{id}"), Some(&body)).await?;
    Ok((id.to_owned(), Outcome::Updated))
}

/// Of a metric, what may be changed: never what it counts.
fn metric_update(object: &Value) -> Value {
    let attributes = object.pointer("/data/attributes").cloned().unwrap_or_default();
    let mut changed = json!({ "filter": attributes.get("filter"), "group_by": attributes.get("group_by") });
    let percentiles = attributes.pointer("/compute/include_percentiles");
    if let (Some(members), Some(percentiles)) = (changed.as_object_mut(), percentiles) {
        members.insert("compute".to_owned(), json!({ "include_percentiles": percentiles }));
    }
    json!({ "data": { "type": "logs_metrics", "attributes": changed } })
}

fn id_text(id: &Value) -> Option<String> {
    id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string()))
}

fn named(list: &[Value], name: &str, is_ours: impl Fn(&Value) -> bool) -> Vec<There> {
    let there = |one: &Value| {
        let name = one.get(name)?.as_str()?.to_owned();
        Some(There { name, id: id_text(one.get("id")?)? })
    };
    list.iter().filter(|one| is_ours(one)).filter_map(there).collect()
}

fn is_tagged(one: &Value) -> bool {
    let tags = one.get("tags").and_then(Value::as_array);
    tags.is_some_and(|tags| tags.iter().any(|tag| tag == MARK))
}

/// Dashboards take no tags but those of teams.
async fn dashboards(api: &Api) -> anyhow::Result<Vec<There>> {
    let is_ours =
        |one: &Value| one.get("description").and_then(Value::as_str).is_some_and(|text| text.contains(MARK));
    let mut there = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("{DASHBOARDS}?count={PAGE}&start={}", page * PAGE);
        let answer = api.send(Method::GET, &path, None).await?;
        let list = list(answer.get("dashboards"))?;
        there.extend(named(list, "title", is_ours));
        if list.len() < PAGE {
            break;
        }
    }
    Ok(there)
}

async fn monitors(api: &Api) -> anyhow::Result<Vec<There>> {
    let mut there = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("{MONITORS}?monitor_tags={MARK}&page={page}&page_size={PAGE}");
        let answer = api.send(Method::GET, &path, None).await?;
        let list = list(Some(&answer))?;
        there.extend(named(list, "name", is_tagged));
        if list.len() < PAGE {
            break;
        }
    }
    Ok(there)
}

async fn pipelines(api: &Api) -> anyhow::Result<Vec<There>> {
    let answer = api.send(Method::GET, PIPELINES, None).await?;
    Ok(named(list(Some(&answer))?, "name", is_tagged))
}

/// Metrics have no marks: their names are ours.
async fn metrics(api: &Api) -> anyhow::Result<Vec<There>> {
    let answer = api.send(Method::GET, METRICS, None).await?;
    Ok(named(list(answer.get("data"))?, "id", |_| true))
}

fn list(value: Option<&Value>) -> anyhow::Result<&[Value]> {
    let list = value.and_then(Value::as_array).context("Datadog's list has another shape than documented")?;
    Ok(list)
}
