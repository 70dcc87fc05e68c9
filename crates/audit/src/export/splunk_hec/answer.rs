//! What the collector's answers mean: its codes, and what to do about each. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::config::AckMode;
use crate::delivery::{Partial, Receipt, SendOutcome, Then};
use crate::export::http::{self, Answer, Credential};

/// The body of every answer.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Said {
    /// In words.
    #[serde(default)]
    pub(super) text: String,
    /// See [`Meaning`].
    pub(super) code: i64,
    /// Number of the event at fault, from 0, where the code is 6, 12 or 13.
    #[serde(rename = "invalid-event-number")]
    pub(super) invalid_event: Option<usize>,
    /// Asks after this body.
    #[serde(rename = "ackId")]
    pub(super) ack_id: Option<u64>,
}

/// What is needed to judge an answer.
pub(super) struct Question<'a> {
    pub(super) seqs: &'a [u64],
    pub(super) ack: AckMode,
    pub(super) ack_within: Duration,
    pub(super) token: &'a Credential,
    pub(super) index: Option<&'a str>,
    pub(super) path: &'a str,
}

/// Judges an answer to a body.
pub(super) fn judge(answer: &Answer, question: &Question<'_>) -> SendOutcome {
    let Some(said) = answer.json::<Said>() else { return foreign(answer, question) };
    let status = answer.status;
    let detail = question.token.detail(&said.text);
    let why = format!(
        "Splunk answers {status}, code {}{detail}: {}",
        said.code,
        advice(status, said.code, question)
    );
    match (status, said.code) {
        (200, 0) => received(&said, question),
        // The events before the one at fault were indexed; those behind it were not looked at.
        (400, 6 | 12 | 13) => match said.invalid_event {
            Some(number) if number < question.seqs.len() => from_invalid(number, question, why),
            _ => SendOutcome::Rejected { why },
        },
        // No data: an empty body cannot be told from one that was lost on the way.
        (400, 5) => SendOutcome::Retry { after: None, why },
        (400, 7 | 10 | 11 | 14) => SendOutcome::Hold { why },
        _ => http::by_status(status, answer.retry_after(), why.clone()).unwrap_or(SendOutcome::Hold { why }),
    }
}

fn received(said: &Said, question: &Question<'_>) -> SendOutcome {
    match (said.ack_id, question.ack) {
        (_, AckMode::Off) | (None, AckMode::Auto) => SendOutcome::Delivered,
        (Some(id), _) => {
            SendOutcome::Received(Receipt { token: id.to_string(), within: question.ack_within })
        }
        (None, AckMode::Required) => SendOutcome::Hold {
            why: "Splunk took the events but gave no `ackId`: turn indexer acknowledgement on for this token (Splunk Cloud \
                  has it for Kinesis Firehose only), or set `ack: auto` to count what is received as delivered"
                .to_owned(),
        },
    }
}

fn from_invalid(number: usize, question: &Question<'_>, why: String) -> SendOutcome {
    let seqs = question.seqs;
    let dead = seqs.get(number).map(|seq| (*seq, why.clone())).into_iter().collect();
    let mut again = seqs.get(number + 1..).unwrap_or_default().to_vec();
    if question.ack == AckMode::Required {
        // No acknowledgement will come for those before it: rather twice than on trust.
        again.extend_from_slice(seqs.get(..number).unwrap_or_default());
    }
    // There is nothing to wait for: what stood behind the one at fault is sent at once.
    SendOutcome::Partial(Partial { again, dead, then: Then::Retry(Some(Duration::ZERO)), why })
}

/// An answer that no collector gives.
fn foreign(answer: &Answer, question: &Question<'_>) -> SendOutcome {
    let (status, kind) = (answer.status, answer.kind());
    let advice = advice(status, -1, question);
    let why = format!("the endpoint answers {status} with {kind}: {advice}");
    let instead = format!(
        "the endpoint answers {status} with {kind}, which is not Splunk's answer (a `text` and a `code`): check \
         `endpoint` (the collector's port is 8088, not that of the web interface), and whether a proxy answers in its place"
    );
    match status {
        // A proxy's 400 says nothing of the events.
        200..=299 | 400 => SendOutcome::Hold { why: instead },
        _ => http::by_status(status, answer.retry_after(), why).unwrap_or(SendOutcome::Hold { why: instead }),
    }
}

fn advice(status: u16, code: i64, question: &Question<'_>) -> String {
    let origin = question.token.origin();
    match (status, code) {
        (_, 1) => format!("the token from {origin} is disabled: enable it under Settings, Data inputs"),
        (_, 2 | 3) => {
            format!("no token arrived: check `token` ({origin}), and proxies that strip `Authorization`")
        }
        (401 | 403, _) => format!("it does not know the token from {origin}: check `token`"),
        (_, 5) => "the body arrived empty: check proxies before it".to_owned(),
        (_, 6) => "it cannot read an event".to_owned(),
        (_, 7) => match question.index {
            Some(index) => format!(
                "there is no index `{index}`, or the token may not write to it: create it, or allow it for the token"
            ),
            None => "the token's default index does not exist: create it, or set `index`".to_owned(),
        },
        (_, 9) => "its queues are full".to_owned(),
        (_, 10 | 11) => "it wants a channel: its version may not speak this protocol".to_owned(),
        (_, 12 | 13) => "an event is missing or blank".to_owned(),
        (_, 14) => "indexer acknowledgement is off for this token: turn it on, or set `ack: off`".to_owned(),
        (404, _) => {
            format!("there is no `{}`: the collector's path is `/services/collector/event`", question.path)
        }
        _ => http::advice(status).to_owned(),
    }
}
