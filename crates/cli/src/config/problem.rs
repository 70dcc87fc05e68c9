//! Problems of a configuration with the place they are at, as they are shown: `FILE:LINE: path: message`. Values that
//! came from the environment are taken out of the messages here.

use std::fmt;
use std::path::{Path, PathBuf};

use policy::problems::Problem;

use crate::config::environment::Substitution;
use crate::config::text::Lines;

/// Shortest value from the environment that is taken out wherever it stands: shorter ones are part of too many words,
/// and are taken out where they stand alone in quotes.
const DISTINCT_BYTES_MIN: usize = 6;

/// A problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// As it was named on the command line, or beside it.
    pub(crate) file: PathBuf,
    /// From 1; none where it is unknown.
    pub(crate) line: Option<u64>,
    /// Into the document; empty for the whole of it.
    pub(crate) path: String,
    /// What is wrong, and how to mend it.
    pub(crate) message: String,
}

impl fmt::Display for Located {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(formatter, ": {}", self.path)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration; at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(pub(crate) Vec<Located>);

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Gives the problems of one document their place.
pub(crate) fn locate(file: &Path, lines: &Lines, problems: Vec<Problem>) -> impl Iterator<Item = Located> {
    problems.into_iter().map(move |Problem { path, message }| Located {
        file: file.to_owned(),
        line: lines.of(&path),
        path,
        message,
    })
}

/// Puts `$NAME` in the place of what it stands for.
pub(crate) fn hide(problems: &mut [Located], substitutions: &[Substitution]) {
    for Substitution { path, written, value, .. } in substitutions.iter().filter(|one| !one.value.is_empty())
    {
        for problem in problems.iter_mut() {
            let anywhere = value.len() >= DISTINCT_BYTES_MIN || problem.path == *path;
            if anywhere && problem.message.contains(value.as_str()) {
                problem.message = problem.message.replace(value.as_str(), written);
            }
            for quote in ['`', '"', '\''] {
                let quoted = format!("{quote}{value}{quote}");
                if problem.message.contains(&quoted) {
                    problem.message = problem.message.replace(&quoted, &format!("{quote}{written}{quote}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(path: &str, message: &str) -> Located {
        Located { file: "gateway.yaml".into(), line: Some(3), path: path.into(), message: message.into() }
    }

    #[test]
    fn a_problem_is_shown_with_its_place() {
        assert_eq!(located("a.b", "wrong: fix it").to_string(), "gateway.yaml:3: a.b: wrong: fix it");
        let whole = Located { line: None, path: String::new(), ..located("", "not readable") };
        assert_eq!(
            ConfigError(vec![whole.clone(), whole]).to_string(),
            "gateway.yaml: not readable\ngateway.yaml: not readable"
        );
    }

    #[test]
    fn values_from_the_environment_do_not_show() {
        let substitution = |path: &str, value: &str| Substitution {
            path: path.into(),
            pointer: String::new(),
            alone: false,
            written: "$NAME".into(),
            value: value.into(),
        };
        let mut problems = vec![
            located("listen", "`127.0.0.1` is no address"),
            located("store", "no such thing as 127.0.0.1/x"),
            located("projects[0].policy_id", "there is no policy `xy` in galaxy"),
            located("store", "xy is wrong"),
        ];
        hide(
            &mut problems,
            &[substitution("listen", "127.0.0.1"), substitution("projects[0].policy_id", "xy")],
        );
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`$NAME` is no address",
                "no such thing as $NAME/x",
                "there is no policy `$NAME` in gala$NAME",
                "xy is wrong"
            ]
        );
    }
}
