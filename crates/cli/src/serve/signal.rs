//! Signals from outside: to stop and to read the configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP.
pub(crate) struct Reloads(Signal);

impl Signals {
    /// Listens from now on; a signal that comes before anyone waits is kept.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one. Cancel safe.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Reloads {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
