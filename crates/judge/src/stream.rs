//! A streamed answer, judged as it passes: events in, events out, never a text that its scan still holds back. Pure but
//! for the policy's matcher; reading, recording and sending are the pipeline's.

use std::collections::BTreeMap;
use std::sync::Arc;

use llm_api::chat::answer::{AnswerError, TokenUsage};
use llm_api::chat::chunk::{Chunk, ChunkChoice, accumulate};
use llm_api::chat::made::{self, Envelope, text_delta};
use llm_api::json::{Splice, Tape, encode_str};
use llm_api::sse::Frame;
use llm_api::walk::Walk;
use policy::{Flow, Masker, OutputFindings, OutputMode, OutputScan, Revision, Subject};

/// Withheld parts (tool calls) of one answer in bytes: past it the stream is given up rather than held in memory.
const WITHHELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Growing texts of one answer: choices times fields. A stream that opens more is not an answer.
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

/// One growing text.
struct Channel {
    choice: u64,
    field: String,
    scan: OutputScan,
    /// Released, but waiting for a frame that goes out whole (see `Queued`).
    ready: String,
    bytes_in: u64,
    bytes_out: u64,
}

/// A frame with `logprobs`: they stand for exactly its text, so it leaves as it came once all of that is released
/// unchanged, or without them.
struct Queued {
    data: String,
    /// The text's channel and how far the channel must be released for the frame to leave.
    until: Vec<(usize, u64)>,
}

/// The state of one streamed answer.
pub struct StreamJudge {
    revision: Arc<Revision>,
    subject: Subject,
    mode: OutputMode,
    judges: bool,
    masker: Masker,
    channels: Vec<Channel>,
    withheld: BTreeMap<u64, serde_json::Map<String, serde_json::Value>>,
    withheld_bytes: usize,
    queued: Vec<Queued>,
    /// Findings of what was judged whole.
    whole: OutputFindings,
    /// Bytes of it judged and let go.
    whole_bytes: (u64, u64),
    envelope: Option<Envelope>,
    include_usage: bool,
    /// Written into every frame where the route asks for it.
    policy: Option<Vec<u8>>,
    /// What the upstream counted.
    pub usage: Option<TokenUsage>,
    open_choices: Vec<u64>,
    seen_choices: Vec<u64>,
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
            revision,
            subject,
            mode,
            judges,
            masker,
            channels: Vec::new(),
            withheld: BTreeMap::new(),
            withheld_bytes: 0,
            queued: Vec::new(),
            whole: OutputFindings::default(),
            whole_bytes: (0, 0),
            envelope: None,
            include_usage,
            policy,
            usage: None,
            open_choices: Vec::new(),
            seen_choices: Vec::new(),
        }
    }

    /// Everything found so far, over all texts of the answer.
    pub fn findings(&self) -> OutputFindings {
        let mut all = self.whole.clone();
        for channel in &self.channels {
            all.merge(&self.revision, channel.scan.findings());
        }
        all
    }

    /// Cheap: whether [`StreamJudge::findings`] may have grown since the count was last taken.
    pub fn findings_count(&self) -> u64 {
        crate::count(&self.whole)
            + self.channels.iter().map(|channel| crate::count(channel.scan.findings())).sum::<u64>()
    }

    /// Bytes of text judged so far.
    pub fn scanned_bytes(&self) -> u64 {
        self.whole_bytes.0 + self.channels.iter().map(|channel| channel.bytes_in).sum::<u64>()
    }

    /// Bytes of text that its judging let go so far.
    pub fn released_bytes(&self) -> u64 {
        self.whole_bytes.1 + self.channels.iter().map(|channel| channel.bytes_out).sum::<u64>()
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
            let next = self.flush_all(out)?;
            if self.include_usage && next == Next::Continue {
                self.emit(out, data, &chunk, Splice::default());
            }
            return Ok(next);
        }
        self.remember_envelope(&chunk);
        if !self.judges {
            for choice in chunk.choices()? {
                self.open(choice.index);
                if choice.finish.is_some() {
                    self.open_choices.retain(|open| *open != choice.index);
                }
            }
            self.emit(out, data, &chunk, Splice::default());
            return Ok(Next::Continue);
        }
        self.judge(data, &chunk, out)
    }

    /// The upstream's stream has ended: judges and releases what is held.
    ///
    /// # Errors
    /// [`AnswerError`] where a withheld part cannot be judged.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        self.flush_all(out)
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

    /// Whether the answer was complete when the upstream's stream ended: some upstreams leave `[DONE]` out.
    pub fn is_complete(&self) -> bool {
        !self.seen_choices.is_empty() && self.open_choices.is_empty()
    }

    fn judge(&mut self, data: &str, chunk: &Chunk<'_>, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        let choices = chunk.choices()?;
        let mut splice = Splice::default();
        let mut says_something = choices.is_empty();
        let mut until = Vec::new();
        for choice in &choices {
            self.open(choice.index);
            if let Some(next) = self.texts(choice, &mut splice, &mut says_something, &mut until, out)? {
                return Ok(next);
            }
            self.withhold(choice, &mut splice)?;
            if self.extras(choice, &mut splice)? {
                return Ok(Next::Stop { choice: choice.index });
            }
            says_something |= choice.has_more || choice.finish.is_some();
            if choice.finish.is_some() {
                let next = self.flush_choice(choice.index, out)?;
                if next != Next::Continue {
                    return Ok(next);
                }
                self.open_choices.retain(|open| *open != choice.index);
            }
        }
        says_something |= chunk.usage_token().is_some();
        if !until.is_empty() {
            self.queued.push(Queued { data: data.to_owned(), until });
            self.release_queued(out)?;
        } else if says_something {
            self.release_queued(out)?;
            self.emit(out, data, chunk, splice);
        }
        Ok(Next::Continue)
    }

    /// Scans the growing texts of a choice. `Some` where the stream must stop.
    fn texts(
        &mut self,
        choice: &ChunkChoice<'_>,
        splice: &mut Splice,
        says_something: &mut bool,
        until: &mut Vec<(usize, u64)>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Next>, AnswerError> {
        for text in &choice.texts {
            let at = self.channel(choice.index, &text.field)?;
            let Some(channel) = self.channels.get_mut(at) else { continue };
            let mut released = String::new();
            let flow = channel.scan.push(&text.text, &mut self.masker, &mut released);
            channel.bytes_in += text.text.len() as u64;
            channel.bytes_out += released.len() as u64;
            if flow == Flow::Stop {
                self.release_before_stop(at, &released, out);
                return Ok(Some(Next::Stop { choice: choice.index }));
            }
            if choice.logprobs.is_some() && !text.text.is_empty() {
                channel.ready.push_str(&released);
                until.push((at, channel.bytes_in));
                continue;
            }
            if !channel.ready.is_empty() {
                released.insert_str(0, &std::mem::take(&mut channel.ready));
            }
            // A chunk that opens with an empty text says that there will be one.
            *says_something |= !released.is_empty() || text.text.is_empty();
            if released != text.text {
                splice.replace(text.token.clone(), encode_str(&released));
                if let Some(logprobs) = &choice.logprobs {
                    splice.replace(logprobs.clone(), "null");
                }
            }
        }
        Ok(None)
    }

    /// What came before the violation is free to go, in a frame of its own.
    fn release_before_stop(&mut self, at: usize, released: &str, out: &mut Vec<u8>) {
        self.queued.clear();
        let Some(channel) = self.channels.get_mut(at) else { return };
        let text = std::mem::take(&mut channel.ready) + released;
        let (choice, field) = (channel.choice, channel.field.clone());
        self.emit_text(choice, &field, &text, out);
    }

    fn channel(&mut self, choice: u64, field: &str) -> Result<usize, AnswerError> {
        let known =
            self.channels.iter().position(|channel| channel.choice == choice && channel.field == field);
        if let Some(at) = known {
            return Ok(at);
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(AnswerError::Shape("it has more texts at once than an answer can have".to_owned()));
        }
        self.channels.push(Channel {
            choice,
            field: field.to_owned(),
            scan: OutputScan::new(Arc::clone(&self.revision), &self.subject, self.mode),
            ready: String::new(),
            bytes_in: 0,
            bytes_out: 0,
        });
        Ok(self.channels.len() - 1)
    }

    /// Parts that are judged whole leave the frame and are added up.
    fn withhold(&mut self, choice: &ChunkChoice<'_>, splice: &mut Splice) -> Result<(), AnswerError> {
        for part in &choice.withheld {
            self.withheld_bytes += part.json.len();
            if self.withheld_bytes > WITHHELD_BYTES_MAX {
                return Err(AnswerError::Shape(format!(
                    "it has more than {WITHHELD_BYTES_MAX} bytes of tool calls"
                )));
            }
            let piece: serde_json::Value = serde_json::from_str(part.json)
                .map_err(|error| AnswerError::Shape(format!("`delta.{}`: {error}", part.field)))?;
            let parts = self.withheld.entry(choice.index).or_default();
            match parts.get_mut(part.field.as_ref()) {
                Some(whole) => accumulate(whole, piece),
                None => {
                    parts.insert(part.field.as_ref().to_owned(), piece);
                }
            }
            splice.replace(part.token.clone(), "null");
        }
        Ok(())
    }

    /// Members beside `delta` are judged where they stand; one that the policy touches is taken out. Gives whether the
    /// stream ends there.
    fn extras(&mut self, choice: &ChunkChoice<'_>, splice: &mut Splice) -> Result<bool, AnswerError> {
        for extra in &choice.extras {
            let (text, stops) = self.judge_json(extra.json)?;
            if stops {
                return Ok(true);
            }
            if text.is_some() {
                splice.replace(extra.token.clone(), "null");
            }
        }
        Ok(false)
    }

    /// Judges every text in a JSON value. Gives the changed JSON, or `None` where nothing changed; and whether the
    /// stream ends there.
    fn judge_json(&mut self, json: &str) -> Result<(Option<String>, bool), AnswerError> {
        let tape = Tape::parse(json).map_err(|error| AnswerError::Shape(error.to_string()))?;
        let mut walk = Walk::default();
        walk.any(0, tape.root(json), "choices").map_err(|error| AnswerError::Shape(error.to_string()))?;
        let mut edit = walk.edit();
        let mut stops = false;
        let mut changed = false;
        for (index, unit) in walk.units().iter().enumerate() {
            let (text, findings) = policy::scan_text(
                &self.revision,
                &self.subject,
                &unit.text,
                OutputMode::Mask,
                &mut self.masker,
            );
            stops |= self.mode == OutputMode::Stop && findings.stops();
            self.whole.merge(&self.revision, &findings);
            self.whole_bytes.0 += unit.text.len() as u64;
            self.whole_bytes.1 += text.as_ref().map_or(unit.text.len(), String::len) as u64;
            if let Some(text) = text {
                changed = true;
                edit.replace_all(index, &text);
            }
        }
        let unread = crate::unscanned(&walk, |_| true);
        let mut findings = OutputFindings::default();
        findings.note_unscanned(&self.revision, &self.subject, &unread);
        stops |= self.mode == OutputMode::Stop && findings.stops();
        self.whole.merge(&self.revision, &findings);
        let text = edit.finish().apply(json.as_bytes());
        Ok((changed.then(|| String::from_utf8(text).unwrap_or_default()), stops))
    }

    fn flush_all(&mut self, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        for choice in self.seen_choices.clone() {
            let next = self.flush_choice(choice, out)?;
            if next != Next::Continue {
                return Ok(next);
            }
        }
        self.release_queued(out)?;
        Ok(Next::Continue)
    }

    /// A choice is complete: judges what is held of it and releases it in frames of its own.
    fn flush_choice(&mut self, choice: u64, out: &mut Vec<u8>) -> Result<Next, AnswerError> {
        let mut texts = Vec::new();
        for (at, channel) in
            self.channels.iter_mut().enumerate().filter(|(_, channel)| channel.choice == choice)
        {
            let mut released = String::new();
            let flow = channel.scan.finish(&mut self.masker, &mut released);
            channel.bytes_out += released.len() as u64;
            channel.ready.push_str(&released);
            if flow == Flow::Stop {
                self.release_before_stop(at, "", out);
                return Ok(Next::Stop { choice });
            }
        }
        self.release_queued(out)?;
        for channel in self.channels.iter_mut().filter(|channel| channel.choice == choice) {
            if !channel.ready.is_empty() {
                texts.push((channel.field.clone(), std::mem::take(&mut channel.ready)));
            }
        }
        for (field, text) in texts {
            self.emit_text(choice, &field, &text, out);
        }
        let Some(parts) = self.withheld.remove(&choice) else { return Ok(Next::Continue) };
        for (field, part) in parts {
            let json = part.to_string();
            let (changed, stops) = self.judge_json(&json)?;
            if stops {
                return Ok(Next::Stop { choice });
            }
            let delta = format!(
                "{{{}:{}}}",
                String::from_utf8(encode_str(&field)).unwrap_or_default(),
                changed.as_deref().unwrap_or(&json)
            );
            self.emit_delta(choice, &delta, out);
        }
        Ok(Next::Continue)
    }

    /// Sends queued frames off, in order, as far as their text is released.
    fn release_queued(&mut self, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        while let Some(first) = self.queued.first() {
            let is_changed = first
                .until
                .iter()
                .any(|(at, _)| self.channels.get(*at).is_some_and(|channel| channel.scan.findings().changed));
            let is_ready = first
                .until
                .iter()
                .all(|(at, until)| self.channels.get(*at).is_some_and(|channel| channel.bytes_out >= *until));
            if !is_ready && !is_changed {
                return Ok(());
            }
            let queued = self.queued.remove(0);
            let chunk = Chunk::parse(&queued.data)?;
            let mut splice = Splice::default();
            for choice in &chunk.choices()? {
                for text in &choice.texts {
                    let at = self.channel(choice.index, &text.field)?;
                    let Some(channel) = self.channels.get_mut(at) else { continue };
                    if is_changed {
                        let ready = std::mem::take(&mut channel.ready);
                        splice.replace(text.token.clone(), encode_str(&ready));
                    } else {
                        let rest = channel.ready.get(text.text.len()..).unwrap_or_default().to_owned();
                        channel.ready = rest;
                    }
                }
                for part in &choice.withheld {
                    splice.replace(part.token.clone(), "null");
                }
                if let Some(logprobs) = choice.logprobs.clone().filter(|_| is_changed) {
                    splice.replace(logprobs, "null");
                }
            }
            self.emit(out, &queued.data, &chunk, splice);
        }
        Ok(())
    }

    fn open(&mut self, choice: u64) {
        if !self.seen_choices.contains(&choice) {
            self.seen_choices.push(choice);
            self.open_choices.push(choice);
        }
    }

    fn remember_envelope(&mut self, chunk: &Chunk<'_>) {
        if self.envelope.is_none()
            && let [Some(id), Some(created), Some(model)] = chunk.envelope()
        {
            self.envelope =
                Some(Envelope { id: id.to_owned(), created: created.to_owned(), model: model.to_owned() });
        }
    }

    fn emit_text(&self, choice: u64, field: &str, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.emit_delta(choice, &text_delta(field, text), out);
        }
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

/// Whether an event is nothing but comments.
fn is_bare_comment(raw: &[u8]) -> bool {
    raw.split(|byte| matches!(byte, b'\n' | b'\r')).all(|line| line.is_empty() || line.first() == Some(&b':'))
        && raw.contains(&b':')
}
