//! What a rewrite or a summary tells the model: the policy's own templates, or the defaults here. None of them names
//! a denied term: the model must not learn, or repeat, what was taken out.

use crate::document::Templates;
use crate::input::apply_edits;
use crate::revision::Revision;
use crate::rewrite;
use crate::scan::Scan;
use crate::subject::Subject;

const REWRITE_INSTRUCTION: &str = "Parts of this conversation were removed or changed under the usage policy of \
     this service. Answer helpfully within that policy: do not guess, restore or discuss what was removed, and \
     if nothing is left to answer, say briefly what you can help with instead.";

const REWRITE_PROMPT: &str = "The answer above went against the usage policy of this service; the parts in question \
     were removed or masked. Answer again, completely and within that policy, in the format that was asked for: do \
     not guess, restore or discuss what was removed, and if nothing is left to answer, say briefly what you can help \
     with instead.";

const SUMMARY_INSTRUCTION: &str = "Parts of this conversation were removed or changed under the usage policy of \
     this service. Answer with a short summary only, of at most five sentences, of what can be said within that \
     policy, in the language of the conversation and the format that was asked for: do not guess, restore or discuss \
     what was removed, and if nothing is left to answer, say briefly what you can help with instead.";

const SUMMARY_PROMPT: &str = "The answer above went against the usage policy of this service; the parts in question \
     were removed or masked. Give a short summary of the rest in its place, of at most five sentences, in the \
     language of the conversation and the format that was asked for: do not guess, restore or discuss what was \
     removed, and if nothing is left to sum up, say briefly what you can help with instead.";

/// The four texts of one revision.
#[derive(Debug, Default)]
pub(crate) struct Wording {
    pub(crate) rewrite_instruction: String,
    pub(crate) rewrite_prompt: String,
    pub(crate) summary_instruction: String,
    pub(crate) summary_prompt: String,
}

impl Wording {
    /// The texts of `templates`, which `validate` has checked, and defaults for the rest.
    pub(crate) fn new(revision: &Revision, templates: &Templates) -> Self {
        let text = |own: &Option<String>, default: &str| match own {
            Some(own) => own.clone(),
            None => without_denied(revision, default),
        };
        Self {
            rewrite_instruction: text(&templates.rewrite_instruction, REWRITE_INSTRUCTION),
            rewrite_prompt: text(&templates.rewrite_prompt, REWRITE_PROMPT),
            summary_instruction: text(&templates.summary_instruction, SUMMARY_INSTRUCTION),
            summary_prompt: text(&templates.summary_prompt, SUMMARY_PROMPT),
        }
    }
}

/// A policy may deny a word that a default uses: there it is left out.
fn without_denied(revision: &Revision, text: &str) -> String {
    let mut scan = Scan::default();
    scan.run(revision, &Subject::default(), text, 0, false);
    if scan.spans.is_empty() {
        return text.to_owned();
    }
    apply_edits(text, &rewrite::cut_all(revision, text, &scan.spans))
}
