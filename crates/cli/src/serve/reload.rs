//! Reading the configuration again while the gateway runs: all of it comes into force, or nothing does and every
//! problem is logged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use audit::delivery::{Delivery, SystemClock};
use audit::export::{ExportConfig, Exporter};
use audit::outbox::Outbox;

use crate::config::Config;
use crate::config::problem::ConfigError;
use crate::serve::app::{App, blocking};

/// What batches in flight get to come back before another delivery starts from the cursor; those that do not are sent
/// twice, which destinations must bear anyway.
const HANDOVER_GRACE: Duration = Duration::from_secs(2);

impl App {
    /// Reads the configuration, policies, projects and secrets again (SIGHUP).
    pub(crate) async fn reload(&mut self) {
        let file = self.config.file.clone();
        match blocking(move || Ok(Config::load(&file))).await {
            Ok(Ok(mut config)) => {
                self.keep_what_needs_a_restart(&mut config);
                self.put_in_force(config).await;
            }
            Ok(Err(error)) => refuse(&error),
            Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
        }
    }

    /// Reads the policy files again, and nothing else (they changed).
    pub(crate) async fn reload_policies(&mut self) {
        let mut config = self.config.clone();
        let read = blocking(move || Ok(config.reload_policies().map(|()| config))).await;
        match read {
            Ok(Ok(config)) => self.put_in_force(config).await,
            Ok(Err(error)) => refuse(&error),
            Err(error) => tracing::error!(%error, "the policies were not reloaded"),
        }
    }

    /// What the listener, the store and the data plane are built with stays until a restart, and says so.
    fn keep_what_needs_a_restart(&self, config: &mut Config) {
        let now = &self.config;
        let changed = [
            // A `--listen` of the command line is not in the file.
            ("listen", config.listen_in_file != now.listen_in_file),
            ("store", config.store != now.store),
            ("limits", config.limits != now.limits),
            (
                "audit",
                config.on_unavailable != now.on_unavailable || config.retention_days != now.retention_days,
            ),
        ];
        for (section, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(section, "changed: takes effect after a restart");
        }
        config.listen.clone_from(&now.listen);
        config.store.clone_from(&now.store);
        config.limits = now.limits.clone();
        config.on_unavailable = now.on_unavailable;
        config.retention_days = now.retention_days;
    }

    async fn put_in_force(&mut self, config: Config) {
        let refused = |error: anyhow::Error| {
            tracing::error!(
                error = format!("{error:#}"),
                "nothing was reloaded; the old configuration stays"
            );
        };
        if let Err(error) = check_exports(&config.exports) {
            return refused(error);
        }
        let durable = match self.state.prepare(config.declared()).await {
            Ok(prepared) => prepared.commit().await,
            Err(error) => Err(error),
        };
        let durable = match durable {
            Ok(durable) => durable,
            Err(error) => return refused(error.into()),
        };
        // Last of what may fail, so that there is nothing else to take back.
        if self.destinations.are(&config.exports) {
            self.destinations.delivery().reload_secrets();
        } else if let Err(error) = self.replace_destinations(config.exports.clone()).await {
            return refused(error);
        }
        // Before the policies that may need them.
        self.desk.set_channels(config.channels.clone());
        durable.put_in_force();
        self.control.set_tokens(config.admin_tokens.clone());
        let (policies, projects) = (config.policies.len(), config.desired.projects.len());
        let (upstreams, exports) = (config.desired.upstreams.len(), config.exports.len());
        self.config = config;
        tracing::info!(policies, projects, upstreams, exports, "reloaded");
    }

    /// Ends the delivery in force and starts another from its cursors. Where that cannot be, the former starts again.
    async fn replace_destinations(&self, exports: Vec<ExportConfig>) -> anyhow::Result<()> {
        self.destinations.delivery().shutdown(HANDOVER_GRACE).await;
        match self.start_delivery(exports.clone()).await {
            Ok(delivery) => {
                self.store.retain_for(exports.iter().map(|export| export.id.clone()).collect());
                self.destinations.replace(delivery, exports);
                Ok(())
            }
            Err(error) => {
                let former = self.destinations.exports();
                match self.start_delivery(former.clone()).await {
                    Ok(delivery) => self.destinations.replace(delivery, former),
                    Err(error) => {
                        self.destinations.stopped();
                        tracing::error!(
                            error = format!("{error:#}"),
                            "delivery stands still until the next reload or restart; events wait in the store"
                        );
                    }
                }
                Err(error)
            }
        }
    }

    async fn start_delivery(&self, exports: Vec<ExportConfig>) -> anyhow::Result<Delivery> {
        let outbox: Arc<dyn Outbox> = Arc::clone(&self.store) as _;
        Ok(Delivery::start(outbox, exports, Arc::new(SystemClock), &self.tasks).await?)
    }
}

/// What can fail of them is tried while the former still run.
fn check_exports(exports: &[ExportConfig]) -> anyhow::Result<()> {
    for export in exports {
        Exporter::new(export).with_context(|| format!("destination `{}`", export.id))?;
    }
    Ok(())
}

fn refuse(error: &ConfigError) {
    for problem in &error.0 {
        tracing::error!("{problem}");
    }
    tracing::error!(problems = error.0.len(), "nothing was reloaded; the old configuration stays");
}
