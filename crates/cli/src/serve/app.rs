//! All parts of a gateway in one process: built from a configuration, replaced where a reload says so, ended in the
//! order that loses nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use audit::delivery::{DestinationStatus, SystemClock};
use audit::event::{AuditEvent, EventType};
use audit::log::{AuditLog, Record};
use audit::notary::Notary;
use audit::outbox::Outbox;
use audit::usage::{Dimension, UsageQuery, UsageRow, day_at, day_start_s, parse_date};
use control::{Control, Ports};
use escalation::{Desk, Tickets};
use gateway::{Gateway, Management, OnUnavailable, Parts};
use quota::{Budgets, Ledger};
use registry::{DesiredState, Rollouts};
use store::{Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::signing::Signing;
use crate::config::{Config, raw};
use crate::description;
use crate::serve::IDLE;
use crate::serve::destinations::{DestinationMetrics, Destinations};
use crate::serve::escalations::DeskMetrics;
use crate::serve::evidence::StoreEvidence;
use crate::serve::oidc::Keeping;
use crate::serve::rollouts::{self, DeskNotify};

/// What delivery gets to send the rest after the last call: most backlogs are a batch or two, and what is left is sent
/// at the next start.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);

/// Uses of a key within a minute are one.
const KEEP_USES: Duration = Duration::from_secs(60);

/// How often a gateway says that it is there; monitors for a missing heartbeat look at three times as long.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// A running gateway. Dropping it ends it as a crash would: durable, but not in order.
pub(crate) struct App {
    pub(super) config: Config,
    pub(super) store: Arc<Store>,
    pub(super) state: Arc<DesiredState>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) control: Arc<Control>,
    pub(super) tasks: TaskTracker,
    pub(super) desk: Arc<Desk>,
    /// Ends the desk's workers.
    desk_stop: CancellationToken,
    /// Ends the notary, and what makes the last checkpoint.
    notary: (CancellationToken, JoinHandle<()>),
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<usize>,
    /// Never end by themselves.
    upkeep: [JoinHandle<()>; 4],
    pub(super) issuing: Keeping,
}

impl App {
    /// Builds all parts and serves. When this resolves, connections are accepted.
    ///
    /// # Errors
    /// An address or store that cannot be had, a destination that cannot be set up.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        // First, so that a taken address leaves no trace.
        let listener = TcpListener::bind(&config.listen).await.with_context(|| {
            format!("cannot listen on {}: end what listens there, or change `listen`", config.listen)
        })?;
        let addr = listener.local_addr()?;
        let store = open_store(&config).await?;
        let rollouts = Arc::new(Rollouts::default());
        let state = DesiredState::open(Arc::clone(&store) as _, config.declared(), Arc::clone(&rollouts))
            .await
            .context(
                "the policies and projects of the configuration and of the store do not hold together",
            )?;
        let state = Arc::new(state);
        let spikes = rollouts::resume(&rollouts, &store).await?;
        let tasks = TaskTracker::new();
        let answering = tasks.spawn(store.answering());
        let keeping = tasks.spawn(rollouts::keep(rollouts, Arc::clone(&store)));
        let using = tasks.spawn(keep_uses(Arc::clone(&state)));
        let (parts, declared) = ((Arc::clone(&store), Arc::clone(&state)), config.exports.clone());
        let destinations = Destinations::start(parts.0, parts.1, tasks.clone(), declared).await?;
        let destinations = Arc::new(destinations);
        let notary = start_notary(&config, &store, &tasks)?;
        let evidence = Arc::new(StoreEvidence(Arc::clone(&store)));
        let tickets: Arc<dyn Tickets> = Arc::clone(&store) as _;
        let clock = Arc::new(SystemClock);
        let desk = Desk::open(tickets, store.fingerprint_key(), clock, config.channels.clone())
            .await
            .context("the reviews that wait cannot be read")?;
        let desk_stop = CancellationToken::new();
        tasks.spawn(Arc::clone(&desk).run(desk_stop.clone()));
        let ports = Ports {
            evidence,
            exports: Arc::clone(&destinations) as _,
            escalations: Arc::clone(&desk) as _,
            state: Arc::clone(&state),
            log: Arc::clone(&store) as _,
        };
        let control = Arc::new(Control::new(config.admin_tokens.clone(), ports, description::text().into()));
        let mut issuing = Keeping::default();
        issuing.put(&control, config.oidc.as_ref(), &tasks)?;
        let gateway = Gateway::new(Parts {
            snapshot: Arc::clone(state.snapshot()),
            log: Arc::clone(&store) as Arc<dyn AuditLog>,
            rollouts: Arc::clone(&store) as _,
            notify: Arc::new(DeskNotify(Arc::clone(&desk))),
            desk: Arc::clone(&desk),
            quota: ledger(&store).await?,
            budgets: budgets(&store).await?,
            limits: config.limits.clone(),
            on_unavailable: match config.on_unavailable {
                raw::OnUnavailable::Refuse => OnUnavailable::Refuse,
                raw::OnUnavailable::Serve => OnUnavailable::Serve,
            },
            management: Some(management(&control, &tasks)),
            metrics: vec![
                Box::new(DestinationMetrics(Arc::clone(&destinations))),
                Box::new(DeskMetrics(Arc::clone(&desk))),
            ],
        })
        .context("the HTTP client for upstreams cannot be set up")?;
        log_coverage(&config);
        gateway.catch_up();
        for (candidate, spike) in spikes {
            gateway.tell_spike(candidate, spike);
        }
        let beating = tasks.spawn(beat(Arc::clone(&store)));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tasks.spawn(async move {
            // Dropping the sender stops as sending does.
            gateway.serve(listener, async { drop(stopped.await) }).await
        });
        Ok(Self {
            config,
            store,
            state,
            destinations,
            control,
            tasks,
            desk,
            desk_stop,
            notary,
            addr,
            stop,
            serving,
            upkeep: [answering, keeping, using, beating],
            issuing,
        })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How delivery stands, destination by destination.
    pub fn delivery_status(&self) -> Vec<DestinationStatus> {
        self.destinations.delivery().status()
    }

    /// Resolves, with the reason, once the audit log will never take a record again. Cancel safe.
    pub(crate) async fn failed(&self) -> String {
        self.store.failed().await
    }

    /// Stops accepting, lets calls in flight finish within the limits, delivers what it can and closes the store.
    ///
    /// # Errors
    /// Where the store could not be closed in order; what was durable still is.
    pub(crate) async fn shutdown(mut self) -> anyhow::Result<()> {
        drop(self.stop);
        match self.serving.await {
            Ok(0) => {}
            Ok(cut) => tracing::warn!(cut, "requests did not finish in time and were cut off"),
            Err(error) => tracing::error!(%error, "the listener ended early"),
        }
        self.desk_stop.cancel();
        let (stop, notary) = self.notary;
        stop.cancel();
        if let Err(error) = notary.await {
            tracing::error!(%error, "no last checkpoint was made");
        }
        // Nobody waited for the last closing records. Whatever is asked of the writer is answered after them, so that
        // delivery sees them as pending.
        if let Some(export) = self.destinations.exports().first()
            && let Err(error) = self.store.cursor(&export.id).await
        {
            tracing::warn!(%error, "the last records may be delivered only at the next start");
        }
        for status in self.destinations.delivery().shutdown(DELIVERY_GRACE).await {
            if status.pending > 0 {
                let (destination, pending) = (status.id, status.pending);
                tracing::warn!(
                    destination,
                    pending,
                    "not everything is delivered yet: it will be at the next start"
                );
            }
        }
        self.issuing.end();
        if let Err(error) = self.state.keep_uses().await {
            tracing::warn!(%error, "the last uses of keys were not kept");
        }
        self.upkeep.iter().for_each(JoinHandle::abort);
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await.context("the store was not closed in order")
    }
}

/// Writes a `heartbeat` event now and then: where none arrives at a destination, something on the way is broken.
async fn beat(store: Arc<Store>) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = jiff::Timestamp::now();
        let event = AuditEvent::blank(uuid::Uuid::now_v7(), EventType::Heartbeat, format!("{now:.3}"));
        let written = match store.append(Record::event(&event)) {
            Ok(durable) => durable.await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "no heartbeat was written");
        }
    }
}

/// Has the log followed and its checkpoints signed.
fn start_notary(
    config: &Config,
    store: &Arc<Store>,
    tasks: &TaskTracker,
) -> anyhow::Result<(CancellationToken, JoinHandle<()>)> {
    let signer = config.signing.as_ref().map(Signing::resolve).transpose()?;
    if signer.is_none() {
        tracing::info!("no checkpoints of the audit log are signed: `audit.signing_key` is not set");
    }
    let (outbox, trees) = (Arc::clone(store) as _, Arc::clone(store) as _);
    let notary = Notary::new(outbox, trees, Arc::new(SystemClock), signer);
    let stop = CancellationToken::new();
    Ok((stop.clone(), tasks.spawn(notary.run(stop))))
}

/// Says of each policy how its rules are honoured; what cannot be honoured was refused when it was read.
pub(super) fn log_coverage(config: &Config) {
    for policy in &config.policies {
        let coverage = judge::coverage::summary(&policy.document);
        tracing::info!(policy_id = policy.document.policy_id, coverage, "policy in force");
    }
}

/// Runs what waits for the disk where it keeps no call waiting.
///
/// # Errors
/// What the work says.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a task ended early")?
}

/// Opens the store of a configuration for writing, and makes it where there is none.
///
/// # Errors
/// [`store::StoreError`], or a folder that cannot be made.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<Store>> {
    let path = config.store.clone();
    let idle = Some(IDLE.clone());
    let options = StoreOptions { retention_days: config.retention_days, idle, ..StoreOptions::default() };
    let store = blocking(move || {
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            std::fs::create_dir_all(folder).with_context(|| {
                format!("the folder `{}` of the store cannot be created", folder.display())
            })?;
        }
        Ok(Store::open(&path, options)?)
    })
    .await?;
    for problem in store.problems() {
        tracing::warn!("{problem}");
    }
    if store.recovered() > 0 {
        tracing::warn!(
            events = store.recovered(),
            "requests that a crash cut off were closed as interrupted"
        );
    }
    Ok(store)
}

/// The ledger of quotas as the store has it: what every call has used that was ever closed, and what those held that a
/// crash cut off.
async fn ledger(store: &Arc<Store>) -> anyhow::Result<Arc<Ledger>> {
    let store = Arc::clone(store);
    blocking(move || {
        let ledger = Ledger::default();
        let now_s = jiff::Timestamp::now().as_second();
        store.reader()?.quota_counters(now_s, |counter| {
            ledger.load(counter.bucket, counter.end_s, counter.requests, counter.tokens);
        })?;
        Ok(Arc::new(ledger))
    })
    .await
}

/// What projects have spent in the windows that are running, as the store has it.
async fn budgets(store: &Arc<Store>) -> anyhow::Result<Budgets> {
    let store = Arc::clone(store);
    blocking(move || {
        let budgets = Budgets::default();
        let since = jiff::Timestamp::from_second(Budgets::since_s(jiff::Timestamp::now().as_second()))?;
        let query = UsageQuery {
            from_day: day_at(since),
            group_by: vec![Dimension::Project, Dimension::Day],
            limit: usize::MAX,
            ..UsageQuery::default()
        };
        for UsageRow { group, sums } in store.reader()?.usage(&query)?.rows {
            if let [Some(project_id), Some(day)] = group.as_slice()
                && let Some(day) = parse_date(day)
            {
                budgets.add(project_id, day_start_s(day), sums.total_tokens, sums.cost_pico_usd);
            }
        }
        Ok(budgets)
    })
    .await
}

/// Keeps when keys were last presented, now and then.
async fn keep_uses(state: Arc<DesiredState>) {
    let mut interval = tokio::time::interval(KEEP_USES);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = state.keep_uses().await {
            tracing::debug!(%error, "the last uses of keys were not kept: trying again");
        }
    }
}

/// A change goes on to its end when whoever asked for it has gone.
fn management(control: &Arc<Control>, tasks: &TaskTracker) -> Management {
    let (control, tasks) = (Arc::clone(control), tasks.clone());
    Arc::new(move |request| {
        let control = Arc::clone(&control);
        if !control::must_end(request.method(), request.uri().path()) {
            return Box::pin(async move { control.handle(request).await });
        }
        let work = tasks.spawn(async move { control.handle(request).await });
        Box::pin(async move {
            match work.await {
                Ok(response) => response,
                // It cannot be cancelled, and does not panic: should it, the caller must look.
                Err(_) => control::interrupted(),
            }
        })
    })
}
