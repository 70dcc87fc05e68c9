//! Policy files: found by the configuration's patterns, read as YAML or JSON, several documents in one file where need
//! be. What a document may say is the policy crate's business.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use policy::problems::Problem;
use policy::{PolicyDocument, Revision};
use registry::{PolicySet, Rollouts};

use crate::config::problem::{Located, locate};
use crate::config::{read_text, text};

/// A policy document and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct PolicyFile {
    /// What it says.
    pub(crate) document: PolicyDocument,
    /// Its file.
    pub(crate) file: PathBuf,
    /// The line it begins at.
    pub(crate) line: Option<u64>,
}

/// The files that patterns match now, and what tells a changed one: time, size and inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(PathBuf, Option<SystemTime>, u64, u64)>);

/// Takes the stamp. Patterns and files that cannot be read count as absent.
pub(crate) fn stamp(patterns: &[String], config: &Path) -> Stamp {
    let files: BTreeSet<PathBuf> =
        patterns.iter().filter_map(|pattern| find(pattern, config).ok()).flatten().collect();
    let look = |file: PathBuf| {
        let metadata = std::fs::metadata(&file).ok()?;
        Some((file, metadata.modified().ok(), metadata.len(), metadata.ino()))
    };
    Stamp(files.into_iter().filter_map(look).collect())
}

/// Reads the documents of one file and checks each, alone and compiled.
///
/// # Errors
/// Every problem of every document, and a file without one.
pub(crate) fn read_file(file: &Path) -> Result<Vec<PolicyFile>, Vec<Located>> {
    let at = |line: Option<u64>, message: String| {
        vec![Located { file: file.to_owned(), line, path: String::new(), message }]
    };
    let text = read_text(file).map_err(|message| at(None, message))?;
    let documents = text::parse(&text).map_err(|error| at(error.line, error.message))?;
    if documents.is_empty() {
        return Err(at(None, "holds no policy document: it needs at least `policy_id` and `rules`".into()));
    }
    let mut policies = Vec::with_capacity(documents.len());
    let mut located = Vec::new();
    for text::Document { value, lines } in documents {
        match read_document(&value) {
            Ok(document) => policies.push(PolicyFile { document, file: file.to_owned(), line: lines.of("") }),
            Err(problems) => located.extend(locate(file, &lines, problems)),
        }
    }
    if located.is_empty() { Ok(policies) } else { Err(located) }
}

/// Finds and reads the files of all patterns. Problems with a pattern go to `problems`, those inside a file to
/// `located`. None where there is any.
pub(crate) fn load(
    patterns: &[String],
    config: &Path,
    problems: &mut Vec<Problem>,
    located: &mut Vec<Located>,
) -> Option<Vec<PolicyFile>> {
    let (problems_before, located_before) = (problems.len(), located.len());
    let mut files = BTreeSet::new();
    for (at, pattern) in patterns.iter().enumerate() {
        match find(pattern, config) {
            Ok(found) => files.extend(found),
            Err(message) => problems.push(Problem { path: format!("policies[{at}]"), message }),
        }
    }
    let mut policies = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(read) => policies.extend(read),
            Err(problems) => located.extend(problems),
        }
    }
    located.extend(repeated(&policies));
    (problems.len() == problems_before && located.len() == located_before).then_some(policies)
}

/// Documents of one policy that do not go together. One whose rollout is off is its stable revision, one whose rollout is
/// on the candidate beside it: at most one of each, and no candidate alone, which would leave nothing to apply.
pub(crate) fn repeated(policies: &[PolicyFile]) -> Vec<Located> {
    let mut first = HashMap::new();
    let mut located = Vec::new();
    let at = |policy: &PolicyFile, path: &str, message: String| Located {
        file: policy.file.clone(),
        line: policy.line,
        path: path.to_owned(),
        message,
    };
    for policy in policies {
        let (id, is_candidate) = (policy.document.policy_id.as_str(), policy.is_candidate());
        if let Some(other) = first.insert((id, is_candidate), policy) {
            let other = other.file.display();
            let message = if is_candidate {
                format!(
                    "a candidate of policy `{id}` (`rollout` is on) is declared in {other} already: keep one of them"
                )
            } else {
                format!(
                    "policy `{id}` is declared in {other} already: keep one document, rename one, or switch on \
                     `rollout.shadow` or `rollout.canary` in the one to be tried out"
                )
            };
            located.push(at(policy, "policy_id", message));
        }
    }
    for policy in policies.iter().filter(|policy| policy.is_candidate()) {
        let id = policy.document.policy_id.as_str();
        if !first.contains_key(&(id, false)) {
            let message = format!(
                "is on, which makes this a candidate, and policy `{id}` has no stable document that it could stand \
                 beside: add one with `rollout` off under the same `policy_id`, or switch it off here"
            );
            located.push(at(policy, "rollout", message));
        }
    }
    located
}

/// Puts each policy's revisions together, compiled under these numbers (one each, in the order of the documents).
///
/// # Errors
/// A document that cannot be compiled, with its file.
pub(crate) fn sets(
    policies: &[PolicyFile],
    numbers: &[u64],
    rollouts: &Rollouts,
) -> Result<Vec<PolicySet>, (PathBuf, Vec<Problem>)> {
    let mut stable = Vec::new();
    let mut candidates = HashMap::new();
    for (policy, number) in policies.iter().zip(numbers) {
        let revision = Revision::compile(policy.document.clone(), *number)
            .map_err(|problems| (policy.file.clone(), problems))?;
        let revision = Arc::new(revision);
        if policy.is_candidate() {
            candidates.insert(policy.document.policy_id.as_str(), rollouts.candidate(revision));
        } else {
            stable.push(revision);
        }
    }
    let set = |revision: Arc<Revision>| match candidates.remove(revision.policy_id()) {
        Some(candidate) => PolicySet::with_candidate(Some(revision), candidate),
        None => PolicySet::stable(revision),
    };
    Ok(stable.into_iter().map(set).collect())
}

impl PolicyFile {
    /// Whether it stands beside the stable document of its policy.
    pub(crate) fn is_candidate(&self) -> bool {
        self.document.rollout.is_on()
    }
}

/// What policies need of the configuration and do not find there.
pub(crate) fn unmet(
    check: impl Fn(&PolicyDocument) -> Vec<Problem>,
    policies: &[PolicyFile],
) -> Vec<Located> {
    let mut located = Vec::new();
    for policy in policies {
        located.extend(check(&policy.document).into_iter().map(|problem| Located {
            file: policy.file.clone(),
            line: policy.line,
            path: problem.path,
            message: problem.message,
        }));
    }
    located
}

/// Reads one document, alone and compiled.
///
/// # Errors
/// Every problem of it.
pub(crate) fn read_document(value: &serde_json::Value) -> Result<PolicyDocument, Vec<Problem>> {
    let document = PolicyDocument::parse(value)?;
    Revision::compile(document.clone(), 1)?;
    Ok(document)
}

fn find(pattern: &str, config: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let escaped = glob::Pattern::escape(&folder.to_string_lossy());
    // An absolute pattern takes the place of the folder.
    let full = Path::new(&escaped).join(pattern);
    let matches =
        glob::glob(&full.to_string_lossy()).map_err(|error| format!("not a pattern: {}", error.msg))?;
    let mut files = Vec::new();
    for found in matches {
        let file =
            found.map_err(|error| format!("{} cannot be read: {}", error.path().display(), error.error()))?;
        if file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let beside = folder.display();
        return Err(format!("matches no file: patterns are relative to the folder of this file ({beside})"));
    }
    Ok(files)
}
