//! `GET /v1/models` and `/v1/models/{id}`: what the caller's key may use. An upstream that serves `*` is asked for its
//! own list, which is kept for a while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use registry::{Key, Snapshot, Upstream};
use serde_json::{Value, json};

use crate::body;
use crate::error_reply::Failure;
use crate::upstream::UpstreamClient;

/// How long an upstream's own list is kept.
const CACHE: Duration = Duration::from_secs(60);
/// Largest list of an upstream.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Upstreams' own lists by upstream name.
#[derive(Debug, Default)]
pub(crate) struct ModelCache {
    lists: Mutex<HashMap<String, (Instant, Vec<Value>)>>,
}

impl ModelCache {
    /// The models that the key may use, in OpenAI's list shape; of two upstreams with one model the first.
    ///
    /// # Errors
    /// The upstream's failure where its list is needed and cannot be had.
    pub(crate) async fn list(
        &self,
        snapshot: &Snapshot,
        key: &Key,
        client: &UpstreamClient,
    ) -> Result<Vec<Value>, Failure> {
        let entitlements = &key.project.entitlements;
        let mut models: Vec<Value> = Vec::new();
        for upstream in snapshot.upstreams() {
            if !entitlements.allows_upstream(&upstream.name) {
                continue;
            }
            let own = if upstream.models.iter().any(|model| model == "*") {
                self.own_list(upstream, client).await?
            } else {
                upstream.models.iter().map(|id| model(id, &upstream.name)).collect()
            };
            for entry in own {
                let Some(id) = entry.get("id").and_then(Value::as_str) else { continue };
                let is_known = models.iter().any(|known| known.get("id").and_then(Value::as_str) == Some(id));
                if entitlements.allows_model(id) && !is_known {
                    models.push(entry);
                }
            }
        }
        Ok(models)
    }

    async fn own_list(&self, upstream: &Upstream, client: &UpstreamClient) -> Result<Vec<Value>, Failure> {
        if let Ok(lists) = self.lists.lock()
            && let Some((read_at, list)) = lists.get(&upstream.name)
            && read_at.elapsed() < CACHE
        {
            return Ok(list.clone());
        }
        let headers = HeaderMap::new();
        let response =
            client.send(upstream, Method::GET, "/models", &headers, Bytes::new(), "application/json").await?;
        let failure = |problem: String| Failure::Upstream { upstream: upstream.name.clone(), problem };
        if !response.status().is_success() {
            return Err(failure(format!(
                "answered its list of models with status {}",
                response.status().as_u16()
            )));
        }
        let collected =
            tokio::time::timeout(upstream.timeout, body::collect(response.into_body(), LIST_BYTES_MAX));
        let body = collected
            .await
            .map_err(|_| Failure::UpstreamTimeout {
                upstream: upstream.name.clone(),
                timeout: upstream.timeout,
            })?
            .map_err(&failure)?;
        let list: Value = serde_json::from_slice(&body)
            .map_err(|_| failure("gave a list of models that is not JSON".to_owned()))?;
        let Some(list) = list.get("data").and_then(Value::as_array).cloned() else {
            return Err(failure("gave a list of models without `data`".to_owned()));
        };
        if let Ok(mut lists) = self.lists.lock() {
            lists.insert(upstream.name.clone(), (Instant::now(), list.clone()));
        }
        Ok(list)
    }
}

fn model(id: &str, owner: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": owner })
}

/// The list as a body.
pub(crate) fn list_body(models: &[Value]) -> Vec<u8> {
    json!({ "object": "list", "data": models }).to_string().into_bytes()
}
