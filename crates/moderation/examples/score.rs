//! Scores each line of standard input: `echo text | cargo run -p moderation --example score`.

use std::io::{self, BufRead, Write};

use moderation::{Classifier, Surface};

fn main() -> io::Result<()> {
    let classifier = Classifier::embedded();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let scores = classifier.score(&line);
        for (category, score) in scores.iter() {
            if score >= classifier.default_threshold(category, Surface::Input) {
                write!(out, "{category} {score:.2} ")?;
            }
        }
        writeln!(out, "| {line}")?;
    }
    Ok(())
}
