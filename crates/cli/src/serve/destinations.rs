//! Delivery as the rest of the process sees it: the one in force now, behind the management API and `/metrics`. A
//! reload may put another in its place.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use audit::delivery::{Delivery, DestinationStatus, ReplayError, ReplayReport, Selection, SystemClock};
use audit::export::{ExportConfig, Exporter, TestError, TestReport};
use audit::outbox::{BoxFuture, DeliveryState, Outbox};
use control::ports::{Exports, PortError};
use policy::Problem;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use registry::DesiredState;
use registry::desired_state::ExportRules;
use store::Store;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::task::TaskTracker;

/// What batches in flight get to come back before another delivery starts from the cursor; those that do not are sent
/// twice, which destinations must bear anyway.
const HANDOVER_GRACE: Duration = Duration::from_secs(2);

/// The destinations in force: those that the configuration declares, and those that the management API made.
pub(crate) struct Destinations {
    in_force: ArcSwap<InForce>,
    store: Arc<Store>,
    state: Arc<DesiredState>,
    tasks: TaskTracker,
    /// Those that the configuration declares. INVARIANT: held by whoever replaces the delivery, and taken before anything of
    /// the desired state is.
    declared: Mutex<Vec<ExportConfig>>,
}

struct InForce {
    delivery: Arc<Delivery>,
    exports: Vec<ExportConfig>,
    /// Whether the delivery still runs: not where it was shut down and nothing could take its place.
    is_running: bool,
}

/// The right to replace what delivers.
pub(crate) struct Changing<'a> {
    destinations: &'a Destinations,
    declared: MutexGuard<'a, Vec<ExportConfig>>,
}

impl Destinations {
    /// Starts delivery to these and to those that the API made.
    ///
    /// # Errors
    /// One that cannot be set up, a store that does not answer.
    pub(crate) async fn start(
        store: Arc<Store>,
        state: Arc<DesiredState>,
        tasks: TaskTracker,
        declared: Vec<ExportConfig>,
    ) -> anyhow::Result<Self> {
        let made = state.running_exports().await.context("a destination cannot be served any more")?;
        let exports: Vec<ExportConfig> = declared.iter().cloned().chain(made).collect();
        let delivery = start(&store, &tasks, exports.clone()).await?;
        let in_force = InForce { delivery: Arc::new(delivery), exports, is_running: true };
        let declared = Mutex::new(declared);
        Ok(Self { in_force: ArcSwap::from_pointee(in_force), store, state, tasks, declared })
    }

    /// Waits until nobody else replaces anything.
    pub(crate) async fn change(&self) -> Changing<'_> {
        Changing { destinations: self, declared: self.declared.lock().await }
    }

    /// What delivers now.
    pub(crate) fn delivery(&self) -> Arc<Delivery> {
        Arc::clone(&self.in_force.load().delivery)
    }

    /// The destinations in force.
    pub(crate) fn exports(&self) -> Vec<ExportConfig> {
        self.in_force.load().exports.clone()
    }

    fn put(&self, delivery: Arc<Delivery>, exports: Vec<ExportConfig>, is_running: bool) {
        self.in_force.store(Arc::new(InForce { delivery, exports, is_running }));
    }
}

impl Changing<'_> {
    /// Those that the API made, by these rules.
    ///
    /// # Errors
    /// What the rules do not give.
    pub(crate) async fn made(&self, rules: &ExportRules) -> anyhow::Result<Vec<ExportConfig>> {
        Ok(self.destinations.state.exports_under(rules).await?)
    }

    /// Has these run from now on. Where they are what runs, they only read their secrets again.
    ///
    /// # Errors
    /// What keeps them from running; the former run again then.
    pub(crate) async fn put_in_force(
        mut self,
        declared: Vec<ExportConfig>,
        made: Vec<ExportConfig>,
    ) -> anyhow::Result<()> {
        let exports = declared.iter().cloned().chain(made).collect();
        self.destinations.replace(exports).await?;
        *self.declared = declared;
        Ok(())
    }
}

impl Destinations {
    /// Ends the delivery in force and starts another from its cursors. Where that cannot be, the former starts again.
    async fn replace(&self, exports: Vec<ExportConfig>) -> anyhow::Result<()> {
        let before = self.in_force.load_full();
        if before.is_running && before.exports == exports {
            before.delivery.reload_secrets();
            return Ok(());
        }
        before.delivery.shutdown(HANDOVER_GRACE).await;
        match start(&self.store, &self.tasks, exports.clone()).await {
            Ok(delivery) => {
                self.put(Arc::new(delivery), exports, true);
                Ok(())
            }
            Err(error) => {
                match start(&self.store, &self.tasks, before.exports.clone()).await {
                    Ok(delivery) => self.put(Arc::new(delivery), before.exports.clone(), true),
                    Err(error) => {
                        self.put(Arc::clone(&before.delivery), before.exports.clone(), false);
                        tracing::error!(
                            error = format!("{error:#}"),
                            "delivery stands still until the next reload or restart; events wait in the store"
                        );
                    }
                }
                Err(error)
            }
        }
    }
}

async fn start(
    store: &Arc<Store>,
    tasks: &TaskTracker,
    exports: Vec<ExportConfig>,
) -> anyhow::Result<Delivery> {
    let outbox: Arc<dyn Outbox> = Arc::clone(store) as _;
    let ids = exports.iter().map(|export| export.id.clone()).collect();
    let delivery = Delivery::start(outbox, exports, Arc::new(SystemClock), tasks).await?;
    store.retain_for(ids);
    Ok(delivery)
}

impl Exports for Destinations {
    fn status(&self) -> Vec<DestinationStatus> {
        self.in_force.load().delivery.status()
    }

    fn check<'a>(&'a self, export: &'a ExportConfig) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            export.check_secrets().map_err(|(field, error)| Problem::new(field, error.to_string()))?;
            Exporter::new(export).map_err(|error| Problem::new("", error.to_string()))?;
            if let Some(egress) = export.egress.as_ref().filter(|_| export.endpoint().contains("://")) {
                let checked = egress.check_now(export.endpoint()).await;
                checked.map_err(|error| Problem::new("endpoint", error.to_string()))?;
            }
            Ok(())
        })
    }

    fn apply(&self) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            let changing = self.change().await;
            let made = self.state.running_exports().await.map_err(|error| PortError(error.to_string()))?;
            let declared = changing.declared.clone();
            let applied = changing.put_in_force(declared, made).await;
            applied.map_err(|error| PortError(format!("{error:#}")))
        })
    }

    fn test<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<TestReport, TestError>>> {
        Box::pin(async move {
            let in_force = self.in_force.load_full();
            let export = in_force.exports.iter().find(|export| export.id == id)?;
            Some(audit::export::test(export, &SystemClock).await)
        })
    }

    fn replay<'a>(
        &'a self,
        id: &'a str,
        selection: Selection,
    ) -> BoxFuture<'a, Result<ReplayReport, ReplayError>> {
        Box::pin(async move { self.delivery().replay(id, selection).await })
    }
}

/// The destinations' part of `/metrics`.
pub(crate) struct DestinationMetrics(pub(crate) Arc<Destinations>);

impl fmt::Debug for DestinationMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DestinationMetrics")
    }
}

type Count = fn(&DestinationStatus) -> u64;

const COUNTERS: &[(&str, &str, Count)] = &[
    ("export_delivered", "Events that the destination took", |status| status.delivered),
    ("export_skipped", "Events that filters or sampling left out", |status| status.skipped),
    ("export_requests", "Requests sent", |status| status.requests),
    ("export_retries", "Requests with a batch that had been tried before", |status| status.retries),
    ("export_bytes_sent", "Bytes of bodies as sent", |status| status.bytes_sent),
];

const GAUGES: &[(&str, &str, Count)] = &[
    // Events that are skipped once they are looked at leave it again.
    ("export_accepted", "Events that are the destination's concern", |status| status.accepted),
    ("export_pending", "Events still to be delivered", |status| status.pending),
    ("export_dead", "Events that the destination will not take, not replayed yet", |status| status.dead),
    ("export_held", "1 where a person must mend something, else 0", |status| {
        u64::from(status.state == DeliveryState::Held)
    }),
    ("export_retrying", "1 where the last tries failed in a passing way, else 0", |status| {
        u64::from(status.state == DeliveryState::Retrying)
    }),
];

impl Collector for DestinationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.status();
        for (name, help, count) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &all {
                let labels = labels(status);
                ConstCounter::new(count(status)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, count) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in &all {
                let labels = labels(status);
                let value = i64::try_from(count(status)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Age in seconds of the oldest pending event";
        let mut family = encoder.encode_descriptor("export_lag_seconds", help, None, MetricType::Gauge)?;
        for status in &all {
            let labels = labels(status);
            ConstGauge::new(status.lag_seconds).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn labels(status: &DestinationStatus) -> [(&'static str, String); 1] {
    [("destination", status.id.clone())]
}
