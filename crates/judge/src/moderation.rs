//! Who scores texts without asking anybody: the classifier inside the binary. What services outside say is fetched by the
//! gateway and passed in (see `policy::Moderator`).

use std::sync::{Arc, OnceLock};

use moderation::{Classifier, Mode, Surface};
use policy::{Category, CategoryMode, Moderator, Outcome, Scored, Scorer, Source};

/// The embedded classifier, at the thresholds and in the modes that its measurements gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embedded;

impl Embedded {
    /// Its version, as events and answers name it.
    pub fn version() -> &'static str {
        Classifier::embedded().version()
    }

    /// The score from which on a category fires where a policy does not say.
    pub fn threshold(category: Category, source: Source) -> f32 {
        Classifier::embedded().default_threshold(to_classifier(category), surface(source))
    }

    /// How a text scores.
    pub fn score(text: &str, source: Source) -> Scored {
        let classifier = Classifier::embedded();
        let scores = classifier.score(text);
        Scored::new(|category| {
            let own = to_classifier(category);
            let score = scores.get(own);
            // What has no word is nothing, whatever the threshold.
            (score, score > 0.0 && score >= classifier.default_threshold(own, surface(source)))
        })
    }
}

impl Moderator for Embedded {
    fn name(&self) -> Arc<str> {
        static NAME: OnceLock<Arc<str>> = OnceLock::new();
        Arc::clone(NAME.get_or_init(|| format!("embedded/{}", Self::version()).into()))
    }

    fn judge(&self, text: &str, source: Source, _wanted: &[Category]) -> Outcome {
        Outcome::Scored(Self::score(text, source))
    }

    fn mode(&self, category: Category) -> CategoryMode {
        match Classifier::embedded().default_mode(to_classifier(category)) {
            Mode::Block => CategoryMode::Block,
            Mode::Log => CategoryMode::Log,
        }
    }
}

/// Texts are scored by the embedded classifier.
pub fn embedded() -> Scorer {
    Scorer::new(Arc::new(Embedded))
}

fn surface(source: Source) -> Surface {
    match source {
        Source::Application | Source::User => Surface::Input,
        Source::Tool => Surface::ToolResult,
        Source::Answer => Surface::Output,
    }
}

/// The classifier's word for a category.
pub fn to_classifier(category: Category) -> moderation::Category {
    use moderation::Category as Own;
    match category {
        Category::Hate => Own::Hate,
        Category::HateThreatening => Own::HateThreatening,
        Category::Harassment => Own::Harassment,
        Category::HarassmentThreatening => Own::HarassmentThreatening,
        Category::SelfHarm => Own::SelfHarm,
        Category::SelfHarmIntent => Own::SelfHarmIntent,
        Category::SelfHarmInstructions => Own::SelfHarmInstructions,
        Category::Sexual => Own::Sexual,
        Category::SexualMinors => Own::SexualMinors,
        Category::Violence => Own::Violence,
        Category::ViolenceGraphic => Own::ViolenceGraphic,
        Category::Illicit => Own::Illicit,
        Category::IllicitViolent => Own::IllicitViolent,
        Category::PromptInjection => Own::PromptInjection,
        Category::Jailbreak => Own::Jailbreak,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_name_every_category_alike() {
        for category in Category::ALL {
            assert_eq!(to_classifier(category).name(), category.as_str());
            assert_eq!(Category::parse(category.as_str()), Some(category));
        }
        assert_eq!(moderation::Category::ALL.len(), Category::ALL.len());
    }

    #[test]
    fn what_has_no_word_scores_nothing() {
        for text in ["", " \n\t", "!!! … ---", "\u{0}\u{1}"] {
            for source in [Source::User, Source::Tool, Source::Answer] {
                let scored = Embedded::score(text, source);
                assert!(Category::ALL.into_iter().all(|category| !scored.is_flagged(category)), "{text:?}");
            }
        }
    }
}
