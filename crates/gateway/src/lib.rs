//! The data plane: HTTP in, upstream out, streaming, enforcement. Deliberately absent: SQL, management
//! routes, and the logic of any rule (that is `policy`).

mod admission;
mod alert;
mod apart;
mod beside;
mod body;
mod call;
pub mod config;
mod enforce;
mod error_reply;
mod escalate;
mod extra_call;
mod held;
mod io;
mod metrics;
mod models;
mod moderation;
mod pipeline;
mod quota;
mod reply;
mod rollback;
mod route;
mod server;
mod service;
mod settle;
mod streaming;
mod upstream;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::quota::tokens::Typical;
use ::quota::{Budgets, QuotaLedger};
use audit::log::AuditLog;
use bytes::Bytes;
use escalation::Desk;
use http::{Request, Response};
use policy::{PolicyDocument, Revision};
use prometheus_client::collector::Collector;
use registry::{Candidate, Notify, RolloutStore, SnapshotCell, Spike};
use tokio_util::task::TaskTracker;

use crate::alert::Told;
use crate::apart::Apart;
use crate::config::Limits;
use crate::metrics::Metrics;
use crate::models::ModelCache;
use crate::moderation::Moderators;
use crate::upstream::UpstreamClient;

pub use route::{SERVED, Served};

/// What happens to a request whose decision cannot be recorded (`audit.on_unavailable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// 503: nothing is let through unrecorded.
    Refuse,
    /// It is served, and counted.
    Serve,
}

/// What answers requests below `/api/policy-gateway/`; edges do not know one another, so it is handed in.
pub type Management =
    Arc<dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync>;

/// Everything that the data plane is made of.
pub struct Parts {
    /// What calls are judged by.
    pub snapshot: Arc<SnapshotCell>,
    /// Where decisions become durable.
    pub log: Arc<dyn AuditLog>,
    /// Where rollbacks are kept.
    pub rollouts: Arc<dyn RolloutStore>,
    /// Who is told of them.
    pub notify: Arc<dyn Notify>,
    /// Who is asked about escalated calls.
    pub desk: Arc<Desk>,
    /// What is taken of quotas and rate limits.
    pub quota: Arc<dyn QuotaLedger>,
    /// What projects have spent, up to the start.
    pub budgets: Budgets,
    /// Limits of the data plane.
    pub limits: Limits,
    /// See [`OnUnavailable`].
    pub on_unavailable: OnUnavailable,
    /// The management API, where there is one.
    pub management: Option<Management>,
    /// Further sources for `/metrics`.
    pub metrics: Vec<Box<dyn Collector>>,
}

/// What every call shares.
pub(crate) struct Shared {
    snapshot: Arc<SnapshotCell>,
    log: Arc<dyn AuditLog>,
    rollouts: Arc<dyn RolloutStore>,
    notify: Arc<dyn Notify>,
    /// What acts on a call where a policy has no stable revision: it has no rules.
    nothing: Arc<Revision>,
    quota: Arc<dyn QuotaLedger>,
    /// What projects have spent.
    budgets: Budgets,
    /// Of which limits it was told how far they are used.
    told: Told,
    /// What answers usually come to.
    typical: Typical,
    desk: Arc<Desk>,
    limits: Limits,
    on_unavailable: OnUnavailable,
    management: Option<Management>,
    metrics: Metrics,
    models: ModelCache,
    moderators: Moderators,
    upstreams: UpstreamClient,
    apart: Apart,
    /// Calls in flight: the drain waits for their closing records.
    calls: TaskTracker,
    /// What is counted of calls after them: the drain waits for it too.
    observing: TaskTracker,
    draining: AtomicBool,
}

/// The data plane, ready to serve.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// Time for a TCP and TLS connection to an upstream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Gateway {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Where the system's certificates cannot be read.
    pub fn new(parts: Parts) -> std::io::Result<Self> {
        let metrics = Metrics::new(Arc::clone(&parts.log), parts.metrics);
        Ok(Self {
            shared: Arc::new(Shared {
                snapshot: parts.snapshot,
                log: parts.log,
                rollouts: parts.rollouts,
                notify: parts.notify,
                nothing: nothing()?,
                quota: parts.quota,
                budgets: parts.budgets,
                told: Told::default(),
                typical: Typical::default(),
                desk: parts.desk,
                limits: parts.limits,
                on_unavailable: parts.on_unavailable,
                management: parts.management,
                metrics,
                models: ModelCache::default(),
                moderators: Moderators::default(),
                upstreams: UpstreamClient::new(CONNECT_TIMEOUT)?,
                apart: Apart::new(),
                calls: TaskTracker::new(),
                observing: TaskTracker::new(),
                draining: AtomicBool::new(false),
            }),
        })
    }

    /// Tells of budgets what a crash kept from being told.
    pub fn catch_up(&self) {
        self.shared.observing.spawn(alert::catch_up(Arc::clone(&self.shared)));
    }

    /// Records a spike that a start found in the log, and tells of it.
    pub fn tell_spike(&self, candidate: Candidate, spike: Spike) {
        let shared = Arc::clone(&self.shared);
        self.shared.observing.spawn(async move { rollback::tell(&shared, &candidate, spike).await });
    }
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// A policy that lets everything through as it is.
fn nothing() -> std::io::Result<Arc<Revision>> {
    let document = PolicyDocument::parse(&serde_json::json!({ "policy_id": "nothing", "rules": {} }));
    let revision = document.and_then(|document| Revision::compile(document, 0));
    revision.map(Arc::new).map_err(|_| std::io::Error::other("the empty policy is no policy"))
}
