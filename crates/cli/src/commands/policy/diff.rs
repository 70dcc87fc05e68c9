//! `policy diff`: a file of requests judged by two policies. Here are the files, the workers and the progress; judging a
//! line and counting what changes is `judge::flips`.

mod blocks;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use judge::flips::{FlipReport, Flips, Pair};
use serde::Serialize;

use self::blocks::{Block, Blocks};
use super::{BAD_INPUT, revision_of_file};
use crate::args::DiffArgs;
use crate::commands::flips::print;
use crate::config::problem::ConfigError;
use crate::output::Output;

/// Lines that are no requests and are named; the rest are counted.
const INVALID_SHOWN: usize = 20;
/// How often the progress is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const BAR: usize = 30;

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    /// Whether the share of stricter decisions is within `fail_over`.
    ok: bool,
    before: Side<'a>,
    after: Side<'a>,
    fail_over: Option<f64>,
    #[serde(flatten)]
    flips: FlipReport,
    invalid: Invalid,
}

#[derive(Serialize)]
struct Side<'a> {
    file: &'a Path,
    policy_id: &'a str,
    digest: String,
}

/// Lines that are no requests.
#[derive(Clone, Debug, Default, Serialize)]
struct Invalid {
    count: u64,
    /// The first of them.
    lines: Vec<InvalidLine>,
}

#[derive(Clone, Debug, Serialize)]
struct InvalidLine {
    line: u64,
    message: String,
}

impl Invalid {
    fn note(&mut self, line: u64, message: String) {
        self.count += 1;
        if self.lines.len() < INVALID_SHOWN {
            self.lines.push(InvalidLine { line, message });
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.lines.extend(other.lines);
        self.lines.sort_by_key(|invalid| invalid.line);
        self.lines.truncate(INVALID_SHOWN);
    }
}

/// Judges, counts and reports.
///
/// # Errors
/// Where stdout or stderr cannot be written.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let sides = (revision_of_file(&args.before), revision_of_file(&args.after));
    let (before, after) = match sides {
        (Ok(before), Ok(after)) => (before, after),
        (before, after) => {
            let problems = [before.err(), after.err()].into_iter().flatten().flat_map(|error| error.0);
            writeln!(io::stderr(), "{}", ConfigError(problems.collect()))?;
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let side = |file, revision: &std::sync::Arc<::policy::Revision>| {
        (file, revision.policy_id().to_owned(), audit::event::hex(revision.digest()))
    };
    let sides = [side(args.before.as_path(), &before), side(args.after.as_path(), &after)];
    let (flips, invalid) = match judge(&args.requests, &Pair::new(before, after)) {
        Ok(done) => done,
        Err(error) => {
            writeln!(io::stderr(), "{}: {error:#}", args.requests.display())?;
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    for InvalidLine { line, message } in &invalid.lines {
        writeln!(io::stderr(), "{}:{line}: {message}", args.requests.display())?;
    }
    let is_over = args.fail_over.is_some_and(|share| flips.stricter_share() > share);
    let shown = args.shown;
    let report = flips.report(usize::from(shown.top));
    let mut output = Output::stdout();
    if shown.json {
        let [before, after] = sides.each_ref().map(|(file, policy_id, digest)| Side {
            file,
            policy_id,
            digest: digest.clone(),
        });
        output.json(&Report {
            ok: !is_over,
            before,
            after,
            fail_over: args.fail_over,
            flips: report,
            invalid: invalid.clone(),
        })?;
    } else if shown.markdown {
        let title = format!("Policy `{}`: what changes", sides[1].1);
        output.line(report.markdown(&title).trim_end())?;
    } else {
        print(&mut output, &report)?;
    }
    output.flush()?;
    conclude(args, flips.stricter_share(), is_over, &invalid)
}

fn conclude(args: &DiffArgs, share: f64, is_over: bool, invalid: &Invalid) -> anyhow::Result<ExitCode> {
    if invalid.count > 0 {
        let (count, rest) = (invalid.count, "are no requests");
        let hint =
            if args.skip_invalid { "left out" } else { "mend them, or leave them out with --skip-invalid" };
        writeln!(io::stderr(), "{}: {count} lines {rest}: {hint}", args.requests.display())?;
        if !args.skip_invalid {
            return Ok(ExitCode::from(BAD_INPUT));
        }
    }
    if let (true, Some(limit)) = (is_over, args.fail_over) {
        writeln!(
            io::stderr(),
            "error: {:.2} % of the requests come to a more severe decision, more than {:.2} %",
            share * 100.0,
            limit * 100.0
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges every line of a file, by a worker for each core.
fn judge(file: &Path, pair: &Pair) -> anyhow::Result<(Flips, Invalid)> {
    let (input, total): (Box<dyn Read + Send>, _) = if file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let input = File::open(file)?;
        let total = input.metadata()?.len();
        (Box::new(input), Some(total))
    };
    let blocks = Blocks::new(input);
    let done = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let main = std::thread::current();
    std::thread::scope(|scope| {
        let work = || worker(&blocks, pair, &done, &main);
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new(total);
        while !handles.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            progress.draw(done.load(Ordering::Relaxed));
            std::thread::park_timeout(DRAWN_EVERY);
        }
        progress.clear();
        let mut all = (Flips::default(), Invalid::default());
        for handle in handles {
            let (flips, invalid) = handle.join().map_err(|_| anyhow!("a worker broke off"))??;
            all.0.merge(&flips);
            all.1.merge(invalid);
        }
        Ok(all)
    })
}

fn worker(blocks: &Blocks, pair: &Pair, done: &AtomicU64, main: &Thread) -> anyhow::Result<(Flips, Invalid)> {
    let mut flips = Flips::default();
    let mut invalid = Invalid::default();
    while let Some(block) = blocks.next()? {
        let bytes = block.text.len() as u64;
        judge_block(&block, pair, &mut flips, &mut invalid);
        done.fetch_add(bytes, Ordering::Relaxed);
    }
    main.unpark();
    Ok((flips, invalid))
}

fn judge_block(block: &Block, pair: &Pair, flips: &mut Flips, invalid: &mut Invalid) {
    for (number, line) in block.lines() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Err(error) = pair.judge(&line, flips) {
            invalid.note(number, error.to_string());
        }
    }
}

/// How far it is, on a terminal.
struct Progress {
    total: Option<u64>,
    began: Instant,
    is_drawn: bool,
    is_terminal: bool,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self { total, began: Instant::now(), is_drawn: false, is_terminal: io::stderr().is_terminal() }
    }

    fn draw(&mut self, done: u64) {
        // What is over at once needs no bar.
        if !self.is_terminal || self.began.elapsed() < DRAWN_EVERY {
            return;
        }
        self.is_drawn = true;
        let megabytes = done as f64 / 1e6;
        let rate = megabytes / self.began.elapsed().as_secs_f64().max(1e-9);
        let bar = self.total.filter(|total| *total > 0).map(|total| {
            let share = (done as f64 / total as f64).min(1.0);
            let full = (share * BAR as f64) as usize;
            format!(
                "[{}{}] {:3.0} %  ",
                "#".repeat(full),
                " ".repeat(BAR.saturating_sub(full)),
                share * 100.0
            )
        });
        // A terminal that cannot be written is no reason to stop.
        let _ = write!(io::stderr(), "\r{}{megabytes:.0} MB, {rate:.0} MB/s\x1b[K", bar.unwrap_or_default());
        let _ = io::stderr().flush();
    }

    fn clear(&self) {
        if self.is_drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
