//! The OpenID Connect issuer of the management API: fetching what it publishes, and keeping its keys fresh while it is the
//! configured one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use audit::delivery::SystemClock;
use audit::outbox::BoxFuture;
use bytes::{Bytes, BytesMut};
use control::Control;
use control::oidc::{Issuer, Oidc};
use control::ports::{Fetch, PortError};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Whoever waits for it is a request of the management API.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Key sets are some kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The task that keeps the keys fresh; ended with what it is for.
#[derive(Default)]
pub(crate) struct Keeping(Option<JoinHandle<()>>);

impl Keeping {
    /// Has this issuer, or none, from now on. One that is in force already stays, with its keys.
    ///
    /// # Errors
    /// Where the HTTP client cannot be set up.
    pub(crate) fn put(
        &mut self,
        control: &Control,
        oidc: Option<&Oidc>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<()> {
        let former = control.issuer();
        if former.as_ref().map(|former| former.oidc()) == oidc {
            return Ok(());
        }
        let issuer = oidc.map(|oidc| issuer(oidc.clone())).transpose()?;
        self.end();
        control.set_issuer(issuer.clone());
        self.0 = issuer.map(|issuer| {
            tasks.spawn(async move {
                let told = |error: &PortError| {
                    tracing::warn!(%error, "the keys of `oidc.issuer` could not be fetched: trying again");
                };
                issuer.keep_fresh(told).await;
            })
        });
        Ok(())
    }

    /// Ends the task.
    pub(crate) fn end(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

fn issuer(oidc: Oidc) -> anyhow::Result<Arc<Issuer>> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .context("the HTTP client for `oidc.issuer` cannot be set up")?;
    Ok(Arc::new(Issuer::new(oidc, Arc::new(Http(client)), Arc::new(SystemClock))))
}

/// Fetches the issuer's keys once, to see whether they can be had.
///
/// # Errors
/// Why not.
pub(crate) async fn try_issuer(oidc: &Oidc) -> anyhow::Result<()> {
    Ok(issuer(oidc.clone())?.try_keys().await?)
}

struct Http(reqwest::Client);

impl Fetch for Http {
    fn get(&self, url: String) -> BoxFuture<'_, Result<Bytes, PortError>> {
        Box::pin(async move {
            let failed = |error: reqwest::Error| {
                let error = anyhow::Error::new(error.without_url());
                PortError(format!("`{url}` did not answer: {error:#}"))
            };
            let mut answer = self.0.get(&url).send().await.map_err(failed)?;
            if answer.status() != reqwest::StatusCode::OK {
                return Err(PortError(format!("`{url}` answers {}", answer.status())));
            }
            let mut body = BytesMut::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_BYTES_MAX {
                    return Err(PortError(format!("`{url}` answers more than a megabyte")));
                }
            }
            Ok(body.freeze())
        })
    }
}
