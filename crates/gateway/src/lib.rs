//! The data plane: HTTP in, upstream out, streaming, enforcement. Deliberately absent: SQL, management
//! routes, and the logic of any rule (that is `policy`).

mod admission;
mod body;
mod call;
pub mod config;
mod enforce;
mod error_reply;
mod extra_call;
mod held;
mod io;
mod metrics;
mod models;
mod pipeline;
mod reply;
mod route;
mod server;
mod service;
mod settle;
mod streaming;
mod upstream;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use audit::log::AuditLog;
use bytes::Bytes;
use http::{Request, Response};
use prometheus_client::collector::Collector;
use registry::SnapshotCell;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::metrics::Metrics;
use crate::models::ModelCache;
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
    limits: Limits,
    on_unavailable: OnUnavailable,
    management: Option<Management>,
    metrics: Metrics,
    models: ModelCache,
    upstreams: UpstreamClient,
    /// Calls in flight: the drain waits for their closing records.
    calls: TaskTracker,
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
                limits: parts.limits,
                on_unavailable: parts.on_unavailable,
                management: parts.management,
                metrics,
                models: ModelCache::default(),
                upstreams: UpstreamClient::new(CONNECT_TIMEOUT)?,
                calls: TaskTracker::new(),
                draining: AtomicBool::new(false),
            }),
        })
    }
}
