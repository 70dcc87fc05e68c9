//! The configuration file, from text to a typed [`Config`] with everything it names read and checked: text with line
//! numbers, environment, shape (`raw`), meaning (`validate`), policy files. Either all of it holds or every problem is
//! reported with its place. What is done with a configuration is not known here.

pub(crate) mod environment;
pub(crate) mod policies;
pub(crate) mod problem;
pub(crate) mod raw;
pub(crate) mod signing;
pub(crate) mod text;
pub(crate) mod validate;

use std::path::{Path, PathBuf};

use audit::export::ExportConfig;
use audit::note::PublicKey;
use control::config::AdminToken;
use control::oidc::Oidc;
use escalation::Channels;
use gateway::config::Limits;
use policy::PolicyDocument;
use policy::problems::{Problem, read_all};
use registry::Desired;
use registry::desired_state::{Declared, DeclaredPolicy, ExportRules, Requirements};
use registry::moderation::Moderation;
use serde_json::Value;

use crate::config::environment::{Substitution, substitute};
use crate::config::policies::{PolicyFile, Stamp};
use crate::config::problem::{ConfigError, Located, hide, locate};
use crate::config::raw::{OnUnavailable, RawConfig};
use crate::config::signing::Signing;
use crate::config::text::Lines;

/// Where the gateway listens by default: this machine only, until someone decides otherwise.
const LISTEN: &str = "127.0.0.1:8080";
/// Where everything durable is kept by default.
const STORE: &str = "sqlite://data/gateway.db";
/// Largest file that is read: a policy of 100,000 terms is well under it, a mistaken path should not fill memory.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A configuration that holds: checked, complete, secrets resolved.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it was read.
    pub(crate) file: PathBuf,
    /// `HOST:PORT` of the one listener.
    pub(crate) listen: String,
    /// The same as the file has it, whatever the command line said since.
    pub(crate) listen_in_file: String,
    /// Path of the SQLite store.
    pub(crate) store: PathBuf,
    /// Limits of the data plane.
    pub(crate) limits: Limits,
    /// What happens to requests while the audit log cannot be written.
    pub(crate) on_unavailable: OnUnavailable,
    /// Days after which delivered events may be deleted; none: never.
    pub(crate) retention_days: Option<u32>,
    /// What signs checkpoints; none: no checkpoints are made.
    pub(crate) signing: Option<Signing>,
    /// Who may use the management API.
    pub(crate) admin_tokens: Vec<AdminToken>,
    /// Whose tokens may use it too.
    pub(crate) oidc: Option<Oidc>,
    /// Destinations.
    pub(crate) exports: Vec<ExportConfig>,
    /// What destinations of the management API may reach and read.
    pub(crate) export_rules: ExportRules,
    /// How reviewers hear of escalations, and what content is encrypted with.
    pub(crate) channels: Channels,
    /// Upstreams, projects and prices; its policies are empty, see [`Config::policies`].
    pub(crate) desired: Desired,
    /// Policy documents, in the order of their files.
    pub(crate) policies: Vec<PolicyFile>,
    /// Where the policy files are.
    pub(crate) policy_patterns: Vec<String>,
    /// The policy files as they were just before they were read.
    pub(crate) policy_stamp: Stamp,
}

impl Config {
    /// Reads a configuration file and everything it names.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that was found.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(file, &|name| std::env::var(name).ok())
    }

    /// [`Config::load`] with another environment for everything but secrets.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_with(
        file: &Path,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (mut value, lines) = read_one(file).map_err(|problem| ConfigError(vec![problem]))?;
        let (substitutions, missing) = substitute(&mut value, lookup);
        let mut problems = missing;
        let unknown: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
        let raw = read_shape(&mut value, &substitutions, &mut problems);
        let mut located = Vec::new();
        let mut config = None;
        if let Some(raw) = raw {
            let stamp = policies::stamp(&raw.policies, file);
            let loaded = policies::load(&raw.policies, file, &mut problems, &mut located);
            let channels = validate::channels(&raw, &mut problems);
            if let (Some(channels), Some(policies)) = (&channels, &loaded) {
                located.extend(policies::unmet(|document| channels.check(document), policies));
            }
            let channels = channels.unwrap_or_default();
            config = validate::validate(file, &raw, loaded, stamp, channels, &mut problems);
            if let Some(Config { desired, policies, .. }) = &config {
                located.extend(policies::unmet(|document| desired.moderation.check(document), policies));
            }
        }
        // What a value is that is not there has been said; what else is wrong with it means nothing.
        let mut at = 0;
        problems.retain(|problem| {
            at += 1;
            at <= unknown.len() || !unknown.contains(&problem.path)
        });
        located.extend(locate(file, &lines, problems));
        hide(&mut located, &substitutions);
        // By file, the configuration itself first, then by line.
        located.sort_by_cached_key(|problem| (problem.file != file, problem.file.clone(), problem.line));
        located.dedup();
        config.filter(|_| located.is_empty()).ok_or(ConfigError(located))
    }

    /// Reads the policy files again; everything else stays as it is.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the files, and every project that has lost its policy.
    pub(crate) fn reload_policies(&mut self) -> Result<(), ConfigError> {
        let stamp = policies::stamp(&self.policy_patterns, &self.file);
        let (mut problems, mut located) = (Vec::new(), Vec::new());
        let policies = policies::load(&self.policy_patterns, &self.file, &mut problems, &mut located);
        if let Some(policies) = &policies {
            validate::follow(&self.desired, policies, &mut problems);
            located.extend(policies::unmet(
                |document| unmet(&self.channels, &self.desired.moderation, document),
                policies,
            ));
        }
        // The lines of the configuration as it is now may be others than those in force.
        located.extend(locate(&self.file, &Lines::default(), problems));
        match policies {
            Some(policies) if located.is_empty() => {
                let paths = policies
                    .iter()
                    .filter_map(|policy| policy.document.refusal_replacement.escalation_path.clone());
                let channels = self.channels.clone();
                self.channels = channels.within(self.export_rules.egress.clone(), paths);
                self.policies = policies;
                self.policy_stamp = stamp;
                Ok(())
            }
            _ => Err(ConfigError(located)),
        }
    }

    /// What it declares, for the desired state.
    pub(crate) fn declared(&self) -> Declared {
        let policy = |policy: &PolicyFile| DeclaredPolicy {
            document: policy.document.clone(),
            file: policy.file.display().to_string(),
        };
        Declared {
            base: self.desired.clone(),
            policies: self.policies.iter().map(policy).collect(),
            file: self.file.display().to_string(),
            requirements: {
                let (channels, moderation) = (self.channels.clone(), self.desired.moderation.clone());
                Requirements::new(move |document| unmet(&channels, &moderation, document))
            },
            api_requirements: {
                let channels = self.channels.clone();
                Requirements::new(move |document| channels.check_reach(document))
            },
            exports: self.exports.iter().map(|export| export.id.clone()).collect(),
            export_rules: self.export_rules.clone(),
        }
    }
}

/// What a policy needs of the configuration and does not find there.
fn unmet(channels: &Channels, moderation: &Moderation, document: &PolicyDocument) -> Vec<Problem> {
    [channels.check(document), moderation.check(document)].concat()
}

/// Path of the store that a configuration names, whatever else is in it: evidence can be read without the secrets
/// that serving needs.
///
/// # Errors
/// A file that cannot be read, or whose `store` does not hold.
pub(crate) fn store_of(file: &Path) -> Result<PathBuf, ConfigError> {
    let (mut value, lines) = read_one(file).map_err(|problem| ConfigError(vec![problem]))?;
    let mut store =
        serde_json::json!({ "store": value.get_mut("store").map_or_else(|| STORE.into(), Value::take) });
    let (substitutions, mut problems) = substitute(&mut store, &|name| std::env::var(name).ok());
    let path = match store.get("store").and_then(Value::as_str) {
        Some(store) => validate::store_path(store),
        None => Err("must be text: write it like `sqlite://data/gateway.db`".to_owned()),
    };
    match path {
        Ok(path) if problems.is_empty() => return Ok(path),
        Ok(_) => {}
        Err(message) if problems.is_empty() => problems.push(Problem::new("store", message)),
        Err(_) => {}
    }
    let mut located: Vec<Located> = locate(file, &lines, problems).collect();
    hide(&mut located, &substitutions);
    Err(ConfigError(located))
}

/// Public keys that a configuration lists, whatever else is in it.
///
/// # Errors
/// A file that cannot be read, and every entry that is no public key.
pub(crate) fn public_keys_of(file: &Path) -> Result<Vec<PublicKey>, ConfigError> {
    let (mut value, lines) = read_one(file).map_err(|problem| ConfigError(vec![problem]))?;
    let listed = value.pointer_mut("/audit/public_keys").map(Value::take).unwrap_or_default();
    let mut listed = serde_json::json!({ "audit": { "public_keys": listed } });
    let (substitutions, mut problems) = substitute(&mut listed, &|name| std::env::var(name).ok());
    let listed = listed.pointer_mut("/audit/public_keys").map(Value::take).unwrap_or_default();
    let mut keys = Vec::new();
    match read_all::<Option<Vec<String>>>(&listed, "audit.public_keys") {
        Ok(listed) => keys = signing::public_keys(&listed.unwrap_or_default(), &mut problems),
        Err(found) => problems.extend(found),
    }
    if problems.is_empty() {
        return Ok(keys);
    }
    let mut located: Vec<Located> = locate(file, &lines, problems).collect();
    hide(&mut located, &substitutions);
    Err(ConfigError(located))
}

/// The policies that a configuration names, whatever else is in it: judging needs no secrets.
///
/// # Errors
/// A file that cannot be read, a pattern that matches none, and every problem of the policies.
pub(crate) fn policies_of(file: &Path) -> Result<Vec<PolicyFile>, ConfigError> {
    let (mut value, lines) = read_one(file).map_err(|problem| ConfigError(vec![problem]))?;
    let listed = value.get_mut("policies").map(Value::take).unwrap_or_default();
    let mut listed = serde_json::json!({ "policies": listed });
    let (substitutions, mut problems) = substitute(&mut listed, &|name| std::env::var(name).ok());
    let patterns = listed.get("policies").cloned().unwrap_or_default();
    let mut located = Vec::new();
    let mut policies = None;
    match read_all::<Vec<String>>(&patterns, "policies") {
        Ok(patterns) if problems.is_empty() => {
            policies = policies::load(&patterns, file, &mut problems, &mut located);
        }
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    located.extend(locate(file, &lines, problems));
    hide(&mut located, &substitutions);
    policies.filter(|_| located.is_empty()).ok_or(ConfigError(located))
}

/// Text of a file.
///
/// # Errors
/// In plain words, without the name of the file.
pub(crate) fn read_text(file: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory: name a file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err("is over 16 MiB: is it the right file?".to_owned());
    }
    std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))
}

fn read_one(file: &Path) -> Result<(Value, Lines), Located> {
    let at = |line: Option<u64>, message: String| Located {
        file: file.to_owned(),
        line,
        path: String::new(),
        message,
    };
    let text = read_text(file).map_err(|message| at(None, message))?;
    let mut documents = text::parse(&text).map_err(|error| at(error.line, error.message))?.into_iter();
    let Some(document) = documents.next() else {
        return Err(at(
            None,
            "says nothing: a gateway needs at least `upstreams`, `policies` and `projects`".into(),
        ));
    };
    if let Some(second) = documents.next() {
        return Err(at(
            second.lines.of(""),
            "a second document: a configuration is one, take out the `---`".into(),
        ));
    }
    if !document.value.is_object() {
        return Err(at(document.lines.of(""), "must be a mapping, as in `listen: 127.0.0.1:8080`".into()));
    }
    Ok((document.value, document.lines))
}

/// Reads the shape. Sections with problems are left out, so that the others can still be checked.
fn read_shape(
    value: &mut Value,
    substitutions: &[Substitution],
    problems: &mut Vec<Problem>,
) -> Option<RawConfig> {
    let mut found = match read_all::<RawConfig>(value, "") {
        Ok(raw) => return Some(raw),
        Err(found) => found,
    };
    if retype(value, substitutions, &found) {
        found = match read_all::<RawConfig>(value, "") {
            Ok(raw) => return Some(raw),
            Err(found) => found,
        };
    }
    if let Some(sections) = value.as_object_mut() {
        for problem in &found {
            let section = problem.path.split(['.', '[']).next().unwrap_or_default();
            sections.shift_remove(section);
        }
    }
    problems.extend(found);
    read_all(value, "").ok()
}

/// The environment knows text only: where a number or boolean is wanted and a lone `$NAME` says one, it is taken as
/// such. Whether anything was changed.
fn retype(value: &mut Value, substitutions: &[Substitution], found: &[Problem]) -> bool {
    let mut changed = false;
    for substitution in substitutions.iter().filter(|one| one.alone) {
        let wanted = found.iter().any(|problem| problem.path == substitution.path);
        let typed = serde_json::from_str::<Value>(&substitution.value);
        if let (true, Ok(typed @ (Value::Number(_) | Value::Bool(_)))) = (wanted, typed)
            && let Some(place) = value.pointer_mut(&substitution.pointer)
        {
            *place = typed;
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests;
