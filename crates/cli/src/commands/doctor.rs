//! `doctor`: looks for what keeps a gateway from working and says what to mend, one line for each thing looked at. It
//! changes nothing; the one thing that it sends is a test event to each destination.

mod outside;

use std::path::Path;
use std::process::ExitCode;

use control::config::Role;
use serde::Serialize;
use serde_json::json;
use store::{Filter, Store};

use crate::args::DoctorArgs;
use crate::config::Config;
use crate::output::Output;

/// Below this a busy gateway fills the disk within a day or two.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// What an admin token must have at the least: 16 characters can still be guessed, less is a word.
const TOKEN_CHARS_LOW: usize = 20;
/// Clocks differ by less than this, or somebody should look.
const SKEW_SECONDS_MAX: i64 = 60;
/// Nobody ran this before: a clock that says so was never set.
const BUILT_AT: &str = "2025-01-01T00:00:00Z";

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    result: Mark,
    /// What was found, and what to mend.
    message: String,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: impl Into<String>, result: Mark, message: impl Into<String>) {
        self.0.push(Finding { check: check.into(), result, message: message.into() });
    }

    fn ok(&mut self, check: impl Into<String>, message: impl Into<String>) {
        self.add(check, Mark::Ok, message);
    }

    fn warn(&mut self, check: impl Into<String>, message: impl Into<String>) {
        self.add(check, Mark::Warning, message);
    }

    fn fail(&mut self, check: impl Into<String>, message: impl Into<String>) {
        self.add(check, Mark::Failed, message);
    }
}

/// Looks at everything that a configuration names.
///
/// # Errors
/// Where stdout cannot be written; whatever else is wrong is a finding.
pub(crate) async fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    match Config::load(&args.config.config) {
        Err(problems) => {
            for problem in &problems.0 {
                findings.fail("configuration", problem.to_string());
            }
        }
        Ok(config) => {
            let file = config.file.display();
            findings.ok("configuration", format!("`{file}` holds, with every file and secret that it names"));
            clock(&mut findings);
            store(&config, &mut findings).await;
            access(&config, &mut findings);
            policies(&config, &mut findings);
            outside::gateway(&config, &mut findings).await;
            if !args.offline {
                outside::upstreams(&config, &mut findings).await;
                outside::issuer(&config, &mut findings).await;
            }
            outside::destinations(&config, args.offline, &mut findings).await;
        }
    }
    let worst = findings.0.iter().map(|finding| finding.result).max().unwrap_or(Mark::Ok);
    let mut output = Output::stdout();
    if args.json {
        output.json(&json!({ "ok": worst != Mark::Failed, "findings": findings.0 }))?;
    } else {
        let row = |finding: &Finding| {
            let mark = match finding.result {
                Mark::Ok => "ok",
                Mark::Warning => "look",
                Mark::Failed => "MEND",
            };
            vec![mark.to_owned(), finding.check.clone(), finding.message.clone()]
        };
        output.table(&["", "what", "found"], &findings.0.iter().map(row).collect::<Vec<_>>())?;
    }
    output.flush()?;
    Ok(if worst == Mark::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn clock(findings: &mut Findings) {
    let now = jiff::Timestamp::now();
    match BUILT_AT.parse::<jiff::Timestamp>() {
        Ok(built) if now < built => {
            findings.fail("clock", format!("it says {now}: set it, and keep it set (NTP)"));
        }
        _ => findings.ok("clock", format!("it says {now:.0}")),
    }
}

async fn store(config: &Config, findings: &mut Findings) {
    let path = config.store.clone();
    let looked = crate::serve::blocking(move || {
        let mut findings = Findings::default();
        look_at_store(&path, &mut findings);
        Ok(findings)
    });
    match looked.await {
        Ok(looked) => findings.0.extend(looked.0),
        Err(error) => findings.fail("store", format!("{error:#}")),
    }
}

fn look_at_store(path: &Path, findings: &mut Findings) {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // The folder is made at the first start: its nearest ancestor must let that be.
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match tempfile::tempfile_in(existing) {
        Ok(_) => findings.ok("store folder", format!("`{}` can be written", folder.display())),
        Err(error) => findings.fail(
            "store folder",
            format!(
                "`{}` cannot be written ({error}): give this user the right to, or change `store`",
                existing.display()
            ),
        ),
    }
    match store::free_bytes(&existing.join("gateway.db")) {
        Some(free) if free < FREE_BYTES_LOW => findings.warn(
            "store space",
            format!("{} MiB are free: requests are refused once the disk is full; free some", free >> 20),
        ),
        Some(free) => findings.ok("store space", format!("{} GiB are free", free >> 30)),
        None => findings.warn("store space", "the file system does not say how much is free"),
    }
    if !path.exists() {
        return findings
            .ok("store", format!("there is none at `{}` yet: the first start makes it", path.display()));
    }
    let read = Store::open_read_only(path).and_then(|reader| {
        let head = reader.head()?;
        let newest = Filter { limit: Some(1), newest_first: true, ..Filter::default() };
        let last = reader.query(&newest).next().transpose()?;
        Ok((head, last))
    });
    match read {
        Err(error) => findings.fail("store", error.to_string()),
        Ok((head, last)) => {
            findings.ok("store", format!("`{}` has {head} events", path.display()));
            let made = last.and_then(|event| created_at(&event.text));
            let ahead_s = made.map(|made| made.duration_since(jiff::Timestamp::now()).as_secs());
            if let Some(ahead_s) = ahead_s.filter(|ahead_s| *ahead_s > SKEW_SECONDS_MAX) {
                findings.fail(
                    "clock",
                    format!(
                        "the last event is {ahead_s} s in the future: this clock was set back; set it right"
                    ),
                );
            }
        }
    }
}

fn created_at(text: &[u8]) -> Option<jiff::Timestamp> {
    #[derive(serde::Deserialize)]
    struct Made {
        created_at: jiff::Timestamp,
    }
    serde_json::from_slice::<Made>(text).ok().map(|made| made.created_at)
}

fn access(config: &Config, findings: &mut Findings) {
    let tokens = &config.admin_tokens;
    if tokens.is_empty() && config.oidc.is_none() {
        return findings
            .warn("admin tokens", "there is none: nobody can use the management API; add `admin_tokens`");
    }
    for token in tokens.iter().filter(|token| token.token.expose().len() < TOKEN_CHARS_LOW) {
        findings.warn(
            "admin tokens",
            format!(
                "`{}` is short enough to be guessed: make one with `openssl rand -base64 32`",
                token.name
            ),
        );
    }
    let may_admin = tokens.iter().any(|token| token.role == Role::Admin)
        || config.oidc.as_ref().is_some_and(|oidc| oidc.role_map.values().any(|role| *role == Role::Admin));
    if may_admin {
        findings.ok("admin tokens", format!("{}, and somebody is `admin`", tokens.len()));
    } else {
        findings.warn("admin tokens", "nobody has the role `admin`");
    }
    if config.export_rules.sealer.is_none() {
        findings.warn(
            "secrets_key",
            "there is none: destinations of the management API may not have literal secrets, and no content is kept",
        );
    }
}

fn policies(config: &Config, findings: &mut Findings) {
    findings.ok("policies", format!("{} in files", config.policies.len()));
    for entry in config.desired.projects.iter().filter(|entry| entry.project.policy_id.is_none()) {
        let id = &entry.project.id;
        findings.warn(
            format!("project {id}"),
            "it has no policy: its requests are refused with 400; give `policy_id`",
        );
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for entry in &config.desired.projects {
        for key in entry.keys.iter().filter(|key| key.expires_at_ms.is_some_and(|end| end <= now_ms)) {
            let name = key.name.clone().unwrap_or_else(|| key.digest.id());
            let check = format!("project {}", entry.project.id);
            findings.warn(check, format!("its key `{name}` has expired: make another"));
        }
    }
    if config.desired.upstreams.is_empty() {
        findings.fail("upstreams", "there is none: no request can be answered; add one to `upstreams`");
    }
}
