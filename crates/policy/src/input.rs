//! Judging a request: the texts of its messages, the verdict, and the edits that a redaction or rewrite makes.
//! Which strings of a request are texts, and putting edited ones back, is the caller's business.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::document::Category;
use crate::effects::Fired;
use crate::masker::Masker;
use crate::matching::{Before, Normal, terms::Part};
use crate::moderation::{Moderated, Source};
use crate::revision::Revision;
use crate::rewrite;
use crate::scan::{Scan, Span, What};
use crate::subject::Subject;
use crate::unscanned::Unscanned;
use crate::verdict::{Decision, ReasonCode, Redactions};

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The application's instructions.
    System,
    /// The same, by their newer name.
    Developer,
    /// The end user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool or function.
    Tool,
    /// Any other.
    Other,
}

/// One judged text of a request.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// Index of the message it belongs to.
    pub message: usize,
    /// Who that message is from.
    pub role: Role,
    /// Whether it is the message's content (its text parts joined), rather than a name or an argument.
    pub is_content: bool,
    /// The text itself.
    pub text: Cow<'a, str>,
}

/// What is to be changed in one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEdits {
    /// Index of the text in the judged list.
    pub text: usize,
    /// In order, not overlapping.
    pub edits: Vec<Edit>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes of the original text, on character boundaries.
    pub range: Range<usize>,
    /// What stands there instead; empty to cut.
    pub with: String,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct InputVerdict {
    /// What is to be done.
    pub decision: Decision,
    /// Why.
    pub reason_code: ReasonCode,
    /// What set both.
    pub fired: Fired,
    /// Whether the policy has an allowlist and the last user message has nothing of it.
    pub allowlist_missed: bool,
    /// Denylist terms found, in the policy's spelling and order, each once.
    pub denylist_hits: Vec<Arc<str>>,
    /// Allowlist terms found, likewise.
    pub allowlist_hits: Vec<Arc<str>>,
    /// Listed categories that fired.
    pub triggered_categories: Vec<Category>,
    /// What scoring said.
    pub moderated: Moderated,
    /// Entities found in judged texts, by type.
    pub redactions: Redactions,
    /// The texts to change: redactions under any decision, cuts under `rewrite` and `summary`. Texts without are absent.
    pub edits: Vec<TextEdits>,
    /// Whether [`Revision::instruction`] is to go last, as a system message.
    pub add_instruction: bool,
    /// Bytes of the texts that were judged.
    pub scanned_bytes: u64,
    /// Parts of the judged messages that were not read.
    pub unscanned: Unscanned,
}

/// Judges a request by its texts. A user message without text must still be listed, with an empty one, or the
/// allowlist would look at the user message before it.
pub fn evaluate_input(
    revision: &Revision,
    subject: &Subject,
    texts: &[Text<'_>],
    masker: &mut Masker,
) -> InputVerdict {
    let mut pass = Pass::new(revision, subject);
    for (index, text) in texts.iter().enumerate() {
        revision.note_existing(&text.text, masker);
        if revision.judges(text.role) {
            pass.scan(index, text);
        }
    }
    pass.conclude(texts, allowlist_hits(revision, texts), masker)
}

/// One revision's way through the texts of a request.
pub(crate) struct Pass<'r> {
    revision: &'r Revision,
    subject: &'r Subject,
    scan: Scan,
    redactions: Redactions,
    groups: Vec<u32>,
    fired: Fired,
    triggered: Vec<Category>,
    moderated: Moderated,
    violated: bool,
    scanned_bytes: u64,
    finds: Vec<(usize, Vec<Span>)>,
}

impl<'r> Pass<'r> {
    pub(crate) fn new(revision: &'r Revision, subject: &'r Subject) -> Self {
        Self {
            revision,
            subject,
            scan: Scan::default(),
            redactions: Redactions::new(),
            groups: Vec::new(),
            fired: Fired::default(),
            triggered: Vec::new(),
            moderated: Moderated::default(),
            violated: false,
            scanned_bytes: 0,
            finds: Vec::new(),
        }
    }

    /// Searches a text that is judged.
    pub(crate) fn scan(&mut self, index: usize, text: &Text<'_>) {
        let mut scan = std::mem::take(&mut self.scan);
        scan.reset();
        scan.run(self.revision, self.subject, &text.text, 0, false);
        self.take(index, text, &mut scan);
        self.scan = scan;
    }

    /// Takes what was found in it.
    pub(crate) fn take(&mut self, index: usize, text: &Text<'_>, scan: &mut Scan) {
        let role = text.role;
        self.scanned_bytes += text.text.len() as u64;
        for span in &scan.spans {
            let effect = self.revision.effect(self.subject, span.what);
            self.fired.add(effect);
            match span.what {
                What::Term(group) => {
                    self.groups.push(group);
                    self.violated |= !effect.leaves();
                }
                What::Entity(entity) => *self.redactions.entry(entity).or_default() += 1,
            }
        }
        if self.revision.moderates(self.subject) {
            let text = without_entities(&text.text, &scan.spans);
            self.moderate(&text, Source::of(role));
        }
        if !scan.spans.is_empty() {
            self.finds.push((index, std::mem::take(&mut scan.spans)));
        }
    }

    fn moderate(&mut self, text: &str, source: Source) {
        let ruling = self.revision.moderate(self.subject, text, source);
        self.fired.merge(&ruling.fired);
        self.violated |= ruling.fired.decision() > Decision::Allow;
        self.triggered.extend(ruling.triggered);
        self.moderated.merge(&ruling.moderated);
    }

    pub(crate) fn conclude(
        mut self,
        texts: &[Text<'_>],
        allowlist_hits: Vec<Arc<str>>,
        masker: &mut Masker,
    ) -> InputVerdict {
        let (revision, subject) = (self.revision, self.subject);
        let denylist_hits = revision.denylist.spellings_of(self.groups);
        let allowlist_missed = !revision.allowlist.is_empty() && allowlist_hits.is_empty();
        if allowlist_missed && !self.violated {
            self.fired.add(revision.miss_effect(subject));
        }
        self.triggered.sort_unstable();
        self.triggered.dedup();
        let decision = self.fired.decision();
        let cuts = matches!(decision, Decision::Rewrite | Decision::Summary);
        let edits = self
            .finds
            .iter()
            .filter_map(|(index, spans)| {
                let text = &texts.get(*index)?.text;
                let edits = if cuts {
                    rewrite::cut(revision, subject, text, spans, masker)
                } else {
                    rewrite::redact(revision, text, spans, masker)
                };
                (!edits.is_empty()).then_some(TextEdits { text: *index, edits })
            })
            .collect();
        InputVerdict {
            decision,
            reason_code: self.fired.reason_code(!self.redactions.is_empty()),
            fired: self.fired,
            allowlist_missed,
            denylist_hits,
            allowlist_hits,
            triggered_categories: self.triggered,
            moderated: self.moderated,
            redactions: self.redactions,
            edits,
            add_instruction: cuts,
            scanned_bytes: self.scanned_bytes,
            unscanned: Unscanned::default(),
        }
    }
}

/// A text as it is scored: what is replaced of it is none of the scorer's business.
fn without_entities<'t>(text: &'t str, spans: &[Span]) -> Cow<'t, str> {
    let mut out = String::new();
    let mut at = 0;
    for span in spans {
        if let What::Entity(entity) = span.what
            && let Some(kept) = text.get(at..span.start)
        {
            out.push_str(kept);
            out.push('[');
            out.push_str(entity.as_str());
            out.push(']');
            at = span.end;
        }
    }
    if at == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

/// The allowlist looks at the content of the last user message only.
pub(crate) fn allowlist_hits(revision: &Revision, texts: &[Text<'_>]) -> Vec<Arc<str>> {
    if revision.allowlist.is_empty() {
        return Vec::new();
    }
    let from_user = || texts.iter().filter(|text| text.role == Role::User);
    let last = from_user().map(|text| text.message).max();
    let mut normal = Normal::default();
    let mut found = Vec::new();
    for text in from_user().filter(|text| Some(text.message) == last && text.is_content) {
        let part = Part { text: &text.text, before: Before::START, more: false };
        revision.allowlist.find(part, &mut normal, &mut found);
    }
    revision.allowlist.spellings_of(found.iter().map(|found| found.group))
}

/// A text with its edits applied. Ranges that do not fit the text are left out.
pub fn apply_edits(text: &str, edits: &[Edit]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        let Some(kept) = text.get(at..edit.range.start) else { continue };
        out.push_str(kept);
        out.push_str(&edit.with);
        at = edit.range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}
