//! Counters of the data plane for Prometheus. Labels take few values: no user, key or path of the caller's making.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use audit::log::{AuditLog, LogHealth};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModeLabels {
    mode: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModerationLabels {
    provider: &'static str,
    outcome: &'static str,
}

/// The metrics and their registry.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    rollouts: Family<ModeLabels, Counter>,
    spikes: Family<ModeLabels, Counter>,
    upstream_failures: Family<UpstreamLabels, Counter>,
    moderation: Family<ModerationLabels, Counter>,
    unrecorded: Counter,
    client_gone: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    total_seconds: Histogram,
    gateway_seconds: Histogram,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    cost_usd: Counter<f64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(log: Arc<dyn AuditLog>, sources: Vec<Box<dyn Collector>>) -> Self {
        let mut registry = Registry::with_prefix("policy_gateway");
        let total =
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
        let own = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];
        let metrics = Self {
            requests: Family::default(),
            decisions: Family::default(),
            rollouts: Family::default(),
            spikes: Family::default(),
            upstream_failures: Family::default(),
            moderation: Family::default(),
            unrecorded: Counter::default(),
            client_gone: Counter::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            total_seconds: Histogram::new(total),
            gateway_seconds: Histogram::new(own),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            cost_usd: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered, by route and status", metrics.requests.clone());
        registry.register("decisions", "Decisions applied, by decision and stage", metrics.decisions.clone());
        registry.register(
            "judged",
            "Events of judged requests, by rollout mode; a shadow is one beside the request's own",
            metrics.rollouts.clone(),
        );
        registry.register(
            "rollout_spikes",
            "Spikes of a candidate's severe decisions: a canary was taken back, a shadow only told",
            metrics.spikes.clone(),
        );
        registry.register(
            "upstream_failures",
            "Upstream calls that failed",
            metrics.upstream_failures.clone(),
        );
        registry.register(
            "moderation_calls",
            "Calls to a moderation provider, by provider and outcome",
            metrics.moderation.clone(),
        );
        registry.register(
            "requests_unrecorded",
            "Requests refused, or served without a record, because the audit log was not writable",
            metrics.unrecorded.clone(),
        );
        registry.register(
            "clients_gone",
            "Clients that left before their answer was complete",
            metrics.client_gone.clone(),
        );
        registry.register("requests_in_flight", "Requests in flight", metrics.in_flight.clone());
        registry.register("connections", "Client connections open", metrics.connections.clone());
        registry.register(
            "request_seconds",
            "Time to the last byte of the answer",
            metrics.total_seconds.clone(),
        );
        registry.register(
            "overhead_seconds",
            "Time spent in the gateway itself, without the upstream",
            metrics.gateway_seconds.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Prompt tokens that upstreams reported",
            metrics.prompt_tokens.clone(),
        );
        registry.register(
            "completion_tokens",
            "Completion tokens that upstreams reported",
            metrics.completion_tokens.clone(),
        );
        registry.register(
            "cost_usd",
            "Cost in US dollars by the configured pricing",
            metrics.cost_usd.clone(),
        );
        registry.register_collector(Box::new(LogCollector(log)));
        for source in sources {
            registry.register_collector(source);
        }
        Self { registry, ..metrics }
    }

    pub(crate) fn request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    pub(crate) fn decision(&self, decision: &'static str, stage: &'static str) {
        self.decisions.get_or_create(&DecisionLabels { decision, stage }).inc();
    }

    /// Counts a judged request's event, and its shadow's.
    pub(crate) fn rollout(&self, mode: &'static str, has_shadow: bool) {
        self.rollouts.get_or_create(&ModeLabels { mode }).inc();
        if has_shadow {
            self.rollouts.get_or_create(&ModeLabels { mode: "shadow" }).inc();
        }
    }

    pub(crate) fn rollback(&self, takes_back: bool) {
        let mode = if takes_back { "canary" } else { "shadow" };
        self.spikes.get_or_create(&ModeLabels { mode }).inc();
    }

    pub(crate) fn upstream_failure(&self, upstream: &str) {
        self.upstream_failures.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).inc();
    }

    /// Counts a call to a moderation provider.
    pub(crate) fn moderation(&self, provider: &'static str, outcome: &'static str) {
        self.moderation.get_or_create(&ModerationLabels { provider, outcome }).inc();
    }

    pub(crate) fn unrecorded(&self) {
        self.unrecorded.inc();
    }

    pub(crate) fn client_gone(&self) {
        self.client_gone.inc();
    }

    pub(crate) fn times(&self, total: Duration, gateway: Duration) {
        self.total_seconds.observe(total.as_secs_f64());
        self.gateway_seconds.observe(gateway.as_secs_f64());
    }

    pub(crate) fn usage(&self, prompt: u64, completion: u64, cost_usd: f64) {
        self.prompt_tokens.inc_by(prompt);
        self.completion_tokens.inc_by(completion);
        self.cost_usd.inc_by(cost_usd);
    }

    /// The exposition text (OpenMetrics 1.0, which Prometheus reads).
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => "# EOF\n".to_owned(),
        }
    }
}

/// The log's own counters, read when they are asked for.
struct LogCollector(Arc<dyn AuditLog>);

impl fmt::Debug for LogCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogCollector")
    }
}

impl Collector for LogCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let counters = [
            ("audit_decisions", "Decision records made durable", stats.decisions),
            ("audit_events", "Events made durable", stats.events),
            ("audit_commits", "Commits of the audit log, one fsync each", stats.commits),
            ("audit_refused", "Records that the audit log refused", stats.refused),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let writable = matches!(self.0.health(), LogHealth::Writable);
        let gauges = [
            ("audit_queued", "Records waiting to be committed", stats.queued),
            ("audit_writable", "1 where the audit log takes records, else 0", u64::from(writable)),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
