//! The binary as a child process: run to its end, or started and followed line by line. Everything is awaited, nothing
//! is slept for.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Longest wait for anything that must happen; passing tests never wait it out.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Its stdout, where it succeeded and said nothing on stderr.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Its stderr, where it failed.
    #[track_caller]
    pub fn bad(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        self.err
    }
}

fn command(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_policy-gateway"));
    command.args(args).current_dir(dir).env_clear().envs(env.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end, with this environment and no other.
pub async fn run(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Done {
    let output = tokio::time::timeout(PATIENCE, command(dir, env, args).output());
    let output = output.await.expect("the command ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A command that goes on until it is told to end.
pub struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    heard: Vec<String>,
}

impl Process {
    pub fn start(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Self {
        let mut child = command(dir, env, args).spawn().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        follow(child.stdout.take().unwrap(), sender.clone());
        follow(child.stderr.take().unwrap(), sender);
        Self { child, lines, heard: Vec::new() }
    }

    /// Waits for the next line, on stdout or stderr, that holds `text`.
    pub async fn says(&mut self, text: &str) -> String {
        let heard = &mut self.heard;
        let wait = async {
            while let Some(line) = self.lines.recv().await {
                heard.push(line.clone());
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Some(line)) => line,
            _ => panic!("it never says `{text}`:\n{}", self.heard.join("\n")),
        }
    }

    /// Waits until it listens; `http://ADDR`.
    pub async fn listens(&mut self) -> String {
        let line = self.says("listening on http://").await;
        line.trim_start_matches("listening on ").to_owned()
    }

    /// Sends a signal by name (`TERM`, `HUP`, …).
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits until it ends; its exit code and everything that it said.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        while let Some(line) = self.lines.recv().await {
            self.heard.push(line);
        }
        (status.code(), self.heard.join("\n"))
    }

    /// SIGTERM; it must end well.
    pub async fn stop(self) -> String {
        self.signal("TERM").await;
        let (code, heard) = self.ended().await;
        assert_eq!(code, Some(0), "{heard}");
        heard
    }
}

fn follow(stream: impl AsyncRead + Unpin + Send + 'static, lines: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut stream = BufReader::new(stream).lines();
        while let Ok(Some(line)) = stream.next_line().await {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
