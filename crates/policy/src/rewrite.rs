//! What a redaction or a rewrite changes in the text of a message: placeholders for entities, and denied spans
//! cut out until nothing denied is left, not even what the cuts themselves bring together.

use crate::input::{Edit, apply_edits};
use crate::masker::{From, Masker};
use crate::revision::Revision;
use crate::scan::{Scan, Span, What};
use crate::subject::Subject;

/// Rounds of cutting and looking again. One is enough for any text not made to defeat it: a term wrapped in
/// itself takes one per layer. After the last, the text as a whole goes.
const ROUNDS_MAX: usize = 16;

/// The edits that put placeholders in place of entities and leave the rest.
pub(crate) fn redact(revision: &Revision, text: &str, spans: &[Span], masker: &mut Masker) -> Vec<Edit> {
    let entities: Vec<Span> =
        spans.iter().filter(|span| matches!(span.what, What::Entity(_))).copied().collect();
    merge(revision, text, &entities, masker)
}

/// The edits that cut out denied spans and put placeholders in place of entities, such that a new search finds
/// neither. What an override of the call leaves in place stays.
pub(crate) fn cut(
    revision: &Revision,
    subject: &Subject,
    text: &str,
    spans: &[Span],
    masker: &mut Masker,
) -> Vec<Edit> {
    cut_where(revision, subject, text, spans, masker, |span| !revision.effect(subject, span.what).leaves())
}

/// The same for a text that stands in every call: all that any call's rules could find goes.
pub(crate) fn cut_all(revision: &Revision, text: &str, spans: &[Span]) -> Vec<Edit> {
    cut_where(revision, &Subject::default(), text, spans, &mut Masker::new(), |_| true)
}

fn cut_where(
    revision: &Revision,
    subject: &Subject,
    text: &str,
    spans: &[Span],
    masker: &mut Masker,
    goes: impl Fn(&Span) -> bool,
) -> Vec<Edit> {
    let spans: Vec<Span> = spans.iter().filter(|span| goes(span)).copied().collect();
    let mut edits = merge(revision, text, &spans, masker);
    let mut scan = Scan::default();
    for _ in 0..ROUNDS_MAX {
        let left = apply_edits(text, &edits);
        scan.reset();
        scan.run(revision, subject, &left, 0, false);
        scan.spans.retain(&goes);
        if scan.spans.is_empty() {
            return edits;
        }
        let found = merge(revision, &left, &scan.spans, masker);
        edits = compose(text.len(), &edits, found);
    }
    vec![Edit { range: 0..text.len(), with: String::new() }]
}

/// One edit for each cluster of overlapping spans: a placeholder where an entity covers all of it, else a cut.
fn merge(revision: &Revision, text: &str, spans: &[Span], masker: &mut Masker) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for span in spans {
        if let Some(last) = edits.last_mut()
            && span.start < last.range.end
        {
            if span.end > last.range.end {
                last.range.end = span.end;
                last.with.clear();
            }
            continue;
        }
        let mut with = String::new();
        if let What::Entity(entity) = span.what {
            let value = text.get(span.start..span.end).unwrap_or_default();
            masker.write(revision, From::Request, entity, value, &mut with);
        }
        edits.push(Edit { range: span.start..span.end, with });
    }
    edits
}

/// Edits of the original that do what `first` does, and then `then` to its result.
fn compose(len: usize, first: &[Edit], then: Vec<Edit>) -> Vec<Edit> {
    let pieces = pieces(len, first);
    let mut edits: Vec<Edit> = first.to_vec();
    for edit in then {
        let start = pieces.iter().find(|piece| edit.range.start < piece.result_end()).map_or(len, |piece| {
            piece.original.start + if piece.kept { edit.range.start - piece.result } else { 0 }
        });
        let end = pieces.iter().find(|piece| edit.range.end <= piece.result_end()).map_or(len, |piece| {
            if piece.kept {
                piece.original.start + (edit.range.end - piece.result)
            } else {
                piece.original.end
            }
        });
        edits.retain(|old| old.range.end <= start || old.range.start >= end);
        edits.push(Edit { range: start..end, with: edit.with });
    }
    edits.sort_by_key(|edit| edit.range.start);
    edits
}

/// A part of the edited text: where it came from and where it begins.
struct Piece {
    original: std::ops::Range<usize>,
    result: usize,
    result_len: usize,
    kept: bool,
}

impl Piece {
    fn result_end(&self) -> usize {
        self.result + self.result_len
    }
}

/// The parts of the edited text that are not empty.
fn pieces(len: usize, edits: &[Edit]) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(edits.len() * 2 + 1);
    let mut at = 0;
    let mut result = 0;
    let mut add = |original: std::ops::Range<usize>, result_len: usize, kept: bool| {
        if result_len > 0 {
            pieces.push(Piece { original, result, result_len, kept });
            result += result_len;
        }
    };
    for edit in edits {
        add(at..edit.range.start, edit.range.start - at, true);
        add(edit.range.clone(), edit.with.len(), false);
        at = edit.range.end;
    }
    add(at..len, len - at, true);
    pieces
}
