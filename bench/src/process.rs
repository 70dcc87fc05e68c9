//! What the kernel knows of a process: processor time and memory, from `/proc`. And the pinning of this
//! process and its children to processors, with `taskset`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Ticks per second of `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that runs here.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
const TICKS_PER_SECOND: u64 = 100;

/// Processor time a process has used, all threads, ended ones included; to 10 ms.
///
/// # Errors
/// Where the process is gone.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not understood"))?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// `utime + stime`: fields 14 and 15, counted past the name, which may hold blanks.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process, in KiB.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Memory {
    /// Now (`VmRSS`).
    pub now_kib: u64,
    /// The most there ever was (`VmHWM`).
    pub peak_kib: u64,
}

/// Reads a process's memory.
///
/// # Errors
/// Where the process is gone.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse().ok())
            .with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    Ok(Memory { now_kib: field("VmRSS")?, peak_kib: field("VmHWM")? })
}

/// A command that runs on one processor only.
pub(crate) fn pinned(cpu: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program);
    command
}

/// Pins this process, its threads yet to come included, to one processor.
///
/// # Errors
/// Where `taskset` is missing or refuses.
pub(crate) fn pin_self(cpu: usize) -> Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &cpu.to_string(), &pid])
        .stdout(Stdio::null())
        .status()
        .context("taskset (Debian package util-linux) is needed")?;
    if !status.success() {
        bail!("taskset does not pin this process to processor {cpu}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_past_any_name() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 3 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok());
        let memory = memory(pid).unwrap();
        assert!(memory.now_kib > 0 && memory.peak_kib >= memory.now_kib);
    }
}
