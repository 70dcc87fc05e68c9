//! Counting tokens before an upstream does: by the tokenizer of the model where it is a public one, else by a stated
//! estimate. And what a model's answers usually come to, learned from those that came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use tiktoken_rs::CoreBPE;

/// Longer texts are counted up to here and the rest by its measure: what is counted before a call is settled by the
/// upstream's own count after it, and this is 4 ms' worth (13 ms where it is one long word).
const COUNT_BYTES_MAX: usize = 64 * 1024;
/// ASCII characters per token in the estimate; any other character is a token of its own.
const CHARS_PER_TOKEN: u64 = 4;
/// What an answer is taken to come to before a model has given any.
const TYPICAL_DEFAULT: u64 = 256;
/// The weight of the newest answer in the mean.
const TYPICAL_WEIGHT: f64 = 1.0 / 16.0;
/// Models whose answers are remembered.
const MODELS_MAX: usize = 1024;
/// Models of `o200k_base` (<https://github.com/openai/tiktoken/blob/main/tiktoken/model.py>), by how they begin.
const O200K: [&str; 9] =
    ["gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-oss", "chatgpt-4o", "o1", "o3", "o4-mini"];
/// Models of `cl100k_base`, likewise; asked after [`O200K`].
const CL100K: [&str; 5] = ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-ada-002", "text-embedding-3"];

/// How a model's tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// OpenAI's `o200k_base`.
    O200k,
    /// OpenAI's `cl100k_base`.
    Cl100k,
    /// One token for four ASCII characters, one for any other character.
    Estimate,
}

impl Encoding {
    /// That of a model. A name before a `/` (`openai/gpt-4o`) and a fine-tune's `ft:` do not matter.
    pub fn of_model(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        // A name goes on with `-`, `:`, `.` or ends: `o1` is not `o100`.
        let is = |known: &str| {
            let rest = name.strip_prefix(known);
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
        };
        if O200K.iter().any(|known| is(known)) {
            Self::O200k
        } else if CL100K.iter().any(|known| is(known)) {
            Self::Cl100k
        } else {
            Self::Estimate
        }
    }

    /// Whether [`Encoding::load`] has been called, so that counting does not wait for it.
    pub fn is_loaded(self) -> bool {
        self.loaded().is_none_or(|loaded| loaded.load(Ordering::Relaxed))
    }

    /// Reads the tokenizer from the binary: 0.2 s and 50 MiB, once.
    pub fn load(self) {
        if let (Some(_), Some(loaded)) = (self.tokenizer(), self.loaded()) {
            loaded.store(true, Ordering::Relaxed);
        }
    }

    fn loaded(self) -> Option<&'static AtomicBool> {
        static O200K: AtomicBool = AtomicBool::new(false);
        static CL100K: AtomicBool = AtomicBool::new(false);
        match self {
            Self::O200k => Some(&O200K),
            Self::Cl100k => Some(&CL100K),
            Self::Estimate => None,
        }
    }

    fn tokenizer(self) -> Option<&'static CoreBPE> {
        match self {
            Self::O200k => Some(tiktoken_rs::o200k_base_singleton()),
            Self::Cl100k => Some(tiktoken_rs::cl100k_base_singleton()),
            Self::Estimate => None,
        }
    }

    /// Tokens of a text.
    pub fn count(self, text: &str) -> u64 {
        let Some(tokenizer) = self.tokenizer() else { return estimate(text) };
        if text.len() <= COUNT_BYTES_MAX {
            return exact(tokenizer, text);
        }
        let (head, _) = text.split_at(text.floor_char_boundary(COUNT_BYTES_MAX));
        let counted = u128::from(exact(tokenizer, head));
        let scaled = counted * text.len() as u128 / head.len().max(1) as u128;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

fn exact(tokenizer: &CoreBPE, text: &str) -> u64 {
    tokenizer.count_ordinary(text) as u64
}

fn estimate(text: &str) -> u64 {
    let others = text.chars().filter(|char| !char.is_ascii()).count() as u64;
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    others + ascii.div_ceil(CHARS_PER_TOKEN)
}

/// What answers usually come to, by model.
#[derive(Debug, Default)]
pub struct Typical(RwLock<HashMap<String, f64>>);

impl Typical {
    /// Tokens that an answer of this model is likely to have.
    pub fn of(&self, model: &str) -> u64 {
        let means = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // A mean of counts is far from the limits of both types.
        means.get(model).map_or(TYPICAL_DEFAULT, |mean| mean.ceil().max(1.0) as u64)
    }

    /// Learns from an answer.
    pub fn learn(&self, model: &str, tokens: u64) {
        let mut means = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mean) = means.get_mut(model) {
            *mean += (tokens as f64 - *mean) * TYPICAL_WEIGHT;
        } else if means.len() < MODELS_MAX {
            means.insert(model.to_owned(), tokens as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_counted_by_their_own_tokenizer() {
        for (model, encoding) in [
            ("gpt-4o-mini", Encoding::O200k),
            ("gpt-4.1", Encoding::O200k),
            ("gpt-5.2-pro", Encoding::O200k),
            ("openai/o3", Encoding::O200k),
            ("ft:gpt-4o:acme::1", Encoding::O200k),
            ("gpt-4", Encoding::Cl100k),
            ("gpt-4-turbo", Encoding::Cl100k),
            ("gpt-3.5-turbo", Encoding::Cl100k),
            ("text-embedding-3-small", Encoding::Cl100k),
            ("o100", Encoding::Estimate),
            ("claude-sonnet-4", Encoding::Estimate),
            ("demo-model", Encoding::Estimate),
            ("", Encoding::Estimate),
        ] {
            assert_eq!(Encoding::of_model(model), encoding, "{model}");
        }
    }

    /// Known counts: <https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>
    #[test]
    fn counts_are_those_of_the_public_tokenizers() {
        for (text, cl100k, o200k) in [
            ("", 0, 0),
            ("tiktoken is great!", 6, 6),
            ("antidisestablishmentarianism", 6, 6),
            ("2 + 2 = 4", 7, 7),
            ("お誕生日おめでとう", 9, 8),
        ] {
            assert_eq!(Encoding::Cl100k.count(text), cl100k, "{text}");
            assert_eq!(Encoding::O200k.count(text), o200k, "{text}");
        }
    }

    #[test]
    fn the_estimate_is_by_characters() {
        for (text, tokens) in [("", 0), ("abc", 1), ("abcde", 2), ("日本", 2), ("日本abcde", 4)] {
            assert_eq!(Encoding::Estimate.count(text), tokens, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_counted_by_the_measure_of_its_beginning() {
        let text = "é is a letter, and so on. ".repeat(10_000);
        let whole = exact(tiktoken_rs::cl100k_base_singleton(), &text);
        let counted = Encoding::Cl100k.count(&text);
        assert!(counted.abs_diff(whole) * 1000 <= whole, "{counted} of {whole}");
    }

    #[test]
    fn answers_teach_what_is_typical() {
        let typical = Typical::default();
        assert_eq!(typical.of("m"), TYPICAL_DEFAULT);
        typical.learn("m", 100);
        assert_eq!(typical.of("m"), 100);
        for _ in 0..200 {
            typical.learn("m", 10);
        }
        assert_eq!((typical.of("m"), typical.of("other")), (11, TYPICAL_DEFAULT));
        for at in 0..2 * MODELS_MAX {
            typical.learn(&at.to_string(), 1);
        }
        assert_eq!(typical.0.read().unwrap().len(), MODELS_MAX);
    }
}
