//! Two revisions made ready to judge the same texts in one pass: a candidate beside the stable one. Their terms are one
//! list, and what is found of it is each one's own again; entities that both look for are looked for once.
//!
//! INVARIANT: each verdict is what the revision alone would come to. Judging both costs little more than judging one,
//! since finding is what costs and most texts hold nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::input::{InputVerdict, Pass, Text, allowlist_hits};
use crate::masker::Masker;
use crate::matching::terms::{Found, Terms};
use crate::output::{OutputFindings, OutputMode, Release, Released};
use crate::revision::Revision;
use crate::scan::Scan;
use crate::subject::Subject;

/// See the module. The first of both acts, the second stands beside it.
#[derive(Debug)]
pub struct Pair {
    revisions: [Arc<Revision>; 2],
    /// None where both have the same terms.
    union: Option<Union>,
    same_entities: bool,
    same_allowlist: bool,
}

/// The terms of both.
#[derive(Debug)]
struct Union {
    terms: Terms,
    /// By group of the union: each one's own group.
    groups: [Vec<Option<u32>>; 2],
}

impl Union {
    fn new(first: &Revision, second: &Revision) -> Self {
        let spellings = first.denylist.spellings().iter().chain(second.denylist.spellings());
        let terms = Terms::new(spellings.map(AsRef::as_ref));
        let own = |revision: &Revision| {
            let own: HashMap<String, u32> = revision.denylist.forms().collect();
            terms.forms().map(|(form, _)| own.get(&form).copied()).collect()
        };
        Self { groups: [own(first), own(second)], terms }
    }
}

/// Keeps what is a term of the revision's own, under its own group.
fn to_own(found: &mut Vec<Found>, groups: &[Option<u32>]) {
    found.retain_mut(|one| match groups.get(one.group as usize) {
        Some(Some(group)) => {
            one.group = *group;
            true
        }
        _ => false,
    });
}

impl Pair {
    /// Makes both ready.
    pub fn new(acting: Arc<Revision>, beside: Arc<Revision>) -> Self {
        let same_terms = acting.denylist.spellings() == beside.denylist.spellings();
        Self {
            union: (!same_terms).then(|| Union::new(&acting, &beside)),
            same_entities: acting.redacts() == beside.redacts() && acting.entities() == beside.entities(),
            same_allowlist: acting.allowlist.spellings() == beside.allowlist.spellings(),
            revisions: [acting, beside],
        }
    }

    /// The revision that acts.
    pub fn acting(&self) -> &Arc<Revision> {
        let [acting, _] = &self.revisions;
        acting
    }

    /// The revision beside it.
    pub fn beside(&self) -> &Arc<Revision> {
        let [_, beside] = &self.revisions;
        beside
    }

    /// Judges a request's texts by both; see [`crate::evaluate_input`]. Subjects and maskers are each one's own.
    pub fn evaluate_input(
        &self,
        subjects: [&Subject; 2],
        texts: &[Text<'_>],
        maskers: [&mut Masker; 2],
    ) -> [InputVerdict; 2] {
        let ([first, second], [masker, other]) = (&self.revisions, maskers);
        let [subject, other_subject] = subjects;
        let mut passes = [Pass::new(first, subject), Pass::new(second, other_subject)];
        let mut scans = [Scan::default(), Scan::default()];
        for (index, text) in texts.iter().enumerate() {
            first.note_existing(&text.text, masker);
            second.note_existing(&text.text, other);
            let [pass, pass_beside] = &mut passes;
            match (first.judges(text.role), second.judges(text.role)) {
                (true, true) => {
                    self.scan(&mut scans, subjects, &text.text);
                    let [scan, scan_beside] = &mut scans;
                    pass.take(index, text, scan);
                    pass_beside.take(index, text, scan_beside);
                }
                (true, false) => pass.scan(index, text),
                (false, true) => pass_beside.scan(index, text),
                (false, false) => {}
            }
        }
        let allowed = allowlist_hits(first, texts);
        let allowed_beside =
            if self.same_allowlist { allowed.clone() } else { allowlist_hits(second, texts) };
        let [pass, pass_beside] = passes;
        [pass.conclude(texts, allowed, masker), pass_beside.conclude(texts, allowed_beside, other)]
    }

    /// Judges a whole text of an answer by both; see [`crate::scan_text_into`]. What the acting revision lets go goes to
    /// `released`.
    pub fn scan_text_into(
        &self,
        subjects: [&Subject; 2],
        text: &str,
        mode: OutputMode,
        maskers: [&mut Masker; 2],
        released: &mut impl Released,
    ) -> [OutputFindings; 2] {
        let mut scans = [Scan::default(), Scan::default()];
        self.scan(&mut scans, subjects, text);
        let ([first, second], [masker, other]) = (&self.revisions, maskers);
        let ([scan, scan_beside], [subject, other_subject]) = (&scans, subjects);
        let found = Release::whole(first, subject, scan, text, mode, masker, released);
        let beside =
            Release::whole(second, other_subject, scan_beside, text, OutputMode::Mask, other, &mut Nowhere);
        [found, beside]
    }

    /// Searches a whole text for both.
    fn scan(&self, scans: &mut [Scan; 2], subjects: [&Subject; 2], text: &str) {
        let ([first, second], [scan, beside]) = (&self.revisions, scans);
        scan.begin();
        beside.begin();
        scan.whole_entities(first, text);
        if self.same_entities {
            beside.copy_entities(scan);
        } else {
            beside.whole_entities(second, text);
        }
        match &self.union {
            None => {
                scan.whole_terms(&first.denylist, text);
                beside.copy_terms(scan);
            }
            Some(Union { terms, groups: [own, of_beside] }) => {
                scan.whole_terms(terms, text);
                beside.copy_terms(scan);
                to_own(scan.terms_mut(), own);
                to_own(beside.terms_mut(), of_beside);
            }
        }
        let [subject, other_subject] = subjects;
        scan.keep_whole(first, subject, text);
        beside.keep_whole(second, other_subject, text);
    }
}

/// Where a text goes that nobody gets.
struct Nowhere;

impl Released for Nowhere {
    fn kept(&mut self, _text: &str) {}

    fn replaced(&mut self, _bytes: usize, _with: &str) {}
}
