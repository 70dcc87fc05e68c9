//! Figures of the rounds, put together: medians, ratios against nginx, and how they stand to what is to be
//! reached. Text and JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::process::Memory;

/// One target's figures of one round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Closed loop: requests answered per second.
    pub requests_per_second: f64,
    /// Processor seconds of the proxy per 1,000 requests.
    pub cpu_s_per_1000: Option<f64>,
    /// Share of its processor the proxy used in the closed loop. Well under 1, something else was the limit.
    pub cpu_share: Option<f64>,
    /// Open loop, microseconds.
    pub p50_us: f64,
    /// Open loop, microseconds.
    pub p99_us: f64,
    /// Processor microseconds of the proxy per streamed frame.
    pub cpu_us_per_frame: Option<f64>,
    /// Reads that brought the frames, per frame: 1 where each came by itself.
    pub reads_per_frame: f64,
    /// From a request to the first frame of its stream, microseconds.
    pub first_p50_us: f64,
    /// Likewise.
    pub first_p99_us: f64,
}

/// One target's figures of all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    /// `direct`, `nginx`, `gateway` (draining) or `gateway, exporter idle`.
    pub name: &'static str,
    /// In the order run.
    pub rounds: Vec<Figures>,
    /// Once listening, before any request.
    pub memory_ready: Option<Memory>,
    /// After the last round.
    pub memory_end: Option<Memory>,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The targets, in order.
    pub series: Vec<Series>,
    /// The rows of the table, for the gateway.
    pub rows: Vec<Row>,
}

/// One row of what is to be reached.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What is measured.
    pub name: &'static str,
    /// The median over the rounds.
    pub value: f64,
    /// The lowest and the highest round.
    pub range: (f64, f64),
    /// What is to be reached.
    pub reach: f64,
    /// What would be better still.
    pub stretch: f64,
    /// Whether more is better.
    pub more_is_better: bool,
}

impl Row {
    /// `stretch`, `reached` or `missed`.
    pub(crate) fn verdict(&self) -> &'static str {
        let meets = |bound: f64| if self.more_is_better { self.value >= bound } else { self.value <= bound };
        if meets(self.stretch) {
            "stretch"
        } else if meets(self.reach) {
            "reached"
        } else {
            "missed"
        }
    }
}

/// Names of the series, as the rows look for them.
pub(crate) const DIRECT: &str = "direct";
/// See [`DIRECT`].
pub(crate) const NGINX: &str = "nginx";
/// See [`DIRECT`]. Its exporter drains into the intake.
pub(crate) const GATEWAY: &str = "gateway";
/// See [`DIRECT`]. It has no destination.
pub(crate) const GATEWAY_IDLE: &str = "gateway, exporter idle";

impl Report {
    /// Puts the series together.
    pub(crate) fn new(series: Vec<Series>) -> Self {
        let rows = rows(&series);
        Self { series, rows }
    }

    /// The report for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{:<24}{:>9}{:>12}{:>8}{:>10}{:>10}{:>14}{:>13}{:>14}{:>14}{:>12}{:>11}",
            "median of rounds",
            "req/s",
            "CPU s/1000",
            "CPU",
            "p50 µs",
            "p99 µs",
            "CPU µs/frame",
            "reads/frame",
            "TTFT p50 µs",
            "TTFT p99 µs",
            "ready MiB",
            "peak MiB"
        )?;
        for one in &self.series {
            let of = |pick: &dyn Fn(&Figures) -> Option<f64>| {
                median(one.rounds.iter().filter_map(pick).collect()).filter(|value| value.is_finite())
            };
            let mib = |memory: Option<u64>| memory.map(|kib| kib as f64 / 1024.0);
            writeln!(
                text,
                "{:<24}{:>9}{:>12}{:>8}{:>10}{:>10}{:>14}{:>13}{:>14}{:>14}{:>12}{:>11}",
                one.name,
                show(of(&|f| Some(f.requests_per_second)), 0),
                show(of(&|f| f.cpu_s_per_1000), 4),
                show(of(&|f| f.cpu_share), 2),
                show(of(&|f| Some(f.p50_us)), 0),
                show(of(&|f| Some(f.p99_us)), 0),
                show(of(&|f| f.cpu_us_per_frame), 2),
                show(of(&|f| Some(f.reads_per_frame)), 3),
                show(of(&|f| Some(f.first_p50_us)), 0),
                show(of(&|f| Some(f.first_p99_us)), 0),
                show(mib(one.memory_ready.map(|memory| memory.now_kib)), 1),
                show(mib(one.memory_end.map(|memory| memory.peak_kib)), 1),
            )?;
        }
        if !self.rows.is_empty() {
            writeln!(text)?;
            writeln!(text, "{:<62}{:>9}{:>20}{:>9}{:>9}", "gateway", "median", "range", "reach", "stretch")?;
        }
        for row in &self.rows {
            // Ratios want their second digit, microseconds do not.
            let digits = if row.reach < 100.0 { 2 } else { 0 };
            let range = format!("{:.digits$} … {:.digits$}", row.range.0, row.range.1);
            writeln!(
                text,
                "{:<62}{:>9}{:>20}{:>9}{:>9}  {}",
                row.name,
                show(Some(row.value), digits),
                range,
                row.reach,
                row.stretch,
                row.verdict()
            )?;
        }
        Ok(())
    }
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn rows(series: &[Series]) -> Vec<Row> {
    let find = |name: &str| series.iter().find(|one| one.name == name);
    let (Some(nginx), Some(gateway), Some(idle)) = (find(NGINX), find(GATEWAY), find(GATEWAY_IDLE)) else {
        return Vec::new();
    };
    // Rounds are compared in pairs: what disturbs the machine for a while disturbs both of a pair.
    let compare = |ours: &Series, how: &dyn Fn(&Figures, &Figures) -> Option<f64>| -> Vec<f64> {
        ours.rounds.iter().zip(&nginx.rounds).filter_map(|(ours, nginx)| how(ours, nginx)).collect()
    };
    let row = |name, values: Vec<f64>, reach, stretch, more_is_better| {
        let range = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        median(values).map(|value| Row { name, value, range, reach, stretch, more_is_better })
    };
    let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
    let cpu = |ours: &Figures, nginx: &Figures| ratio(ours.cpu_s_per_1000, nginx.cpu_s_per_1000);
    let frame = |ours: &Figures, nginx: &Figures| ratio(ours.cpu_us_per_frame, nginx.cpu_us_per_frame);
    let mib = |memory: Option<u64>| memory.map(|kib| kib as f64 / 1024.0).into_iter().collect::<Vec<_>>();
    [
        row(
            "requests/s ÷ nginx",
            compare(gateway, &|g, n| Some(g.requests_per_second / n.requests_per_second)),
            0.35,
            0.45,
            true,
        ),
        row("CPU seconds per 1,000 requests ÷ nginx, exporter idle", compare(idle, &cpu), 3.0, 2.2, false),
        row("… with the exporter draining at gzip 1", compare(gateway, &cpu), 3.6, 2.8, false),
        row(
            "added latency over nginx at the open-loop rate, p50, µs",
            compare(gateway, &|g, n| Some(g.p50_us - n.p50_us)),
            600.0,
            500.0,
            false,
        ),
        row("… p99, µs", compare(gateway, &|g, n| Some(g.p99_us - n.p99_us)), 1_500.0, 1_200.0, false),
        row("CPU per passed-through SSE chunk ÷ nginx", compare(gateway, &frame), 1.4, 1.2, false),
        row(
            "time to a stream's first frame over nginx, p50, µs",
            compare(gateway, &|g, n| Some(g.first_p50_us - n.first_p50_us)),
            600.0,
            500.0,
            false,
        ),
        row(
            "resident memory when ready, MiB",
            mib(gateway.memory_ready.map(|memory| memory.now_kib)),
            30.0,
            20.0,
            false,
        ),
        row("… peak, MiB", mib(gateway.memory_end.map(|memory| memory.peak_kib)), 60.0, 48.0, false),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The middle value; of an even number of them, the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// A value of a sorted list that `share` of them do not exceed.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
        let sorted: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_micros(50));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_micros(99));
    }

    #[test]
    fn rows_compare_round_by_round() {
        let series = |name, rates: [f64; 3]| Series {
            name,
            rounds: rates
                .map(|rate| Figures {
                    requests_per_second: rate,
                    cpu_s_per_1000: Some(rate),
                    ..Figures::default()
                })
                .to_vec(),
            memory_ready: None,
            memory_end: None,
        };
        let report = Report::new(vec![
            series(NGINX, [10.0, 20.0, 10.0]),
            series(GATEWAY, [4.0, 8.0, 1.0]),
            series(GATEWAY_IDLE, [40.0, 40.0, 40.0]),
        ]);
        let row = |name: &str| report.rows.iter().find(|row| row.name.starts_with(name)).unwrap();
        assert_eq!((row("requests/s").value, row("requests/s").verdict()), (0.4, "reached"));
        assert_eq!((row("CPU seconds").value, row("CPU seconds").verdict()), (4.0, "missed"));
        assert_eq!(row("requests/s").range, (0.1, 0.4));
        assert!(report.table().contains("requests/s ÷ nginx"));
    }
}
