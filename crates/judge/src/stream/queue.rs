//! Frames with log probabilities: they stand for exactly the frame's text, so such a frame waits until that is let go.

use std::ops::Range;

use llm_api::chat::answer::AnswerError;
use llm_api::chat::chunk::Chunk;
use llm_api::json::{Splice, encode_str};

use super::{Fate, StreamJudge};

/// A frame that waits: it has `logprobs`, which stand for exactly its text, so it leaves as it came once all of that is
/// let go unchanged, or without them. Frames of the same texts wait behind it.
pub(super) struct Queued {
    pub(super) data: String,
    splice: Splice,
    /// Channel, token and place of each piece: how far the channel must be let go for the frame to leave.
    pieces: Vec<(usize, Range<usize>, Range<u64>)>,
    logprobs: Vec<Range<usize>>,
}

impl StreamJudge {
    pub(super) fn is_awaited(&self, channel: usize) -> bool {
        self.queued.iter().any(|queued| queued.pieces.iter().any(|piece| piece.0 == channel))
    }

    pub(super) fn queue(&mut self, data: &str, fate: Fate<'_>) {
        let pieces = fate
            .pieces
            .into_iter()
            .filter_map(|piece| {
                let at = piece.channel?;
                let end = self.channels.get(at).map_or(0, |channel| channel.bytes_in);
                Some((at, piece.token, end.saturating_sub(piece.text.len() as u64)..end))
            })
            .collect();
        let (splice, logprobs) = (fate.splice, fate.logprobs);
        self.queued.push_back(Queued { data: data.to_owned(), splice, pieces, logprobs });
    }

    /// Sends queued frames off, in order, as far as their text is let go.
    pub(super) fn release_queued(&mut self, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        while let Some(first) = self.queued.front() {
            let channel = |at: &usize| self.channels.get(*at);
            let is_changed = first
                .pieces
                .iter()
                .any(|(at, ..)| channel(at).is_some_and(|channel| channel.text.is_changed()));
            let is_ready = first
                .pieces
                .iter()
                .all(|(at, _, place)| channel(at).is_none_or(|channel| channel.bytes_out >= place.end));
            if !is_ready && !is_changed {
                return Ok(());
            }
            let Some(mut queued) = self.queued.pop_front() else { return Ok(()) };
            for (at, token, place) in queued.pieces {
                let Some(channel) = self.channels.get_mut(at) else { continue };
                if is_changed {
                    queued.splice.replace(token, encode_str(&channel.take()));
                    continue;
                }
                // Text of frames that did not wait, held until now.
                let before = channel.take_to(place.start);
                channel.take_to(place.end);
                if !before.is_empty() {
                    let (choice, delta) = (channel.choice, channel.delta(&before));
                    self.emit_delta(choice, &delta, out);
                }
            }
            if is_changed {
                for logprobs in queued.logprobs {
                    queued.splice.replace(logprobs, "null");
                }
            }
            let chunk = Chunk::parse(&queued.data)?;
            self.emit(out, &queued.data, &chunk, queued.splice);
        }
        Ok(())
    }
}
