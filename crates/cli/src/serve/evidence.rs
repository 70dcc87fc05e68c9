//! The store's audit log as the management API reads it.

use std::sync::Arc;

use audit::event::EventType;
use audit::outbox::{BoxFuture, StoredEvent};
use audit::usage::{UsagePage, UsageQuery};
use control::ports::{Checkpoint, EventFilter, Evidence, PortError};
use store::{Filter, Store, StoreError, StoredCheckpoint};

/// Reads from a store that the gateway writes.
pub(crate) struct StoreEvidence(pub(crate) Arc<Store>);

impl Evidence for StoreEvidence {
    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, PortError>> {
        let store = Arc::clone(&self.0);
        Box::pin(blocking(move || read(&store, filter)))
    }

    fn checkpoints(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Checkpoint>, PortError>> {
        let store = Arc::clone(&self.0);
        Box::pin(blocking(move || {
            let stored = store.reader()?.checkpoints(before, limit)?;
            let shown = |StoredCheckpoint { size, event_id, created_at, note }| Checkpoint {
                size,
                event_id,
                created_at,
                note,
            };
            Ok(stored.into_iter().map(shown).collect())
        }))
    }

    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<UsagePage, PortError>> {
        let store = Arc::clone(&self.0);
        Box::pin(blocking(move || read_usage(&store, &query)))
    }
}

/// Reading may take a while and blocks; the runtime's workers have calls to serve.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| PortError(error.to_string())),
        Err(_) => Err(PortError("the query ended early".to_owned())),
    }
}

/// Usage as the store has it.
fn read_usage(store: &Store, query: &UsageQuery) -> Result<UsagePage, StoreError> {
    store.reader()?.usage(query)
}

fn read(store: &Store, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
    let (types, limit) = (filter.event_types.clone(), filter.limit);
    let reader = store.reader()?;
    let wanted = to_store(filter);
    let several = types.len() > 1;
    let fits = |event: &Result<StoredEvent, StoreError>| {
        !several
            || event
                .as_ref()
                .map_or(true, |event| type_of(&event.text).is_some_and(|one| types.contains(&one)))
    };
    reader.query(&wanted).filter(fits).take(limit).collect()
}

/// The store looks for one type at most; several are picked out here, and counted here.
fn to_store(filter: EventFilter) -> Filter {
    let one = match filter.event_types.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    Filter {
        policy_id: filter.policy_id,
        project_id: filter.project_id,
        policy_user: filter.policy_user,
        decision: filter.decision,
        event_type: one,
        event_id: filter.event_id,
        request_id: filter.request_id,
        from_ms: filter.from_ms,
        to_ms: filter.to_ms,
        after_seq: filter.before_seq,
        limit: None,
        newest_first: true,
    }
}

fn type_of(text: &[u8]) -> Option<EventType> {
    #[derive(serde::Deserialize)]
    struct Typed {
        event_type: EventType,
    }
    serde_json::from_slice::<Typed>(text).ok().map(|typed| typed.event_type)
}
