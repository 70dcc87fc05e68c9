//! The `policy-gateway` binary: command line, logging, runtime and exit code. Everything it does is in the modules
//! below and the crates that they wire together.

mod args;
mod client;
mod commands;
mod config;
mod description;
mod logging;
mod output;
mod quickstart;
mod serve;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// What blocking work that nobody waits for any more (a look at policy files, a name being resolved) may hold up the end.
const LEFTOVERS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell where stderr is gone too.
            let _ = match error.downcast_ref::<config::problem::ConfigError>() {
                // Each problem is a line with its place already.
                Some(problems) => writeln!(std::io::stderr(), "{problems}"),
                None => writeln!(std::io::stderr(), "error: {error:#}"),
            };
            ExitCode::FAILURE
        }
    }
}

fn run(cli: args::Cli) -> anyhow::Result<ExitCode> {
    logging::init(cli.log_format);
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = runtime()?;
    let result = runtime.block_on(commands::run(cli.command));
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

/// One CPU is served best by one thread: nothing is handed over, nothing is woken elsewhere.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = if cpus == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().on_thread_park(|| serve::IDLE.idle()).build()
}
