//! What must hold of every text and every way a stream is cut: judged alike whole or in pieces, nothing denied
//! left after a rewrite, nothing found again after a redaction, and the fast matcher agrees with a naive one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole binary is a test"
)]

use std::borrow::Cow;
use std::sync::Arc;

use icu_casemap::CaseMapper;
use icu_properties::props::{BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory};
use policy::{
    Decision, EntityType, Flow, Masker, OutputFindings, OutputMode, OutputScan, PolicyDocument, Revision,
    Role, Subject, Text, apply_edits, evaluate_input, scan_text,
};
use proptest::prelude::*;
use serde_json::json;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

fn revision(denylist: &[String], redact: bool, pattern: &str) -> Arc<Revision> {
    let document = json!({
        "policy_id": "p",
        "rules": {
            "denylist": denylist,
            "redact": redact,
            "redaction": {"entities": EntityType::ALL},
            "response_pattern": pattern,
        },
    });
    Arc::new(Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap())
}

fn text(text: &str) -> Text<'_> {
    Text { message: 0, role: Role::User, is_content: true, text: Cow::Borrowed(text) }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    released: String,
    findings: OutputFindings,
    flow: Flow,
}

/// Streams a text in the given pieces.
fn stream(revision: &Arc<Revision>, mode: OutputMode, pieces: &[&str]) -> Outcome {
    let mut scan = OutputScan::new(Arc::clone(revision), &Subject::default(), mode);
    let mut masker = Masker::new();
    let mut released = String::new();
    let mut pushed = 0;
    for piece in pieces {
        pushed += piece.len();
        if scan.push(piece, &mut masker, &mut released) == Flow::Stop {
            break;
        }
        assert!(scan.held() <= pushed);
    }
    let flow = scan.finish(&mut masker, &mut released);
    assert_eq!(scan.scanned_bytes(), pushed as u64);
    assert_eq!(scan.released_bytes(), released.len() as u64);
    Outcome { released, findings: scan.findings().clone(), flow }
}

fn whole(revision: &Revision, mode: OutputMode, text: &str) -> (String, OutputFindings) {
    let (changed, findings) = scan_text(revision, &Subject::default(), text, mode, &mut Masker::new());
    assert_eq!(changed.is_some(), findings.changed);
    (changed.unwrap_or_else(|| text.to_owned()), findings)
}

/// Cuts a text at the character boundaries that the numbers hit.
fn cut<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut places: Vec<usize> =
        cuts.iter().filter_map(|cut| boundaries.get(cut % boundaries.len().max(1))).copied().collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

fn chars(text: &str) -> Vec<&str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect()
}

fn same_however_cut(revision: &Arc<Revision>, text: &str, cuts: &[usize]) -> Result<(), TestCaseError> {
    let (expected, findings) = whole(revision, OutputMode::Mask, text);
    for pieces in [cut(text, cuts), chars(text), vec![text]] {
        let outcome = stream(revision, OutputMode::Mask, &pieces);
        prop_assert_eq!(&outcome.released, &expected, "{:?}", &pieces);
        prop_assert_eq!(&outcome.findings, &findings, "{:?}", &pieces);
        prop_assert_eq!(outcome.flow, Flow::Continue);
    }
    let (expected, findings) = whole(revision, OutputMode::Stop, text);
    let stops = findings.stops();
    for pieces in [cut(text, cuts), chars(text)] {
        let outcome = stream(revision, OutputMode::Stop, &pieces);
        prop_assert_eq!(&outcome.released, &expected, "{:?}", &pieces);
        prop_assert_eq!(outcome.flow == Flow::Stop, stops);
        prop_assert_eq!(&outcome.findings, &findings);
    }
    Ok(())
}

/// Pieces of entities and of what is nearly one.
const FRAGMENTS: &[&str] = &[
    "bob",
    "@",
    "example",
    ".com",
    ".",
    "4111",
    " 1111",
    "-",
    "1111 1111",
    "4111 1111 1111 1111",
    "378282246310005",
    "123-45-6789",
    "+1 212 555 0100",
    "(212) 555-0100",
    "x12",
    "phone ",
    "5550100",
    "020 7946 0958",
    "GB82 WEST 1234 5698 7654 32",
    "GB82WEST1234",
    "5698765432",
    "10.1.2.3",
    "2001:db8::1",
    "fe80:",
    "::",
    ":",
    "/",
    "https://",
    "user",
    "pw",
    "gldt-",
    "api03-aaaabbbbccccdddd1111",
    "AKIA",
    "IOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9",
    ".eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    ".c2lnbmF0dXJl",
    "ghp_",
    "0123456789abcdefghijklmnopqrstuvwxyz",
    " ",
    "\n",
    "x",
    "1",
    "é",
    "ü",
    "中",
    "[EMAIL_1]",
    "-----BEGIN ",
    "RSA PRIVATE KEY",
    "-----",
    "\nMIIEpQIBAAKCAQEAn6/O8li+SX4m98LL\n",
    "-----END RSA PRIVATE KEY-----",
    "AccountKey=",
    "123456789:AAF3",
    "abcdefabcdefabcdefabcdefabcdefab",
    "-us1",
    "SG.",
    "aaaaaaaaaaaaaaaaaaaaaa",
    "00:1A:2B:3C:4D:5E",
    "001a.2b3c.",
    "4d5e",
    "021000021",
    "routing ",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "911-53-1234",
    "NPI 1234567893",
    "passport A12345678",
    "driver license ",
    "D1234567",
    "943 476 5919",
    "AB 12 34 56 C",
    "AB",
    "123456C",
    "SIN 130 692 544",
    "111.444.777-35",
    "11.222.333/0001-81",
    "12345678Z",
    "X1234567L",
    "RSSMRA85T10A562S",
    "86095742719",
    "steuer ",
    "pesel 44051401458",
    "BSN 111222333",
    "2 55 08 14 168 025 38",
    "2341 2341 2346",
    "ABCPD1234E",
    "TFN 876 543 210",
    "51 824 753 556",
    "S1234567D",
    "960121-1234567",
    "1HGCM82633A004352",
    "SWIFT ",
    "DEUTDEFF",
    "password",
    "\"api_key\": ",
    "\"",
    "Authorization: Bearer ",
    "hunter2x",
    "a8F3kd92LmQ0xZ71",
    "curl -u ",
    "abc8Q~",
    "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.",
    "1477036645700765|",
    "value=",
    "version ",
    "v",
    "_",
    "\u{200b}",
    "\u{301}",
    "+",
    "(",
    "=",
    ",",
];

fn fragments(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..most).prop_map(|parts| parts.concat())
}

/// Texts over few characters, so that terms over the same often occur.
const SMALL: &str = "[abAB .+_\\-'1,ß\u{300}\u{336}\u{200b}\u{ad}éäÄﬁ中ıİа\u{1100}\u{1161}가👩\u{fe0f}\u{903}\n=\u{338}]{0,14}";
const SMALL_TERM: &str = "[abA .+_\\-'1ß\u{336}éäﬁ中ıа가👩=≠]{1,4}";

fn terms() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(SMALL_TERM, 1..5)
        .prop_map(|terms| terms.into_iter().filter(|term| !normal(term).trim().is_empty()).collect())
}

/// The contract's matching, word for word.
fn normal(text: &str) -> String {
    let composed: String = text.nfkc().filter(|c| !DefaultIgnorableCodePoint::for_char(*c)).collect();
    let mut out = String::new();
    for c in CaseMapper::new().fold_string(&composed).chars() {
        match c {
            'ı' => out.push('i'),
            'а' => out.push('a'),
            _ if c.is_whitespace() => out.push(' '),
            _ if GeneralCategory::for_char(c) == GeneralCategory::NonspacingMark => {}
            _ => out.push(c),
        }
    }
    let words: Vec<&str> = out.split(' ').filter(|word| !word.is_empty()).collect();
    let (start, end) = (out.starts_with(' '), out.ends_with(' '));
    format!("{}{}{}", if start { " " } else { "" }, words.join(" "), if end { " " } else { "" })
}

/// Whether a term occurs in a text, tried at every place.
fn occurs(term: &str, text: &str) -> bool {
    let (term, text) = (normal(term), normal(text));
    let term = term.trim();
    let boundaries: Vec<usize> =
        text.split_word_bound_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let fits =
        |at: usize, edge: Option<char>| !edge.is_some_and(char::is_alphanumeric) || boundaries.contains(&at);
    (0..text.len())
        .filter(|at| text.is_char_boundary(*at) && text[*at..].starts_with(term))
        .any(|at| fits(at, term.chars().next()) && fits(at + term.len(), term.chars().next_back()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_stream_of_terms_may_be_cut_anywhere(terms in terms(), text in SMALL, cuts in proptest::collection::vec(0usize..40, 0..5)) {
        same_however_cut(&revision(&terms, false, "refuse"), &text, &cuts)?;
    }

    #[test]
    fn a_stream_of_entities_may_be_cut_anywhere(text in fragments(8), cuts in proptest::collection::vec(0usize..200, 0..5)) {
        same_however_cut(&revision(&[], true, "refuse"), &text, &cuts)?;
    }

    #[test]
    fn a_stream_of_both_may_be_cut_anywhere(
        terms in proptest::collection::vec(proptest::sample::select(&["bob", "example", "user pw", "1111", ".com", "中", "x 1", "é", "@", "key-----", "[email_1]", "private key"][..]), 1..4),
        text in fragments(8),
        cuts in proptest::collection::vec(0usize..200, 0..5),
    ) {
        let terms: Vec<String> = terms.into_iter().map(str::to_owned).collect();
        same_however_cut(&revision(&terms, true, "refuse"), &text, &cuts)?;
    }

    #[test]
    fn long_secrets_may_be_cut_anywhere(
        body in "[A-Za-z0-9]{300,900}",
        before in fragments(3),
        after in fragments(3),
        kind in 0usize..4,
        cuts in proptest::collection::vec(0usize..1500, 0..12),
    ) {
        let secret = match kind {
            0 => format!("gldt-{body}"),
            1 => format!("eyJ{}.eyJ{body}.{body}", &body[..100]),
            2 => format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"),
            _ => format!("-----BEGIN PRIVATE KEY-----\n{body}"),
        };
        let terms = ["bob".to_owned(), "x".to_owned()];
        same_however_cut(&revision(&terms, true, "refuse"), &format!("{before}{secret}{after}"), &cuts)?;
    }

    #[test]
    fn the_fast_matcher_agrees_with_the_naive_one(terms in terms(), text in SMALL) {
        let revision = revision(&terms, false, "refuse");
        let mut expected: Vec<&str> = Vec::new();
        for term in &terms {
            if occurs(term, &text) && !expected.contains(&term.as_str()) {
                expected.push(term);
            }
        }
        let verdict = evaluate_input(&revision, &Subject::default(), &[self::text(&text)], &mut Masker::new());
        let hits: Vec<&str> = verdict.denylist_hits.iter().map(AsRef::as_ref).collect();
        prop_assert_eq!(&hits, &expected);
        let (_, findings) = whole(&revision, OutputMode::Mask, &text);
        let hits: Vec<&str> = findings.denylist_hits.iter().map(AsRef::as_ref).collect();
        prop_assert_eq!(&hits, &expected);
    }

    #[test]
    fn nothing_denied_is_left_after_a_rewrite_or_summary(terms in terms(), text in SMALL, tail in fragments(4), sums_up: bool) {
        let text = format!("{text}{tail}");
        let (pattern, decision) =
            if sums_up { ("summary", Decision::Summary) } else { ("rewrite", Decision::Rewrite) };
        let revision = revision(&terms, true, pattern);
        let verdict = evaluate_input(&revision, &Subject::default(), &[self::text(&text)], &mut Masker::new());
        let edited = verdict.edits.first().map_or(text.clone(), |edits| apply_edits(&text, &edits.edits));
        prop_assert_eq!(verdict.decision == decision, !verdict.denylist_hits.is_empty());
        prop_assert_eq!(verdict.add_instruction, verdict.decision == decision);
        for edits in &verdict.edits {
            for pair in edits.edits.windows(2) {
                prop_assert!(pair[0].range.end <= pair[1].range.start);
            }
            for edit in &edits.edits {
                prop_assert!(text.get(edit.range.clone()).is_some_and(|cut| !cut.is_empty()));
            }
        }
        if verdict.decision == decision {
            let again = evaluate_input(&revision, &Subject::default(), &[self::text(&edited)], &mut Masker::new());
            prop_assert!(again.denylist_hits.is_empty(), "{:?} left in {:?}", again.denylist_hits, edited);
            prop_assert!(again.redactions.is_empty(), "{:?} left in {:?}", again.redactions, edited);
        }
    }

    /// With words between: a number that runs on into another is neither, until a placeholder stands for the other.
    #[test]
    fn nothing_is_found_again_after_a_redaction(
        parts in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..10),
    ) {
        let text = parts.join(" and then ");
        let revision = revision(&[], true, "refuse");
        let (once, _) = whole(&revision, OutputMode::Mask, &text);
        let (twice, findings) = whole(&revision, OutputMode::Mask, &once);
        prop_assert!(findings.redactions.is_empty(), "{:?}: {:?} became {:?}", findings.redactions, once, twice);
    }

    #[test]
    fn a_placeholder_stays_what_it_is(text in fragments(10)) {
        let revision = revision(&[], true, "refuse");
        let (once, _) = whole(&revision, OutputMode::Mask, &text);
        let (twice, _) = whole(&revision, OutputMode::Mask, &once);
        for (at, _) in once.match_indices('[') {
            let placeholder = once[at..].split_inclusive(']').next().unwrap_or_default();
            let (kept, had) = (twice.matches(placeholder).count(), once.matches(placeholder).count());
            prop_assert!(kept >= had, "{placeholder} of {once:?} is gone from {twice:?}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(terms in proptest::collection::vec(any::<String>(), 0..4), text in any::<String>(), cuts in proptest::collection::vec(0usize..100, 0..4)) {
        let terms: Vec<String> = terms.into_iter().filter(|term| !normal(term).trim().is_empty()).collect();
        for pattern in ["rewrite", "refuse"] {
            let revision = revision(&terms, true, pattern);
            evaluate_input(&revision, &Subject::default(), &[self::text(&text)], &mut Masker::new());
            same_however_cut(&revision, &text, &cuts)?;
        }
    }
}
