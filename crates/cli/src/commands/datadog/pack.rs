//! What is set up at Datadog, as the files in `deploy/datadog` have it: Terraform reads the same ones.

use anyhow::Context;
use serde_json::Value;

/// How the files name the logs.
const SERVICE: &str = "service:policy-gateway";

/// What can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Dashboard,
    Monitors,
    Pipeline,
    Metrics,
}

impl Part {
    /// Each as it is sent, for logs with this `service`.
    pub(super) fn objects(self, service: &str) -> anyhow::Result<Vec<Value>> {
        let text = match self {
            Self::Dashboard => include_str!("../../../../../deploy/datadog/dashboard.json"),
            Self::Monitors => include_str!("../../../../../deploy/datadog/monitors.json"),
            Self::Pipeline => include_str!("../../../../../deploy/datadog/pipeline.json"),
            Self::Metrics => include_str!("../../../../../deploy/datadog/metrics.json"),
        };
        let mut value: Value = serde_json::from_str(text).context("the built-in pack is broken")?;
        rename(&mut value, &searched(service)?);
        Ok(match value {
            Value::Array(many) => many,
            one => vec![one],
        })
    }

    /// Whether it is one object by nature.
    pub(super) fn is_single(self) -> bool {
        matches!(self, Self::Dashboard | Self::Pipeline)
    }

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dashboard => "dashboard",
            Self::Monitors => "monitors",
            Self::Pipeline => "pipeline",
            Self::Metrics => "metrics",
        }
    }

    /// One of them.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Dashboard => "dashboard",
            Self::Monitors => "monitor",
            Self::Pipeline => "pipeline",
            Self::Metrics => "metric",
        }
    }
}

/// The search for a service. A monitor's query is a language of its own around the search, so what would have to be
/// quoted in either is refused.
fn searched(service: &str) -> anyhow::Result<String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    anyhow::ensure!(
        !service.is_empty() && service.chars().all(is_plain),
        "--service `{service}`: only letters, digits and - _ . / can be searched for everywhere"
    );
    Ok(format!("service:{service}"))
}

fn rename(value: &mut Value, search: &str) {
    match value {
        Value::String(text) if text.contains(SERVICE) => *text = text.replace(SERVICE, search),
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, search)),
        Value::Object(members) => members.values_mut().for_each(|value| rename(value, search)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Part; 4] = [Part::Dashboard, Part::Monitors, Part::Pipeline, Part::Metrics];

    #[test]
    fn another_service_is_meant_everywhere() {
        for part in ALL {
            let text = serde_json::to_string(&part.objects("llm-gate").unwrap()).unwrap();
            assert!(text.contains("service:llm-gate") && !text.contains(SERVICE), "{}", part.name());
        }
        assert!(Part::Monitors.objects("a\").index(\"x").is_err());
        assert!(Part::Monitors.objects("").is_err());
    }

    /// Attributes in the pack are those of a log on the wire, which a snapshot of the encoder has in full.
    #[test]
    fn attributes_are_those_of_the_wire() {
        let snapshot = include_str!(
            "../../../../audit/src/export/datadog_logs/snapshots/audit__export__datadog_logs__tests__example.snap"
        );
        let log: Value =
            serde_json::from_str(snapshot.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
        let mut seen = 0;
        let mut check = |path: &str| {
            seen += 1;
            let pointer = format!("/{}", path.replace('.', "/"));
            assert!(log.pointer(&pointer).is_some(), "no log has `{path}`");
        };
        for part in ALL {
            let text = serde_json::to_string(&part.objects("policy-gateway").unwrap()).unwrap();
            for rest in text.split('@').skip(1) {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap();
                let path = rest[..end].trim_end_matches('.');
                // On events of type `gap` only.
                if path != "event.gap" {
                    check(path);
                }
            }
        }
        for processor in
            Part::Pipeline.objects("policy-gateway").unwrap()[0]["processors"].as_array().unwrap()
        {
            for source in processor["sources"].as_array().into_iter().flatten() {
                check(source.as_str().unwrap());
            }
        }
        assert!(seen > 40, "{seen}");
    }

    /// What groups and filters of the metrics' queries name is what the metrics have.
    #[test]
    fn queries_read_metrics_and_tags_that_there_are() {
        let metrics = Part::Metrics.objects("policy-gateway").unwrap();
        let queries = serde_json::to_string(&Part::Dashboard.objects("policy-gateway").unwrap()).unwrap();
        let mut used = 0;
        for piece in queries.split(":policy_gateway.").skip(1) {
            let (name, rest) = piece.split_once('{').unwrap();
            let metric = metrics
                .iter()
                .find(|one| one["data"]["id"] == format!("policy_gateway.{name}"))
                .unwrap_or_else(|| panic!("no metric {name}"));
            let tags: Vec<&str> = metric["data"]["attributes"]["group_by"]
                .as_array()
                .unwrap()
                .iter()
                .map(|group| group["tag_name"].as_str().unwrap())
                .collect();
            let (filter, rest) = rest.split_once('}').unwrap();
            let group =
                rest.strip_prefix(" by {").and_then(|rest| rest.split_once('}')).map(|(group, _)| group);
            for tag in filter.split(',').chain(group) {
                let tag = tag.trim_start_matches(['$', '!']).split(':').next().unwrap();
                assert!(tags.contains(&tag), "{name} has no tag {tag}");
            }
            used += 1;
        }
        assert!(used > 15, "{used}");
    }
}
