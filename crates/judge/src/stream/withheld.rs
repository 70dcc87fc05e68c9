//! What of a streamed answer can only be judged whole: parts that nobody knows, added up until their choice ends, and
//! members beside the delta, judged where they stand.

use llm_api::chat::answer::AnswerError;
use llm_api::chat::chunk::{ChunkChoice, accumulate};
use llm_api::json::{Splice, Tape};
use llm_api::walk::Walk;
use policy::OutputFindings;

use super::{StreamJudge, too_many};

/// Withheld parts of one answer in bytes: past it the stream is given up rather than held in memory.
const WITHHELD_BYTES_MAX: usize = 8 * 1024 * 1024;

impl StreamJudge {
    /// Parts that are judged whole leave the frame and are added up.
    pub(super) fn withhold(
        &mut self,
        choice: &ChunkChoice<'_>,
        splice: &mut Splice,
    ) -> Result<(), AnswerError> {
        for part in &choice.withheld {
            self.withheld_bytes += part.json.len();
            if self.withheld_bytes > WITHHELD_BYTES_MAX {
                return Err(AnswerError::Shape(format!(
                    "it has more than {WITHHELD_BYTES_MAX} bytes that can only be judged whole"
                )));
            }
            let piece: serde_json::Value = serde_json::from_str(&part.json).map_err(|error| {
                // The error's own text could quote the answer.
                let (line, column) = (error.line(), error.column());
                AnswerError::Shape(format!("`delta` cannot be read at line {line}, column {column}"))
            })?;
            let parts = self.withheld.entry(choice.index).or_default();
            match parts.get_mut(part.field.as_ref()) {
                Some(whole) => {
                    if !accumulate(whole, piece) {
                        return Err(too_many());
                    }
                }
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
    pub(super) fn extras(
        &mut self,
        choice: &ChunkChoice<'_>,
        splice: &mut Splice,
    ) -> Result<bool, AnswerError> {
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

    /// Judges every text in a JSON value. Gives the changed JSON, or `None` where nothing changed; and whether the stream
    /// must stop.
    pub(super) fn judge_json(&mut self, json: &str) -> Result<(Option<String>, bool), AnswerError> {
        let tape = Tape::parse(json).map_err(|error| AnswerError::Shape(error.to_string()))?;
        let mut walk = Walk::default();
        walk.any(0, tape.root(json), "choices").map_err(|error| AnswerError::Shape(error.to_string()))?;
        let mut edit = walk.edit();
        let mut stops = false;
        let mut is_changed = false;
        for (index, unit) in walk.units().iter().enumerate() {
            self.observe(&unit.text);
            let cleaned = self.clean(&unit.text);
            stops |= self.rules.stops(&cleaned.findings);
            self.whole.merge(&self.rules.revision, &cleaned.findings);
            self.whole_bytes.0 += unit.text.len() as u64;
            self.whole_bytes.1 += cleaned.released_bytes;
            is_changed |= !cleaned.edits.is_empty();
            edit.replace(index, &crate::ranges(&cleaned.edits));
        }
        let unread = crate::unscanned(&walk, |_| true);
        let mut findings = OutputFindings::default();
        findings.note_unscanned(&self.rules.revision, &self.rules.subject, &unread);
        stops |= self.rules.stops(&findings);
        self.whole.merge(&self.rules.revision, &findings);
        if let Some(watching) = &self.rules.beside {
            let mut findings = OutputFindings::default();
            findings.note_unscanned(&watching.revision, &watching.subject, &unread);
            self.whole_beside.merge(&watching.revision, &findings);
        }
        let text = edit.finish().apply(json.as_bytes());
        Ok((is_changed.then(|| String::from_utf8(text).unwrap_or_default()), stops))
    }
}
