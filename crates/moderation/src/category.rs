//! The categories by their wire names, the surfaces a text can come from, and what a category does by default.

use std::fmt;

/// OpenAI's thirteen moderation categories, then two of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// Insults and abuse aimed at a person.
    Harassment,
    /// Harassment with a threat of harm.
    HarassmentThreatening,
    /// Hatred of a group for what its members are.
    Hate,
    /// Hate with a threat of harm.
    HateThreatening,
    /// Asks for or gives advice on wrongdoing.
    Illicit,
    /// Wrongdoing that involves violence or weapons.
    IllicitViolent,
    /// Depicts, promotes or tells of self-harm.
    SelfHarm,
    /// Instructions for self-harm.
    SelfHarmInstructions,
    /// The speaker is about to, or wishes to, harm themselves.
    SelfHarmIntent,
    /// Sexual content.
    Sexual,
    /// Sexual content that involves a minor: a rule over `sexual`, not trained.
    SexualMinors,
    /// Threatens, promotes or revels in violence.
    Violence,
    /// Death or injury in graphic detail.
    ViolenceGraphic,
    /// Text that tells a model to leave its instructions or leak them.
    PromptInjection,
    /// Text that talks a model out of its limits by a role or a game.
    Jailbreak,
}

impl Category {
    /// Every category, in the order of [`Category::index`].
    pub const ALL: [Self; 15] = [
        Self::Harassment,
        Self::HarassmentThreatening,
        Self::Hate,
        Self::HateThreatening,
        Self::Illicit,
        Self::IllicitViolent,
        Self::SelfHarm,
        Self::SelfHarmInstructions,
        Self::SelfHarmIntent,
        Self::Sexual,
        Self::SexualMinors,
        Self::Violence,
        Self::ViolenceGraphic,
        Self::PromptInjection,
        Self::Jailbreak,
    ];

    /// The name on the wire: OpenAI's for the first thirteen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Harassment => "harassment",
            Self::HarassmentThreatening => "harassment/threatening",
            Self::Hate => "hate",
            Self::HateThreatening => "hate/threatening",
            Self::Illicit => "illicit",
            Self::IllicitViolent => "illicit/violent",
            Self::SelfHarm => "self-harm",
            Self::SelfHarmInstructions => "self-harm/instructions",
            Self::SelfHarmIntent => "self-harm/intent",
            Self::Sexual => "sexual",
            Self::SexualMinors => "sexual/minors",
            Self::Violence => "violence",
            Self::ViolenceGraphic => "violence/graphic",
            Self::PromptInjection => "prompt-injection",
            Self::Jailbreak => "jailbreak",
        }
    }

    /// The category of that exact wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.name() == name)
    }

    /// Where it stands in [`Category::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The category that covers this one: `hate` for `hate/threatening`.
    pub fn parent(self) -> Option<Self> {
        let (parent, _) = self.name().split_once('/')?;
        Self::from_name(parent)
    }

    /// Whether OpenAI's moderation endpoint knows it.
    pub const fn is_openai(self) -> bool {
        !matches!(self, Self::PromptInjection | Self::Jailbreak)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a text comes from; default thresholds depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// What a user or an assistant said earlier: the messages of a request.
    Input,
    /// What the model answers.
    Output,
    /// What a tool returned: nobody's words to the model, so instructions in it are held to a stricter threshold.
    ToolResult,
}

impl Surface {
    /// Every surface.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::ToolResult];
}

/// What a category that reaches its threshold does where a policy does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It counts as a violation.
    Block,
    /// It is recorded only: its measured precision does not warrant more.
    Log,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indexes_are_one_to_one() {
        for (index, category) in Category::ALL.into_iter().enumerate() {
            assert_eq!(category.index(), index);
            assert_eq!(Category::from_name(category.name()), Some(category));
        }
        assert_eq!(Category::from_name("Hate"), None);
        assert_eq!(Category::from_name(""), None);
    }

    #[test]
    fn a_child_has_its_parent() {
        assert_eq!(Category::SelfHarmIntent.parent(), Some(Category::SelfHarm));
        assert_eq!(Category::IllicitViolent.parent(), Some(Category::Illicit));
        assert_eq!(Category::Sexual.parent(), None);
        assert_eq!(Category::ALL.into_iter().filter(|c| c.is_openai()).count(), 13);
    }
}
