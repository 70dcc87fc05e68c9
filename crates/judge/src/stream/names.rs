//! Names in a tool call of a stream: its id, its type, the function's name. They come whole and clients need them at once,
//! so they are judged as they come; should one come in pieces, all of it so far is judged again with each.

use llm_api::chat::answer::AnswerError;
use llm_api::chat::chunk::{CallName, CallPlace};
use llm_api::json::{Splice, encode_str};
use llm_api::walk::is_name_text;

use super::{CHANNELS_MAX, StreamJudge, too_many};

/// Bytes of a name before a piece that are judged with it: the reach of any rule.
const LOOK_BACK_BYTES: usize = 4096;

/// What has left of a name.
#[derive(Debug)]
pub(super) struct NameSoFar {
    choice: u64,
    call: CallPlace,
    member: &'static str,
    text: String,
}

impl StreamJudge {
    /// Judges a name, or the next piece of one. False where the stream must stop.
    pub(super) fn name(
        &mut self,
        choice: u64,
        call: CallPlace,
        name: &CallName<'_>,
        splice: &mut Splice,
    ) -> Result<bool, AnswerError> {
        let known = self
            .names
            .iter()
            .position(|known| (known.choice, known.call, known.member) == (choice, call, name.member));
        let at = match known {
            Some(at) => at,
            None if self.names.len() >= CHANNELS_MAX => return Err(too_many()),
            None => {
                self.names.push(NameSoFar { choice, call, member: name.member, text: String::new() });
                self.names.len() - 1
            }
        };
        let before = self.names.get(at).map(|known| known.text.clone()).unwrap_or_default();
        let joined = format!("{before}{}", name.text);
        let is_structure = name.member != "name" && is_name_text(&name.text) && is_name_text(&joined);
        let mut with = None;
        if !is_structure {
            if !self.observe(&name.text) && !before.is_empty() {
                self.observe(&joined);
            }
            let cleaned = self.clean(&name.text);
            let mut found = cleaned.findings;
            self.whole_bytes.0 += name.text.len() as u64;
            self.whole_bytes.1 += cleaned.released_bytes;
            if !cleaned.edits.is_empty() {
                with = Some(policy::apply_edits(&name.text, &cleaned.edits));
            } else if !before.is_empty() {
                let cleaned = self.clean(&joined);
                if cleaned.findings.changed {
                    found = cleaned.findings;
                    with = Some(self.rules.revision.mask().to_owned());
                }
            }
            self.whole.merge(&self.rules.revision, &found);
            if self.rules.stops(&found) {
                return Ok(false);
            }
        }
        if let Some(known) = self.names.get_mut(at) {
            known.text.push_str(with.as_deref().unwrap_or(&name.text));
            let spent = known.text.len().saturating_sub(LOOK_BACK_BYTES);
            known.text.drain(..known.text.ceil_char_boundary(spent));
        }
        if let Some(with) = with {
            splice.replace(name.token.clone(), encode_str(&with));
        }
        Ok(true)
    }
}
