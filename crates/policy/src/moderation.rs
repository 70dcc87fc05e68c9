//! Moderation: how texts score by category is asked of whoever judges a call's texts ([`Moderator`]); what a score comes
//! to is the policy's `rules.moderation`, and here. Where scores come from (the classifier in this binary, another
//! service, a model) is not known here, and neither is how a text is cut (`windows`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Category, Rules};
use crate::effects::{Fired, RuleEffect};
use crate::input::Role;
use crate::problems::Problem;
use crate::revision::Revision;
use crate::subject::Subject;
use crate::verdict::Decision;

/// How moderation categories are taken. Inert while `rules.flagged_categories` is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Moderation {
    /// What a listed category does when it fires; absent: for each what its measured precision allows (see
    /// `policy-gateway check`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<CategoryMode>,
    /// What becomes of a text that nobody could score.
    pub on_unavailable: OnUnavailable,
    /// Settings of single categories.
    pub categories: BTreeMap<Category, CategorySettings>,
}

/// What a category does when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CategoryMode {
    /// It fires `rules.response_pattern`, or what an override says.
    Block,
    /// It is told in `triggered_categories` and does no more, unless an override has an `action` for it.
    Log,
}

/// What becomes of a text that nobody could score: the provider was down, too slow, or said what is no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// It comes to what it would come to had every listed category fired: fail closed.
    #[default]
    Block,
    /// It passes, and the event says so: fail open.
    Allow,
}

/// Settings of one category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CategorySettings {
    /// The score, more than 0 and at most 1, from which on it fires. A score is no probability. Absent: the provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: Option<f64>,
    /// The same for results of tools; absent: `threshold`, or else the provider's for these, which is stricter for
    /// `prompt-injection` and `jailbreak`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub tool_threshold: Option<f64>,
    /// In place of `rules.moderation.mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<CategoryMode>,
}

impl Moderation {
    /// Whether nothing is set.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What the policy says that a category does; none where that is left to the provider.
    pub fn mode_of(&self, category: Category) -> Option<CategoryMode> {
        self.categories.get(&category).and_then(|settings| settings.mode).or(self.mode)
    }

    /// All problems of meaning.
    pub(crate) fn check(rules: &Rules, problems: &mut Vec<Problem>) {
        for (at, category) in rules.flagged_categories.iter().enumerate() {
            if rules.flagged_categories.iter().take(at).any(|earlier| earlier == category) {
                let message = format!("`{}` is listed already: remove it", category.as_str());
                problems.push(Problem::new(format!("rules.flagged_categories[{at}]"), message));
            }
        }
        for (category, settings) in &rules.moderation.categories {
            let path = format!("rules.moderation.categories.{}", category.as_str());
            if !rules.flagged_categories.contains(category) {
                let message = "is not in `rules.flagged_categories`: add it there";
                problems.push(Problem::new(path.clone(), message));
            }
            let thresholds = [("threshold", settings.threshold), ("tool_threshold", settings.tool_threshold)];
            for (name, threshold) in thresholds {
                if threshold.is_some_and(|threshold| !(threshold > 0.0 && threshold <= 1.0)) {
                    let message = "must be more than 0 and at most 1";
                    problems.push(Problem::new(format!("{path}.{name}"), message));
                }
            }
        }
    }
}

/// Where a text stands, as far as thresholds differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The application's own instructions.
    Application,
    /// The conversation: what a user says, and what is said to have been answered.
    User,
    /// What a tool gave.
    Tool,
    /// The model's answer.
    Answer,
}

impl Source {
    /// Of a message's role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::System | Role::Developer => Self::Application,
            Role::Tool => Self::Tool,
            Role::User | Role::Assistant | Role::Other => Self::User,
        }
    }
}

/// How a text scores: 0 to 1 for each category, the higher the surer; not probabilities. And what the provider itself
/// calls flagged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    scores: [f32; Category::ALL.len()],
    flags: u16,
}

impl Scored {
    /// Nothing found.
    pub const CLEAN: Self = Self { scores: [0.0; Category::ALL.len()], flags: 0 };

    /// From each category's score and flag. What is no number from 0 to 1 counts as the nearest that is.
    pub fn new(of: impl Fn(Category) -> (f32, bool)) -> Self {
        let mut scored = Self::CLEAN;
        for (category, slot) in Category::ALL.into_iter().zip(&mut scored.scores) {
            let (score, flag) = of(category);
            *slot = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
            scored.flags |= u16::from(flag) << category as u16;
        }
        scored
    }

    /// A category's score.
    pub fn score(&self, category: Category) -> f32 {
        self.scores.get(category as usize).copied().unwrap_or_default()
    }

    /// Whether the provider calls a category flagged.
    pub fn is_flagged(&self, category: Category) -> bool {
        self.flags >> category as u16 & 1 == 1
    }

    /// The higher score of both for each category, and every flag.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let score = |category| self.score(category).max(other.score(category));
        Self::new(|category| (score(category), self.is_flagged(category) || other.is_flagged(category)))
    }
}

/// What is known of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// How it scores.
    Scored(Scored),
    /// Why it has no score, in one word such as `timeout`. It goes into events.
    Unavailable(&'static str),
}

/// Says how texts score. The same text from the same source gets the same outcome throughout a call.
pub trait Moderator: fmt::Debug + Send + Sync {
    /// Who it is, with model or version, as events name it: `embedded/1`.
    fn name(&self) -> Arc<str>;
    /// Scores a text. `wanted` are the categories that matter to who asks; it may leave the others out.
    fn judge(&self, text: &str, source: Source, wanted: &[Category]) -> Outcome;
    /// What a category does where the policy does not say.
    fn mode(&self, category: Category) -> CategoryMode;
}

/// Who judges the categories of a call's texts; nobody by default. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Scorer(Option<Arc<dyn Moderator>>);

impl Scorer {
    /// This one.
    pub fn new(moderator: Arc<dyn Moderator>) -> Self {
        Self(Some(moderator))
    }

    /// Who it is.
    pub fn moderator(&self) -> Option<&Arc<dyn Moderator>> {
        self.0.as_ref()
    }
}

impl PartialEq for Scorer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            _ => false,
        }
    }
}

impl Eq for Scorer {}

impl Hash for Scorer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.is_some().hash(state);
    }
}

/// What scoring said of texts, beside what that came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moderated {
    /// Who scored.
    pub by: Option<Arc<str>>,
    /// Texts and windows that were scored.
    pub texts: u64,
    /// The highest score of each listed category, its children's included.
    pub scores: BTreeMap<Category, f32>,
    /// Listed categories that fired and do more than being told.
    pub blocking: BTreeSet<Category>,
    /// Why some text has no score.
    pub unavailable: Option<&'static str>,
}

impl Moderated {
    /// Takes what was said of other texts in.
    pub fn merge(&mut self, other: &Self) {
        if self.by.is_none() {
            self.by.clone_from(&other.by);
        }
        self.texts += other.texts;
        for (category, score) in &other.scores {
            self.note(*category, *score);
        }
        self.blocking.extend(&other.blocking);
        self.unavailable = self.unavailable.or(other.unavailable);
    }

    fn note(&mut self, category: Category, score: f32) {
        let known = self.scores.entry(category).or_default();
        *known = known.max(score);
    }
}

/// A listed category, ready to look up.
#[derive(Debug)]
pub(crate) struct Listed {
    category: Category,
    /// It and its children.
    members: Vec<Category>,
    threshold: Option<f32>,
    tool_threshold: Option<f32>,
    mode: Option<CategoryMode>,
}

impl Listed {
    #[expect(clippy::cast_possible_truncation, reason = "a score is no more precise")]
    pub(crate) fn all(rules: &Rules) -> Vec<Self> {
        let listed = |category: &Category| {
            let settings = rules.moderation.categories.get(category).copied().unwrap_or_default();
            let covers = |other: &Category| other == category || other.parent() == Some(*category);
            Self {
                category: *category,
                members: Category::ALL.into_iter().filter(covers).collect(),
                threshold: settings.threshold.map(|threshold| threshold as f32),
                tool_threshold: settings.tool_threshold.map(|threshold| threshold as f32),
                mode: rules.moderation.mode_of(*category),
            }
        };
        rules.flagged_categories.iter().map(listed).collect()
    }

    /// Every category that some listed one turns on.
    pub(crate) fn wanted(listed: &[Self]) -> Vec<Category> {
        let members = |category: &Category| listed.iter().any(|one| one.members.contains(category));
        Category::ALL.into_iter().filter(members).collect()
    }

    fn score(&self, scored: &Scored) -> f32 {
        self.members.iter().map(|member| scored.score(*member)).fold(0.0, f32::max)
    }

    fn threshold_for(&self, source: Source) -> Option<f32> {
        match source {
            Source::Tool => self.tool_threshold.or(self.threshold),
            _ => self.threshold,
        }
    }

    /// Whether it fires, and what it does then.
    fn fires(&self, scored: &Scored, source: Source, moderator: &dyn Moderator) -> Option<CategoryMode> {
        let threshold = self.threshold_for(source);
        let reaches = |member: &&Category| match threshold {
            Some(threshold) => scored.score(**member) >= threshold,
            None => scored.is_flagged(**member),
        };
        let modes = self.members.iter().filter(reaches).map(|member| match self.mode {
            Some(mode) => mode,
            None => moderator.mode(*member),
        });
        modes.reduce(|one, other| if one == CategoryMode::Block { one } else { other })
    }
}

/// Whether a category is about texts from there. An answer injects nothing into the call it ends, and an application
/// tells its model what to do.
fn applies(category: Category, source: Source) -> bool {
    !matches!(category, Category::PromptInjection | Category::Jailbreak)
        || matches!(source, Source::User | Source::Tool)
}

/// A listed category of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rated {
    /// Which.
    pub category: Category,
    /// Its score, or that of the child that scores highest.
    pub score: f32,
    /// What it does, where it fires.
    pub fires: Option<CategoryMode>,
}

/// What the categories of a text come to.
#[derive(Debug, Default)]
pub(crate) struct Ruling {
    pub(crate) fired: Fired,
    pub(crate) triggered: Vec<Category>,
    pub(crate) moderated: Moderated,
    /// The most severe that becomes of the text.
    pub(crate) action: Decision,
}

impl Ruling {
    fn take(&mut self, subject: &Subject, effect: RuleEffect<'_>) {
        self.fired.add(effect);
        // What a reviewer let pass stays.
        if !(subject.granted && effect.action == Decision::Escalate) {
            self.action = self.action.max(effect.action);
        }
    }
}

impl Revision {
    /// Whether a call's texts are scored.
    pub fn moderates(&self, subject: &Subject) -> bool {
        !self.listed.is_empty() && subject.scorer.moderator().is_some()
    }

    /// What each listed category that is about texts from there makes of a text's scores, overrides apart.
    pub fn rate<'r>(
        &'r self,
        scored: &'r Scored,
        source: Source,
        moderator: &'r dyn Moderator,
    ) -> impl Iterator<Item = Rated> + 'r {
        self.listed.iter().filter(move |one| applies(one.category, source)).map(move |one| Rated {
            category: one.category,
            score: one.score(scored),
            fires: one.fires(scored, source, moderator),
        })
    }

    /// A listed category's threshold for texts from there, where the policy has one, and what it does when it fires by
    /// itself.
    pub fn category_settings(
        &self,
        category: Category,
        source: Source,
        moderator: &dyn Moderator,
    ) -> (Option<f32>, CategoryMode) {
        let listed = self.listed.iter().find(|listed| listed.category == category);
        let mode = listed.and_then(|listed| listed.mode);
        let threshold = listed.and_then(|listed| listed.threshold_for(source));
        (threshold, mode.unwrap_or_else(|| moderator.mode(category)))
    }

    /// Scores a text and says what follows.
    pub(crate) fn moderate(&self, subject: &Subject, text: &str, source: Source) -> Ruling {
        let mut ruling = Ruling::default();
        let Some(moderator) = subject.scorer.moderator() else { return ruling };
        if text.trim().is_empty() {
            return ruling;
        }
        ruling.moderated.texts = 1;
        ruling.moderated.by = Some(moderator.name());
        match moderator.judge(text, source, &self.wanted) {
            Outcome::Scored(scored) => {
                for Rated { category, score, fires } in self.rate(&scored, source, moderator.as_ref()) {
                    ruling.moderated.note(category, score);
                    let Some(mode) = fires else { continue };
                    let blocks = mode == CategoryMode::Block;
                    let Some(effect) = self.category_effect(subject, category, blocks) else { continue };
                    ruling.triggered.push(category);
                    if effect.action > Decision::Allow {
                        ruling.moderated.blocking.insert(category);
                    }
                    ruling.take(subject, effect);
                }
            }
            Outcome::Unavailable(reason) => {
                ruling.moderated.unavailable = Some(reason);
                let closed = self.document().rules.moderation.on_unavailable == OnUnavailable::Block;
                for listed in self.listed.iter().filter(|one| closed && applies(one.category, source)) {
                    let mode = listed.mode.unwrap_or_else(|| moderator.mode(listed.category));
                    let blocks = mode == CategoryMode::Block;
                    if let Some(effect) = self.category_effect(subject, listed.category, blocks) {
                        ruling.take(subject, effect);
                    }
                }
            }
        }
        ruling
    }
}
