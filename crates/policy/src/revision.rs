//! A policy document made ready to judge: compiled once, immutable, shared by every call. The judging itself
//! is in `input` and `output`.

use std::sync::Arc;

use crate::document::{Category, PolicyDocument, ResponseMode, Unscannable};
use crate::effects::{Effects, RuleEffect};
use crate::entities::{EntitySet, EntityType};
use crate::input::Role;
use crate::masker::Masker;
use crate::matching::normalise;
use crate::matching::terms::Terms;
use crate::moderation::Listed;
use crate::problems::Problem;
use crate::redaction::RedactionAction;
use crate::rollout::{TriedRule, tried_rules};
use crate::scan::What;
use crate::subject::Subject;
use crate::validate;
use crate::verdict::{Decision, ReasonCode};
use crate::wording::Wording;

/// What a refused caller reads where the policy gives no `refusal_replacement.message`.
const REFUSAL_MESSAGE: &str =
    "This request cannot be answered because it goes against the usage policy of this service.";

/// What may stand for a denied term in an answer: no letters or digits, so that they are no part of a word
/// beside them.
const MASKS: [&str; 4] = ["███", "▒▒▒", "***", "---"];

/// One revision of a policy, ready to judge.
#[derive(Debug)]
pub struct Revision {
    document: PolicyDocument,
    number: u64,
    digest: [u8; 32],
    mask: &'static str,
    entities: EntitySet,
    actions: Vec<RedactionAction>,
    hash_key: [u8; 32],
    wording: Wording,
    pub(crate) denylist: Terms,
    pub(crate) allowlist: Terms,
    pub(crate) listed: Vec<Listed>,
    pub(crate) wanted: Vec<Category>,
    effects: Effects,
    tried_rules: Vec<TriedRule>,
    may_sum_up: bool,
}

impl Revision {
    /// Compiles a document.
    ///
    /// # Errors
    /// All problems of meaning, as [`PolicyDocument::parse`] would report them.
    pub fn compile(document: PolicyDocument, number: u64) -> Result<Self, Vec<Problem>> {
        let problems = validate::check(&document);
        if !problems.is_empty() {
            return Err(problems);
        }
        let redaction = &document.rules.redaction;
        let denylist = Terms::new(document.rules.denylist.iter().map(String::as_str));
        let listed = Listed::all(&document.rules);
        let mut revision = Self {
            entities: redaction.set(),
            actions: EntityType::ALL.iter().map(|entity| redaction.action_of(*entity)).collect(),
            hash_key: redaction.hash_key(&document.policy_id),
            digest: document.digest(),
            mask: mask(&document.rules.denylist),
            effects: Effects::new(&document, &denylist),
            tried_rules: tried_rules(&document),
            may_sum_up: validate::reachable(&document).contains(&Decision::Summary),
            denylist,
            wanted: Listed::wanted(&listed),
            listed,
            allowlist: Terms::new(document.rules.allowlist.iter().map(String::as_str)),
            wording: Wording::default(),
            document,
            number,
        };
        revision.wording = Wording::new(&revision, &revision.document.rules.templates);
        Ok(revision)
    }

    /// The policy's name.
    pub fn policy_id(&self) -> &str {
        &self.document.policy_id
    }

    /// The revision's number within its policy, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// SHA-256 of the canonical document.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The document it was compiled from.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// The label for events, if the policy has one.
    pub fn data_classification(&self) -> Option<&str> {
        self.document.org_controls.data_classification.as_deref()
    }

    /// The text of a refusal or an escalation.
    pub fn refusal_message(&self) -> &str {
        match self.document.refusal_replacement.message.as_deref() {
            Some(message) if !message.trim().is_empty() => message,
            _ => REFUSAL_MESSAGE,
        }
    }

    /// The form a refusal takes on the wire.
    pub fn response_mode(&self) -> ResponseMode {
        self.document.rules.response_mode
    }

    /// Whether system and developer messages are judged too.
    pub fn scan_system(&self) -> bool {
        self.document.rules.scan_system
    }

    /// Whether messages of this role are judged.
    pub fn judges(&self, role: Role) -> bool {
        self.scan_system() || !matches!(role, Role::System | Role::Developer)
    }

    /// What a denylist hit or a flagged category comes to where no override says otherwise.
    pub fn violation_decision(&self) -> Decision {
        validate::violation_decision(&self.document)
    }

    /// What an allowlist miss comes to where no override says otherwise.
    pub fn miss_decision(&self) -> Decision {
        validate::after_replacement(&self.document, Decision::Refuse)
    }

    /// The system message that goes last into a request of this decision (`rewrite` or `summary`). It names no denied
    /// term.
    pub fn instruction(&self, decision: Decision) -> &str {
        match decision {
            Decision::Summary => &self.wording.summary_instruction,
            _ => &self.wording.rewrite_instruction,
        }
    }

    /// The system message that asks for something in place of an answer that violates the policy: a summary, or else
    /// an answer within it. It names no denied term.
    pub fn prompt(&self, decision: Decision) -> &str {
        match decision {
            Decision::Summary => &self.wording.summary_prompt,
            _ => &self.wording.rewrite_prompt,
        }
    }

    /// Whether the policy may emit this reason code.
    pub fn lists(&self, code: &ReasonCode) -> bool {
        self.document.rules.reason_codes.as_ref().is_none_or(|listed| listed.contains(code))
    }

    /// What a listed category comes to in a call that it fires in, by whether it does more than being told; none where
    /// it does not count.
    pub fn category_effect(
        &self,
        subject: &Subject,
        category: Category,
        blocks: bool,
    ) -> Option<RuleEffect<'_>> {
        self.effects.category(&self.document, subject, category, blocks)
    }

    /// What an entity comes to in a call.
    pub fn entity_effect(&self, subject: &Subject, entity: EntityType) -> RuleEffect<'_> {
        self.effects.entity(subject, entity, self.entity_decision(entity))
    }

    /// What an allowlist miss comes to in a call.
    pub fn miss_effect(&self, subject: &Subject) -> RuleEffect<'_> {
        self.effects.unnamed(subject, self.miss_decision())
    }

    /// What content that cannot be read comes to in a call; `None` where the policy lets it pass.
    pub fn unscannable_effect(&self, subject: &Subject) -> Option<RuleEffect<'_>> {
        let decision = self.document.rules.unscannable.decision();
        if decision == Decision::Allow {
            return None;
        }
        let effect = self.effects.unnamed(subject, decision);
        // Nothing can be taken out of what cannot be read: an override that would do that leaves it at the rule's own.
        Some(match effect.action {
            Decision::Rewrite | Decision::Summary => RuleEffect { action: decision, decision, ..effect },
            _ => effect,
        })
    }

    /// What a find comes to in a call.
    pub(crate) fn effect(&self, subject: &Subject, what: What) -> RuleEffect<'_> {
        match what {
            What::Term(group) => self.effects.term(&self.document, subject, group),
            What::Entity(entity) => self.entity_effect(subject, entity),
        }
    }

    /// Whether entities of this type stay as they are in a call.
    pub(crate) fn leaves_entity(&self, subject: &Subject, entity: EntityType) -> bool {
        self.effects.has_entities() && self.entity_effect(subject, entity).leaves()
    }

    /// The overrides that are tried out: what they name acts on the calls that their rollouts reach.
    pub fn tried_rules(&self) -> &[TriedRule] {
        &self.tried_rules
    }

    /// Whether what was found does not count in this call.
    pub(crate) fn is_off(&self, subject: &Subject, what: What) -> bool {
        !subject.off.is_empty() && self.effects.is_off(subject, what)
    }

    /// Notes the placeholders that a text of the request holds already.
    pub(crate) fn note_existing(&self, text: &str, masker: &mut Masker) {
        if self.redacts() {
            masker.note_existing(text);
        }
    }

    /// Whether personal data and secrets are replaced.
    pub fn redacts(&self) -> bool {
        self.document.rules.redact
    }

    /// The types of personal data and secrets that are looked for.
    pub(crate) fn entities(&self) -> EntitySet {
        self.entities
    }

    /// What is done about a type of personal data or secret.
    pub fn redaction_action(&self, entity: EntityType) -> RedactionAction {
        self.actions.get(entity as usize).copied().unwrap_or_default()
    }

    /// What finding a type of personal data or secret comes to where no override says otherwise; `None` where it is
    /// replaced and no more.
    pub fn entity_decision(&self, entity: EntityType) -> Option<Decision> {
        validate::entity_decision(&self.document, self.redaction_action(entity))
    }

    /// Whether the values of a request are put back into its answer, for placeholders that
    /// [`crate::Masker::restore_lookup`] knows.
    pub fn restores(&self) -> bool {
        self.redacts() && self.document.rules.redaction.restore
    }

    pub(crate) fn hash_key(&self) -> &[u8; 32] {
        &self.hash_key
    }

    /// Whether anything is looked for in answers; if not, they can pass unread.
    pub fn has_output_rules(&self) -> bool {
        self.redacts()
            || !self.denylist.is_empty()
            || !self.document.rules.flagged_categories.is_empty()
            || self.document.rules.unscannable != Unscannable::Allow
    }

    /// Whether an answer may have to give way to a summary.
    pub fn may_sum_up(&self) -> bool {
        self.may_sum_up && self.has_output_rules()
    }

    /// What stands for a denied term in an answer.
    pub fn mask(&self) -> &'static str {
        self.mask
    }

    /// Two lists of hits as one, in the policy's order.
    pub(crate) fn denylist_union(&self, left: &[Arc<str>], right: &[Arc<str>]) -> Vec<Arc<str>> {
        match (left, right) {
            ([], one) | (one, []) => one.to_vec(),
            _ => self
                .denylist
                .spellings()
                .iter()
                .filter(|term| left.contains(term) || right.contains(term))
                .cloned()
                .collect(),
        }
    }
}

/// The first mask of which no term has a part; so masks never are, or complete, a term.
fn mask(denylist: &[String]) -> &'static str {
    let forms: Vec<String> = denylist.iter().map(|term| normalise(term)).collect();
    let free = |mask: &&&str| !forms.iter().any(|form| mask.chars().any(|c| form.contains(c)));
    MASKS.iter().find(free).copied().unwrap_or_default()
}
