//! A streamed answer, judged as it passes: events in, events out, never a text that its scan still holds back. Pure but
//! for the policy's matcher; reading, recording and sending are the pipeline's.

mod channel;
mod growing;
mod names;
mod queue;
mod watching;
mod withheld;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use llm_api::chat::answer::{AnswerError, TokenUsage};
use llm_api::chat::chunk::{Chunk, ChunkChoice};
use llm_api::chat::made::{self, Envelope, text_delta};
use llm_api::json::{Splice, encode_str};
use llm_api::sse::Frame;
use policy::{Flow, Masker, OutputFindings, OutputMode, Revision, Subject};

use self::channel::{Channel, Place};
use self::growing::Rules;
use self::names::NameSoFar;
use self::queue::Queued;
use self::watching::Watching;
use crate::Cleaned;

/// Growing texts of one answer: choices times fields and tool calls. A stream that opens more is not an answer.
const CHANNELS_MAX: usize = 1024;

/// What to do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read on.
    Continue,
    /// The answer violates the policy in this choice: end the stream with the policy's text.
    Stop {
        /// Index of the choice.
        choice: u64,
    },
    /// The upstream said `[DONE]`.
    Done,
}

/// A piece of a growing text in a frame.
struct Piece<'a> {
    /// None where it was not judged any more.
    channel: Option<usize>,
    token: Range<usize>,
    text: Cow<'a, str>,
}

/// What becomes of a frame.
#[derive(Default)]
struct Fate<'a> {
    splice: Splice,
    pieces: Vec<Piece<'a>>,
    /// Tokens of `logprobs` that stand for the pieces' text.
    logprobs: Vec<Range<usize>>,
    says_something: bool,
}

/// The state of one streamed answer.
pub struct StreamJudge {
    rules: Rules,
    judges: bool,
    masker: Masker,
    channels: Vec<Channel>,
    names: Vec<NameSoFar>,
    withheld: BTreeMap<u64, serde_json::Map<String, serde_json::Value>>,
    withheld_bytes: usize,
    queued: VecDeque<Queued>,
    /// Findings of what was judged whole.
    whole: OutputFindings,
    /// Bytes of it judged and let go.
    whole_bytes: (u64, u64),
    /// What a revision beside found in what was judged whole.
    whole_beside: OutputFindings,
    envelope: Option<Envelope>,
    include_usage: bool,
    /// Written into every frame where the route asks for it.
    policy: Option<Vec<u8>>,
    /// What the upstream counted.
    pub usage: Option<TokenUsage>,
    open_choices: Vec<u64>,
    seen_choices: Vec<u64>,
    /// Sees the same events, and acts on nothing.
    beside: Option<Box<Self>>,
}

impl StreamJudge {
    /// A judge of a stream that has had no event yet. `policy` is the object that goes into every frame, if any.
    pub fn new(
        revision: Arc<Revision>,
        subject: Subject,
        mode: OutputMode,
        masker: Masker,
        include_usage: bool,
        policy: Option<Vec<u8>>,
    ) -> Self {
        let judges = revision.has_output_rules();
        Self {
            rules: Rules { revision, subject, mode, beside: None },
            judges,
            masker,
            channels: Vec::new(),
            names: Vec::new(),
            withheld: BTreeMap::new(),
            withheld_bytes: 0,
            queued: VecDeque::new(),
            whole: OutputFindings::default(),
            whole_bytes: (0, 0),
            whole_beside: OutputFindings::default(),
            envelope: None,
            include_usage,
            policy,
            usage: None,
            open_choices: Vec::new(),
            seen_choices: Vec::new(),
            beside: None,
        }
    }

    /// Has another revision judge the same answer, before its first event. It changes nothing, and what it finds is told
    /// once the answer has ended.
    pub fn watch(&mut self, revision: Arc<Revision>, subject: Subject, masker: Masker) {
        if self.judges {
            self.rules.beside = Some(Box::new(Watching { revision, subject, masker }));
        } else {
            // Frames pass this judge unread, and shall go on to.
            let beside = Self::new(revision, subject, OutputMode::Mask, masker, false, None);
            self.beside = Some(Box::new(beside));
        }
    }

    /// What the revision beside found once no more comes; what it could not read is left out.
    pub fn findings_beside(&mut self) -> Option<OutputFindings> {
        if let Some(mut beside) = self.beside.take() {
            // What it still holds counts as an answer that ends here.
            drop(beside.finish(&mut Vec::new()));
            return Some(beside.findings());
        }
        let watching = self.rules.beside.as_ref()?;
        let mut all = std::mem::take(&mut self.whole_beside);
        for channel in &mut self.channels {
            channel.text.findings_beside(&watching.revision, &mut all);
        }
        Some(all)
    }

    /// Has the revision beside judge a text that is there as a whole. Gives whether it found anything.
    fn observe(&mut self, text: &str) -> bool {
        let Some(watching) = &mut self.rules.beside else { return false };
        let (revision, subject) = (&watching.revision, &watching.subject);
        let found = crate::clean(revision, subject, text, &mut watching.masker).findings;
        self.whole_beside.merge(revision, &found);
        crate::count(&found) > 0
    }

    /// Judges a text that is there as a whole.
    fn clean(&mut self, text: &str) -> Cleaned {
        crate::clean(&self.rules.revision, &self.rules.subject, text, &mut self.masker)
    }

    /// Everything found so far, over all texts of the answer.
    pub fn findings(&self) -> OutputFindings {
        let mut all = self.whole.clone();
        for channel in &self.channels {
            channel.text.findings(&self.rules.revision, &mut all);
        }
        all
    }

    /// Cheap: whether [`StreamJudge::findings`] may have grown since the count was last taken.
    pub fn findings_count(&self) -> u64 {
        crate::count(&self.whole) + self.channels.iter().map(|channel| channel.text.count()).sum::<u64>()
    }

    /// Bytes of text judged so far.
    pub fn scanned_bytes(&self) -> u64 {
        self.whole_bytes.0 + self.channels.iter().map(|channel| channel.text.bytes().0).sum::<u64>()
    }

    /// Bytes of text that its judging let go so far.
    pub fn released_bytes(&self) -> u64 {
        self.whole_bytes.1 + self.channels.iter().map(|channel| channel.text.bytes().1).sum::<u64>()
    }

    /// Bytes kept of what has not left yet, but for parts that are withheld until whole.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        let queued: usize = self.queued.iter().map(|queued| queued.data.len()).sum();
        let ready: usize = self.channels.iter().map(|channel| channel.ready.capacity()).sum();
        queued + ready + self.channels.iter().map(|channel| channel.text.held_bytes()).sum::<usize>()
    }

    /// The `policy` object for the frames from here on.
    pub fn set_policy(&mut self, policy: Vec<u8>) {
        if self.policy.is_some() {
            self.policy = Some(policy);
        }
    }

    /// Judges one event and appends what may leave to `out`.
    ///
    /// # Errors
    /// [`AnswerError`] where the event cannot be judged: the stream must end with an error.
    pub fn event(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        if let Some(beside) = &mut self.beside {
            // An event that it cannot read is this judge's to report.
            drop(beside.event(frame, &mut Vec::new()));
        }
        let Some(data) = &frame.data else {
            // A comment or a field without data: it carries nothing that a client shows, but may hold any text.
            if is_bare_comment(&frame.raw) {
                out.extend_from_slice(b": keep-alive\n\n");
            }
            return Ok(Next::Continue);
        };
        let data = std::str::from_utf8(data)
            .map_err(|_| AnswerError::Shape("an event is not UTF-8".to_owned()))?
            .trim();
        if data == "[DONE]" {
            return Ok(match self.finish(out)? {
                Next::Continue => {
                    out.extend_from_slice(made::DONE);
                    Next::Done
                }
                next => next,
            });
        }
        let chunk = Chunk::parse(data)?;
        if chunk.is_error() {
            return Err(AnswerError::Shape("it sent an error in the middle of the stream".to_owned()));
        }
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
        }
        if chunk.is_usage_only() {
            // Some upstreams send it now and then: texts that may go on are held all the same.
            if self.include_usage {
                self.emit(out, data, &chunk, Splice::default());
            }
            return Ok(Next::Continue);
        }
        self.remember_envelope(&chunk);
        if !self.judges {
            for choice in chunk.choices()? {
                self.open(choice.index)?;
                if choice.finish.is_some() {
                    self.open_choices.retain(|open| *open != choice.index);
                }
            }
            self.emit(out, data, &chunk, Splice::default());
            return Ok(Next::Continue);
        }
        self.judge(data, &chunk, out)
    }

    /// The upstream's stream has ended: judges and lets go what is held.
    ///
    /// # Errors
    /// [`AnswerError`] where a withheld part cannot be judged.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        for choice in self.seen_choices.clone() {
            let Some(parts) = self.finish_choice(choice)? else {
                self.stop(out);
                return Ok(Next::Stop { choice });
            };
            self.release_queued(out)?;
            self.emit_rest(choice, &[], &parts, out);
        }
        Ok(Next::Continue)
    }

    /// The end of a stream that violates the policy: the policy's text, `content_filter` for every open choice, usage if
    /// it was asked for, and `[DONE]`.
    pub fn refusal(&self, choice: u64, text: &str, usage: TokenUsage, fallback: &Envelope) -> Vec<u8> {
        let envelope = self.envelope.as_ref().unwrap_or(fallback);
        let policy = self.policy.as_deref();
        let mut out = made::event(&envelope.frame(choice, &text_delta("refusal", text), None, policy));
        let others = self.open_choices.iter().copied().filter(|other| *other != choice);
        for index in std::iter::once(choice).chain(others) {
            out.extend(made::event(&envelope.frame(index, "{}", Some("content_filter"), policy)));
        }
        if self.include_usage {
            out.extend(made::event(&envelope.usage_frame(&usage.to_json(), policy)));
        }
        out.extend_from_slice(made::DONE);
        out
    }

    /// The end of a stream that may not go on: `length` for every open choice, usage if it was asked for, and `[DONE]`.
    pub fn cut(&self, usage: TokenUsage, fallback: &Envelope) -> Vec<u8> {
        let envelope = self.envelope.as_ref().unwrap_or(fallback);
        let policy = self.policy.as_deref();
        let mut out = Vec::new();
        let first = if self.seen_choices.is_empty() { Some(0) } else { None };
        for index in first.into_iter().chain(self.open_choices.iter().copied()) {
            out.extend(made::event(&envelope.frame(index, "{}", Some("length"), policy)));
        }
        if self.include_usage {
            out.extend(made::event(&envelope.usage_frame(&usage.to_json(), policy)));
        }
        out.extend_from_slice(made::DONE);
        out
    }

    /// Whether the answer was complete when the upstream's stream ended: some upstreams leave `[DONE]` out.
    pub fn is_complete(&self) -> bool {
        !self.seen_choices.is_empty() && self.open_choices.is_empty()
    }

    fn judge<'a>(
        &mut self,
        data: &str,
        chunk: &'a Chunk<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Next, AnswerError> {
        let mut choices = chunk.choices()?;
        let mut fate =
            Fate { says_something: choices.is_empty() || chunk.usage_token().is_some(), ..Fate::default() };
        // All is judged before anything is written, so that what was let go before a violation still leaves.
        for choice in &choices {
            self.open(choice.index)?;
            if !self.set_pieces(choice, &mut fate)? {
                self.stop(out);
                return Ok(Next::Stop { choice: choice.index });
            }
        }
        let mut stopped = None;
        for choice in &mut choices {
            self.grow(choice, &mut fate, &mut stopped)?;
        }
        let mut finished = Vec::new();
        for choice in choices.iter().filter(|choice| choice.finish.is_some()) {
            match if stopped.is_none() { self.finish_choice(choice.index)? } else { None } {
                Some(parts) => finished.push((choice.index, parts)),
                None => stopped = stopped.or(Some(choice.index)),
            }
        }
        if let Some(choice) = stopped {
            for finish in choices.iter_mut().filter_map(|choice| choice.finish.take()) {
                fate.splice.replace(finish, "null");
            }
            self.write_last(data, chunk, fate, out);
            return Ok(Next::Stop { choice });
        }
        self.release_queued(out)?;
        let own: Vec<usize> = fate.pieces.iter().filter_map(|piece| piece.channel).collect();
        for (choice, parts) in &finished {
            self.open_choices.retain(|open| open != choice);
            self.emit_rest(*choice, &own, parts, out);
        }
        fate.says_something |= !finished.is_empty();
        if !fate.logprobs.is_empty() || own.iter().any(|channel| self.is_awaited(*channel)) {
            self.queue(data, fate);
            self.release_queued(out)?;
        } else {
            self.write(data, chunk, fate, out);
        }
        Ok(Next::Continue)
    }

    /// Judges what of a choice does not grow. False where the stream must stop.
    fn set_pieces(&mut self, choice: &ChunkChoice<'_>, fate: &mut Fate<'_>) -> Result<bool, AnswerError> {
        fate.says_something |= choice.has_more;
        for call in &choice.calls {
            for name in &call.names {
                fate.says_something = true;
                if !self.name(choice.index, call.call, name, &mut fate.splice)? {
                    return Ok(false);
                }
            }
        }
        self.withhold(choice, &mut fate.splice)?;
        if self.extras(choice, &mut fate.splice)? {
            return Ok(false);
        }
        match &choice.logprobs {
            Some(logprobs) if choice.texts.iter().any(|text| !text.text.is_empty()) => {
                fate.logprobs.push(logprobs.clone());
            }
            // They stand for a text that is not here.
            Some(logprobs) => fate.splice.replace(logprobs.clone(), "null"),
            None => {}
        }
        Ok(true)
    }

    /// Judges the growing texts of a choice, up to the one where the stream must stop.
    fn grow<'a>(
        &mut self,
        choice: &mut ChunkChoice<'a>,
        fate: &mut Fate<'a>,
        stopped: &mut Option<u64>,
    ) -> Result<(), AnswerError> {
        let fields = std::mem::take(&mut choice.texts);
        let fields = fields.into_iter().map(|text| (Place::Field(text.field), text.text, text.token));
        let calls = std::mem::take(&mut choice.calls);
        let inputs = calls.into_iter().flat_map(|call| {
            call.inputs.into_iter().map(move |input| {
                let place = Place::Call { call: call.call, custom: input.custom };
                (place, input.text, input.token)
            })
        });
        for (place, text, token) in fields.chain(inputs) {
            if !text.is_empty() && !self.open_choices.contains(&choice.index) {
                return Err(AnswerError::Shape("a choice goes on after its finish reason".to_owned()));
            }
            let mut channel = None;
            if stopped.is_none() {
                let at = self.channel(choice.index, &place)?;
                channel = Some(at);
                if let Some(channel) = self.channels.get_mut(at)
                    && channel.push(&self.rules, &text, &mut self.masker) == Flow::Stop
                {
                    *stopped = Some(choice.index);
                }
            }
            fate.pieces.push(Piece { channel, token, text });
        }
        Ok(())
    }

    /// Sends a frame with what its texts have let go, if that says anything.
    fn write(&mut self, data: &str, chunk: &Chunk<'_>, mut fate: Fate<'_>, out: &mut Vec<u8>) {
        for piece in fate.pieces {
            let Some(channel) = piece.channel.and_then(|at| self.channels.get_mut(at)) else {
                fate.splice.replace(piece.token, "\"\"");
                continue;
            };
            // A chunk that opens with an empty text says that there will be one.
            fate.says_something |= !channel.ready.is_empty() || piece.text.is_empty();
            if channel.ready != piece.text {
                fate.splice.replace(piece.token, encode_str(&channel.ready));
            }
            channel.take();
        }
        if fate.says_something {
            self.emit(out, data, chunk, fate.splice);
        }
    }

    /// Sends the frame in which the stream stops: what it and those before let go.
    fn write_last(&mut self, data: &str, chunk: &Chunk<'_>, mut fate: Fate<'_>, out: &mut Vec<u8>) {
        for logprobs in std::mem::take(&mut fate.logprobs) {
            fate.splice.replace(logprobs, "null");
        }
        self.queued.clear();
        for at in 0..self.channels.len() {
            if !fate.pieces.iter().any(|piece| piece.channel == Some(at)) {
                self.emit_ready(at, out);
            }
        }
        self.write(data, chunk, fate, out);
    }

    /// The stream ends at a violation: what was let go before it leaves, in frames of its own.
    fn stop(&mut self, out: &mut Vec<u8>) {
        self.queued.clear();
        for at in 0..self.channels.len() {
            self.emit_ready(at, out);
        }
    }

    fn channel(&mut self, choice: u64, place: &Place<Cow<'_, str>>) -> Result<usize, AnswerError> {
        let known = self.channels.iter().position(|channel| channel.is_at(choice, place));
        if let Some(at) = known {
            return Ok(at);
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(too_many());
        }
        self.channels.push(Channel::new(&self.rules, choice, place));
        Ok(self.channels.len() - 1)
    }

    /// A choice is complete: lets go what is held of its texts, and judges what was withheld. Gives the withheld parts as
    /// deltas; `None` where the stream must stop.
    fn finish_choice(&mut self, choice: u64) -> Result<Option<Vec<String>>, AnswerError> {
        for channel in self.channels.iter_mut().filter(|channel| channel.choice == choice) {
            if channel.finish(&self.rules, &mut self.masker) == Flow::Stop {
                return Ok(None);
            }
        }
        let mut deltas = Vec::new();
        for (field, part) in self.withheld.remove(&choice).into_iter().flatten() {
            let json = part.to_string();
            let (changed, stops) = self.judge_json(&json)?;
            if stops {
                return Ok(None);
            }
            let field = String::from_utf8(encode_str(&field)).unwrap_or_default();
            deltas.push(format!("{{{field}:{}}}", changed.as_deref().unwrap_or(&json)));
        }
        Ok(Some(deltas))
    }

    /// Sends the rest of a finished choice in frames of its own, but for the texts of the channels `but`.
    fn emit_rest(&mut self, choice: u64, but: &[usize], parts: &[String], out: &mut Vec<u8>) {
        for at in 0..self.channels.len() {
            if !but.contains(&at) && self.channels.get(at).is_some_and(|channel| channel.choice == choice) {
                self.emit_ready(at, out);
            }
        }
        for delta in parts {
            self.emit_delta(choice, delta, out);
        }
    }

    fn open(&mut self, choice: u64) -> Result<(), AnswerError> {
        if !self.seen_choices.contains(&choice) {
            if self.seen_choices.len() >= CHANNELS_MAX {
                return Err(too_many());
            }
            self.seen_choices.push(choice);
            self.open_choices.push(choice);
        }
        Ok(())
    }

    fn remember_envelope(&mut self, chunk: &Chunk<'_>) {
        if self.envelope.is_none()
            && let [Some(id), Some(created), Some(model)] = chunk.envelope()
        {
            self.envelope =
                Some(Envelope { id: id.to_owned(), created: created.to_owned(), model: model.to_owned() });
        }
    }

    /// Sends what a channel has let go in a frame of its own.
    fn emit_ready(&mut self, at: usize, out: &mut Vec<u8>) {
        let Some(channel) = self.channels.get_mut(at).filter(|channel| !channel.ready.is_empty()) else {
            return;
        };
        let text = channel.take();
        let (choice, delta) = (channel.choice, channel.delta(&text));
        self.emit_delta(choice, &delta, out);
    }

    fn emit_delta(&self, choice: u64, delta: &str, out: &mut Vec<u8>) {
        let fallback = Envelope::new("chatcmpl", 0, "");
        let envelope = self.envelope.as_ref().unwrap_or(&fallback);
        out.extend(made::event(&envelope.frame(choice, delta, None, self.policy.as_deref())));
    }

    /// A frame of the upstream. Only its data leaves, whatever else the event held.
    fn emit(&self, out: &mut Vec<u8>, data: &str, chunk: &Chunk<'_>, splice: Splice) {
        out.extend_from_slice(b"data: ");
        if splice.is_empty() && self.policy.is_none() {
            // Data of several lines was joined by line feeds: JSON does not mind blanks in their place.
            out.extend(data.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        } else {
            let data = chunk.rebuild(splice, self.policy.as_deref());
            out.extend(data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        }
        out.extend_from_slice(b"\n\n");
    }
}

fn too_many() -> AnswerError {
    AnswerError::Shape("it has more choices, texts or parts at once than an answer can have".to_owned())
}

/// Whether an event is nothing but comments.
fn is_bare_comment(raw: &[u8]) -> bool {
    raw.split(|byte| matches!(byte, b'\n' | b'\r')).all(|line| line.is_empty() || line.first() == Some(&b':'))
        && raw.contains(&b':')
}
