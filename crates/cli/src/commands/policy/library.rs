//! The policies and cases below the paths that a command names, each with its lines, and which policy a case means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::policy::problems::Problem;
use ::policy::{PolicyDocument, Revision};
use judge::cases::{Case, CaseFile, Coverage};
use serde_json::Value;

use super::is_candidate;
use crate::config::policies::read_document;
use crate::config::problem::{Located, locate};
use crate::config::read_text;
use crate::config::text::{self, Document, Lines};

/// Folders within folders that are looked into; links that lead in a circle end here.
const DEPTH_MAX: usize = 32;

/// A policy and what the cases reach of it.
pub(super) struct Policy {
    pub(super) file: PathBuf,
    /// Where its document stands; empty where it is the file's own.
    prefix: String,
    pub(super) lines: Lines,
    pub(super) revision: Arc<Revision>,
    pub(super) coverage: Coverage,
    is_candidate: bool,
}

impl Policy {
    /// The line of a path in its document.
    pub(super) fn line(&self, path: &str) -> Option<u64> {
        match self.prefix.is_empty() {
            true => self.lines.of(path),
            false => self.lines.of(&format!("{}.{path}", self.prefix)),
        }
    }
}

/// A document of cases.
pub(super) struct Cases {
    pub(super) file: PathBuf,
    pub(super) lines: Lines,
    pub(super) document: CaseFile,
}

/// Everything that was found, and everything that is wrong with it.
#[derive(Default)]
pub(super) struct Library {
    pub(super) policies: Vec<Policy>,
    pub(super) cases: Vec<Cases>,
    pub(super) problems: Vec<Located>,
    /// Files in folders that are neither.
    pub(super) others: Vec<PathBuf>,
    read: BTreeSet<PathBuf>,
}

impl Library {
    /// Reads everything below the paths.
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        let mut library = Self::default();
        for path in paths {
            if path.is_dir() {
                library.folder(path, 0);
            } else {
                library.file(path, true);
            }
        }
        library
    }

    /// The policy that a case means, by its place in `policies`.
    ///
    /// # Errors
    /// Says what it could have named.
    pub(super) fn policy_of(&mut self, cases: &Cases, at: usize) -> Result<usize, Vec<Located>> {
        let case = cases.document.cases.get(at);
        let own = case.and_then(|case: &Case| case.policy.as_ref());
        let (path, named) = match (own, &cases.document.policy) {
            (Some(own), _) => (format!("cases[{at}].policy"), Some(own)),
            (None, named) => ("policy".to_owned(), named.as_ref()),
        };
        let wrong = |message: String| {
            let problem = Problem { path: path.clone(), message };
            locate(&cases.file, &cases.lines, vec![problem]).collect::<Vec<_>>()
        };
        match named {
            None => self.only().map_err(wrong),
            Some(Value::String(name)) => match self.by_id(name) {
                Some(found) => Ok(found),
                None => {
                    let beside = cases.file.parent().unwrap_or(Path::new("")).join(name);
                    if !beside.is_file() {
                        let ids = self.ids().join("`, `");
                        return Err(wrong(format!(
                            "there is no policy `{name}` here and no file {}: the policies here are `{ids}`",
                            beside.display()
                        )));
                    }
                    self.of_file(&beside).map_err(|error| match error {
                        Missing::Problems(problems) => problems,
                        Missing::Message(message) => wrong(message),
                    })
                }
            },
            Some(document) => self.inline(cases, &path, document),
        }
    }

    /// Whether the cases run on another document of this policy: its candidate.
    pub(super) fn is_superseded(&self, policy: &Policy) -> bool {
        let is_tested = |other: &Policy| {
            other.coverage.cases > 0 && other.revision.policy_id() == policy.revision.policy_id()
        };
        policy.coverage.cases == 0 && self.policies.iter().any(is_tested)
    }

    fn ids(&self) -> Vec<&str> {
        let ids: BTreeSet<&str> = self.policies.iter().map(|policy| policy.revision.policy_id()).collect();
        ids.into_iter().collect()
    }

    /// The candidate of that id, or its last document.
    fn by_id(&self, id: &str) -> Option<usize> {
        let is_it = |policy: &Policy| policy.prefix.is_empty() && policy.revision.policy_id() == id;
        let candidate = self.policies.iter().rposition(|policy| is_it(policy) && policy.is_candidate);
        candidate.or_else(|| self.policies.iter().rposition(is_it))
    }

    fn only(&self) -> Result<usize, String> {
        match self.ids().as_slice() {
            [id] => self.by_id(id).ok_or_else(|| "names no policy".to_owned()),
            [] => Err("names no policy, and there is none here: add `policy: FILE`".to_owned()),
            ids => {
                Err(format!("names no policy, and there are several here: add one of `{}`", ids.join("`, `")))
            }
        }
    }

    fn of_file(&mut self, file: &Path) -> Result<usize, Missing> {
        let problems_before = self.problems.len();
        self.file(file, true);
        let found = self.problems.split_off(problems_before);
        if !found.is_empty() {
            return Err(Missing::Problems(found));
        }
        let canonical = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let is_here = |policy: &Policy| {
            policy.prefix.is_empty() && policy.file.canonicalize().is_ok_and(|path| path == canonical)
        };
        let ids: BTreeSet<&str> = self
            .policies
            .iter()
            .filter(|policy| is_here(policy))
            .map(|policy| policy.revision.policy_id())
            .collect();
        match ids.into_iter().collect::<Vec<_>>().as_slice() {
            [id] => {
                let of_it = |policy: &Policy| is_here(policy) && policy.revision.policy_id() == *id;
                let candidate = self.policies.iter().rposition(|policy| of_it(policy) && policy.is_candidate);
                candidate
                    .or_else(|| self.policies.iter().rposition(of_it))
                    .ok_or_else(|| Missing::Message("names no policy".to_owned()))
            }
            [] => Err(Missing::Message(format!("{} holds no policy", file.display()))),
            ids => Err(Missing::Message(format!(
                "{} holds several policies: name one of `{}`",
                file.display(),
                ids.join("`, `")
            ))),
        }
    }

    fn inline(&mut self, cases: &Cases, path: &str, document: &Value) -> Result<usize, Vec<Located>> {
        let known = |policy: &Policy| policy.prefix == path && policy.file == cases.file;
        if let Some(at) = self.policies.iter().position(known) {
            return Ok(at);
        }
        let document = read_document(document).map_err(|problems| {
            let under = problems.into_iter().map(|problem| {
                let dot = if problem.path.is_empty() { "" } else { "." };
                Problem { path: format!("{path}{dot}{}", problem.path), message: problem.message }
            });
            locate(&cases.file, &cases.lines, under.collect()).collect::<Vec<_>>()
        })?;
        self.add(document, &cases.file, path.to_owned(), cases.lines.clone())
            .map_err(|problems| locate(&cases.file, &cases.lines, problems).collect())
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) if depth < DEPTH_MAX => entries,
            Ok(_) => return self.wrong(folder, "is too deep: name a folder nearer to the policies"),
            Err(error) => return self.wrong(folder, &format!("cannot be read: {error}")),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_document = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.folder(&path, depth + 1);
            } else if is_document {
                self.file(&path, false);
            }
        }
    }

    fn wrong(&mut self, file: &Path, message: &str) {
        self.problems.push(Located {
            file: file.to_owned(),
            line: None,
            path: String::new(),
            message: message.to_owned(),
        });
    }

    /// Reads a file once. One that was named must hold a policy or cases.
    fn file(&mut self, file: &Path, is_named: bool) {
        let canonical = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        if !self.read.insert(canonical) {
            return;
        }
        let text = match read_text(file) {
            Ok(text) => text,
            Err(message) => return self.wrong(file, &message),
        };
        let documents = match text::parse(&text) {
            Ok(documents) => documents,
            Err(error) => {
                return self.problems.push(Located {
                    file: file.to_owned(),
                    line: error.line,
                    path: String::new(),
                    message: error.message,
                });
            }
        };
        let mut holds_any = false;
        for Document { value, lines } in documents {
            if CaseFile::is_one(&value) {
                holds_any = true;
                match CaseFile::read(&value) {
                    Ok(document) => self.cases.push(Cases { file: file.to_owned(), lines, document }),
                    Err(problems) => self.problems.extend(locate(file, &lines, problems)),
                }
            } else if is_named || value.get("policy_id").is_some() {
                holds_any = true;
                let read = read_document(&value)
                    .and_then(|document| self.add(document, file, String::new(), lines.clone()));
                if let Err(problems) = read {
                    self.problems.extend(locate(file, &lines, problems));
                }
            }
        }
        match (holds_any, is_named) {
            (true, _) => {}
            (false, true) => self.wrong(file, "holds neither a policy (`policy_id`, `rules`) nor `cases`"),
            (false, false) => self.others.push(file.to_owned()),
        }
    }

    fn add(
        &mut self,
        document: PolicyDocument,
        file: &Path,
        prefix: String,
        lines: Lines,
    ) -> Result<usize, Vec<Problem>> {
        let is_candidate = is_candidate(&document);
        let revision = Arc::new(Revision::compile(document, 1)?);
        let coverage = Coverage::default();
        self.policies.push(Policy { file: file.to_owned(), prefix, lines, revision, coverage, is_candidate });
        Ok(self.policies.len() - 1)
    }
}

enum Missing {
    Problems(Vec<Located>),
    Message(String),
}
