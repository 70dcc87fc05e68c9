//! Trying a destination out: one synthetic event, sent once, and a plain word on what is wrong. Nothing is stored and no
//! cursor moves.

use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::{ExportConfig, ExportError, Exporter};
use crate::delivery::{BodyBuilder, Clock, Destination, Parcel, Partial, Push, Receipt, SendOutcome};
use crate::event::{AuditEvent, ChainedEvent, EventType, Link, hex};
use crate::outbox::StoredEvent;
use crate::secret::SecretError;

/// Says in the SIEM what this event is: it has no place in the chain.
const REASON: &str = "EXPORT_TEST";
/// A person waits: so long for an acknowledgement at the most.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);

/// Past the destination's own timeout the test is given up, should the destination not have.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// The test event arrived.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestReport {
    /// Id of the destination.
    pub id: String,
    /// Where it went.
    pub endpoint: String,
    /// Id of the event: find it in the SIEM by this.
    pub event_id: Uuid,
    /// What to search for there.
    pub look_for: String,
    /// From the start of the request to the end of the answer (or the acknowledgement), in milliseconds.
    pub round_trip_ms: u64,
    /// Size of the body as sent.
    pub bytes_sent: u64,
}

/// The test event did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The destination cannot be set up.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The event could not be put into a request.
    #[error("the test event could not be encoded: {0}")]
    Encode(String),
    /// The destination did not take it.
    #[error("{0}")]
    NotTaken(String),
}

impl From<SecretError> for TestError {
    fn from(error: SecretError) -> Self {
        Self::Export(error.into())
    }
}

/// Sends one event of type `heartbeat` with the reason code `EXPORT_TEST`, once.
///
/// # Errors
/// [`TestError`]: precisely what is wrong, and the fix.
pub async fn test(export: &ExportConfig, clock: &dyn Clock) -> Result<TestReport, TestError> {
    let now_ms = clock.now_ms();
    let (event_id, event) = test_event(now_ms);
    export.screen()?;
    let sender = Exporter::new(export)?;
    let mut body = sender.begin(now_ms).map_err(TestError::Encode)?;
    if let Push::Unfit(reason) = body.push(&event) {
        return Err(TestError::Encode(reason));
    }
    let encoded = body.finish().map_err(TestError::Encode)?;
    let bytes_sent = u64::try_from(encoded.body.len()).unwrap_or(u64::MAX);
    let parcel = Parcel {
        body: encoded.body,
        note: encoded.note,
        seqs: vec![event.seq],
        first: event.seq,
        last: event.seq,
        attempts: 1,
        now_ms,
    };
    let start = Instant::now();
    let limit = export.limits().timeout + CONFIRM_WITHIN + TIMEOUT_MARGIN;
    match tokio::time::timeout(limit, taken(&sender, parcel)).await {
        Ok(taken) => taken.map_err(TestError::NotTaken)?,
        Err(_) => return Err(TestError::NotTaken(format!("no answer within {} s", limit.as_secs()))),
    }
    Ok(TestReport {
        id: export.id.clone(),
        endpoint: export.endpoint().to_owned(),
        event_id,
        look_for: export.look_for(event_id),
        round_trip_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        bytes_sent,
    })
}

async fn taken<D: Destination>(sender: &D, parcel: Parcel) -> Result<(), String> {
    match sender.send(parcel).await {
        SendOutcome::Delivered => Ok(()),
        SendOutcome::Received(receipt) => safe(sender, receipt).await,
        SendOutcome::Partial(Partial { again, dead, why, .. }) => match dead.into_iter().next() {
            Some((_, reason)) => Err(reason),
            None if again.is_empty() => Ok(()),
            None => Err(why),
        },
        SendOutcome::Retry { why, .. }
        | SendOutcome::TooLarge { why }
        | SendOutcome::Rejected { why }
        | SendOutcome::Hold { why } => Err(why),
    }
}

async fn safe<D: Destination>(sender: &D, receipt: Receipt) -> Result<(), String> {
    let within = receipt.within.min(CONFIRM_WITHIN);
    let until = Instant::now() + within;
    loop {
        tokio::time::sleep(sender.confirm_every().min(within)).await;
        let answer = sender.confirm(vec![receipt.token.clone()]).await;
        if answer.as_ref().is_ok_and(|safe| safe.first() == Some(&true)) {
            return Ok(());
        }
        if Instant::now() >= until {
            let seconds = within.as_secs();
            let why = format!(
                "the event was received, but its acknowledgement did not come within {seconds} s: the destination may \
                 be slow to index, or a load balancer sends the question to another node than the event"
            );
            return Err(answer.err().unwrap_or(why));
        }
    }
}

fn test_event(now_ms: i64) -> (Uuid, StoredEvent) {
    let event_id = Uuid::now_v7();
    let created_at = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let mut event = AuditEvent::blank(event_id, EventType::Heartbeat, format!("{created_at:.3}"));
    event.reason_code = Some(REASON.to_owned());
    let nothing = hex(&[0; 32]);
    let link = Link { chain: Uuid::nil(), seq: 0, prev_hash: nothing.clone(), hash: nothing };
    let text = serde_json::to_vec(&ChainedEvent { event, link }).unwrap_or_default();
    (event_id, StoredEvent { seq: 0, text: text.into() })
}
