//! The command line of `audit`: what is verified and against what, proofs, keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AuditExportArgs, QueryArgs, StoreArgs};

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print events, newest first.
    Query(QueryArgs),
    /// Check a log: that no event was changed, removed, put in or moved, and what vouches for that.
    ///
    /// Works on a store, on exported JSON lines, and on a folder of what an S3 bucket holds, without a network. Prints
    /// which claim holds; the exit code is 0 only where one does. The first bad `seq` is named.
    Verify(Box<VerifyArgs>),
    /// Copy events as they are stored, one JSON object a line, oldest first; `audit verify --file` reads them.
    Export(AuditExportArgs),
    /// Print proofs, one JSON object a line, that events are in the log as its checkpoint has it.
    Prove(ProveArgs),
    /// Print the proof, as JSON, that the log goes on from an earlier one.
    Consistency(ConsistencyArgs),
    /// Make a key that signs checkpoints (`audit.signing_key`), and print its public key.
    Keygen(KeygenArgs),
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) evidence: EvidenceArgs,
    /// A public key, as `audit keygen` printed it, or a file of some; may be given several times. Something must be signed
    /// by one. Default: those in the configuration's `audit.public_keys`.
    #[arg(long = "public-key", value_name = "KEY")]
    pub(crate) public_keys: Vec<String>,
    /// A file with checkpoints, as notes or within events of any destination: the log must have what they were made of. May be
    /// given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Events may be missing, since the destination filters or samples. Needs --proof.
    #[arg(long)]
    pub(crate) filtered: bool,
    /// Texts may differ from what was hashed, since the destination pseudonymises, shortens or reshapes events.
    #[arg(long)]
    pub(crate) position_only: bool,
    /// An event may come more than once, as destinations that are delivered to at least once have it. Folders are read so
    /// anyway.
    #[arg(long)]
    pub(crate) repeats: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is verified.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct EvidenceArgs {
    /// Configuration file that names the store.
    #[arg(short, long, value_name = "FILE", env = "POLICY_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The store itself: a path, or `sqlite://PATH`. Beats --config.
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
    /// Events, one JSON object a line, plain or compressed (gzip, zstd): a file, a folder of `part-…` files as S3 gets them, or
    /// `-` for stdin. May be given several times, oldest first. Beats the others.
    #[arg(long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Proofs that `audit prove` or `audit consistency` printed; they are checked by themselves, or with the events.
    #[arg(long = "proof", value_name = "FILE")]
    pub(crate) proofs: Vec<PathBuf>,
}

/// Arguments of `audit prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) events: ProvenArgs,
    /// Prove that they are among the first N events. Default: those of the newest checkpoint, or all where there is none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) size: Option<u64>,
}

/// Which events.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ProvenArgs {
    /// The event with this `seq`; may be given several times.
    #[arg(long = "seq", value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seqs: Vec<u64>,
    /// The events that are in this file, in any destination's shape, or in this folder.
    #[arg(long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `audit consistency`.
#[derive(Debug, Args)]
pub(crate) struct ConsistencyArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Events of the earlier log.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: u64,
    /// Events of the later one. Default: those of the newest checkpoint, or all where there is none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
}

/// Arguments of `audit keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Write the private key here, readable by its owner only; the file must not exist yet. `-` prints it on stdout, and
    /// the public key on stderr.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The key's name, which stands in every signature.
    #[arg(long, value_name = "NAME", default_value = "policy-gateway")]
    pub(crate) name: String,
}
