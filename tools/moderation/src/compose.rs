//! Documents made of other rows: a harmful text among benign ones, and benign ones alone. They teach that a long text is
//! as bad as its worst part, and no worse for being long.

use moderation::LANES;

use crate::data::Row;
use crate::rng::Rng;

/// Words of the longest harmful text that is hidden in a document.
const HIDDEN_WORDS_MAX: usize = 60;
/// Words that a benign part is cut to.
const PART_WORDS: usize = 90;

pub fn documents(rows: &[&Row], harmful: usize, benign: usize, seed: u64) -> Vec<Row> {
    let mut rng = Rng::new(seed);
    let calm: Vec<&Row> =
        rows.iter().copied().filter(|row| row.is_benign() && row.source != "clinc").collect();
    // rows of one source would otherwise be most of what is hidden
    let mut hidden: Vec<Vec<&Row>> = Vec::new();
    let mut names: Vec<(String, usize)> = Vec::new();
    for row in rows.iter().copied().filter(|row| row.is_harmful() && words(&row.text) <= HIDDEN_WORDS_MAX) {
        let name =
            if row.source == "templates" { format!("templates/{}", row.sub) } else { row.source.clone() };
        let at = match names.iter().find(|(known, _)| *known == name) {
            Some((_, at)) => *at,
            None => {
                names.push((name, hidden.len()));
                hidden.push(Vec::new());
                hidden.len() - 1
            }
        };
        hidden[at].push(row);
    }
    let mut documents = Vec::new();
    if calm.is_empty() || hidden.is_empty() {
        return documents;
    }
    for number in 0..harmful + benign {
        let mut parts = Vec::new();
        let mut labels = [0.0; LANES];
        let mut weights = [0.5; LANES];
        for _ in 0..1 + rng.below(3) {
            parts.push(cut(&calm[rng.below(calm.len())].text, &mut rng));
        }
        if number < harmful {
            let group = &hidden[rng.below(hidden.len())];
            let row = group[rng.below(group.len())];
            labels = row.labels;
            weights = row.weights.map(|weight| weight * 0.5);
            let at = rng.below(parts.len() + 1);
            parts.insert(at, row.text.clone());
        }
        documents.push(Row {
            source: "composed".to_owned(),
            sub: String::new(),
            text: parts.join(" "),
            labels,
            weights,
        });
    }
    documents
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A run of words of a text, at most [`PART_WORDS`].
fn cut(text: &str, rng: &mut Rng) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let spare = words.len().saturating_sub(PART_WORDS);
    let from = if spare == 0 { 0 } else { rng.below(spare) };
    words[from..words.len().min(from + PART_WORDS)].join(" ")
}
