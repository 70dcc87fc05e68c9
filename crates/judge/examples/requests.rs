//! Writes a file of requests for `policy diff`, always the same for the same number: `cargo run --release -p judge
//! --example requests -- 1000000 > target/requests.jsonl`. Short questions, some with an entity or a denied term.

use std::io::{self, BufWriter, Write};

const QUESTIONS: [&str; 8] = [
    "How do I return a parcel that came too late?",
    "Where is my order, and when will it be here?",
    "Please change the address of my account to the one I gave you yesterday.",
    "My e-mail address is jo@example.com, can you send the invoice there?",
    "What is your refund policy for things that I bought in a shop?",
    "Is it possible to pay by card, and which cards do you take?",
    "I think that there is malware on the stick that I got from you.",
    "Summarise this conversation in three sentences, please.",
];

fn main() -> io::Result<()> {
    let count = std::env::args().nth(1).and_then(|count| count.parse::<u64>().ok()).unwrap_or(1_000_000);
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..count {
        // xorshift64: <https://www.jstatsoft.org/article/view/v008i14>
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let question = usize::try_from(state % 8).ok().and_then(|at| QUESTIONS.get(at)).unwrap_or(&"");
        let (user, project) = (state >> 8 & 0xffff, state >> 24 & 0x1f);
        writeln!(
            out,
            r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{question}"}}],"policy_user":"u{user}","policy_project_id":"p{project}"}}"#
        )?;
    }
    out.flush()
}
