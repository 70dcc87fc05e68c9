//! The store as the review desk sees it: writes are orders to the writer, reads have a connection of their own.

use audit::outbox::BoxFuture;
use escalation::tickets::{
    DecideError, Notice, Opening, Sent, TicketFilter, Tickets, TicketsError, WithContent,
};
use escalation::{FingerprintKey, Ruling, Ticket};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::Store;
use crate::escalations::{self, EscalationOrder};
use crate::orders::{Order, Reply};
use crate::reader::Reader;

const CLOSED: &str = "the store is closed";

impl Store {
    /// What fingerprints of requests are keyed with.
    pub fn fingerprint_key(&self) -> FingerprintKey {
        self.fingerprint_key.clone()
    }

    async fn ticket_order<T>(
        &self,
        order: impl FnOnce(Reply<T, TicketsError>) -> EscalationOrder,
    ) -> Result<T, TicketsError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Order::Escalation(order(reply)));
        answer.await.unwrap_or_else(|_| Err(TicketsError::Store(CLOSED.to_owned())))
    }

    /// Reads where it keeps no call waiting.
    async fn read_tickets<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, TicketsError> {
        let path = self.path.clone();
        let read = move || {
            let reader = Reader::open(&path)?;
            read(&reader).map_err(reader.failed())
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(result) => result.map_err(|error| TicketsError::Store(error.to_string())),
            Err(_) => Err(TicketsError::Store("the query ended early".to_owned())),
        }
    }
}

impl Tickets for Store {
    fn open(&self, opening: Opening) -> BoxFuture<'_, Result<Ticket, TicketsError>> {
        Box::pin(self.ticket_order(|reply| EscalationOrder::Open { opening: Box::new(opening), reply }))
    }

    fn decide(&self, id: Uuid, ruling: Ruling) -> BoxFuture<'_, Result<Ticket, DecideError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.tell(Order::Escalation(EscalationOrder::Decide { id, ruling, planned: None, reply }));
            answer.await.unwrap_or_else(|_| Err(DecideError::Store(CLOSED.to_owned())))
        })
    }

    fn expire(&self, now_ms: i64) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>> {
        Box::pin(self.ticket_order(move |reply| EscalationOrder::Expire {
            now_ms,
            planned: Vec::new(),
            reply,
        }))
    }

    fn live(&self, now_ms: i64) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>> {
        Box::pin(self.read_tickets(move |reader| escalations::live(&reader.db, now_ms)))
    }

    fn list(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<Ticket>, TicketsError>> {
        Box::pin(self.read_tickets(move |reader| escalations::list(&reader.db, &filter)))
    }

    fn find(&self, id: Uuid) -> BoxFuture<'_, Result<Option<WithContent>, TicketsError>> {
        Box::pin(self.read_tickets(move |reader| {
            let Some(ticket) = escalations::find(&reader.db, id)? else { return Ok(None) };
            let content = escalations::content(&reader.db, &ticket)?;
            Ok(Some((ticket, content)))
        }))
    }

    fn notices(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Notice>, TicketsError>> {
        Box::pin(self.read_tickets(move |reader| escalations::notices(&reader.db, limit)))
    }

    fn sent(&self, notice: i64, sent: Sent) -> BoxFuture<'_, Result<(), TicketsError>> {
        Box::pin(self.ticket_order(move |reply| EscalationOrder::Sent { notice, sent, reply }))
    }
}
