//! Accepting connections, serving HTTP/1.1 on them, and draining: no new connection, calls in flight finish, their closing
//! records are written.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::config::HEADER_BYTES_CAP;
use crate::io::StallGuard;
use crate::service;
use crate::{Gateway, Shared};

/// After a failed accept (out of file descriptors, say): long enough not to spin, short enough to go unnoticed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Headers per request: more than any client sends, few enough to bound the work.
const HEADERS_MAX: usize = 128;

impl Gateway {
    /// Serves connections until `stop` resolves, then drains: calls in flight get `limits.drain` to finish.
    /// Resolves once every call has written its closing record, or the time is up. Gives the number of calls that were cut.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> usize {
        let connections = TaskTracker::new();
        let (stopping, _) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(self.shared.limits.connections_max));
        let accept = async {
            loop {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&self.shared);
                        let stopping = stopping.subscribe();
                        connections.spawn(async move {
                            shared.metrics.connections.inc();
                            connection(&shared, stream, stopping).await;
                            shared.metrics.connections.dec();
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
        }
        drop(listener);
        self.drain(&connections, &stopping).await
    }

    async fn drain(&self, connections: &TaskTracker, stopping: &watch::Sender<bool>) -> usize {
        self.shared.draining.store(true, Ordering::Relaxed);
        stopping.send_replace(true);
        connections.close();
        self.shared.calls.close();
        self.shared.observing.close();
        let all = async {
            connections.wait().await;
            self.shared.calls.wait().await;
            self.shared.observing.wait().await;
        };
        match tokio::time::timeout(self.shared.limits.drain, all).await {
            Ok(()) => 0,
            Err(_) => self.shared.calls.len(),
        }
    }
}

async fn connection(shared: &Arc<Shared>, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    // A failed option costs latency, not correctness.
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(StallGuard::new(stream, shared.limits.write_stall));
    let answer = service_fn(|request| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, std::convert::Infallible>(service::answer(shared, request).await) }
    });
    let max_buffer = usize::try_from(HEADER_BYTES_CAP).unwrap_or(usize::MAX);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_buf_size(max_buffer)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, answer);
    tokio::pin!(serving);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    // A client's broken connection is its own affair; the call's record tells the rest.
                    tracing::debug!(error = %crate::upstream::chain(&error), "connection ended");
                }
                return;
            }
            _ = stopping.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}
