//! Delivery as the rest of the process sees it: the one in force now, behind the management API and `/metrics`. A
//! reload may put another in its place.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use audit::delivery::{Delivery, DestinationStatus, ReplayError, ReplayReport, Selection, SystemClock};
use audit::export::{ExportConfig, TestError, TestReport};
use audit::outbox::{BoxFuture, DeliveryState};
use control::ports::Exports;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The destinations in force.
pub(crate) struct Destinations(ArcSwap<InForce>);

struct InForce {
    delivery: Arc<Delivery>,
    exports: Vec<ExportConfig>,
    /// Whether the delivery still runs: not where it was shut down and nothing could take its place.
    is_running: bool,
}

impl Destinations {
    /// Delivery to these destinations is under way.
    pub(crate) fn new(delivery: Delivery, exports: Vec<ExportConfig>) -> Self {
        Self(ArcSwap::from_pointee(InForce { delivery: Arc::new(delivery), exports, is_running: true }))
    }

    /// Another delivery takes over; the former must have been shut down.
    pub(crate) fn replace(&self, delivery: Delivery, exports: Vec<ExportConfig>) {
        self.0.store(Arc::new(InForce { delivery: Arc::new(delivery), exports, is_running: true }));
    }

    /// The delivery in force was shut down and nothing took over: the next reload must try again, whatever it reads.
    pub(crate) fn stopped(&self) {
        let InForce { delivery, exports, .. } = &*self.0.load_full();
        let (delivery, exports) = (Arc::clone(delivery), exports.clone());
        self.0.store(Arc::new(InForce { delivery, exports, is_running: false }));
    }

    /// What delivers now.
    pub(crate) fn delivery(&self) -> Arc<Delivery> {
        Arc::clone(&self.0.load().delivery)
    }

    /// Whether these are the destinations in force, and delivered to.
    pub(crate) fn are(&self, exports: &[ExportConfig]) -> bool {
        let in_force = self.0.load();
        in_force.is_running && in_force.exports == exports
    }

    /// The destinations in force.
    pub(crate) fn exports(&self) -> Vec<ExportConfig> {
        self.0.load().exports.clone()
    }
}

impl Exports for Destinations {
    fn status(&self) -> Vec<DestinationStatus> {
        self.0.load().delivery.status()
    }

    fn test<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<TestReport, TestError>>> {
        Box::pin(async move {
            let in_force = self.0.load_full();
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
