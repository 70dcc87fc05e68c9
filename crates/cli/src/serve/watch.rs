//! Notices that policy files changed: asked for by time and size, at an interval. Unlike the system's notifications it
//! works on every file system, mounted configuration maps included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::Config;
use crate::config::policies::{Stamp, stamp};

/// Soon enough for a person who waits, and a few `stat` calls a second at the most.
const INTERVAL: Duration = Duration::from_secs(2);

/// Watches the policy files of a configuration.
pub(crate) struct PolicyWatch {
    patterns: Vec<String>,
    config: PathBuf,
    last: Stamp,
    interval: Interval,
}

impl PolicyWatch {
    /// Whatever differs from when `config` was read is a change.
    pub(crate) fn new(config: &Config) -> Self {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            patterns: config.policy_patterns.clone(),
            config: config.file.clone(),
            last: config.policy_stamp.clone(),
            interval,
        }
    }

    /// Waits for a change; each is told once. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.interval.tick().await;
            let (patterns, config) = (self.patterns.clone(), self.config.clone());
            let look = move || stamp(&patterns, Path::new(&config));
            // A lost look is made up for by the next one.
            let Ok(now) = tokio::task::spawn_blocking(look).await else { continue };
            if now != self.last {
                self.last = now;
                return;
            }
        }
    }
}
