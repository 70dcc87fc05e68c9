//! `audit keygen`: keys that sign checkpoints.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use audit::note::SigningKey;

use crate::args::KeygenArgs;
use crate::output::Output;

pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let (key, private) = SigningKey::generate(&args.name, &seed).context("--name")?;
    let public = key.public().to_string();
    let mut output = Output::stdout();
    if args.output == Path::new("-") {
        output.line(&private)?;
        writeln!(io::stderr(), "public key: {public}")?;
    } else {
        let name = args.output.display();
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&args.output)
            .with_context(|| format!("`{name}` cannot be created: name a file that is not there yet"))?;
        let written = file.write_all(format!("{private}\n").as_bytes()).and_then(|()| file.sync_all());
        written.with_context(|| format!("`{name}` cannot be written"))?;
        output.line(&public)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
