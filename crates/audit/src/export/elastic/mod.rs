//! Elasticsearch and OpenSearch, over `_bulk` into a data stream. Facts from Elasticsearch's documentation ("Bulk API",
//! "Data streams") and OpenSearch's: a data stream takes only `create` and needs `@timestamp`; a 200 with `errors: true`
//! says of each item what became of it; 409 on an `_id` of our own means that it is there already.

mod answer;
mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

pub use config::{Elastic, ElasticAuth, RawElastic};
pub use encode::{BulkEncoder, EVENT_BYTES_MAX};
pub use send::ElasticDestination;
