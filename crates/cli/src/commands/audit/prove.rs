//! `audit prove` and `audit consistency`: proofs made from the store, for whoever does not have it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use audit::proof::Proof;
use audit::verify::{Examined, examine_lines};
use store::Reader;

use super::{open, sources};
use crate::args::{ConsistencyArgs, ProveArgs, StoreArgs};
use crate::output::Output;

pub(super) fn prove(args: &ProveArgs) -> anyhow::Result<ExitCode> {
    let StoreArgs { config, store } = &args.store;
    let store = open(config.as_deref(), store.as_deref())?;
    let chain = store.chain()?;
    let mut seqs: BTreeSet<u64> = args.events.seqs.iter().copied().collect();
    for log in sources::logs(&args.events.files)? {
        for block in log.blocks() {
            for event in examine_lines(&block?, Examined::position) {
                let (found, seq) =
                    event.place().context("a line of the files is no event of any destination")?;
                if found != chain {
                    anyhow::bail!("event {seq} of the files is of chain {found}, the store of chain {chain}");
                }
                seqs.insert(seq);
            }
        }
    }
    let Some(last) = seqs.last().copied() else { anyhow::bail!("the files hold no events") };
    let head = tree_head(&store, args.size, last, "--size")?;
    if last > head.0 {
        anyhow::bail!(
            "event {last} is not among the first {}, which is all that a checkpoint was made of so far: ask again after \
             the next one, or give --size {last} for a proof that nobody signed",
            head.0
        );
    }
    let mut nodes = store.tree_nodes()?;
    let mut output = Output::stdout();
    for seq in seqs {
        let proof = Proof::inclusion(&mut nodes, chain, seq, head.clone())?;
        output.line(&serde_json::to_string(&proof)?)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn consistency(args: &ConsistencyArgs) -> anyhow::Result<ExitCode> {
    let StoreArgs { config, store } = &args.store;
    let store = open(config.as_deref(), store.as_deref())?;
    let from = tree_head(&store, Some(args.from), args.from, "--from")?;
    let to = tree_head(&store, args.to, args.from, "--to")?;
    if from.0 > to.0 {
        anyhow::bail!("--from {} is more than the {} events of the later log", from.0, to.0);
    }
    let proof = Proof::consistency(&mut store.tree_nodes()?, store.chain()?, from, to)?;
    let mut output = Output::stdout();
    output.line(&serde_json::to_string(&proof)?)?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The size that is asked for with its checkpoint, if it has one; else the newest checkpoint's, or the log's own where none
/// reaches `least`.
fn tree_head(
    store: &Reader,
    asked: Option<u64>,
    least: u64,
    flag: &str,
) -> anyhow::Result<(u64, Option<String>)> {
    let head = store.head()?;
    if least > head || asked.is_some_and(|asked| asked > head) {
        anyhow::bail!("the log has {head} events: {flag} and --seq cannot be more");
    }
    if let Some(size) = asked {
        return Ok((size, store.checkpoint_of(size)?.map(|checkpoint| checkpoint.note)));
    }
    let newest = store.checkpoints(None, 1)?.into_iter().next();
    Ok(newest.map_or((head, None), |checkpoint| (checkpoint.size, Some(checkpoint.note))))
}
