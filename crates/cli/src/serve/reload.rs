//! Reading the configuration again while the gateway runs: all of it comes into force, or nothing does and every
//! problem is logged.

use std::sync::Arc;

use anyhow::Context;
use audit::export::{ExportConfig, Exporter};

use crate::config::Config;
use crate::config::problem::ConfigError;
use crate::serve::app::{App, blocking};

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
                config.on_unavailable != now.on_unavailable
                    || config.retention_days != now.retention_days
                    || config.signing != now.signing,
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
        config.signing.clone_from(&now.signing);
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
        let destinations = Arc::clone(&self.destinations);
        let changing = destinations.change().await;
        let made = match changing.made(&config.export_rules).await {
            Ok(made) => made,
            Err(error) => return refused(error),
        };
        let durable = match self.state.prepare(config.declared()).await {
            Ok(prepared) => prepared.commit().await,
            Err(error) => Err(error),
        };
        let durable = match durable {
            Ok(durable) => durable,
            Err(error) => return refused(error.into()),
        };
        // Last of what may fail, so that there is nothing else to take back.
        if let Err(error) = changing.put_in_force(config.exports.clone(), made).await {
            return refused(error);
        }
        // Before the policies that may need them.
        self.desk.set_channels(config.channels.clone());
        durable.put_in_force();
        self.control.set_tokens(config.admin_tokens.clone());
        if let Err(error) = self.issuing.put(&self.control, config.oidc.as_ref(), &self.tasks) {
            tracing::error!(error = format!("{error:#}"), "the former `oidc` stays in force");
        }
        let (policies, projects) = (config.policies.len(), config.desired.projects.len());
        let (upstreams, exports) = (config.desired.upstreams.len(), config.exports.len());
        self.config = config;
        tracing::info!(policies, projects, upstreams, exports, "reloaded");
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
