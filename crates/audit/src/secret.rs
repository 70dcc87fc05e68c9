//! Secrets of destinations: a value that no log, error or debug output can show, and where it is read from.
//! Deliberately absent: storage of secrets, and substitution in any other configuration value.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No key or token is longer; the cap keeps a mistaken path (a device, a database) from filling memory.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret value. `Debug` and `Display` show a placeholder; [`Secret::expose`] is the only way in.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a value that can stand in an HTTP header: visible ASCII and blanks.
    ///
    /// # Errors
    /// [`SecretError::Empty`] and [`SecretError::NotPrintable`], naming `origin` and never the value.
    pub fn new(value: String, origin: &str) -> Result<Self, SecretError> {
        if value.is_empty() {
            return Err(SecretError::Empty { origin: origin.to_owned() });
        }
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(SecretError::NotPrintable { origin: origin.to_owned() });
        }
        Ok(Self(value))
    }

    /// The value itself. Whoever calls this must not log, store or echo it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// Why a secret cannot be had. Names the variable or the file, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A `$…` that is not the name of an environment variable.
    #[error(
        "a secret that starts with `$` must be `$NAME` or `${{NAME}}`, with NAME of letters, digits and `_`"
    )]
    BadName,
    /// `file:` without a path.
    #[error("`file:` needs a path behind it, as in `file:/run/secrets/dd-api-key`")]
    NoPath,
    /// The environment has no such variable.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    /// There is nothing in it.
    #[error("the secret in {origin} is empty")]
    Empty {
        /// Variable, file or field.
        origin: String,
    },
    /// A header could not carry it; most often a line break or a quote pasted along.
    #[error("the secret in {origin} holds a control or non-ASCII character, which no HTTP header can carry")]
    NotPrintable {
        /// Variable, file or field.
        origin: String,
    },
    /// It has not the form that its destination asks for.
    #[error("the secret in {origin} {message}")]
    Unfit {
        /// Variable, file or field.
        origin: String,
        /// What it must be.
        message: String,
    },
    /// The file is longer than any secret.
    #[error("the secret file `{0}` is over 64 KiB: is it the right file?")]
    TooLong(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the secret file `{path}`: {source}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The configuration itself.
    Literal(Secret),
    /// An environment variable.
    Env(String),
    /// A file, whose trailing line end does not count.
    File(PathBuf),
}

impl SecretSource {
    /// Reads a configuration string: `$NAME` or `${NAME}`, `file:/path`, else the secret itself.
    ///
    /// # Errors
    /// [`SecretError`] where the string can be none of them.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if let Some(rest) = text.strip_prefix('$') {
            let name = rest.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(rest);
            return if is_variable_name(name) {
                Ok(Self::Env(name.to_owned()))
            } else {
                Err(SecretError::BadName)
            };
        }
        match text.strip_prefix("file:") {
            Some("") => Err(SecretError::NoPath),
            Some(path) => Ok(Self::File(PathBuf::from(path))),
            None => Ok(Self::Literal(Secret::new(text.to_owned(), "the configuration")?)),
        }
    }

    /// Fetches the secret; a file is read anew each time. Blocks on the file.
    ///
    /// # Errors
    /// [`SecretError`], naming the variable or the file.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => match std::env::var(name) {
                Ok(value) => Secret::new(value, &self.origin()),
                Err(std::env::VarError::NotPresent) => Err(SecretError::Unset(name.clone())),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(SecretError::NotPrintable { origin: self.origin() })
                }
            },
            Self::File(path) => Secret::new(read_secret_file(path)?, &self.origin()),
        }
    }

    /// The place in words, for messages.
    pub fn origin(&self) -> String {
        match self {
            Self::Literal(_) => "the configuration".to_owned(),
            Self::Env(name) => format!("the environment variable `{name}`"),
            Self::File(path) => format!("the file `{}`", path.display()),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn read_secret_file(path: &Path) -> Result<String, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    // The bytes must not travel in the error, which is why `FromUtf8Error` is not kept.
    let text = String::from_utf8(bytes)
        .map_err(|_| SecretError::NotPrintable { origin: format!("the file `{}`", path.display()) })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_names_a_variable_a_file_or_is_the_secret() {
        assert_eq!(SecretSource::parse("$DD_API_KEY").unwrap(), SecretSource::Env("DD_API_KEY".into()));
        assert_eq!(SecretSource::parse("${DD_API_KEY}").unwrap(), SecretSource::Env("DD_API_KEY".into()));
        assert_eq!(SecretSource::parse("file:/run/key").unwrap(), SecretSource::File("/run/key".into()));
        assert_eq!(SecretSource::parse("abc123").unwrap().resolve().unwrap().expose(), "abc123");
    }

    #[test]
    fn mistakes_are_told_apart() {
        for text in ["$", "${", "${}", "${A", "$1A", "$A-B", "$A}"] {
            assert!(matches!(SecretSource::parse(text), Err(SecretError::BadName)), "{text}");
        }
        assert!(matches!(SecretSource::parse("file:"), Err(SecretError::NoPath)));
        assert!(matches!(SecretSource::parse(""), Err(SecretError::Empty { .. })));
        assert!(matches!(SecretSource::parse("key\n"), Err(SecretError::NotPrintable { .. })));
        assert!(matches!(SecretSource::parse("schlüssel"), Err(SecretError::NotPrintable { .. })));
    }

    #[test]
    fn a_missing_variable_or_file_is_named() {
        let unset = SecretSource::parse("$POLICY_GATEWAY_NO_SUCH_VARIABLE").unwrap().resolve().unwrap_err();
        assert_eq!(
            unset.to_string(),
            "the environment variable `POLICY_GATEWAY_NO_SUCH_VARIABLE` is not set"
        );
        let missing = SecretSource::parse("file:/no/such/file").unwrap().resolve().unwrap_err();
        assert!(
            missing.to_string().starts_with("cannot read the secret file `/no/such/file`: "),
            "{missing}"
        );
    }

    #[test]
    fn a_file_is_read_anew_and_loses_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource::parse(&format!("file:{}", file.path().display())).unwrap();
        std::fs::write(file.path(), "first\r\n").unwrap();
        assert_eq!(source.resolve().unwrap().expose(), "first");
        std::fs::write(file.path(), "second").unwrap();
        assert_eq!(source.resolve().unwrap().expose(), "second");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(matches!(source.resolve(), Err(SecretError::Empty { .. })));
        std::fs::write(file.path(), "two\nlines\n").unwrap();
        assert!(matches!(source.resolve(), Err(SecretError::NotPrintable { .. })));
        std::fs::write(file.path(), [b'a'; 70_000]).unwrap();
        assert!(matches!(source.resolve(), Err(SecretError::TooLong(_))));
    }

    #[test]
    fn neither_debug_nor_display_nor_errors_show_the_value() {
        let source = SecretSource::parse("hunter2").unwrap();
        let secret = source.resolve().unwrap();
        let shown = format!("{source:?} {secret:?} {secret} {}", source.origin());
        assert!(!shown.contains("hunter2"), "{shown}");
        let bad = SecretSource::parse("hunter2\u{7}").unwrap_err();
        assert!(!format!("{bad} {bad:?}").contains("hunter2"));
    }
}
