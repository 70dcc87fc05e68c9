//! What of a route a policy reaches, rule by rule: how each is honoured in requests, whole answers and streams, and what
//! passes unread. A policy that cannot be honoured does not load, so every line here is a promise kept.

use std::collections::BTreeSet;

use policy::document::{Override, Unscannable};
use policy::{Decision, PolicyDocument, REACH_CHARS_MAX, WINDOW_CHARS};
use serde::Serialize;

/// What goes through a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Messages in; choices out, whole or streamed.
    Chat,
    /// Nothing that a person or a model wrote.
    NoContent,
}

/// Where a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request's messages.
    Input,
    /// An answer that comes whole.
    OutputWhole,
    /// A streamed answer.
    OutputStream,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Input, Self::OutputWhole, Self::OutputStream];
}

/// A kind of rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `rules.allowlist`.
    Allowlist,
    /// `rules.denylist`.
    Denylist,
    /// `rules.flagged_categories`.
    Categories,
    /// `rules.redact`.
    Redaction,
    /// `rules.unscannable`.
    Unscannable,
    /// `rules.overrides`.
    Overrides,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Allowlist,
        Self::Denylist,
        Self::Categories,
        Self::Redaction,
        Self::Unscannable,
        Self::Overrides,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowlist => "allowlist",
            Self::Denylist => "denylist",
            Self::Categories => "categories",
            Self::Redaction => "redaction",
            Self::Unscannable => "unscannable",
            Self::Overrides => "overrides",
        }
    }
}

/// How a rule is honoured at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The policy has no such rule.
    Off,
    /// The rule does not look there.
    NotApplicable,
    /// All text is judged as it is there; of a stream, what could still become a match is held back.
    Text,
    /// Judged in windows, each released after its verdict.
    Windows,
    /// Nothing is released before all of it is judged.
    HeldWhole,
    /// Counted on the event, and passed.
    Counted,
    /// The policy has no rule for answers: they pass unread, and the event says so.
    Unread,
}

impl How {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotApplicable => "not applicable",
            Self::Text => "judged as text",
            Self::Windows => "judged in windows",
            Self::HeldWhole => "held until whole",
            Self::Counted => "counted",
            Self::Unread => "unread",
        }
    }
}

/// One rule at one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it looks.
    pub stage: Stage,
    /// What looks.
    pub rule: Rule,
    /// How.
    pub how: How,
    /// What a hit can come to there, overrides apart.
    pub decisions: BTreeSet<Decision>,
    /// Characters that a match, with all that it depends on, can have; null where the rule does not look. An entity that
    /// goes on beyond is masked to its end.
    pub reach_characters: Option<u64>,
}

/// A policy's coverage of a route: every rule at every stage, or nothing where nothing goes through.
pub fn of(document: &PolicyDocument, surface: Surface) -> Vec<Line> {
    match surface {
        Surface::NoContent => Vec::new(),
        Surface::Chat => Stage::ALL
            .into_iter()
            .flat_map(|stage| Rule::ALL.into_iter().map(move |rule| line(document, stage, rule)))
            .collect(),
    }
}

/// A policy's coverage in one line, for a log.
pub fn summary(document: &PolicyDocument) -> String {
    let lines = of(document, Surface::Chat);
    let told: Vec<String> = Rule::ALL
        .into_iter()
        .filter_map(|rule| {
            let of_rule: Vec<&Line> = lines.iter().filter(|line| line.rule == rule).collect();
            let is_off = of_rule.iter().all(|line| line.how == How::Off);
            let stages: Vec<&str> = of_rule.iter().map(|line| line.how.as_str()).collect();
            (!is_off).then(|| format!("{} ({})", rule.as_str(), stages.join(", ")))
        })
        .collect();
    told.join("; ")
}

fn line(document: &PolicyDocument, stage: Stage, rule: Rule) -> Line {
    let how = how(document, stage, rule);
    let reach_characters = match how {
        How::Text | How::HeldWhole if rule != Rule::Unscannable => Some(REACH_CHARS_MAX as u64),
        How::Windows => Some(WINDOW_CHARS as u64),
        _ => None,
    };
    let looks = !matches!(how, How::Off | How::NotApplicable);
    let decisions = if looks { decisions(document, rule) } else { BTreeSet::new() };
    Line { stage, rule, how, decisions, reach_characters }
}

fn how(document: &PolicyDocument, stage: Stage, rule: Rule) -> How {
    let rules = &document.rules;
    let is_off = match rule {
        Rule::Allowlist => rules.allowlist.is_empty(),
        Rule::Denylist => rules.denylist.is_empty(),
        Rule::Categories => rules.flagged_categories.is_empty(),
        Rule::Redaction => !rules.redact,
        Rule::Unscannable => false,
        Rule::Overrides => rules.overrides.is_empty(),
    };
    if is_off {
        return How::Off;
    }
    // A summary stands in place of a whole answer, so nothing of a stream may have left before.
    let is_held = stage == Stage::OutputStream && document.reachable_decisions().contains(&Decision::Summary);
    match rule {
        Rule::Allowlist if stage != Stage::Input => How::NotApplicable,
        Rule::Unscannable if stage != Stage::Input && !judges_answers(document) => How::Unread,
        Rule::Unscannable if rules.unscannable == Unscannable::Allow => How::Counted,
        Rule::Unscannable => How::HeldWhole,
        Rule::Overrides if stage != Stage::Input && !judges_answers(document) => How::Unread,
        _ if is_held => How::HeldWhole,
        Rule::Categories if stage == Stage::OutputStream => How::Windows,
        _ => How::Text,
    }
}

fn judges_answers(document: &PolicyDocument) -> bool {
    let rules = &document.rules;
    rules.redact
        || !rules.denylist.is_empty()
        || !rules.flagged_categories.is_empty()
        || rules.unscannable != Unscannable::Allow
}

/// What a hit can come to. That of an override counts for the rule it is about, and a target's for all.
fn decisions(document: &PolicyDocument, rule: Rule) -> BTreeSet<Decision> {
    let rules = &document.rules;
    let mut alone = document.clone();
    alone.rules.overrides.clear();
    if rule != Rule::Allowlist {
        alone.rules.allowlist.clear();
    }
    if rule != Rule::Denylist {
        alone.rules.denylist.clear();
    }
    if rule != Rule::Categories {
        alone.rules.flagged_categories.clear();
    }
    alone.rules.redact &= rule == Rule::Redaction;
    if rule != Rule::Unscannable {
        alone.rules.unscannable = Unscannable::Allow;
    }
    let mut decisions = alone.reachable_decisions();
    if matches!(rule, Rule::Allowlist | Rule::Denylist | Rule::Categories) {
        // That of no hit.
        decisions.remove(&Decision::Allow);
    } else if decisions.len() > 1 && rule == Rule::Unscannable {
        decisions.remove(&Decision::Allow);
    }
    if rule == Rule::Overrides {
        decisions = rules.overrides.iter().filter_map(|rule: &Override| rule.action).collect();
    }
    decisions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn covered(rules: Value) -> Vec<Line> {
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        of(&document, Surface::Chat)
    }

    fn hows(lines: &[Line], rule: Rule) -> Vec<How> {
        lines.iter().filter(|line| line.rule == rule).map(|line| line.how).collect()
    }

    #[test]
    fn every_rule_has_its_line_at_every_stage() {
        let lines = covered(json!({}));
        let places: BTreeSet<_> = lines.iter().map(|line| (line.stage, line.rule)).collect();
        assert_eq!((lines.len(), places.len()), (18, 18));
        assert_eq!(hows(&lines, Rule::Denylist), [How::Off; 3]);
        assert_eq!(hows(&lines, Rule::Unscannable), [How::Counted, How::Unread, How::Unread]);
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": {}})).unwrap();
        assert_eq!(of(&document, Surface::NoContent), []);
        assert_eq!(summary(&document), "unscannable (counted, unread, unread)");
    }

    #[test]
    fn rules_say_how_they_are_honoured_and_what_they_come_to() {
        let lines = covered(json!({
            "allowlist": ["a"], "denylist": ["b"], "flagged_categories": ["hate"], "redact": true,
            "unscannable": "refuse", "response_pattern": "rewrite",
            "overrides": [{"term": "b", "action": "escalate"}],
        }));
        use How::{HeldWhole, NotApplicable, Text, Windows};
        assert_eq!(hows(&lines, Rule::Allowlist), [Text, NotApplicable, NotApplicable]);
        assert_eq!(hows(&lines, Rule::Denylist), [Text, Text, Text]);
        assert_eq!(hows(&lines, Rule::Categories), [Text, Text, Windows]);
        assert_eq!(hows(&lines, Rule::Redaction), [Text, Text, Text]);
        assert_eq!(hows(&lines, Rule::Unscannable), [HeldWhole; 3]);
        assert_eq!(hows(&lines, Rule::Overrides), [Text, Text, Text]);
        let decisions: Vec<Vec<Decision>> =
            lines.iter().take(6).map(|line| line.decisions.iter().copied().collect()).collect();
        use Decision::{Allow, Escalate, Refuse, Rewrite};
        assert_eq!(
            decisions,
            [vec![Refuse], vec![Rewrite], vec![Rewrite], vec![Allow], vec![Refuse], vec![Escalate]]
        );
        let reach: Vec<_> = lines.iter().take(6).map(|line| line.reach_characters).collect();
        assert_eq!(reach, [Some(512), Some(512), Some(512), Some(512), None, Some(512)]);
    }

    #[test]
    fn a_summary_holds_a_stream_back() {
        let lines = covered(json!({"denylist": ["b"], "redact": true, "response_pattern": "summary"}));
        assert_eq!(hows(&lines, Rule::Denylist), [How::Text, How::Text, How::HeldWhole]);
        assert_eq!(hows(&lines, Rule::Redaction), [How::Text, How::Text, How::HeldWhole]);
    }
}
