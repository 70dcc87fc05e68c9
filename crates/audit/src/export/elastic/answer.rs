//! What the answer to a bulk request means, for the whole and for each item. Pure.

use serde::Deserialize;

use crate::delivery::{Partial, SendOutcome, Then};
use crate::export::http::{self, Answer, Credential};

/// The answer to a bulk request.
#[derive(Debug, Deserialize)]
struct Bulk {
    errors: bool,
    items: Vec<Item>,
}

/// One item's; the action is the name of its only member.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(alias = "index")]
    create: Done,
}

#[derive(Debug, Deserialize)]
struct Done {
    status: u16,
    #[serde(default)]
    error: Option<Failed>,
}

/// An error of an item or of the whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failed {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
}

/// An answer that is no success.
#[derive(Debug, Deserialize)]
struct Refused {
    error: Failed,
}

/// What is needed to judge an answer.
pub(super) struct Question<'a> {
    pub(super) seqs: &'a [u64],
    pub(super) credential: &'a Credential,
    /// The field that the credential is in.
    pub(super) field: &'a str,
    pub(super) data_stream: &'a str,
}

/// Judges an answer to a body.
pub(super) fn judge(answer: &Answer, question: &Question<'_>) -> SendOutcome {
    if !answer.is_success() {
        return refused(answer, question);
    }
    let instead = |found: &str| SendOutcome::Hold {
        why: format!(
            "the endpoint answers {} with {found}, which is not the answer to a bulk request: check `endpoint`, and \
             whether a proxy or a login page answers in its place",
            answer.status
        ),
    };
    match answer.json::<Bulk>() {
        None => instead(&answer.kind()),
        Some(bulk) if bulk.items.len() != question.seqs.len() => {
            instead(&format!("{} items for {} events", bulk.items.len(), question.seqs.len()))
        }
        Some(bulk) if !bulk.errors && bulk.items.iter().all(|item| is_there(item.create.status)) => {
            SendOutcome::Delivered
        }
        Some(bulk) => by_item(&bulk.items, question),
    }
}

/// Made now, or by an earlier try whose answer was lost.
fn is_there(status: u16) -> bool {
    matches!(status, 200 | 201 | 409)
}

fn by_item(items: &[Item], question: &Question<'_>) -> SendOutcome {
    let mut partial =
        Partial { again: Vec::new(), dead: Vec::new(), then: Then::Retry(None), why: String::new() };
    for (seq, Item { create }) in question.seqs.iter().zip(items) {
        match create.status {
            status if is_there(status) => {}
            429 | 500..=599 => {
                if partial.why.is_empty() {
                    partial.why = item_why(create, question, "the cluster is in trouble or full");
                }
                partial.again.push(*seq);
            }
            401 | 403 | 404 => {
                partial.then = Then::Hold;
                partial.why = item_why(create, question, &hold_advice(create, question));
                partial.again.push(*seq);
            }
            _ => partial.dead.push((
                *seq,
                item_why(create, question, "the document does not fit the mapping: check the index template"),
            )),
        }
    }
    if partial.again.is_empty() && partial.dead.is_empty() {
        return SendOutcome::Delivered;
    }
    SendOutcome::Partial(partial)
}

fn hold_advice(done: &Done, question: &Question<'_>) -> String {
    let data_stream = question.data_stream;
    match done.status {
        404 => format!(
            "there is no data stream `{data_stream}` and the cluster makes none: add an index template for it"
        ),
        _ if done.error.as_ref().is_some_and(|error| error.kind == "cluster_block_exception") => {
            format!("`{data_stream}` is blocked for writing (a full disk?): lift the block")
        }
        _ => format!(
            "the credential may not write to `{data_stream}`: it needs `auto_configure` and `create_doc`"
        ),
    }
}

/// Only the error's type is shown: its reason quotes the document.
fn item_why(done: &Done, question: &Question<'_>, advice: &str) -> String {
    let kind = done.error.as_ref().map(|error| error.kind.as_str()).unwrap_or_default();
    let kind = question.credential.detail(kind);
    format!("the cluster answers {}{kind} for a document: {advice}", done.status)
}

fn refused(answer: &Answer, question: &Question<'_>) -> SendOutcome {
    let status = answer.status;
    let said = answer.json::<Refused>().map(|refused| refused.error);
    let is_cluster = said.is_some();
    let said = said.unwrap_or_default();
    let reason = match said.reason {
        // Of a request as a whole, the reason names the setting at fault; it is cut where something is quoted.
        Some(reason) if matches!(status, 401 | 403 | 404 | 413) => format!("{}: {reason}", said.kind),
        _ => said.kind,
    };
    let detail = question.credential.detail(&reason);
    let origin = question.credential.origin();
    let field = question.field;
    let advice = match status {
        401 => {
            format!("it does not know the credential: check `{field}` ({origin}), and proxies that strip it")
        }
        403 => format!(
            "the credential from {origin} may not write to `{}`: it needs `auto_configure` and `create_doc`",
            question.data_stream
        ),
        404 => "there is no `_bulk` here: check `endpoint`".to_owned(),
        400 if !is_cluster => {
            "that is no cluster's answer: check `endpoint`, and proxies before it".to_owned()
        }
        _ => http::advice(status).to_owned(),
    };
    let why = format!("the cluster answers {status}{detail}: {advice}");
    match status {
        // A proxy's 400 says nothing of the events.
        400 if !is_cluster => SendOutcome::Hold { why },
        _ => http::by_status(status, answer.retry_after(), why.clone()).unwrap_or(SendOutcome::Hold { why }),
    }
}
