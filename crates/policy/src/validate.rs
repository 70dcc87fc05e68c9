//! What makes a policy document invalid. Shape (types, unknown fields) has been checked before, by `problems`.

use std::collections::BTreeSet;

use crate::document::{Category, Override, PolicyDocument, Rollout, Rules, Unscannable};
use crate::entities::{EntitySet, EntityType};
use crate::matching::terms::{Part, TERM_CHARS_MAX, Terms};
use crate::matching::{Before, Normal, normalise};
use crate::moderation::{CategoryMode, Moderation};
use crate::problems::Problem;
use crate::redaction::RedactionAction;
use crate::verdict::{Decision, ReasonCode};

/// Characters in a policy id. It stands in response headers, metrics labels and URLs.
const POLICY_ID_CHARS_MAX: usize = 128;

/// Characters in a template: several pages, well below what any model reads.
const TEMPLATE_CHARS_MAX: usize = 4000;

/// Characters in a data classification. It becomes a tag at destinations, which cut tags at 200.
const DATA_CLASSIFICATION_CHARS_MAX: usize = 128;

/// The window's calls are read from the log at each start.
const ROLLBACK_WINDOW_MINUTES_MAX: u64 = 30 * 24 * 60;
/// Minutes that a review or a grant may last: a year.
const ESCALATION_MINUTES_MAX: u32 = 365 * 24 * 60;

/// All problems of meaning.
pub(crate) fn check(document: &PolicyDocument) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_policy_id(&document.policy_id, &mut problems);
    let rules = &document.rules;
    check_terms("rules.allowlist", &rules.allowlist, &mut problems);
    check_terms("rules.denylist", &rules.denylist, &mut problems);
    rules.redaction.check(&mut problems);
    Moderation::check(rules, &mut problems);
    check_reason_codes(document, &mut problems);
    check_overrides(document, &mut problems);
    check_templates(document, &mut problems);
    check_org_controls(document, &mut problems);
    check_rollout("rollout", &document.rollout, &mut problems);
    if let Some(path) = &document.refusal_replacement.escalation_path {
        let url = path.starts_with("https://") || path.starts_with("http://");
        let address = path.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
        if !url && !address {
            let message = "must be an e-mail address or an http(s) URL";
            problems.push(Problem::new("refusal_replacement.escalation_path", message));
        }
    }
    let terms = &document.refusal_replacement.escalation;
    for (name, minutes) in [("sla_minutes", terms.sla_minutes), ("grant_minutes", terms.grant_minutes)] {
        if !(1..=ESCALATION_MINUTES_MAX).contains(&minutes) {
            let path = format!("refusal_replacement.escalation.{name}");
            problems.push(Problem::new(path, format!("must be from 1 to {ESCALATION_MINUTES_MAX}")));
        }
    }
    problems
}

/// Decisions that the policy can come to.
pub(crate) fn reachable(document: &PolicyDocument) -> BTreeSet<Decision> {
    outcomes(document).into_iter().map(|(decision, _)| decision).collect()
}

/// What rules can come to: the decision, and the code in place of its own.
fn outcomes(document: &PolicyDocument) -> Vec<(Decision, Option<&ReasonCode>)> {
    let rules = &document.rules;
    let violation = violation_decision(document);
    let mut outcomes = vec![(Decision::Allow, None)];
    let mut unnamed = Vec::new();
    if rules.denylist.iter().any(|term| keeps(rules, &Name::Term(&normalise(term))))
        || rules.flagged_categories.iter().any(|category| {
            rules.moderation.mode_of(*category) != Some(CategoryMode::Log)
                && keeps(rules, &Name::Category(*category))
        })
    {
        unnamed.push(violation);
    }
    if !rules.allowlist.is_empty() {
        unnamed.push(after_replacement(document, Decision::Refuse));
    }
    if rules.unscannable != Unscannable::Allow {
        unnamed.push(rules.unscannable.decision());
    }
    unnamed.extend(entity_decisions(document));
    outcomes.extend(unnamed.iter().map(|decision| (*decision, None)));
    for rule in &rules.overrides {
        let code = rule.reason_code.as_ref();
        if let Some(entity) = rule.entity {
            let own = entity_decision(document, rules.redaction.action_of(entity));
            let decision = match rule.action {
                Some(action) if action > Decision::Rewrite => action,
                Some(_) => Decision::Allow,
                None => own.unwrap_or(Decision::Allow),
            };
            outcomes.push((decision, code));
        } else if rule.target.is_none() {
            outcomes.push((rule.action.unwrap_or(violation), code));
        } else {
            outcomes.extend(unnamed.iter().map(|decision| (rule.action.unwrap_or(*decision), code)));
        }
    }
    outcomes
}

/// What an override is for.
enum Name<'n> {
    /// In normal form.
    Term(&'n str),
    Category(Category),
    Entity(EntityType),
}

/// Whether the policy's own rule decides in some call: what an override without targets decides, it decides no more.
fn keeps(rules: &Rules, name: &Name<'_>) -> bool {
    !rules.overrides.iter().any(|rule| {
        rule.targets.is_empty()
            && match name {
                Name::Term(form) => rule.term.as_ref().is_some_and(|term| normalise(term) == *form),
                Name::Category(category) => rule.category == Some(*category),
                Name::Entity(entity) => rule.entity == Some(*entity),
            }
    })
}

/// What an action comes to beside replacing the value.
pub(crate) fn entity_decision(document: &PolicyDocument, action: RedactionAction) -> Option<Decision> {
    match action {
        RedactionAction::Refuse => Some(after_replacement(document, Decision::Refuse)),
        RedactionAction::Escalate => Some(Decision::Escalate),
        RedactionAction::Mask | RedactionAction::Hash | RedactionAction::Partial => None,
    }
}

/// What the entities that are looked for can come to.
fn entity_decisions(document: &PolicyDocument) -> impl Iterator<Item = Decision> {
    let rules = &document.rules;
    let set = if rules.redact { rules.redaction.set() } else { EntitySet::default() };
    set.iter()
        .filter(|entity| keeps(rules, &Name::Entity(*entity)))
        .filter_map(|entity| entity_decision(document, rules.redaction.action_of(entity)))
}

/// What a denylist hit or a flagged category comes to.
pub(crate) fn violation_decision(document: &PolicyDocument) -> Decision {
    after_replacement(document, document.rules.response_pattern.decision())
}

/// A refusal becomes what replaces it; any other decision stays.
pub(crate) fn after_replacement(document: &PolicyDocument, decision: Decision) -> Decision {
    if decision == Decision::Refuse && document.rules.rewrite_instead_of_refuse {
        document.refusal_replacement.mode.decision()
    } else {
        decision
    }
}

fn check_policy_id(id: &str, problems: &mut Vec<Problem>) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if id.is_empty() {
        problems.push(Problem::new("policy_id", "is empty: give the policy a name"));
    } else if !id.chars().all(allowed) || id.chars().count() > POLICY_ID_CHARS_MAX {
        let message = format!("use letters, digits and `-_.:/` only, at most {POLICY_ID_CHARS_MAX}");
        problems.push(Problem::new("policy_id", message));
    }
}

fn check_terms(path: &str, terms: &[String], problems: &mut Vec<Problem>) {
    for (index, term) in terms.iter().enumerate() {
        let chars = normalise(term).chars().count();
        if chars == 0 {
            let message = if term.is_empty() {
                "is empty: it would match nothing; remove it"
            } else {
                "has only white space, marks or invisible characters: it would match nothing; remove it"
            };
            problems.push(Problem::new(format!("{path}[{index}]"), message));
        } else if chars > TERM_CHARS_MAX {
            let message = format!("is longer than {TERM_CHARS_MAX} characters: shorten it");
            problems.push(Problem::new(format!("{path}[{index}]"), message));
        }
    }
}

fn check_reason_codes(document: &PolicyDocument, problems: &mut Vec<Problem>) {
    let Some(listed) = &document.rules.reason_codes else { return };
    let mut codes: BTreeSet<ReasonCode> = outcomes(document)
        .into_iter()
        .map(|(decision, code)| code.cloned().unwrap_or_else(|| ReasonCode::of(decision, false)))
        .collect();
    if document.rules.redact {
        codes.insert(ReasonCode::Redact);
    }
    for (index, code) in listed.iter().enumerate() {
        let known = document.rules.overrides.iter().any(|rule| rule.reason_code.as_ref() == Some(code));
        if code.is_custom() && !known {
            let message = format!(
                "`{}` is neither a standard code nor the `reason_code` of an override: correct or remove it",
                code.as_str()
            );
            problems.push(Problem::new(format!("rules.reason_codes[{index}]"), message));
        }
    }
    for code in codes {
        if !listed.contains(&code) {
            let message = format!(
                "`{}` can be reached and is not listed: add it, or leave the list out",
                code.as_str()
            );
            problems.push(Problem::new("rules.reason_codes", message));
        }
    }
}

fn check_overrides(document: &PolicyDocument, problems: &mut Vec<Problem>) {
    let rules = &document.rules;
    for (index, rule) in rules.overrides.iter().enumerate() {
        let path = format!("rules.overrides[{index}]");
        let mut add = |field: &str, message: &str| {
            problems.push(Problem::new(format!("{path}{field}"), message));
        };
        let named =
            [rule.term.is_some(), rule.category.is_some(), rule.entity.is_some(), rule.target.is_some()];
        if named.into_iter().filter(|named| *named).count() != 1 {
            add("", "name exactly one of `term`, `category`, `entity` and `target`");
        }
        if rule.action.is_none() && rule.reason_code.is_none() && rule.rollout.is_none() {
            add("", "changes nothing: add `action`, `reason_code` or `rollout`");
        }
        if let Some(term) = &rule.term {
            let form = normalise(term);
            if !rules.denylist.iter().any(|denied| normalise(denied) == form) {
                add(".term", "is not a term of `rules.denylist`: add it there");
            }
        }
        if rule.category.is_some_and(|category| !rules.flagged_categories.contains(&category)) {
            add(".category", "is not in `rules.flagged_categories`: add it there");
        }
        if rule.entity.is_some() && !rules.redact {
            add(".entity", "nothing looks for it while `rules.redact` is off: set that to true");
        } else if rule.entity.is_some_and(|entity| !rules.redaction.set().has(entity)) {
            add(".entity", "is not among the types looked for: add it to `rules.redaction.entities`");
        }
        if rule.target.as_ref().is_some_and(String::is_empty) {
            add(".target", "is empty: name a target");
        }
        if rule.target.is_some() && !rule.targets.is_empty() {
            add(".targets", "limits a term, category or entity: beside `target`, leave it out");
        }
        for (at, target) in rule.targets.iter().enumerate() {
            if target.is_empty() {
                add(&format!(".targets[{at}]"), "is empty: name a target or remove it");
            }
        }
        let twin = rules.overrides.iter().take(index).position(|earlier| contradict(earlier, rule));
        if let Some(twin) = twin {
            let message =
                format!("contradicts `rules.overrides[{twin}]`, which is for the same: keep one of them");
            add("", &message);
        }
        if let Some(rollout) = &rule.rollout {
            check_rollout(&format!("{path}.rollout"), rollout, problems);
        }
    }
}

/// Whether two overrides are for the same in the same calls and say different things of it.
fn contradict(left: &Override, right: &Override) -> bool {
    let term = |rule: &Override| rule.term.as_deref().map(normalise);
    let targets = |rule: &Override| rule.targets.iter().cloned().collect::<BTreeSet<String>>();
    let subject = |rule: &Override| (term(rule), rule.category, rule.entity, rule.target.clone());
    subject(left) == subject(right)
        && targets(left) == targets(right)
        && (left.action, &left.reason_code) != (right.action, &right.reason_code)
}

fn check_templates(document: &PolicyDocument, problems: &mut Vec<Problem>) {
    let templates = &document.rules.templates;
    if templates.is_default() {
        return;
    }
    let denylist = document.rules.denylist.iter().map(String::as_str);
    let denylist = Terms::new(denylist.filter(|term| normalise(term).chars().count() <= TERM_CHARS_MAX));
    let (mut normal, mut found) = (Normal::default(), Vec::new());
    for (name, text) in [
        ("rewrite_instruction", &templates.rewrite_instruction),
        ("rewrite_prompt", &templates.rewrite_prompt),
        ("summary_instruction", &templates.summary_instruction),
        ("summary_prompt", &templates.summary_prompt),
    ] {
        let Some(text) = text else { continue };
        let mut add = |message| problems.push(Problem::new(format!("rules.templates.{name}"), message));
        if text.trim().is_empty() {
            add("is empty: write a text, or leave it out for the default".to_owned());
        }
        if text.chars().count() > TEMPLATE_CHARS_MAX {
            add(format!("is longer than {TEMPLATE_CHARS_MAX} characters: shorten it"));
        }
        found.clear();
        denylist.find(Part { text, before: Before::START, more: false }, &mut normal, &mut found);
        for term in denylist.spellings_of(found.iter().map(|found| found.group)) {
            add(format!("has `{term}` of `rules.denylist`, which the model would read: say it without"));
        }
    }
}

fn check_org_controls(document: &PolicyDocument, problems: &mut Vec<Problem>) {
    let org = &document.org_controls;
    if !org.audit_logs {
        let message = "every decision is recorded, there is no mode without: set it to true or leave it out";
        problems.push(Problem::new("org_controls.audit_logs", message));
    }
    if !org.project_keys {
        let message =
            "every request needs a project key, there is no mode without: set it to true or leave it out";
        problems.push(Problem::new("org_controls.project_keys", message));
    }
    if let Some(label) = &org.data_classification
        && (label.trim().is_empty() || label.chars().count() > DATA_CLASSIFICATION_CHARS_MAX)
    {
        let message = format!("use 1 to {DATA_CLASSIFICATION_CHARS_MAX} characters, or leave it out");
        problems.push(Problem::new("org_controls.data_classification", message));
    }
}

fn check_rollout(path: &str, rollout: &Rollout, problems: &mut Vec<Problem>) {
    if rollout.shadow.enabled && rollout.canary.enabled {
        problems.push(Problem::new(path, "shadow and canary are both enabled: switch one off"));
    }
    for (name, share) in [("shadow", &rollout.shadow), ("canary", &rollout.canary)] {
        if !(0.0..=100.0).contains(&share.sample_percent) {
            let message = "must be a percentage from 0 to 100";
            problems.push(Problem::new(format!("{path}.{name}.sample_percent"), message));
        }
        for (index, target) in share.targets.iter().enumerate() {
            if target.is_empty() {
                let path = format!("{path}.{name}.targets[{index}]");
                problems.push(Problem::new(path, "is empty: name a target or remove it"));
            }
        }
    }
    if !(0.0..=1.0).contains(&rollout.rollback_threshold) {
        problems.push(Problem::new(format!("{path}.rollback_threshold"), "must be a share from 0 to 1"));
    }
    if rollout.rollback_window_minutes == 0 {
        problems.push(Problem::new(format!("{path}.rollback_window_minutes"), "must be more than 0"));
    }
    if !rollout.is_on() {
        return;
    }
    if rollout.rollback_window_minutes > ROLLBACK_WINDOW_MINUTES_MAX {
        let message = format!("must be at most {ROLLBACK_WINDOW_MINUTES_MAX} (30 days)");
        problems.push(Problem::new(format!("{path}.rollback_window_minutes"), message));
    }
    if rollout.rollback_on_spike && rollout.rollback_decisions.is_empty() {
        let message = "is empty, so that no spike could ever be seen: list decisions, or set `rollback_on_spike: false`";
        problems.push(Problem::new(format!("{path}.rollback_decisions"), message));
    }
}
