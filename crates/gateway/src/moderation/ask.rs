//! Asking somebody about texts: cut to what they read at once, several at a time, tried again where a failure may pass,
//! and bounded in texts, bytes and time. What is said and how it is read is the providers' own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode};
use policy::{Outcome, Scored};
use registry::moderation::{Remote, RemoteKind};

use super::{judge_model, openai};
use crate::body;
use crate::error_reply::Failure;
use crate::metrics::Metrics;
use crate::upstream::UpstreamClient;

/// Characters of a text that are asked about at once: some 2,000 tokens, well within what moderation models read.
const PIECE_CHARS: usize = 8_000;
/// Characters that a piece shares with the one before, so that nothing hides at a cut.
const OVERLAP_CHARS: usize = 200;
/// Pieces of one text. A longer text has no score.
const PIECES_MAX: usize = 64;
/// Calls at once for one call of a client.
const CALLS_AT_ONCE: usize = 8;
/// Answers are lists of numbers, or a short verdict.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Before the first further try; doubled for each.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What came of one try.
pub(super) enum Failed {
    /// Another may do better.
    MayPass(&'static str),
    /// Another would come to the same.
    Stays(&'static str),
}

/// Asks about texts. Gives an outcome for each.
pub(super) async fn all(
    client: &UpstreamClient,
    metrics: &Metrics,
    remote: &Remote,
    texts: &[&str],
) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; texts.len()];
    let mut pieces: Vec<(usize, &str)> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        match cut(text) {
            Some(cut) => pieces.extend(cut.into_iter().map(|piece| (at, piece))),
            None => {
                if let Some(outcome) = outcomes.get_mut(at) {
                    *outcome = Some(Outcome::Unavailable("too_long"));
                }
            }
        }
    }
    let batch = match remote.kind {
        RemoteKind::OpenAi => openai::BATCH,
        RemoteKind::Judge => 1,
    };
    let calls: Vec<_> = pieces.chunks(batch).map(|pieces| some(client, metrics, remote, pieces)).collect();
    let said: Vec<Vec<(usize, Outcome)>> =
        stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect().await;
    for (text, outcome) in said.into_iter().flatten() {
        if let Some(whole) = outcomes.get_mut(text) {
            *whole = Some(whole.map_or(outcome, |known| join(known, outcome)));
        }
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Scored(Scored::CLEAN))).collect()
}

/// Asks about pieces in one call. Gives an outcome for each, with its text's place.
async fn some(
    client: &UpstreamClient,
    metrics: &Metrics,
    remote: &Remote,
    pieces: &[(usize, &str)],
) -> Vec<(usize, Outcome)> {
    let texts: Vec<&str> = pieces.iter().map(|(_, piece)| *piece).collect();
    let said = with_retries(client, remote, &texts).await;
    metrics.moderation(remote.kind.as_str(), said.as_ref().map_or_else(|reason| *reason, |_| "scored"));
    let outcome = |at: usize| match &said {
        Ok(scored) => scored.get(at).map_or(Outcome::Unavailable("invalid"), |one| Outcome::Scored(*one)),
        Err(reason) => Outcome::Unavailable(reason),
    };
    pieces.iter().enumerate().map(|(at, (text, _))| (*text, outcome(at))).collect()
}

/// What two pieces of a text come to together.
fn join(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Scored(one), Outcome::Scored(other)) => Outcome::Scored(one.max(&other)),
        (Outcome::Unavailable(reason), _) | (_, Outcome::Unavailable(reason)) => Outcome::Unavailable(reason),
    }
}

/// A text in pieces; none where it has too many.
fn cut(text: &str) -> Option<Vec<&str>> {
    if text.len() <= PIECE_CHARS {
        return Some(vec![text]);
    }
    let mut starts: Vec<usize> = Vec::new();
    let step = PIECE_CHARS - OVERLAP_CHARS;
    starts.extend(text.char_indices().step_by(step).map(|(at, _)| at));
    let mut pieces = Vec::with_capacity(starts.len());
    for start in starts {
        let rest = text.get(start..)?;
        let end = rest.char_indices().nth(PIECE_CHARS).map_or(rest.len(), |(at, _)| at);
        pieces.push(rest.get(..end)?);
        if end == rest.len() {
            break;
        }
    }
    (pieces.len() <= PIECES_MAX).then_some(pieces)
}

/// # Errors
/// Why nobody could score them, in one word.
async fn with_retries(
    client: &UpstreamClient,
    remote: &Remote,
    texts: &[&str],
) -> Result<Vec<Scored>, &'static str> {
    let mut pause = RETRY_PAUSE;
    let mut tries_left = remote.retries;
    loop {
        let once = tokio::time::timeout(remote.endpoint.timeout, once(client, remote, texts)).await;
        let reason = match once.unwrap_or(Err(Failed::MayPass("timeout"))) {
            Ok(scored) => return Ok(scored),
            Err(Failed::Stays(reason)) => return Err(reason),
            Err(Failed::MayPass(reason)) => reason,
        };
        let Some(left) = tries_left.checked_sub(1) else {
            // Neither text nor answer: an operator sees who fails and how.
            tracing::warn!(provider = remote.kind.as_str(), reason, "texts could not be scored");
            return Err(reason);
        };
        tries_left = left;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn once(client: &UpstreamClient, remote: &Remote, texts: &[&str]) -> Result<Vec<Scored>, Failed> {
    match remote.kind {
        RemoteKind::OpenAi => {
            let body = openai::body(&remote.model, texts);
            let answer = post(client, remote, openai::PATH, body).await?;
            openai::read(&answer, texts.len()).ok_or(Failed::MayPass("invalid"))
        }
        RemoteKind::Judge => {
            let question = judge_model::Question::new();
            let text = texts.first().copied().unwrap_or_default();
            let answer = post(client, remote, judge_model::PATH, question.body(&remote.model, text)).await?;
            let scored = question.read(&answer).ok_or(Failed::MayPass("invalid"))?;
            Ok(vec![scored])
        }
    }
}

async fn post(client: &UpstreamClient, remote: &Remote, path: &str, body: Bytes) -> Result<Bytes, Failed> {
    let none = HeaderMap::new();
    let sent = client.send(&remote.endpoint, Method::POST, path, &none, body, "application/json").await;
    let response = sent.map_err(|failure| match failure {
        Failure::UpstreamTimeout { .. } => Failed::MayPass("timeout"),
        _ => Failed::MayPass("unreachable"),
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return Err(Failed::MayPass("overloaded")),
        status if status.is_server_error() => return Err(Failed::MayPass("failed")),
        _ => return Err(Failed::Stays("refused")),
    }
    body::collect(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|_| Failed::MayPass("failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_asked_about_in_pieces_that_overlap() {
        assert_eq!(cut("short"), Some(vec!["short"]));
        let text: String = ('a'..='z').cycle().take(3 * PIECE_CHARS).collect::<String>().replace('e', "é");
        let pieces = cut(&text).unwrap();
        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|piece| piece.chars().count() <= PIECE_CHARS));
        let mut whole: String = pieces[0].to_owned();
        for piece in &pieces[1..] {
            let shared: String = piece.chars().take(OVERLAP_CHARS).collect();
            assert!(whole.ends_with(&shared));
            whole.extend(piece.chars().skip(OVERLAP_CHARS));
        }
        assert_eq!(whole, text);
        assert_eq!(cut(&"x".repeat(PIECES_MAX * PIECE_CHARS)), None);
        assert_eq!(cut(&"é".repeat(PIECE_CHARS)).unwrap().len(), 1);
    }

    #[test]
    fn one_piece_without_a_score_leaves_the_text_without_one() {
        let scored = |score: f32| Outcome::Scored(Scored::new(|_| (score, score > 0.5)));
        assert_eq!(join(scored(0.2), scored(0.7)), scored(0.7));
        assert_eq!(join(scored(0.7), Outcome::Unavailable("timeout")), Outcome::Unavailable("timeout"));
        assert_eq!(join(Outcome::Unavailable("timeout"), scored(0.7)), Outcome::Unavailable("timeout"));
    }
}
