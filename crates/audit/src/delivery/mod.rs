//! Delivery of every event to every destination, at least once, in spite of anything. Here is the public story: start,
//! look, replay, stop. `worker` is one destination's task, `line` its decisions, `batch` its work, `ledger` its
//! books, `screen` what it gets to see. Deliberately absent: any protocol (see [`crate::export`]) and the store (see [`crate::outbox`]).

mod backoff;
mod batch;
mod clock;
mod destination;
mod ledger;
mod line;
#[cfg(test)]
mod model_tests;
mod replay;
mod screen;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use clock::{Clock, SystemClock};
pub use destination::{
    BodyBuilder, Destination, Encoded, Limits, Parcel, Partial, Push, Receipt, SendOutcome, Then,
};
pub use ledger::DestinationStatus;
pub use replay::{Rejected, ReplayError, ReplayReport, Selection};
pub use screen::{Filters, Screen};

use crate::export::{ExportConfig, ExportError, Exporter};
use crate::outbox::{Outbox, OutboxError};
use backoff::Jitter;
use ledger::Ledger;
use replay::Replay;
use worker::Worker;

/// Why delivery cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A destination cannot be set up.
    #[error("destination `{id}`: {source}")]
    Export {
        /// Its id.
        id: String,
        /// What is wrong.
        source: ExportError,
    },
    /// A destination's place in the log cannot be read or made.
    #[error("destination `{id}`: {source}")]
    Outbox {
        /// Its id.
        id: String,
        /// What is wrong.
        source: OutboxError,
    },
}

/// A destination, ready to be started.
pub struct Target<D> {
    /// Its id; the cursor is kept under it.
    pub id: String,
    /// Its kind: `datadog_logs`.
    pub destination: &'static str,
    /// Where it goes, without anything secret.
    pub endpoint: String,
    /// Batches, waits, timeouts.
    pub limits: Limits,
    /// What of the log it gets to see.
    pub screen: Screen,
    /// What sends.
    pub sender: D,
}

struct Running<D> {
    sender: Arc<D>,
    limits: Limits,
    screen: Screen,
    ledger: Arc<Ledger>,
    reload: Arc<Notify>,
}

/// Delivery to all destinations. Dropping it stops the tasks at once; [`Delivery::shutdown`] lets them finish.
pub struct Delivery<D = Exporter> {
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    destinations: Vec<Running<D>>,
    deadline: watch::Sender<Option<Instant>>,
    handles: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Delivery {
    /// Sets up every destination and starts its task. When this resolves, each has its place in the log: no event appended
    /// from then on can miss it.
    ///
    /// # Errors
    /// A secret that is missing, a client that cannot be set up, a store that does not answer. Nothing was started then.
    pub async fn start(
        outbox: Arc<dyn Outbox>,
        exports: Vec<ExportConfig>,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        let mut targets = Vec::with_capacity(exports.len());
        for export in exports {
            let failed = |source| StartError::Export { id: export.id.clone(), source };
            let sender = Exporter::new(&export).map_err(failed)?;
            targets.push(Target {
                screen: export.screen().map_err(|error| failed(error.into()))?,
                destination: export.destination_name(),
                endpoint: export.endpoint().to_owned(),
                limits: export.limits(),
                id: export.id,
                sender,
            });
        }
        Self::start_targets(outbox, targets, clock, tasks).await
    }
}

impl<D: Destination> Delivery<D> {
    /// As [`Delivery::start`], with destinations that are set up already.
    ///
    /// # Errors
    /// [`StartError::Outbox`].
    pub async fn start_targets(
        outbox: Arc<dyn Outbox>,
        targets: Vec<Target<D>>,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        let mut destinations = Vec::with_capacity(targets.len());
        let mut kept = Vec::with_capacity(targets.len());
        for Target { id, destination, endpoint, limits, screen, sender } in targets {
            let failed = |source| StartError::Outbox { id: id.clone(), source };
            let ledger = Ledger::open(Arc::clone(&outbox), id.clone(), destination, endpoint);
            let ledger = Arc::new(ledger.await.map_err(failed)?);
            kept.push(ledger.ahead().await.map_err(failed)?);
            let (sender, reload) = (Arc::new(sender), Arc::new(Notify::new()));
            destinations.push(Running { sender, limits, screen, ledger, reload });
        }
        let (deadline, _) = watch::channel(None);
        let handles = destinations
            .iter()
            .zip(kept)
            .map(|(running, ahead)| {
                let worker = Worker {
                    destination: Arc::clone(&running.sender),
                    outbox: Arc::clone(&outbox),
                    clock: Arc::clone(&clock),
                    ledger: Arc::clone(&running.ledger),
                    limits: running.limits.clone(),
                    screen: running.screen.clone(),
                    ahead,
                    jitter: Jitter::new(),
                    deadline: deadline.subscribe(),
                    reload: Arc::clone(&running.reload),
                };
                tasks.spawn(worker.run())
            })
            .collect();
        Ok(Self { outbox, clock, destinations, deadline, handles: std::sync::Mutex::new(handles) })
    }

    /// How each destination is doing, in the order of the configuration.
    pub fn status(&self) -> Vec<DestinationStatus> {
        self.destinations.iter().map(|running| running.ledger.status(&*self.clock)).collect()
    }

    /// Has every destination read its secrets anew, and a held one try again at once (SIGHUP). What goes wrong is logged.
    pub fn reload_secrets(&self) {
        for running in &self.destinations {
            running.reload.notify_one();
        }
    }

    /// Sends events again, beside the destination's own task. Takes as long as that takes; dropping it stops it.
    ///
    /// # Errors
    /// [`ReplayError`]; what the destination says is in the report.
    pub async fn replay(&self, id: &str, selection: Selection) -> Result<ReplayReport, ReplayError> {
        let running = self.destinations.iter().find(|running| running.ledger.id() == id);
        let running = running.ok_or_else(|| ReplayError::Unknown(id.to_owned()))?;
        Replay {
            destination: &*running.sender,
            outbox: &*self.outbox,
            clock: &*self.clock,
            ledger: &running.ledger,
            limits: &running.limits,
            screen: &running.screen,
            jitter: Jitter::new(),
        }
        .run(selection)
        .await
    }

    /// Delivers what is pending, for at most `grace`, moves the cursors a last time and ends the tasks. A held destination
    /// is not waited for. Nothing is lost either way: what is pending stays pending. Call it once nothing is
    /// appended to the log any more, and while the store still writes.
    pub async fn shutdown(&self, grace: Duration) -> Vec<DestinationStatus> {
        self.deadline.send_replace(Some(Instant::now() + grace));
        let handles = match self.handles.lock() {
            Ok(mut handles) => std::mem::take(&mut *handles),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        for handle in handles {
            if let Err(error) = handle.await {
                tracing::error!(%error, "a delivery task ended early");
            }
        }
        self.status()
    }
}

/// Sends events again where no [`Delivery`] runs: for the command line on a stopped gateway's store.
///
/// # Errors
/// [`ReplayError`]; what the destination says is in the report.
pub async fn replay(
    outbox: Arc<dyn Outbox>,
    export: &ExportConfig,
    selection: Selection,
    clock: Arc<dyn Clock>,
) -> Result<ReplayReport, ReplayError> {
    let sender = Exporter::new(export)?;
    let (limits, screen) = (export.limits(), export.screen().map_err(crate::export::ExportError::from)?);
    let endpoint = export.endpoint().to_owned();
    let ledger =
        Ledger::open(Arc::clone(&outbox), export.id.clone(), export.destination_name(), endpoint).await?;
    Replay {
        destination: &sender,
        outbox: &*outbox,
        clock: &*clock,
        ledger: &ledger,
        limits: &limits,
        screen: &screen,
        jitter: Jitter::new(),
    }
    .run(selection)
    .await
}
