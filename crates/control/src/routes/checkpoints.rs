//! `audit/checkpoints`: the signed statements of the log, for whoever keeps them elsewhere.

use bytes::Bytes;
use http::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::{Checkpoint, Evidence};
use crate::reply::{Failure, ok};
use crate::routes::Query;

/// A page that nobody sized.
const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 1000;

/// A page of checkpoints, newest first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Checkpoints")]
pub(crate) struct Page {
    /// The checkpoints.
    entries: Vec<Checkpoint>,
    /// Where the next page begins; null on the last one.
    next: Option<String>,
}

pub(crate) async fn list(evidence: &dyn Evidence, query: Option<&str>) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["limit", "cursor"])?;
    let limit = query.number("limit")?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Failure::bad_request(format!("`limit` must be a whole number from 1 to {LIMIT_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let before = query.number("cursor")?;
    let entries = evidence.checkpoints(before, limit).await.map_err(|error| Failure::unavailable(error.0))?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|last| last.size.to_string());
    Ok(ok(&Page { entries, next }))
}
