//! Whose decisions change between two policies: counted per rule, project, target and user in bounded memory, whatever
//! the number of requests. Behind `policy diff` (both policies judge a file) and `rollout report` (the audit log says what
//! both decided). Where the requests come from is the caller's business.

mod distinct;
mod halves;
mod line;
mod report;
mod top;

use policy::{Decision, Redactions};
use serde::Serialize;

pub use distinct::Distinct;
pub use halves::Halves;
pub use line::{LineError, Pair};
pub use report::{FlipReport, Outcomes, Row, Table};
pub use top::Top;

/// Entries that a table keeps at least; up to so many different names the counts are exact.
pub(crate) const KEPT: usize = 1000;

/// What a request comes to: the decision, with the two kinds of allow told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Passes as it is.
    Allow,
    /// Passes with entities replaced.
    Redact,
    /// Passes with offending text taken out.
    Rewrite,
    /// The answer is replaced by a summary.
    Summary,
    /// Waits for a person.
    Escalate,
    /// Does not pass.
    Refuse,
}

impl Outcome {
    /// All, from mild to severe.
    pub const ALL: [Self; 6] =
        [Self::Allow, Self::Redact, Self::Rewrite, Self::Summary, Self::Escalate, Self::Refuse];

    /// The outcome of a decision.
    pub fn of(decision: Decision, is_redacted: bool) -> Self {
        match decision {
            Decision::Allow if is_redacted => Self::Redact,
            Decision::Allow => Self::Allow,
            Decision::Rewrite => Self::Rewrite,
            Decision::Summary => Self::Summary,
            Decision::Escalate => Self::Escalate,
            Decision::Refuse => Self::Refuse,
        }
    }

    /// Its name: the decision's, or `redact`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Redact => "redact",
            Self::Rewrite => "rewrite",
            Self::Summary => "summary",
            Self::Escalate => "escalate",
            Self::Refuse => "refuse",
        }
    }

    fn decision(self) -> Decision {
        match self {
            Self::Allow | Self::Redact => Decision::Allow,
            Self::Rewrite => Decision::Rewrite,
            Self::Summary => Decision::Summary,
            Self::Escalate => Decision::Escalate,
            Self::Refuse => Decision::Refuse,
        }
    }
}

/// Whose request it is; what is not known is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whose<'a> {
    /// `policy_user`.
    pub user: &'a str,
    /// `policy_project_id`.
    pub project: &'a str,
    /// `policy_target`.
    pub target: &'a str,
}

/// What one policy says of a request, and by which rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// What it comes to.
    pub outcome: Outcome,
    /// The rules that found something, in words.
    pub rules: Vec<String>,
}

impl Ruling {
    /// A ruling from what is found, whether the allowlist was missed, and whether content could not be read and the
    /// policy minds.
    pub fn new<'a>(
        decision: Decision,
        denied: impl IntoIterator<Item = &'a str>,
        categories: impl IntoIterator<Item = &'a str>,
        entities: impl IntoIterator<Item = &'a str>,
        allowlist_missed: bool,
        unread: bool,
    ) -> Self {
        let mut rules: Vec<String> = denied.into_iter().map(|term| format!("denylist `{term}`")).collect();
        rules.extend(categories.into_iter().map(|category| format!("category `{category}`")));
        if allowlist_missed {
            rules.push("allowlist: no term found".to_owned());
        }
        if unread {
            rules.push("unscannable content".to_owned());
        }
        let before = rules.len();
        rules.extend(entities.into_iter().map(|entity| format!("redact {entity}")));
        let outcome = Outcome::of(decision, rules.len() > before);
        Self { outcome, rules }
    }

    /// The rules that the change from `other` to this is owed to: those that only one of them has; of the more severe
    /// one, where there are any; and where both found the same, all.
    fn owed<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let (severe, mild) =
            if self.outcome.decision() >= other.outcome.decision() { (self, other) } else { (other, self) };
        let only = |one: &'a Self, other: &'a Self| -> Vec<&'a str> {
            one.rules.iter().filter(|rule| !other.rules.contains(rule)).map(String::as_str).collect()
        };
        let mut owed = only(severe, mild);
        if owed.is_empty() {
            owed = only(mild, severe);
        }
        if owed.is_empty() {
            owed = severe.rules.iter().map(String::as_str).collect();
        }
        if owed.is_empty() {
            owed.push("another setting");
        }
        owed
    }
}

/// Whether anything was replaced.
pub(crate) fn is_redacted(redactions: &Redactions) -> bool {
    redactions.values().any(|count| *count > 0)
}

/// Requests that came to this, and what of them changed.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// To a more severe decision.
    pub stricter: u64,
    /// To a less severe one.
    pub milder: u64,
    /// To another outcome of the same severity: redacted, or no longer.
    pub other: u64,
    /// Users whose requests these are.
    pub users: Distinct,
}

impl Tally {
    fn add(&mut self, direction: std::cmp::Ordering, user: Option<u64>) {
        match direction {
            std::cmp::Ordering::Greater => self.stricter += 1,
            std::cmp::Ordering::Less => self.milder += 1,
            std::cmp::Ordering::Equal => self.other += 1,
        }
        if let Some(user) = user {
            self.users.insert(user);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.stricter += other.stricter;
        self.milder += other.milder;
        self.other += other.other;
        self.users.merge(&other.users);
    }

    /// All changes.
    pub fn flips(&self) -> u64 {
        self.stricter + self.milder + self.other
    }
}

/// The changes between two policies, over any number of requests.
#[derive(Clone, Debug)]
pub struct Flips {
    requests: u64,
    /// From, to.
    outcomes: [[u64; Outcome::ALL.len()]; Outcome::ALL.len()],
    users: Distinct,
    flipped: Tally,
    rules: Top,
    projects: Top,
    targets: Top,
    by_user: Top,
}

impl Default for Flips {
    fn default() -> Self {
        Self {
            requests: 0,
            outcomes: Default::default(),
            users: Distinct::default(),
            flipped: Tally::default(),
            rules: Top::new(KEPT),
            projects: Top::new(KEPT),
            targets: Top::new(KEPT),
            by_user: Top::new(KEPT),
        }
    }
}

impl Flips {
    /// Counts one request. `rulings` gives both policies' rulings, before and after; it is asked where the outcome
    /// differs only.
    pub fn note(
        &mut self,
        whose: Whose<'_>,
        before: Outcome,
        after: Outcome,
        rulings: impl FnOnce() -> (Ruling, Ruling),
    ) {
        self.requests += 1;
        let user = (!whose.user.is_empty()).then(|| distinct::hash(whose.user));
        if let Some(user) = user {
            self.users.insert(user);
        }
        let row = self.outcomes.get_mut(before as usize);
        if let Some(count) = row.and_then(|row| row.get_mut(after as usize)) {
            *count += 1;
        }
        if before == after {
            return;
        }
        let direction = after.decision().cmp(&before.decision());
        self.flipped.add(direction, user);
        let (before, after) = rulings();
        for rule in after.owed(&before) {
            self.rules.tally(rule).add(direction, user);
        }
        let named = [
            (&mut self.projects, whose.project),
            (&mut self.targets, whose.target),
            (&mut self.by_user, whose.user),
        ];
        for (table, name) in named.into_iter().filter(|(_, name)| !name.is_empty()) {
            table.tally(name).add(direction, user);
        }
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        for (row, other) in self.outcomes.iter_mut().zip(&other.outcomes) {
            for (count, other) in row.iter_mut().zip(other) {
                *count += other;
            }
        }
        self.users.merge(&other.users);
        self.flipped.merge(&other.flipped);
        self.rules.merge(&other.rules);
        self.projects.merge(&other.projects);
        self.targets.merge(&other.targets);
        self.by_user.merge(&other.by_user);
    }

    /// Share of the requests, 0 to 1, that come to a more severe decision.
    pub fn stricter_share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.flipped.stricter as f64 / self.requests as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(decision: Decision, denied: &[&str], missed: bool) -> Ruling {
        Ruling::new(decision, denied.iter().copied(), [], [], missed, false)
    }

    fn note(flips: &mut Flips, user: &str, before: &Ruling, after: &Ruling) {
        let whose = Whose { user, project: "p", target: "" };
        flips.note(whose, before.outcome, after.outcome, || (before.clone(), after.clone()));
    }

    #[test]
    fn a_change_is_owed_to_the_rules_that_differ() {
        let allow = ruling(Decision::Allow, &[], false);
        let refuse = ruling(Decision::Refuse, &["a", "b"], false);
        let rewrite = ruling(Decision::Rewrite, &["a"], false);
        let missed = ruling(Decision::Refuse, &[], true);
        assert_eq!(refuse.owed(&allow), ["denylist `a`", "denylist `b`"]);
        assert_eq!(allow.owed(&refuse), ["denylist `a`", "denylist `b`"]);
        assert_eq!(refuse.owed(&rewrite), ["denylist `b`"]);
        assert_eq!(missed.owed(&allow), ["allowlist: no term found"]);
        assert_eq!(ruling(Decision::Refuse, &["a"], false).owed(&rewrite), ["denylist `a`"]);
        assert_eq!(ruling(Decision::Refuse, &[], false).owed(&allow), ["another setting"]);
        assert_eq!(Ruling::new(Decision::Allow, [], [], ["SECRET"], false, false).outcome, Outcome::Redact);
    }

    #[test]
    fn flips_are_counted_by_direction_and_by_user() {
        let allow = ruling(Decision::Allow, &[], false);
        let refuse = ruling(Decision::Refuse, &["a"], false);
        let mut flips = Flips::default();
        note(&mut flips, "u1", &allow, &refuse);
        note(&mut flips, "u1", &allow, &refuse);
        note(&mut flips, "u2", &refuse, &allow);
        note(&mut flips, "u3", &allow, &allow);
        let mut other = Flips::default();
        note(&mut other, "u4", &allow, &refuse);
        flips.merge(&other);
        let report = flips.report(10);
        assert_eq!((report.requests, report.stricter, report.milder), (5, 3, 1));
        assert_eq!((report.users, report.flipped_users), (4, 3));
        assert_eq!((report.stricter_share * 100.0).round() as u64, 60);
        let changes: Vec<_> =
            report.changes.iter().map(|change| (change.from, change.to, change.requests)).collect();
        assert_eq!(changes, [(Outcome::Allow, Outcome::Refuse, 3), (Outcome::Refuse, Outcome::Allow, 1)]);
        let rule = &report.rules.rows[0];
        assert_eq!((rule.name.as_str(), rule.stricter, rule.milder, rule.users), ("denylist `a`", 3, 1, 3));
        assert_eq!(report.by_user.rows[0].name, "u1");
        assert!(report.targets.rows.is_empty());
    }
}
