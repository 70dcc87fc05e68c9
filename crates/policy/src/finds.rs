//! Where in a text each rule finds something: what an explanation is made of. Only places, names and normal forms; what
//! follows from a find is in `input` and `output`.

use std::ops::Range;
use std::sync::Arc;

use crate::entities::EntityType;
use crate::matching::terms::{self, Part, Terms};
use crate::matching::{Before, Normal, normalise};
use crate::revision::Revision;
use crate::scan::{Scan, Span, What};
use crate::subject::Subject;
use crate::verdict::Decision;

/// Something found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Bytes of the text, on character boundaries.
    pub range: Range<usize>,
    /// What it is.
    pub what: Found,
    /// What it alone comes to.
    pub decision: Decision,
    /// Which of `rules.overrides` says so.
    pub override_index: Option<usize>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A term of a list.
    Term {
        /// As the policy spells it; several where spellings share a normal form.
        spellings: Vec<Arc<str>>,
        /// What text and term were compared as.
        normal: String,
    },
    /// Personal data or a secret.
    Entity(EntityType),
}

/// Every denied term and, where the policy redacts, every entity in a whole text, in order, also where an override lets it
/// pass. Finds may overlap.
pub fn find_violations(revision: &Revision, subject: &Subject, text: &str) -> Vec<Find> {
    let mut scan = Scan::default();
    scan.run(revision, subject, text, 0, false);
    let what = |what| match what {
        What::Term(group) => found_term(&revision.denylist, group),
        What::Entity(entity) => Found::Entity(entity),
    };
    let find = |span: &Span| {
        let effect = revision.effect(subject, span.what);
        Find {
            range: span.start..span.end,
            what: what(span.what),
            decision: effect.decision,
            override_index: effect.override_index,
        }
    };
    let mut spans = [scan.spans, scan.left].concat();
    spans.sort_by_key(|span| span.start);
    spans.iter().map(find).collect()
}

/// Every allowlist term in a whole text, in order.
pub fn find_allowed(revision: &Revision, text: &str) -> Vec<Find> {
    let mut found = Vec::new();
    let part = Part { text, before: Before::START, more: false };
    revision.allowlist.find(part, &mut Normal::default(), &mut found);
    let what = |group| found_term(&revision.allowlist, group);
    let find = |found: &terms::Found| Find {
        range: found.start..found.end,
        what: what(found.group),
        decision: Decision::Allow,
        override_index: None,
    };
    found.iter().map(find).collect()
}

/// The form in which a term and a text are compared: case folded, compatibility forms and look-alikes resolved, marks and
/// invisible characters gone, white space as single blanks.
pub fn normal_form(term: &str) -> String {
    normalise(term)
}

fn found_term(terms: &Terms, group: u32) -> Found {
    let spellings = terms.spellings_of([group]);
    let normal = spellings.first().map(|spelling| normalise(spelling)).unwrap_or_default();
    Found::Term { spellings, normal }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::PolicyDocument;

    #[test]
    fn every_find_has_its_place_its_spellings_and_its_normal_form() {
        let rules = json!({"denylist": ["Theft", "THEFT", "of it"], "allowlist": ["refund"], "redact": true});
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        let revision = Revision::compile(document, 1).unwrap();
        let text = "ｔheft  of it, a@b.org";
        let finds = find_violations(&revision, &Subject::default(), text);
        let at: Vec<_> = finds.iter().map(|find| &text[find.range.clone()]).collect();
        assert_eq!(at, ["ｔheft", "of it", "a@b.org"]);
        assert_eq!(
            finds[0].what,
            Found::Term { spellings: vec!["Theft".into(), "THEFT".into()], normal: "theft".to_owned() }
        );
        assert_eq!(finds[2].what, Found::Entity(EntityType::EmailAddress));
        assert_eq!(find_allowed(&revision, "no REFUND")[0].range, 3..9);
        assert_eq!(find_allowed(&revision, text), []);
        assert_eq!(normal_form("A \u{200b}B"), "a b");
    }
}
