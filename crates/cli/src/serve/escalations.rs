//! The review desk's part of `/metrics`.

use std::fmt;
use std::sync::Arc;

use escalation::Desk;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The desk's counters and its queue.
pub(crate) struct DeskMetrics(pub(crate) Arc<Desk>);

impl fmt::Debug for DeskMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeskMetrics")
    }
}

impl Collector for DeskMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let open = ConstGauge::new(i64::try_from(stats.open).unwrap_or(i64::MAX));
        let help = "Requests that wait for a review";
        open.encode(encoder.encode_descriptor("escalations_open", help, None, MetricType::Gauge)?)?;
        let counters = [
            ("escalations_opened", "Reviews opened", stats.opened),
            ("escalations_passed", "Requests that passed by a reviewer's grant", stats.passed),
            ("escalation_notices_sent", "Notices of reviews that arrived", stats.notices),
            (
                "escalation_notice_failures",
                "Tries to send a notice of a review that failed",
                stats.notice_failures,
            ),
        ];
        for (name, help, count) in counters {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Reviews ended, by how";
        let mut family = encoder.encode_descriptor("escalations_decided", help, None, MetricType::Counter)?;
        for (state, count) in
            [("approved", stats.approved), ("denied", stats.denied), ("expired", stats.expired)]
        {
            ConstCounter::new(count).encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}
