//! `audit verify`: a log held against its own hashes, against checkpoints and proofs, and which claim holds after that.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use audit::checkpoint::{Checkpoint, find_checkpoints};
use audit::note::PublicKey;
use audit::proof::{Proof, Proven};
use audit::verify::{Asked, Claim, Examined, Verified, Verifier, VerifyError, examine_lines, in_order};
use serde::Serialize;
use store::VerifyFailure;

use super::open;
use super::sources::{self, Files};
use crate::args::VerifyArgs;
use crate::config::public_keys_of;
use crate::output::Output;

/// A file of keys or checkpoints is small.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    #[serde(flatten)]
    verified: Option<&'a Verified>,
    first_bad_seq: Option<u64>,
    problem: Option<String>,
}

impl<'a> Report<'a> {
    fn new(result: &'a Result<Verified, VerifyError>) -> Self {
        Self {
            ok: holds(result),
            verified: result.as_ref().ok(),
            first_bad_seq: result.as_ref().err().map(|error| error.seq),
            problem: result.as_ref().err().map(ToString::to_string),
        }
    }
}

fn holds(result: &Result<Verified, VerifyError>) -> bool {
    result.as_ref().is_ok_and(|verified| verified.claim != Claim::Unproven)
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let evidence = &args.evidence;
    let keys = keys(args)?;
    let proofs = if evidence.proofs.is_empty() { None } else { Some(read_proofs(&evidence.proofs, &keys)?) };
    if let Some(proven) = &proofs
        && evidence.files.is_empty()
        && evidence.store.is_none()
    {
        return tell_proofs(proven, keys.is_empty(), args.json);
    }
    let asked = Asked {
        checkpoints: read_checkpoints(&args.checkpoints)?,
        proofs,
        is_filtered: args.filtered,
        may_repeat: args.repeats,
        keys,
    };
    let mut results = Vec::new();
    if evidence.files.is_empty() {
        let store = open(evidence.config.as_deref(), evidence.store.as_deref())?;
        results.push(match store.verify_asking(&asked) {
            Ok(verified) => Ok(verified),
            Err(VerifyFailure::Bad(problem)) => Err(problem),
            Err(VerifyFailure::Store(error)) => return Err(error.into()),
        });
    } else {
        let logs = sources::logs(&evidence.files)?;
        let several = logs.len() > 1;
        for log in logs {
            results.push(verify_files(&log, for_log(&log, &asked, several)?, args.position_only)?);
        }
    }
    tell(&results, args.json)?;
    Ok(if results.iter().all(holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of several logs, each is held against its own checkpoints.
fn for_log(log: &Files, asked: &Asked, several: bool) -> anyhow::Result<Asked> {
    let mut asked = asked.clone();
    asked.may_repeat |= log.may_repeat;
    if several && !asked.checkpoints.is_empty() {
        let chain = sources::chain_of(log)?;
        asked.checkpoints.retain(|checkpoint| Some(checkpoint.statement.chain) == chain);
    }
    Ok(asked)
}

enum Stopped {
    Bad(VerifyError),
    Unread(anyhow::Error),
}

fn verify_files(
    log: &Files,
    asked: Asked,
    position_only: bool,
) -> anyhow::Result<Result<Verified, VerifyError>> {
    let mut verifier = Verifier::asking(asked);
    let examine: fn(&[u8]) -> Examined = if position_only { Examined::position } else { Examined::stored };
    let blocks = log.blocks().map(|block| block.map_err(Stopped::Unread));
    let look = |block: Vec<u8>| examine_lines(&block, examine);
    let done = in_order(blocks, look, |events| {
        events.into_iter().try_for_each(|event| verifier.examined(event)).map_err(Stopped::Bad)
    });
    match done {
        Ok(()) => Ok(verifier.finish()),
        Err(Stopped::Bad(error)) => Ok(Err(error)),
        Err(Stopped::Unread(error)) => Err(error),
    }
}

fn tell(results: &[Result<Verified, VerifyError>], json: bool) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    if json {
        match results {
            [result] => output.json(&Report::new(result))?,
            several => {
                let logs: Vec<Report<'_>> = several.iter().map(Report::new).collect();
                let ok = logs.iter().all(|log| log.ok);
                output.json(&serde_json::json!({ "ok": ok, "logs": logs }))?;
            }
        }
    } else {
        for result in results {
            match result {
                Ok(verified) => told(verified).iter().try_for_each(|line| output.line(line))?,
                Err(problem) => {
                    writeln!(io::stderr(), "error: the log is not as it was written: {problem}")?;
                }
            }
        }
    }
    output.flush()?;
    Ok(())
}

/// What was verified, what holds, and what does not follow from it.
fn told(verified: &Verified) -> Vec<String> {
    let Verified { events, first_seq, head_seq, head_hash, is_anchored, .. } = verified;
    if *events == 0 {
        return vec!["no events were verified".to_owned()];
    }
    let chain = verified.chain.map(|chain| chain.to_string()).unwrap_or_default();
    let start = if *is_anchored { "" } else { "; what came before the first is not known here" };
    let mut lines = vec![format!(
        "{events} events are good: seq {first_seq} to {head_seq} of chain {chain}, head {head_hash}{start}"
    )];
    let signers = verified.signed_by.join(" and ");
    let (signed, proven) = (verified.signed_seq, verified.proven_seq);
    lines.push(match verified.claim {
        Claim::FullChain if signed > 0 => format!(
            "claim: full chain: no event was changed, removed, put in or moved; signed up to seq {signed} by {signers}"
        ),
        Claim::FullChain if proven > 0 => format!(
            "claim: full chain: no event was changed, removed, put in or moved; checkpoints agree up to seq {proven}, \
             whose signatures were not checked: give --public-key"
        ),
        Claim::FullChain => "claim: full chain: no event was changed, removed, put in or moved by anybody who could not \
            write all of it anew; signed checkpoints show that nobody did: give --public-key and --checkpoint"
            .to_owned(),
        Claim::InclusionOnly if signers.is_empty() => "claim: inclusion only: each event that is here is in the log as it \
            is, if the proofs are genuine, whose signatures were not checked: give --public-key; nothing is shown of \
            events that are not here"
            .to_owned(),
        Claim::InclusionOnly => format!(
            "claim: inclusion only: each event that is here is in the log as it is, signed by {signers}; nothing is shown of \
             events that are not here"
        ),
        Claim::PositionOnly => {
            let by = match (signers.is_empty(), verified.proofs == *events) {
                (true, _) => ", if the checkpoints and proofs are genuine, whose signatures were not checked: give --public-key".to_owned(),
                (false, true) => format!(", signed by {signers}"),
                (false, false) => format!(" up to seq {signed}, signed by {signers}"),
            };
            format!(
                "claim: position only: each line stands for the event of the log with its seq{by}; nothing is shown of \
                 what the {} lines say whose text is not the one that was hashed",
                verified.altered
            )
        }
        Claim::Unproven => format!(
            "claim: none: {} events are missing or have another text than was hashed, and nothing shows that the others are \
             in the log: give --proof with what `audit prove --file` prints",
            if verified.gaps > 0 { format!("in {} places", verified.gaps) } else { verified.altered.to_string() }
        ),
    });
    if verified.claim == Claim::FullChain {
        lines.push(format!(
            "not shown: whether there were events after seq {}: a later checkpoint shows it (--checkpoint)",
            verified.head_seq
        ));
    }
    lines
}

fn tell_proofs(proven: &Proven, unsigned: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (inclusions, consistencies) = (proven.inclusions(), proven.consistencies());
    let signed_by: Vec<String> = proven.clone().into_keys().into_iter().collect();
    let mut output = Output::stdout();
    if json {
        output.json(&serde_json::json!({
            "ok": true, "inclusions": inclusions, "consistencies": consistencies, "signed_by": signed_by,
        }))?;
    } else {
        let by = if unsigned {
            "; signatures were not checked: give --public-key".to_owned()
        } else {
            format!(", signed by {}", signed_by.join(" and "))
        };
        output.line(&format!(
            "the proofs hold: {inclusions} of events in their log, {consistencies} of logs that go on from earlier ones{by}"
        ))?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Those of the command line; without any, those of the configuration.
fn keys(args: &VerifyArgs) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for given in &args.public_keys {
        if let Ok(key) = given.parse() {
            keys.push(key);
            continue;
        }
        if !Path::new(given).is_file() {
            given
                .parse::<PublicKey>()
                .with_context(|| format!("--public-key `{given}` is no file either"))?;
        }
        let text = read_small(Path::new(given))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            keys.push(line.parse().with_context(|| format!("a line of `{given}`"))?);
        }
    }
    match &args.evidence.config {
        Some(config) if keys.is_empty() && args.evidence.files.is_empty() => Ok(public_keys_of(config)?),
        _ => Ok(keys),
    }
}

fn read_checkpoints(files: &[PathBuf]) -> anyhow::Result<Vec<Checkpoint>> {
    let mut checkpoints = Vec::new();
    for file in files {
        let found = find_checkpoints(&read_small(file)?);
        if found.is_empty() {
            anyhow::bail!(
                "`{}` holds no checkpoint: give a signed note, or events of the type `checkpoint` as a destination has them",
                file.display()
            );
        }
        checkpoints.extend(found);
    }
    Ok(checkpoints)
}

fn read_proofs(files: &[PathBuf], keys: &[PublicKey]) -> anyhow::Result<Proven> {
    let mut proven = Proven::default();
    for file in files {
        let name = file.display();
        for (at, line) in BufReader::new(sources::open(file)?).lines().enumerate() {
            let line = line.with_context(|| format!("`{name}` cannot be read"))?;
            if !line.trim().is_empty() {
                let added = Proof::parse(&line).and_then(|proof| proven.add(&proof, keys));
                added.with_context(|| format!("the proof in line {} of `{name}` does not hold", at + 1))?;
            }
        }
    }
    Ok(proven)
}

fn read_small(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = sources::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("`{}` cannot be read", file.display()))?;
    Ok(text)
}
