//! One growing text of a streamed answer with its place in it, and how much of it is in frames already.

use std::borrow::Cow;

use llm_api::chat::chunk::CallPlace;
use llm_api::chat::made::{call_delta, text_delta};
use policy::{Flow, Masker};

use super::growing::{Growing, Rules};

/// Where a growing text stands in a choice.
#[derive(Clone, Debug)]
pub(super) enum Place<S> {
    /// A string of `delta`.
    Field(S),
    /// What is passed to a tool.
    Call { call: CallPlace, custom: bool },
}

/// One growing text.
pub(super) struct Channel {
    pub(super) choice: u64,
    pub(super) place: Place<String>,
    pub(super) text: Growing,
    /// Let go, but not in a frame yet.
    pub(super) ready: String,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Of `bytes_out`, what is in frames.
    pub(super) bytes_gone: u64,
}

impl Channel {
    pub(super) fn new(rules: &Rules, choice: u64, place: &Place<Cow<'_, str>>) -> Self {
        let (place, text) = match place {
            Place::Field(field) => (Place::Field(field.as_ref().to_owned()), Growing::plain(rules)),
            Place::Call { call, custom } => {
                let text = if *custom { Growing::plain(rules) } else { Growing::arguments() };
                (Place::Call { call: *call, custom: *custom }, text)
            }
        };
        let ready = String::new();
        Self { choice, place, text, ready, bytes_in: 0, bytes_out: 0, bytes_gone: 0 }
    }

    pub(super) fn is_at(&self, choice: u64, place: &Place<Cow<'_, str>>) -> bool {
        self.choice == choice
            && match (&self.place, place) {
                (Place::Field(own), Place::Field(field)) => own == field,
                (Place::Call { call: own, custom: of }, Place::Call { call, custom }) => {
                    (own, of) == (call, custom)
                }
                _ => false,
            }
    }

    /// A delta that carries `text` in this place.
    pub(super) fn delta(&self, text: &str) -> String {
        match &self.place {
            Place::Field(field) => text_delta(field, text),
            Place::Call { call, custom } => call_delta(*call, *custom, text),
        }
    }

    /// What is ready goes into a frame.
    pub(super) fn take(&mut self) -> String {
        self.bytes_gone = self.bytes_out;
        std::mem::take(&mut self.ready)
    }

    /// The same up to a place in a text that is let go unchanged.
    pub(super) fn take_to(&mut self, place: u64) -> String {
        let bytes = usize::try_from(place.saturating_sub(self.bytes_gone)).unwrap_or(usize::MAX);
        let rest = self.ready.split_off(bytes.min(self.ready.len()));
        self.bytes_gone += self.ready.len() as u64;
        std::mem::replace(&mut self.ready, rest)
    }

    pub(super) fn push(&mut self, rules: &Rules, piece: &str, masker: &mut Masker) -> Flow {
        let before = self.ready.len();
        let flow = self.text.push(rules, piece, masker, &mut self.ready);
        self.bytes_in += piece.len() as u64;
        self.bytes_out += (self.ready.len() - before) as u64;
        flow
    }

    pub(super) fn finish(&mut self, rules: &Rules, masker: &mut Masker) -> Flow {
        let before = self.ready.len();
        let flow = self.text.finish(rules, masker, &mut self.ready);
        self.bytes_out += (self.ready.len() - before) as u64;
        flow
    }
}
