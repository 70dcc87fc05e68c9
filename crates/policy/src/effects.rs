//! What a hit comes to: the policy's own decision, or that of the override that fits the hit and the call best.
//! Which hits there are is `scan`'s business, what is made of the text `input`'s and `output`'s.

use std::collections::BTreeMap;

use crate::document::{Category, Override, PolicyDocument};
use crate::entities::EntityType;
use crate::matching::normalise;
use crate::matching::terms::Terms;
use crate::scan::What;
use crate::subject::Subject;
use crate::validate;
use crate::verdict::{Decision, ReasonCode};

/// What a rule does when it is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleEffect<'r> {
    /// What becomes of the text: left as it is by `allow`, covered or cut by `rewrite`, and not passed by the rest.
    pub action: Decision,
    /// What the hit makes of the decision at least. That of an entity which is merely replaced is `allow`.
    pub decision: Decision,
    /// A code in place of the decision's.
    pub reason_code: Option<&'r ReasonCode>,
    /// Which of `rules.overrides` says so; `None` for the policy's own rules.
    pub override_index: Option<usize>,
}

impl RuleEffect<'_> {
    /// Whether the text stays as it is.
    pub fn leaves(&self) -> bool {
        self.action == Decision::Allow
    }

    /// Whether nothing of an answer may follow.
    pub fn stops(&self) -> bool {
        self.action > Decision::Rewrite
    }
}

/// The most severe of the effects of all hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    decision: Decision,
    /// The code of an override, with the override's place in the document.
    code: Option<(usize, ReasonCode)>,
}

impl Default for Fired {
    fn default() -> Self {
        Self { decision: Decision::Allow, code: None }
    }
}

impl Fired {
    /// The decision they come to.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Takes another hit in.
    pub fn add(&mut self, effect: RuleEffect<'_>) {
        let code = effect.override_index.zip(effect.reason_code);
        if effect.decision > self.decision {
            self.decision = effect.decision;
            self.code = code.map(|(index, code)| (index, code.clone()));
        } else if effect.decision == self.decision
            && let Some((index, code)) = code
            && self.code.as_ref().is_none_or(|(known, _)| index < *known)
        {
            self.code = Some((index, code.clone()));
        }
    }

    /// Takes the hits of another text in. In whatever order: of the most severe with a code of their own, the first
    /// in the document gives the code.
    pub fn merge(&mut self, other: &Self) {
        if other.decision > self.decision {
            self.clone_from(other);
        } else if other.decision == self.decision
            && let Some((index, _)) = &other.code
            && self.code.as_ref().is_none_or(|(known, _)| index < known)
        {
            self.code.clone_from(&other.code);
        }
    }

    /// The code of an override, or else the decision's; `redacted` tells the two kinds of allow apart.
    pub fn reason_code(&self, redacted: bool) -> ReasonCode {
        match &self.code {
            Some((_, code)) => code.clone(),
            None => ReasonCode::of(self.decision, redacted),
        }
    }
}

/// The overrides of a policy, ready to look up.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    overrides: Vec<Override>,
    terms: BTreeMap<u32, Vec<Scoped>>,
    categories: BTreeMap<Category, Vec<Scoped>>,
    entities: BTreeMap<EntityType, Vec<Scoped>>,
    targets: BTreeMap<String, usize>,
}

/// An override for one subject. Those that name targets stand before those that do not.
#[derive(Debug)]
struct Scoped {
    index: usize,
    targets: Vec<String>,
}

impl Effects {
    pub(crate) fn new(document: &PolicyDocument, denylist: &Terms) -> Self {
        let overrides = document.rules.overrides.clone();
        let mut effects = Self::default();
        for (index, rule) in overrides.iter().enumerate() {
            let scoped = || Scoped { index, targets: rule.targets.clone() };
            if let Some(term) = &rule.term
                && let Some(group) = denylist.group_of(&normalise(term))
            {
                effects.terms.entry(group).or_default().push(scoped());
            }
            if let Some(category) = rule.category {
                effects.categories.entry(category).or_default().push(scoped());
            }
            if let Some(entity) = rule.entity {
                effects.entities.entry(entity).or_default().push(scoped());
            }
            if let Some(target) = &rule.target {
                effects.targets.entry(target.clone()).or_insert(index);
            }
        }
        let lists = effects.terms.values_mut().chain(effects.categories.values_mut());
        for list in lists.chain(effects.entities.values_mut()) {
            list.sort_by_key(|scoped| scoped.targets.is_empty());
        }
        Self { overrides, ..effects }
    }

    /// The effect of a term of the denylist, by its group.
    pub(crate) fn term(&self, document: &PolicyDocument, subject: &Subject, group: u32) -> RuleEffect<'_> {
        let own = fitting(self.terms.get(&group), subject);
        self.violation(own, subject, validate::violation_decision(document))
    }

    /// The effect of a listed category; none where an override names it that is off. An override for a category covers
    /// its children, but for those with one of their own. One that merely tells it (`blocks` is false) does no more, but
    /// for an action that an override has for it.
    pub(crate) fn category(
        &self,
        document: &PolicyDocument,
        subject: &Subject,
        category: Category,
        blocks: bool,
    ) -> Option<RuleEffect<'_>> {
        let of = |category| fitting(self.categories.get(&category), subject);
        let own = of(category).or_else(|| category.parent().and_then(of));
        if own.is_some_and(|index| subject.off.has(index)) {
            return None;
        }
        let acts = |index: &usize| self.overrides.get(*index).is_some_and(|rule| rule.action.is_some());
        Some(if blocks {
            self.violation(own, subject, validate::violation_decision(document))
        } else {
            self.by(own.filter(acts), Decision::Allow)
        })
    }

    /// The effect of a violation that no override can name but by its target.
    pub(crate) fn unnamed(&self, subject: &Subject, decision: Decision) -> RuleEffect<'_> {
        self.violation(None, subject, decision)
    }

    /// The effect of an entity; `of_type` is what its type comes to where that is more than replacing it. A target's
    /// override is about violations: it leaves an entity alone that is merely replaced, and replaces one that it lets
    /// pass.
    pub(crate) fn entity(
        &self,
        subject: &Subject,
        entity: EntityType,
        of_type: Option<Decision>,
    ) -> RuleEffect<'_> {
        let own = fitting(self.entities.get(&entity), subject);
        let Some(index) = own else {
            return match of_type {
                Some(decision) => {
                    let effect = self.violation(None, subject, decision);
                    RuleEffect { action: effect.action.max(Decision::Rewrite), ..effect }
                }
                None => RuleEffect { decision: Decision::Allow, ..self.by(None, Decision::Rewrite) },
            };
        };
        let effect = self.by(Some(index), of_type.unwrap_or(Decision::Rewrite));
        let says = self.overrides.get(index).is_some_and(|rule| rule.action.is_some());
        let decision =
            if effect.stops() || (!says && of_type.is_some()) { effect.action } else { Decision::Allow };
        RuleEffect { decision, ..effect }
    }

    /// Whether what was found is named by an override that is off in the call.
    pub(crate) fn is_off(&self, subject: &Subject, what: What) -> bool {
        let list = match what {
            What::Term(group) => self.terms.get(&group),
            What::Entity(entity) => self.entities.get(&entity),
        };
        fitting(list, subject).is_some_and(|index| subject.off.has(index))
    }

    /// Whether entities can be left in place at all.
    pub(crate) fn has_entities(&self) -> bool {
        !self.entities.is_empty()
    }

    fn violation(&self, own: Option<usize>, subject: &Subject, action: Decision) -> RuleEffect<'_> {
        let of_target =
            || self.targets.get(&*subject.target).copied().filter(|index| !subject.off.has(*index));
        let index = own.or_else(of_target);
        self.by(index, action)
    }

    fn by(&self, index: Option<usize>, default: Decision) -> RuleEffect<'_> {
        let rule = index.and_then(|index| self.overrides.get(index));
        let action = rule.and_then(|rule| rule.action).unwrap_or(default);
        RuleEffect {
            action,
            decision: action,
            reason_code: rule.and_then(|rule| rule.reason_code.as_ref()),
            override_index: index,
        }
    }
}

fn fitting(list: Option<&Vec<Scoped>>, subject: &Subject) -> Option<usize> {
    let fits = |scoped: &&Scoped| {
        scoped.targets.is_empty() || scoped.targets.iter().any(|target| **target == *subject.target)
    };
    list?.iter().find(fits).map(|scoped| scoped.index)
}
