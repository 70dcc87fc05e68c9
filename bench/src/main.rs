//! The load bench: a direct call, nginx and the gateway side by side in one run, interleaved round by round,
//! each proxy on a processor of its own. What each figure means is in README.md.

mod corpus;
mod load;
mod process;
mod proxy;
mod report;
mod upstream;
mod wire;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use demo::intake::{DEFAULT_API_KEY, Intake, IntakeOptions};
use tokio::task::JoinSet;

use crate::load::Target;
use crate::proxy::Proxy;
use crate::report::{Figures, Report, Series};

/// How long the exporter may take to deliver what a phase left behind.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(120);

/// Time past its own that a phase may take before the run is given up.
const PHASE_SLACK: Duration = Duration::from_secs(60);

/// Measures a direct call, nginx and the gateway in one run and prints ratios.
#[derive(Debug, Parser)]
#[command(max_term_width = 110)]
struct Options {
    /// The gateway's release binary; where it is missing, only direct and nginx are measured.
    #[arg(long, value_name = "PATH", default_value = "target/release/policy-gateway")]
    gateway: PathBuf,
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each phase of a round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Requests per second of the open loop.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Milliseconds between the frames of a stream.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    frame_interval_ms: u64,
    /// Two rounds of one second: whether it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Processor of the load and the upstream.
    #[arg(long, default_value_t = 0)]
    load_cpu: usize,
    /// Processor of the proxies.
    #[arg(long, default_value_t = 1)]
    proxy_cpu: usize,
    /// Where the gateway keeps its log while it runs: the disk that is measured.
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: PathBuf,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.quick {
        (options.rounds, options.seconds) = (2, 1);
    }
    // Before there are threads: they take it over.
    process::pin_self(options.load_cpu)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(&options))?;
    let text =
        if options.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.table() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

async fn run(options: &Options) -> Result<Report> {
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&options.dir)?;
    let mut tasks = JoinSet::new();
    let upstream = upstream::start(&mut tasks, Duration::from_millis(options.frame_interval_ms)).await?;
    let intake = Intake::start(IntakeOptions { count_only: true, ..IntakeOptions::default() }).await?;

    let mut contenders = vec![Contender::direct(upstream)];
    let nginx = proxy::nginx(dir.path(), options.proxy_cpu, upstream).await?;
    contenders.push(Contender::proxy(report::NGINX, nginx)?);
    if options.gateway.exists() {
        let endpoint = intake.endpoint();
        let destination = Some((endpoint.as_str(), DEFAULT_API_KEY));
        let start = |name: &'static str, destination| {
            let dir = dir.path().join(name.replace([' ', ','], "-"));
            async move { proxy::gateway(&options.gateway, &dir, options.proxy_cpu, upstream, destination).await }
        };
        contenders.push(Contender::proxy(report::GATEWAY, start(report::GATEWAY, destination).await?)?);
        contenders.push(Contender::proxy(report::GATEWAY_IDLE, start(report::GATEWAY_IDLE, None).await?)?);
    } else {
        note(&format!("{} is not there: without the gateway", options.gateway.display()));
    }

    let drain = Drain { intake: &intake };
    let count = contenders.len();
    for round in 0..options.rounds as usize {
        for turn in 0..count {
            // Another one begins each round, so that none always runs after the same.
            let Some(contender) = contenders.get_mut((round + turn) % count) else { continue };
            note(&format!("round {} of {}: {}", round + 1, options.rounds, contender.series.name));
            contender.round(options, &drain).await.with_context(|| contender.series.name)?;
        }
    }
    let series = contenders.into_iter().map(Contender::end).collect::<Result<_>>()?;
    intake.shutdown().await;
    Ok(Report::new(series))
}

fn note(text: &str) {
    // A note that cannot be written is not missed.
    let _ = writeln!(io::stderr(), "bench: {text}");
}

/// The exporter's progress, as the intake sees it.
struct Drain<'a> {
    intake: &'a demo::intake::Running,
}

impl Drain<'_> {
    fn received(&self) -> u64 {
        self.intake.stats().received
    }

    /// Waits until the intake has `logs` in all.
    async fn reach(&self, logs: u64) -> Result<()> {
        Ok(self.intake.wait_for(DRAIN_TIME_MAX, |ledger| ledger.stats().received >= logs).await?)
    }
}

/// A target, its process, and what was measured of it.
struct Contender {
    target: Target,
    proxy: Option<Proxy>,
    series: Series,
}

impl Contender {
    fn direct(addr: SocketAddr) -> Self {
        let series =
            Series { name: report::DIRECT, rounds: Vec::new(), memory_ready: None, memory_end: None };
        Self { target: Target { addr, key: String::new() }, proxy: None, series }
    }

    fn proxy(name: &'static str, proxy: Proxy) -> Result<Self> {
        let memory_ready = Some(process::memory(proxy.pid())?);
        let series = Series { name, rounds: Vec::new(), memory_ready, memory_end: None };
        Ok(Self { target: proxy.target.clone(), proxy: Some(proxy), series })
    }

    fn cpu(&self) -> Result<Option<Duration>> {
        self.proxy.as_ref().map(|proxy| process::cpu_time(proxy.pid())).transpose()
    }

    /// All phases once.
    async fn round(&mut self, options: &Options, drain: &Drain<'_>) -> Result<()> {
        let time = Duration::from_secs(options.seconds);
        let delivers = self.series.name == report::GATEWAY;
        let mut figures = Figures::default();

        // Not measured: connections are opened, caches filled.
        let logs = drain.received();
        let warm = bounded(time, load::closed(&self.target, Duration::from_millis(200))).await?;
        settle(delivers, drain, logs + warm.requests).await?;

        let (logs, cpu) = (drain.received(), self.cpu()?);
        let closed = bounded(time, load::closed(&self.target, time)).await?;
        let cpu_at_end = self.cpu()?;
        // What the exporter has yet to send belongs to these requests.
        settle(delivers, drain, logs + closed.requests).await?;
        let cpu_when_settled = self.cpu()?;
        figures.requests_per_second = closed.requests as f64 / closed.elapsed.as_secs_f64();
        figures.cpu_s_per_1000 =
            spent(cpu, cpu_when_settled).map(|cpu| cpu / closed.requests as f64 * 1_000.0);
        figures.cpu_share = spent(cpu, cpu_at_end).map(|cpu| cpu / closed.elapsed.as_secs_f64());

        let logs = drain.received();
        let latencies = bounded(time, load::open(&self.target, options.rate, time)).await?;
        figures.p50_us = report::quantile(&latencies, 0.50).as_secs_f64() * 1e6;
        figures.p99_us = report::quantile(&latencies, 0.99).as_secs_f64() * 1e6;
        settle(delivers, drain, logs + latencies.len() as u64).await?;

        let frame_time = Duration::from_millis(options.frame_interval_ms);
        let stream_time = frame_time * corpus::STREAM_FRAMES as u32;
        let rounds = (time.as_millis() / stream_time.as_millis().max(1)).clamp(1, 1_000) as u32;
        let (logs, cpu) = (drain.received(), self.cpu()?);
        let streamed = bounded(stream_time * rounds, load::streams(&self.target, rounds)).await?;
        settle(delivers, drain, logs + u64::from(rounds) * load::CONNECTIONS as u64).await?;
        if streamed.frames == 0 {
            bail!("streams brought no frames");
        }
        figures.cpu_us_per_frame = spent(cpu, self.cpu()?).map(|cpu| cpu / streamed.frames as f64 * 1e6);
        figures.reads_per_frame = streamed.reads as f64 / streamed.frames as f64;
        figures.first_p50_us = report::quantile(&streamed.first, 0.50).as_secs_f64() * 1e6;
        figures.first_p99_us = report::quantile(&streamed.first, 0.99).as_secs_f64() * 1e6;

        self.series.rounds.push(figures);
        Ok(())
    }

    fn end(mut self) -> Result<Series> {
        if let Some(proxy) = &self.proxy {
            self.series.memory_end = Some(process::memory(proxy.pid())?);
        }
        Ok(self.series)
    }
}

async fn settle(delivers: bool, drain: &Drain<'_>, logs: u64) -> Result<()> {
    if delivers { drain.reach(logs).await } else { Ok(()) }
}

async fn bounded<T>(time: Duration, phase: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(time + PHASE_SLACK, phase).await.context("the phase does not end")?
}

/// Processor seconds between two readings.
fn spent(before: Option<Duration>, after: Option<Duration>) -> Option<f64> {
    Some(after?.saturating_sub(before?).as_secs_f64())
}
