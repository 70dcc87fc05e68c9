//! Trying a destination out: one synthetic event, sent once, and a plain word on what is wrong. Nothing is stored and no
//! cursor moves.

use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::{DestinationConfig, ExportConfig, ExportError, datadog_logs};
use crate::delivery::{BodyBuilder, Clock, Destination, Push};
use crate::event::{AuditEvent, ChainedEvent, EventType, Link, hex};
use crate::outbox::StoredEvent;

/// Says in the SIEM what this event is: it has no place in the chain.
const REASON: &str = "EXPORT_TEST";

/// The test event arrived.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestReport {
    /// Id of the destination.
    pub id: String,
    /// Where it went.
    pub endpoint: String,
    /// Id of the event: find it in the SIEM by this.
    pub event_id: Uuid,
    /// From the start of the request to the end of the answer, in milliseconds.
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
    /// The intake did not take it.
    #[error(transparent)]
    Datadog(#[from] datadog_logs::Failure),
}

/// Sends one event of type `heartbeat` with the reason code `EXPORT_TEST`, once.
///
/// # Errors
/// [`TestError`]: precisely what is wrong, and the fix.
pub async fn test(export: &ExportConfig, clock: &dyn Clock) -> Result<TestReport, TestError> {
    let now_ms = clock.now_ms();
    let (event_id, event) = test_event(now_ms);
    match &export.destination {
        DestinationConfig::DatadogLogs(config) => {
            let sender = datadog_logs::DatadogDestination::new(config.clone())?;
            let mut body = sender.begin(now_ms).map_err(TestError::Encode)?;
            if let Push::Unfit(reason) = body.push(&event) {
                return Err(TestError::Encode(reason));
            }
            let body = body.finish().map_err(TestError::Encode)?.body;
            let bytes_sent = u64::try_from(body.len()).unwrap_or(u64::MAX);
            let start = Instant::now();
            sender.post(body).await?;
            Ok(TestReport {
                id: export.id.clone(),
                endpoint: export.endpoint().to_owned(),
                event_id,
                round_trip_ms: millis(start.elapsed()),
                bytes_sent,
            })
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
