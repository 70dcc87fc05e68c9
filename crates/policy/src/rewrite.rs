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
        edits = compose(text.len(), edits, found);
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

/// Edits of the original that do what `first` does, and then `then` to its result; both in order. What `then` touches of
/// a replacement goes with all of it. Linear: a text can be made of nothing but terms.
fn compose(len: usize, first: Vec<Edit>, then: Vec<Edit>) -> Vec<Edit> {
    let pieces = pieces(len, &first);
    let mut rest = pieces.as_slice();
    let mut later: Vec<Edit> = Vec::with_capacity(then.len());
    for Edit { range, with } in then {
        rest = skip(rest, |piece| piece.result_end() <= range.start);
        let start = rest.first().map_or(len, |piece| {
            piece.original.start + if piece.kept { range.start - piece.result } else { 0 }
        });
        rest = skip(rest, |piece| piece.result_end() < range.end);
        let end = rest.first().map_or(len, |piece| match piece.kept {
            true => piece.original.start + (range.end - piece.result),
            false => piece.original.end,
        });
        match later.last_mut() {
            // Both lie in one replacement.
            Some(last) if start < last.range.end => {
                last.range.end = last.range.end.max(end);
                last.with.clear();
            }
            _ => later.push(Edit { range: start..end, with }),
        }
    }
    let mut edits = Vec::with_capacity(first.len() + later.len());
    let mut first = first.into_iter().peekable();
    for edit in later {
        while let Some(old) = first.next_if(|old| old.range.start < edit.range.end) {
            if old.range.end <= edit.range.start {
                edits.push(old);
            }
        }
        edits.push(edit);
    }
    edits.extend(first);
    edits
}

fn skip(pieces: &[Piece], goes: impl Fn(&Piece) -> bool) -> &[Piece] {
    pieces.get(pieces.iter().take_while(|piece| goes(piece)).count()..).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Edits of a text, made of the lengths of what stays and of what is replaced.
    fn edits(len: usize, steps: &[(usize, usize, bool)]) -> Vec<Edit> {
        let mut at = 0;
        let mut edits = Vec::new();
        for (stays, goes, is_cut) in steps {
            let (start, end) = (at + stays, at + stays + goes);
            if end > len {
                break;
            }
            edits.push(Edit {
                range: start..end,
                with: if *is_cut { String::new() } else { "<x>".to_owned() },
            });
            at = end;
        }
        edits
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
        prop::collection::vec((0usize..4, 1usize..4, any::<bool>()), 0..8)
    }

    proptest! {
        #[test]
        fn edits_of_edits_leave_what_one_after_the_other_leaves(first in steps(), then in steps()) {
            const TEXT: &str = "abcdefghijklmnopqrstuvwxyz";
            let first = edits(TEXT.len(), &first);
            let left = apply_edits(TEXT, &first);
            // What touches a replacement takes all of it: compared where nothing does.
            let then: Vec<Edit> = edits(left.len(), &then)
                .into_iter()
                .filter(|edit| !left[edit.range.clone()].contains(['<', 'x', '>']))
                .collect();
            let both = compose(TEXT.len(), first, then.clone());
            prop_assert!(both.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{both:?}");
            prop_assert_eq!(apply_edits(TEXT, &both), apply_edits(&left, &then));
        }

        #[test]
        fn what_a_second_edit_touches_is_gone(first in steps(), then in steps()) {
            const TEXT: &str = "abcdefghijklmnopqrstuvw";
            let first = edits(TEXT.len(), &first);
            let left = apply_edits(TEXT, &first);
            let then: Vec<Edit> = edits(left.len(), &then).into_iter()
                .map(|edit| Edit { with: String::new(), ..edit }).collect();
            let both = compose(TEXT.len(), first, then.clone());
            let result = apply_edits(TEXT, &both);
            for gone in then.iter().flat_map(|edit| left[edit.range.clone()].chars()).filter(char::is_ascii_alphabetic) {
                prop_assert!(gone == 'x' || !result.contains(gone), "{gone} in {result}");
            }
        }
    }
}
