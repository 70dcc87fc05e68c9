//! From stored events to a webhook's body: `{"type", "timestamp", "data"}`, where `data` is the event as the log has it,
//! byte for byte. The same events make the same body, and the same id.

use crate::delivery::{BodyBuilder, Encoded, Push};
use crate::outbox::StoredEvent;
use crate::stored::{Members, plain};

/// A body in the making.
pub struct WebhookBody {
    /// One event alone, or a list.
    is_list: bool,
    events_max: usize,
    bytes_max: usize,
    /// The events, with commas between them.
    events: Vec<u8>,
    count: usize,
    /// Of the first event: id, type and time.
    first: Option<(String, String, String)>,
}

impl WebhookBody {
    /// An empty body; with room for one event only, that stands alone.
    pub fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { is_list: events_max > 1, events_max, bytes_max, events: Vec::new(), count: 0, first: None }
    }
}

impl BodyBuilder for WebhookBody {
    fn push(&mut self, event: &StoredEvent) -> Push {
        let full = self.events.len() + event.text.len() > self.bytes_max;
        if self.count >= self.events_max || (self.count > 0 && full) {
            return Push::Full;
        }
        if self.count == 0 {
            let members = std::str::from_utf8(&event.text).ok().and_then(Members::of);
            let Some(members) = members else {
                return Push::Unfit("the stored text is not an audit event".to_owned());
            };
            let text = |raw: &str| plain(raw).unwrap_or_default().to_owned();
            self.first = Some((text(members.event_id), text(members.event_type), text(members.created_at)));
        } else {
            self.events.push(b',');
        }
        self.events.extend_from_slice(&event.text);
        self.count += 1;
        Push::Taken
    }

    fn finish(self) -> Result<Encoded, String> {
        let (id, event_type, time) = self.first.ok_or("the body is empty")?;
        let (kind, open, close, note) = if self.is_list {
            // The first event and the count name the batch: its bounds are kept over a restart.
            ("events", "{\"events\":[", "]}", format!("{id}-{}", self.count))
        } else {
            (event_type.as_str(), "", "", id)
        };
        let mut body = Vec::with_capacity(self.events.len() + 128);
        let head = format!("{{\"type\":\"policy.{kind}\",\"timestamp\":\"{time}\",\"data\":{open}");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.events);
        body.extend_from_slice(close.as_bytes());
        body.push(b'}');
        let bytes_uncompressed = u64::try_from(body.len()).unwrap_or(u64::MAX);
        Ok(Encoded { body: body.into(), bytes_uncompressed, note })
    }
}
