//! Why a verdict is what it is: which rule found which term or entity in which message or choice, as what normal form,
//! and which of the finds set the decision. It says where, never what stood there.

use bytes::Bytes;
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError, Role};
use policy::finds::{Find, Found, find_allowed, find_violations};
use policy::{Decision, EntityType, InputVerdict, Revision, Stage, Subject, Verdict};
use serde::Serialize;

use crate::simulate::{Said, SimulateError, stage_of};

/// Finds that are listed; a text that is one long violation does not need them all to explain it.
const FINDINGS_MAX: usize = 1000;

/// The rule about content that no other rule can read.
const UNSCANNABLE: &str = "rules.unscannable";

/// Why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// One sentence for people.
    pub because: String,
    /// Everything that was found, the input before the output.
    pub findings: Vec<Finding>,
    /// Whether there was more than is listed.
    pub is_cut_off: bool,
}

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Where the rule stands in the policy document, as in `rules.denylist[3]`.
    pub rule: String,
    /// The term, in the policy's spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// What term and text were compared as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalised: Option<String>,
    /// The type of personal data or secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityType>,
    /// The moderation category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<&'static str>,
    /// The request or the answer.
    pub stage: Stage,
    /// Where, as in `messages[1].content`; none where nothing was found and that is the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Who the message is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Characters of that text, from 0, the second one past the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<[usize; 2]>,
    /// What this rule alone comes to.
    pub decision: Decision,
    /// The override that says so, as in `rules.overrides[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden_by: Option<String>,
    /// Whether it is one of those that set the decision.
    pub decides: bool,
}

impl Finding {
    fn of_rule(rule: String, stage: Stage, decision: Decision) -> Self {
        Self {
            rule,
            term: None,
            normalised: None,
            entity: None,
            category: None,
            stage,
            at: None,
            role: None,
            characters: None,
            decision,
            overridden_by: None,
            decides: false,
        }
    }

    fn with_override(mut self, index: Option<usize>) -> Self {
        self.overridden_by = index.map(|index| format!("rules.overrides[{index}]"));
        self
    }

    /// What it is, in words.
    fn told(&self) -> String {
        let what = match (&self.term, self.entity, self.category) {
            (Some(term), ..) if self.rule.starts_with("rules.allowlist") => {
                format!("allowlist term `{term}`")
            }
            (Some(term), ..) => format!("denylist term `{term}`"),
            (_, Some(entity), _) => format!("entity {}", entity.as_str()),
            (.., Some(category)) => format!("category `{category}`"),
            _ if self.rule == UNSCANNABLE => "content that cannot be read".to_owned(),
            _ => "no allowlist term in the last user message".to_owned(),
        };
        let mut told = format!("{what} ({})", self.rule);
        if let Some(at) = &self.at {
            told.push_str(&format!(" in {at}"));
        }
        if let Some([start, end]) = self.characters {
            told.push_str(&format!(", characters {start} to {end}"));
        }
        if let Some(rule) = &self.overridden_by {
            told.push_str(&format!(", by {rule}"));
        }
        told
    }
}

/// A text and where it stands.
struct Place<'a> {
    text: &'a str,
    stage: Stage,
    at: String,
    role: Option<&'static str>,
}

/// Explains a verdict on a request and on what the model said to it.
///
/// # Errors
/// [`SimulateError`] where a text cannot be read.
pub(crate) fn explain(
    revision: &Revision,
    subject: &Subject,
    request: &ChatRequest,
    said: Option<&Said>,
    input: &InputVerdict,
    verdict: &Verdict,
) -> Result<Explanation, SimulateError> {
    let mut findings = Vec::new();
    request_findings(revision, subject, request, input, &mut findings)?;
    if let Some(said) = said {
        answer_findings(revision, subject, said, &mut findings)?;
    }
    for category in &verdict.triggered_categories {
        let listed = &revision.document().rules.flagged_categories;
        let at = listed.iter().position(|one| one == category);
        let rule = place_in("rules.flagged_categories", at);
        let was_asked = input.triggered_categories.contains(category);
        let stage = if was_asked { Stage::Input } else { Stage::Output };
        let blocks = verdict.moderated.blocking.contains(category);
        let Some(effect) = revision.category_effect(subject, *category, blocks) else { continue };
        let mut finding = Finding::of_rule(rule, stage, effect.decision).with_override(effect.override_index);
        finding.category = Some(category.as_str());
        findings.push(finding);
    }
    unread_findings(revision, subject, input, verdict, &mut findings);
    let stage = stage_of(verdict, input);
    for finding in &mut findings {
        finding.decides = verdict.decision != Decision::Allow
            && finding.decision == verdict.decision
            && finding.stage == stage;
    }
    let is_cut_off = findings.len() > FINDINGS_MAX;
    let because = because(verdict, &findings);
    findings.truncate(FINDINGS_MAX);
    Ok(Explanation { because, findings, is_cut_off })
}

/// Content that no rule can read, where the policy does not let it pass.
fn unread_findings(
    revision: &Revision,
    subject: &Subject,
    input: &InputVerdict,
    verdict: &Verdict,
    findings: &mut Vec<Finding>,
) {
    let Some(effect) = revision.unscannable_effect(subject) else { return };
    let asked = input.unscanned.total();
    let answered = verdict.unscanned.total().saturating_sub(asked);
    for (stage, count) in [(Stage::Input, asked), (Stage::Output, answered)] {
        if count > 0 {
            let finding = Finding::of_rule(UNSCANNABLE.to_owned(), stage, effect.decision);
            findings.push(finding.with_override(effect.override_index));
        }
    }
}

fn request_findings(
    revision: &Revision,
    subject: &Subject,
    request: &ChatRequest,
    input: &InputVerdict,
    findings: &mut Vec<Finding>,
) -> Result<(), RequestError> {
    let walk = request.texts()?;
    let role_of = |message: usize| request.roles.get(message).copied().unwrap_or(Role::Other);
    let last_user = request.roles.iter().rposition(|role| *role == Role::User);
    for unit in walk.units() {
        let role = role_of(unit.owner);
        let part = if unit.is_content { ".content" } else { "" };
        let place = Place {
            text: &unit.text,
            stage: Stage::Input,
            at: format!("messages[{}]{part}", unit.owner),
            role: Some(role_name(role)),
        };
        if unit.is_content && Some(unit.owner) == last_user {
            for find in find_allowed(revision, &unit.text) {
                add(revision, &place, &find, true, findings);
            }
        }
        if revision.scan_system() || !matches!(role, Role::System | Role::Developer) {
            for find in find_violations(revision, subject, &unit.text) {
                add(revision, &place, &find, false, findings);
            }
        }
    }
    if input.allowlist_missed {
        // A violation fires first, and then the allowlist is not what decides.
        let violates = |finding: &Finding| finding.term.is_some() && finding.decision > Decision::Allow;
        let fires = !findings.iter().any(violates) && input.moderated.blocking.is_empty();
        let effect = revision.miss_effect(subject);
        let decision = if fires { effect.decision } else { Decision::Allow };
        let finding = Finding::of_rule("rules.allowlist".to_owned(), Stage::Input, decision);
        findings.push(finding.with_override(effect.override_index));
    }
    Ok(())
}

fn answer_findings(
    revision: &Revision,
    subject: &Subject,
    said: &Said,
    findings: &mut Vec<Finding>,
) -> Result<(), AnswerError> {
    let mut look = |text: &str, at: String| {
        let place = Place { text, stage: Stage::Output, at, role: None };
        for find in find_violations(revision, subject, text) {
            add(revision, &place, &find, false, findings);
        }
    };
    match said {
        Said::Whole(body) => {
            let answer = Answer::parse(Bytes::clone(body))?;
            for unit in answer.texts()?.units() {
                look(&unit.text, format!("choices[{}]", unit.owner));
            }
        }
        Said::Stream(chunks) => look(&chunks.concat(), "choices[0].delta.content".to_owned()),
    }
    Ok(())
}

fn add(revision: &Revision, place: &Place<'_>, find: &Find, is_allowed: bool, findings: &mut Vec<Finding>) {
    let chars = |end: usize| place.text.get(..end).map_or(0, |text| text.chars().count());
    let mut push = |mut finding: Finding| {
        finding.at = Some(place.at.clone());
        finding.role = place.role;
        finding.characters = Some([chars(find.range.start), chars(find.range.end)]);
        findings.push(finding.with_override(find.override_index));
    };
    let rules = &revision.document().rules;
    match &find.what {
        Found::Entity(entity) => {
            let path = match revision.entity_decision(*entity) {
                Some(_) => "rules.redaction",
                None => "rules.redact",
            };
            let mut finding = Finding::of_rule(path.to_owned(), place.stage, find.decision);
            finding.entity = Some(*entity);
            push(finding);
        }
        Found::Term { spellings, normal } => {
            let (path, list) = match is_allowed {
                true => ("rules.allowlist", &rules.allowlist),
                false => ("rules.denylist", &rules.denylist),
            };
            for spelling in spellings {
                let at = list.iter().position(|term| **term == **spelling);
                let mut finding = Finding::of_rule(place_in(path, at), place.stage, find.decision);
                finding.term = Some(spelling.to_string());
                finding.normalised = Some(normal.clone());
                push(finding);
            }
        }
    }
}

fn place_in(list: &str, at: Option<usize>) -> String {
    at.map_or_else(|| list.to_owned(), |at| format!("{list}[{at}]"))
}

fn because(verdict: &Verdict, findings: &[Finding]) -> String {
    let decision = verdict.decision.as_str();
    let mut deciding = findings.iter().filter(|finding| finding.decides);
    if let Some(first) = deciding.next() {
        let stage = verdict.stage.as_str();
        let more = match deciding.count() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        return format!("{decision} at the {stage}: {}{more}", first.told());
    }
    match verdict.redactions.values().sum::<u64>() {
        0 => format!("{decision}: nothing that the policy forbids was found"),
        1 => format!("{decision}: nothing is forbidden; 1 entity is replaced"),
        count => format!("{decision}: nothing is forbidden; {count} entities are replaced"),
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use policy::PolicyDocument;
    use serde_json::{Value, json};

    use super::*;
    use crate::simulate::{request_of, simulate};

    fn explained(rules: Value, messages: Value, said: Option<&Said>) -> Explanation {
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        let revision = Arc::new(Revision::compile(document, 1).unwrap());
        simulate(&revision, &Subject::default(), &request_of(&messages).unwrap(), said).unwrap().explanation
    }

    #[test]
    fn a_find_names_rule_term_normal_form_and_place() {
        let explanation = explained(
            json!({"denylist": ["unused", "Credential Theft"], "redact": true}),
            json!([{"role": "system", "content": "no credential theft"}, {"role": "user", "content": "é a@b.org CREDENTIAL  theft"}]),
            None,
        );
        assert_eq!(
            serde_json::to_value(&explanation).unwrap(),
            json!({
                "because": "refuse at the input: denylist term `Credential Theft` (rules.denylist[1]) in \
                            messages[1].content, characters 10 to 27",
                "findings": [
                    {"rule": "rules.redact", "entity": "EMAIL_ADDRESS", "stage": "input", "at": "messages[1].content",
                     "role": "user", "characters": [2, 9], "decision": "allow", "decides": false},
                    {"rule": "rules.denylist[1]", "term": "Credential Theft", "normalised": "credential theft",
                     "stage": "input", "at": "messages[1].content", "role": "user", "characters": [10, 27],
                     "decision": "refuse", "decides": true},
                ],
                "is_cut_off": false,
            })
        );
    }

    #[test]
    fn an_allowlist_says_what_it_found_or_that_it_found_nothing() {
        let rules = json!({"allowlist": ["refund"], "denylist": ["theft"]});
        let say = |text: &str| explained(rules.clone(), json!([{"role": "user", "content": text}]), None);
        assert_eq!(
            say("hello").because,
            "refuse at the input: no allowlist term in the last user message (rules.allowlist)"
        );
        let allowed = say("a refund");
        assert_eq!(allowed.because, "allow: nothing that the policy forbids was found");
        assert_eq!(allowed.findings[0].rule, "rules.allowlist[0]");
        let both: Vec<_> = say("theft").findings.iter().map(|finding| finding.decides).collect();
        assert_eq!(both, [true, false], "the denylist fires first");
    }

    #[test]
    fn content_that_cannot_be_read_is_named_where_it_decides() {
        let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}});
        let messages = json!([{"role": "user", "content": [image]}]);
        let explanation = explained(json!({"unscannable": "refuse"}), messages.clone(), None);
        assert_eq!(
            explanation.because,
            "refuse at the input: content that cannot be read (rules.unscannable)"
        );
        assert_eq!(explained(json!({}), messages, None).findings, []);
    }

    #[test]
    fn an_override_is_named() {
        let rules = json!({
            "denylist": ["theft", "fraud"],
            "overrides": [{"term": "fraud", "action": "allow"}, {"term": "theft", "action": "rewrite"}],
        });
        let explanation = explained(rules, json!([{"role": "user", "content": "fraud, theft"}]), None);
        assert_eq!(
            explanation.because,
            "rewrite at the input: denylist term `theft` (rules.denylist[0]) in messages[0].content, characters 7 to \
             12, by rules.overrides[1]"
        );
        let found: Vec<_> = explanation
            .findings
            .iter()
            .map(|finding| (finding.decision, finding.overridden_by.as_deref()))
            .collect();
        assert_eq!(
            found,
            [(Decision::Allow, Some("rules.overrides[0]")), (Decision::Rewrite, Some("rules.overrides[1]"))]
        );
    }

    #[test]
    fn an_answer_is_explained_by_its_own_stage() {
        let hello = json!([{"role": "user", "content": "hello"}]);
        let rules = json!({"denylist": ["theft"]});
        let whole = explained(rules.clone(), hello.clone(), Some(&Said::text("the theft")));
        assert!(whole.because.starts_with("refuse at the output: "), "{}", whole.because);
        let stream = Said::Stream(vec!["the th".to_owned(), "eft".to_owned()]);
        let stream = explained(rules, hello, Some(&stream));
        assert_eq!(stream.findings[0].characters, Some([4, 9]));
        assert!(stream.findings[0].decides);
    }
}
