//! The `smtp` and `escalations` sections of the configuration, and what both and `secrets_key` make possible: a policy
//! that needs more than there is does not load.

use std::collections::BTreeSet;
use std::fmt;

use audit::egress::Egress;
use audit::seal::Sealer;
use audit::secret::{Secret, SecretSource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Mailbox;
use policy::PolicyDocument;
use policy::document::RetainContent;
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a signing secret starts with (Standard Webhooks 1.0).
const WEBHOOK_SECRET_PREFIX: &str = "whsec_";
/// Bytes of a signing secret (Standard Webhooks 1.0).
const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What content is encrypted for: another use of `secrets_key` derives another key.
const CONTENT: &[u8] = b"policy-gateway escalation content 1";
/// A key that is shorter can be guessed.
const SECRETS_KEY_BYTES_MIN: usize = 16;

/// The mail server that notices of escalations go through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Its name or address.
    pub host: String,
    /// Default: 587 with `starttls`, 465 with `implicit`, 25 with `none`.
    pub port: Option<u16>,
    /// How the connection is protected. Default `starttls`.
    pub tls: Option<SmtpTls>,
    /// Absent: no authentication.
    pub username: Option<String>,
    /// Secret: `$NAME` (environment), `file:/path` or the text itself.
    pub password: Option<String>,
    /// Who mails are from, as in `Policy Gateway <gateway@example.com>`.
    pub from: String,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Upgraded, or not used.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// In the clear: for a relay on this machine.
    None,
}

/// How reviewers hear of escalations.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationsConfig {
    /// Secret that signs what is posted to an `escalation_path` that is a URL: `$NAME`, `file:/path` or the text itself,
    /// `whsec_` and the base64 of 24 to 64 bytes.
    pub webhook_secret: Option<String>,
    /// What the management API is reached by from outside, as in `https://gateway.example.com`: notices link there.
    pub public_url: Option<String>,
}

/// A mail server, ready to be used.
#[derive(Clone, Debug)]
pub(crate) struct Smtp {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: SmtpTls,
    pub(crate) credentials: Option<(String, Secret)>,
    pub(crate) from: Mailbox,
}

/// The key of webhook signatures.
#[derive(Clone)]
pub(crate) struct WebhookSecret(pub(crate) Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret(hidden)")
    }
}

/// What a configuration lets escalations do.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    pub(crate) smtp: Option<Smtp>,
    pub(crate) webhook_secret: Option<WebhookSecret>,
    pub(crate) public_url: Option<String>,
    pub(crate) sealer: Option<Sealer>,
    /// What webhooks of policies that no file declares may reach.
    pub(crate) egress: Egress,
    /// Where policies of files send: these are reached wherever they lead.
    declared_paths: BTreeSet<String>,
}

impl Channels {
    /// Checks the sections and resolves their secrets.
    ///
    /// # Errors
    /// Every problem, with paths from the configuration's root (`smtp.host`).
    pub fn build(
        smtp: Option<&SmtpConfig>,
        escalations: Option<&EscalationsConfig>,
        secrets_key: Option<&str>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let channels = Self {
            smtp: smtp.and_then(|smtp| smtp.build(&mut problems)),
            webhook_secret: escalations
                .and_then(|section| section.webhook_secret.as_deref())
                .and_then(|raw| webhook_secret(raw, &mut problems)),
            public_url: escalations
                .and_then(|section| section.public_url.as_deref())
                .and_then(|url| public_url(url, &mut problems)),
            sealer: secrets_key.and_then(|raw| sealer(raw, &mut problems)),
            egress: Egress::default(),
            declared_paths: BTreeSet::new(),
        };
        if problems.is_empty() { Ok(channels) } else { Err(problems) }
    }

    /// The same, with what webhooks of the management API's policies may reach, and the paths of those that files declare.
    pub fn within(self, egress: Egress, declared_paths: impl IntoIterator<Item = String>) -> Self {
        Self { egress, declared_paths: declared_paths.into_iter().collect(), ..self }
    }

    /// Whether a policy that the management API saved would notify what it may not reach.
    pub fn check_reach(&self, document: &PolicyDocument) -> Vec<Problem> {
        let path = document.refusal_replacement.escalation_path.as_deref();
        let refused = path.filter(|path| is_url(path) && !self.is_declared(path));
        let error = refused.and_then(|path| self.egress.check(path).err());
        error
            .map(|error| Problem::new("refusal_replacement.escalation_path", error.to_string()))
            .into_iter()
            .collect()
    }

    /// Whether a policy of a file sends there.
    pub(crate) fn is_declared(&self, path: &str) -> bool {
        self.declared_paths.contains(path)
    }

    /// What a policy needs that is not there, with paths into its document. Nothing where it can neither escalate nor be
    /// taken back by itself.
    pub fn check(&self, document: &PolicyDocument) -> Vec<Problem> {
        let mut problems = Vec::new();
        let rules = document.rules.overrides.iter().filter_map(|rule| rule.rollout.as_ref());
        let is_taken_back = std::iter::once(&document.rollout)
            .chain(rules)
            .any(|rollout| rollout.canary.enabled && rollout.rollback_on_spike);
        if !document.can_escalate() && !is_taken_back {
            return problems;
        }
        const PATH: &str = "refusal_replacement.escalation_path";
        match document.refusal_replacement.escalation_path.as_deref() {
            Some(path) if is_url(path) && self.webhook_secret.is_none() => problems.push(Problem::new(
                PATH,
                "a URL is notified by signed webhook: give `escalations.webhook_secret` in the configuration, or \
                 take the path out",
            )),
            Some(path) if !is_url(path) => {
                if self.smtp.is_none() {
                    problems.push(Problem::new(
                        PATH,
                        "an e-mail address is notified through a mail server: give `smtp` in the configuration, or \
                         take the path out",
                    ));
                }
                if path.parse::<Mailbox>().is_err() {
                    problems.push(Problem::new(PATH, "is no e-mail address that mail can be sent to"));
                }
            }
            _ => {}
        }
        if document.org_controls.retain_content == RetainContent::Escalations && self.sealer.is_none() {
            problems.push(Problem::new(
                "org_controls.retain_content",
                "content is kept encrypted only: give `secrets_key` in the configuration, or set it to `none`",
            ));
        }
        problems
    }
}

pub(crate) fn is_url(path: &str) -> bool {
    path.starts_with("https://") || path.starts_with("http://")
}

impl SmtpConfig {
    fn build(&self, problems: &mut Vec<Problem>) -> Option<Smtp> {
        let before = problems.len();
        let mut add =
            |name: &str, message: String| problems.push(Problem::new(format!("smtp.{name}"), message));
        let host_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if self.host.is_empty() || !self.host.chars().all(host_fits) {
            add("host", "name the mail server, without a port: write it like `mail.example.com`".to_owned());
        }
        let tls = self.tls.unwrap_or_default();
        let port = self.port.unwrap_or(match tls {
            SmtpTls::StartTls => 587,
            SmtpTls::Implicit => 465,
            SmtpTls::None => 25,
        });
        if port == 0 {
            add("port", "`0` is no port: give one, or take it out".to_owned());
        }
        let password = self.password.as_deref().map(resolve).transpose();
        let password = password.map_err(|message| add("password", message)).ok().flatten();
        match (&self.username, &self.password) {
            (Some(_), None) => {
                add("password", "a user name needs one: give `$NAME` or `file:/path`".to_owned());
            }
            (None, Some(_)) => add("username", "a password needs a user name: give it".to_owned()),
            (Some(_), Some(_)) if tls == SmtpTls::None && !is_loopback(&self.host) => add(
                "tls",
                "`none` would send the password in the clear: use `starttls` or `implicit`".to_owned(),
            ),
            _ => {}
        }
        let from = self.from.parse::<Mailbox>();
        if from.is_err() {
            add("from", "not an address: write it like `Policy Gateway <gateway@example.com>`".to_owned());
        }
        let credentials = self.username.clone().zip(password);
        let smtp = Smtp { host: self.host.clone(), port, tls, credentials, from: from.ok()? };
        (problems.len() == before).then_some(smtp)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn resolve(raw: &str) -> Result<Secret, String> {
    SecretSource::parse(raw).and_then(|source| source.resolve()).map_err(|error| error.to_string())
}

fn webhook_secret(raw: &str, problems: &mut Vec<Problem>) -> Option<WebhookSecret> {
    let path = "escalations.webhook_secret";
    let secret = resolve(raw).map_err(|message| problems.push(Problem::new(path, message))).ok()?;
    let key = secret
        .expose()
        .strip_prefix(WEBHOOK_SECRET_PREFIX)
        .and_then(|text| STANDARD.decode(text).ok())
        .filter(|key| WEBHOOK_SECRET_BYTES.contains(&key.len()));
    if key.is_none() {
        let message = "must be `whsec_` and the base64 of 24 to 64 random bytes: make one with \
                       `echo whsec_$(openssl rand -base64 32)`";
        problems.push(Problem::new(path, message));
    }
    key.map(WebhookSecret)
}

fn public_url(url: &str, problems: &mut Vec<Problem>) -> Option<String> {
    if is_url(url) && !url.contains(['?', '#', ' ']) {
        return Some(url.trim_end_matches('/').to_owned());
    }
    let message = "must be an http(s) URL without a query: write it like `https://gateway.example.com`";
    problems.push(Problem::new("escalations.public_url", message));
    None
}

fn sealer(raw: &str, problems: &mut Vec<Problem>) -> Option<Sealer> {
    let secret = resolve(raw).map_err(|message| problems.push(Problem::new("secrets_key", message))).ok()?;
    if secret.expose().len() < SECRETS_KEY_BYTES_MIN {
        let message = "is shorter than 16 characters: make one with `openssl rand -base64 32`";
        problems.push(Problem::new("secrets_key", message));
        return None;
    }
    Some(Sealer::new(&secret, CONTENT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn smtp(value: serde_json::Value) -> SmtpConfig {
        serde_json::from_value(value).unwrap()
    }

    fn paths(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[test]
    fn every_problem_of_the_sections_is_reported_with_its_path() {
        let smtp = smtp(json!({"host": "mail example", "username": "u", "from": "nobody"}));
        let escalations = EscalationsConfig {
            webhook_secret: Some("whsec_c2hvcnQ=".into()),
            public_url: Some("gateway".into()),
        };
        let problems = Channels::build(Some(&smtp), Some(&escalations), Some("short")).unwrap_err();
        assert_eq!(
            paths(&problems),
            [
                "smtp.host",
                "smtp.password",
                "smtp.from",
                "escalations.webhook_secret",
                "escalations.public_url",
                "secrets_key"
            ]
        );
        assert!(problems.iter().all(|problem| !problem.message.contains("c2hvcnQ")));
    }

    #[test]
    fn a_password_goes_in_the_clear_to_this_machine_only() {
        let with_host = |host: &str| {
            let config = smtp(
                json!({"host": host, "tls": "none", "username": "u", "password": "p", "from": "a@b.example"}),
            );
            Channels::build(Some(&config), None, None).map(|channels| channels.smtp.unwrap().port)
        };
        assert_eq!(with_host("127.0.0.1"), Ok(25));
        assert_eq!(paths(&with_host("mail.example.com").unwrap_err()), ["smtp.tls"]);
    }

    #[test]
    fn a_policy_that_needs_more_than_there_is_names_both() {
        let policy = |rules: serde_json::Value, path: Option<&str>| {
            PolicyDocument::parse(&json!({
                "policy_id": "p", "rules": rules, "org_controls": {"retain_content": "escalations"},
                "refusal_replacement": {"escalation_path": path.unwrap_or("a@b.example")},
            }))
            .unwrap()
        };
        let rules = json!({"denylist": ["napalm"], "response_pattern": "escalate"});
        let none = Channels::default();
        let problems = none.check(&policy(rules.clone(), None));
        assert_eq!(paths(&problems), ["refusal_replacement.escalation_path", "org_controls.retain_content"]);
        assert!(problems[0].message.contains("`smtp`") && problems[1].message.contains("`secrets_key`"));
        let problems = none.check(&policy(rules.clone(), Some("https://hooks.example/x")));
        assert!(problems[0].message.contains("`escalations.webhook_secret`"));
        // Unreachable: inert.
        assert_eq!(none.check(&policy(json!({"denylist": ["napalm"]}), None)), Vec::new());
        let all = Channels::build(
            Some(&smtp(json!({"host": "localhost", "from": "Gateway <g@b.example>"}))),
            Some(&EscalationsConfig {
                webhook_secret: Some(format!("whsec_{}", STANDARD.encode([9; 24]))),
                public_url: None,
            }),
            Some("0123456789abcdef"),
        )
        .unwrap();
        assert_eq!(all.check(&policy(rules.clone(), None)), Vec::new());
        assert_eq!(all.check(&policy(rules, Some("https://hooks.example/x"))), Vec::new());
    }
}
