//! `serve`: the gateway from start to end. [`App`] is all of it in one process: `serve` runs one until a signal, a
//! failed log or the end of the world; `quickstart` runs one beside its stand-ins.

mod app;
mod destinations;
mod escalations;
mod evidence;
mod oidc;
mod reload;
mod rollouts;
pub(crate) mod signal;
mod watch;

use std::io;
use std::process::ExitCode;
use std::sync::LazyLock;

use store::IdleSignal;

use crate::args::ServeArgs;
use crate::config::Config;
use crate::output::Output;
use crate::serve::signal::{Reloads, Signals};
use crate::serve::watch::PolicyWatch;

pub(crate) use app::{App, blocking, open_store};
pub(crate) use oidc::try_issuer;

/// The runtime tells the store through it that its threads have run out of work.
pub(crate) static IDLE: LazyLock<IdleSignal> = LazyLock::new(IdleSignal::default);

/// Serves until a signal ends it.
///
/// # Errors
/// A configuration that does not hold, an address or store that cannot be had, a log that failed.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    // From here on a signal is kept for us: one that comes during the start ends in an orderly way too.
    let mut signals = Signals::listen()?;
    let mut reloads = Reloads::listen()?;
    let mut config = Config::load(&args.config.config)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let mut app = App::start(config).await?;
    if let Err(error) = announce(&app) {
        // Calls are served all the same.
        tracing::warn!(%error, "the address could not be printed");
    }
    let mut watch = PolicyWatch::new(app.config());
    loop {
        tokio::select! {
            () = signals.stop() => break,
            () = reloads.next() => {
                app.reload().await;
                watch = PolicyWatch::new(app.config());
            }
            () = watch.changed() => app.reload_policies().await,
            reason = app.failed() => {
                tracing::error!("the audit log failed, and with it the gateway: {reason}");
                end_at_once();
            }
        }
    }
    tracing::info!("stopping: requests in flight may finish; a second signal ends at once");
    tokio::select! {
        outcome = app.shutdown() => outcome.map(|()| ExitCode::SUCCESS),
        () = signals.stop() => {
            tracing::warn!("ended at once: open decisions are closed as `interrupted` at the next start");
            end_at_once();
        }
    }
}

/// Without dropping anything: that would wait for the log's writer, which may never come back. Nothing that was promised
/// is only in memory.
fn end_at_once() -> ! {
    std::process::exit(1);
}

/// Programs wait for this line.
fn announce(app: &App) -> io::Result<()> {
    let mut output = Output::stdout();
    output.line(&format!("listening on http://{}", app.addr()))?;
    output.flush()
}
