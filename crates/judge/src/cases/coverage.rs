//! Which rules of a policy the cases reach: a rule that no case hits can be removed or broken without a test noticing.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::Revision;
use serde::Serialize;

use crate::simulate::Simulated;

/// What the cases of one policy reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    denylist: BTreeSet<Arc<str>>,
    allowlist: BTreeSet<Arc<str>>,
    names: BTreeSet<String>,
    /// As in `rules.overrides[3]`.
    overrides: BTreeSet<String>,
    /// Cases that were run.
    pub cases: usize,
}

/// A rule, by its place in the document and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// As in `rules.denylist[3]`.
    pub path: String,
    /// The term, category or other subject.
    pub about: String,
}

impl Coverage {
    /// Notes what one case came to.
    pub fn note(&mut self, done: &Simulated) {
        let verdict = &done.verdict;
        self.cases += 1;
        self.denylist.extend(verdict.denylist_hits.iter().cloned());
        self.allowlist.extend(verdict.allowlist_hits.iter().cloned());
        self.names.extend(verdict.triggered_categories.iter().map(|category| category.as_str().to_owned()));
        self.names.extend(verdict.redactions.keys().map(|entity| entity.as_str().to_owned()));
        let findings = done.explanation.findings.iter();
        self.overrides.extend(findings.filter_map(|finding| finding.overridden_by.clone()));
    }

    /// Every rule of the policy, and whether a case reached it.
    pub fn rules(&self, revision: &Revision) -> Vec<(Rule, bool)> {
        let rules = &revision.document().rules;
        let rule = |path: &str, at: usize, about: &str| Rule {
            path: format!("rules.{path}[{at}]"),
            about: about.to_owned(),
        };
        let mut all = Vec::new();
        for (at, term) in rules.denylist.iter().enumerate() {
            all.push((rule("denylist", at, term), self.denylist.contains(term.as_str())));
        }
        for (at, term) in rules.allowlist.iter().enumerate() {
            all.push((rule("allowlist", at, term), self.allowlist.contains(term.as_str())));
        }
        for (at, category) in rules.flagged_categories.iter().enumerate() {
            let name = category.as_str();
            all.push((rule("flagged_categories", at, name), self.names.contains(name)));
        }
        for (at, exception) in rules.overrides.iter().enumerate() {
            let name = exception.category.map(policy::Category::as_str);
            let name = name.or(exception.entity.map(policy::EntityType::as_str));
            let about =
                exception.term.as_deref().or(name).or(exception.target.as_deref()).unwrap_or_default();
            let rule = rule("overrides", at, about);
            let reached = self.overrides.contains(&rule.path);
            all.push((rule, reached));
        }
        all
    }

    /// The rules that no case reached.
    pub fn missed(&self, revision: &Revision) -> Vec<Rule> {
        self.rules(revision).into_iter().filter(|(_, reached)| !reached).map(|(rule, _)| rule).collect()
    }
}
