//! Content that no rule can read (images, audio, files): how much of it there was, and what the policy makes of it.
//! Where it stands in a message is the caller's business.

use crate::input::InputVerdict;
use crate::output::OutputFindings;
use crate::revision::Revision;
use crate::subject::Subject;
use crate::verdict::Decision;

/// Parts of judged messages or of an answer whose content was not read, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unscanned {
    /// Pictures, embedded or by address.
    pub image: u64,
    /// Recordings.
    pub audio: u64,
    /// Documents, embedded or by id.
    pub file: u64,
    /// Any other data that is no text.
    pub other: u64,
}

impl Unscanned {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.image + self.audio + self.file + self.other
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.image += other.image;
        self.audio += other.audio;
        self.file += other.file;
        self.other += other.other;
    }

    /// The kinds there were, by the names that events have.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [("image", self.image), ("audio", self.audio), ("file", self.file), ("other", self.other)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
    }
}

impl InputVerdict {
    /// Takes the unread parts of the judged messages in: `rules.unscannable` says what they come to.
    pub fn note_unscanned(&mut self, revision: &Revision, subject: &Subject, unscanned: &Unscanned) {
        self.unscanned.merge(unscanned);
        if unscanned.total() > 0
            && let Some(effect) = revision.unscannable_effect(subject)
        {
            self.fired.add(effect);
            self.decision = self.fired.decision();
            self.reason_code = self.fired.reason_code(!self.redactions.is_empty());
            self.add_instruction &= self.decision <= Decision::Summary;
        }
    }
}

impl OutputFindings {
    /// The same for an answer.
    pub fn note_unscanned(&mut self, revision: &Revision, subject: &Subject, unscanned: &Unscanned) {
        self.unscanned.merge(unscanned);
        if unscanned.total() > 0
            && let Some(effect) = revision.unscannable_effect(subject)
        {
            self.fired.add(effect);
        }
    }
}
