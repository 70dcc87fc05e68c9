//! Any text, whole and as a stream cut anywhere: the same findings and the same text, and a second look at it finds
//! no denied term.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use policy::{Flow, Masker, OutputMode, OutputScan, PolicyDocument, Revision, Subject, scan_text};
use serde_json::json;

static RULES: LazyLock<Arc<Revision>> = LazyLock::new(|| {
    let document = json!({"policy_id": "fuzz", "rules":
        {"denylist": ["napalm", "credential theft", "C++", "é", "禁止"], "redact": true}});
    let document = PolicyDocument::parse(&document).expect("the document is valid");
    Arc::new(Revision::compile(document, 1).expect("the policy compiles"))
});

fuzz_target!(|data: &[u8]| {
    let Some((sizes, text)) = data.split_at_checked(4) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let subject = Subject::default();
    for mode in [OutputMode::Mask, OutputMode::Stop] {
        let (whole, found) = scan_text(&RULES, &subject, text, mode, &mut Masker::default());
        let mut scan = OutputScan::new(Arc::clone(&RULES), &subject, mode);
        let (mut masker, mut released) = (Masker::default(), String::new());
        let mut rest = text;
        let mut flow = Flow::Continue;
        for size in sizes.iter().cycle() {
            if rest.is_empty() || flow == Flow::Stop {
                break;
            }
            let at = rest.ceil_char_boundary(usize::from(*size).max(1).min(rest.len()));
            let (piece, left) = rest.split_at(at);
            flow = scan.push(piece, &mut masker, &mut released);
            rest = left;
        }
        if flow == Flow::Continue {
            let _ = scan.finish(&mut masker, &mut released);
        }
        assert_eq!(released, whole.as_deref().unwrap_or(text), "{mode:?}");
        assert_eq!(*scan.findings(), found, "{mode:?}");
        let again = scan_text(&RULES, &subject, &released, mode, &mut Masker::default()).1;
        assert!(again.denylist_hits.is_empty(), "{:?}", again.denylist_hits);
    }
});
