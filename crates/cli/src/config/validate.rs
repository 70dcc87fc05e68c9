//! From the shape of a configuration to its meaning: every section checked, everything that refers to something else
//! followed. Reads nothing but the secrets that are named.

use std::path::{Path, PathBuf};

use audit::egress::Egress;
use audit::export::ExportConfig;
use audit::seal::Sealer;
use audit::secret::SecretSource;
use control::config::{AdminToken, check_together};
use escalation::Channels;
use gateway::config::Limits;
use policy::problems::Problem;
use registry::desired_state::ExportRules;
use registry::{Desired, Pricing, Rollouts, Snapshot};
use serde_json::Value;

use crate::config::policies::{self, PolicyFile, Stamp};
use crate::config::raw::RawConfig;
use crate::config::{Config, LISTEN, STORE, signing};

/// What secrets of destinations are encrypted for: another use of `secrets_key` derives another key.
const EXPORT_SECRETS: &[u8] = b"policy-gateway destination secret 1";

/// Checks everything. `policies` is none where the policy files have problems of their own. None where there is any
/// problem.
pub(super) fn validate(
    file: &Path,
    raw: &RawConfig,
    policies: Option<Vec<PolicyFile>>,
    policy_stamp: Stamp,
    channels: Channels,
    problems: &mut Vec<Problem>,
) -> Option<Config> {
    let listen = raw.listen.clone().unwrap_or_else(|| LISTEN.to_owned());
    check_listen(&listen, problems);
    let store = store_path(raw.store.as_deref().unwrap_or(STORE))
        .map_err(|message| problems.push(Problem::new("store", message)));
    if raw.shared_counters.is_some() {
        problems.push(Problem::new("shared_counters", "not built yet in this version: take it out"));
    }
    let limits = limits(raw, problems);
    let retention_days = raw.audit.as_ref().and_then(|audit| audit.retention_days);
    if retention_days == Some(0) {
        problems.push(Problem::new(
            "audit.retention_days",
            "`0` would keep nothing: give 1 or more, or take it out",
        ));
    }
    let signing = raw.audit.as_ref().and_then(|audit| signing::signing(audit, problems));
    let admin_tokens = admin_tokens(raw, problems);
    let oidc = match raw.oidc.as_ref().map(|oidc| oidc.build("oidc")).transpose() {
        Ok(oidc) => oidc,
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let exports = exports(raw, problems);
    let export_rules = export_rules(raw, problems);
    let declared_paths = policies
        .iter()
        .flatten()
        .filter_map(|policy| policy.document.refusal_replacement.escalation_path.clone());
    let channels = channels.within(export_rules.egress.clone(), declared_paths);
    let desired = desired(raw, policies.as_deref(), problems);
    Some(Config {
        file: file.to_owned(),
        listen_in_file: listen.clone(),
        listen,
        store: store.ok()?,
        limits,
        on_unavailable: raw.audit.as_ref().and_then(|audit| audit.on_unavailable).unwrap_or_default(),
        retention_days,
        signing,
        admin_tokens,
        oidc,
        exports,
        export_rules,
        channels,
        desired: desired?,
        policies: policies?,
        policy_patterns: raw.policies.clone(),
        policy_stamp,
    })
    .filter(|_| problems.is_empty())
}

/// The path in a `sqlite://PATH`.
///
/// # Errors
/// What else it is, and what to write.
pub(crate) fn store_path(store: &str) -> Result<PathBuf, String> {
    match store.split_once("://") {
        Some(("sqlite", "")) => Err("names no file: write it like `sqlite://data/gateway.db`".to_owned()),
        Some(("sqlite", path)) => Ok(PathBuf::from(path)),
        Some(("postgres" | "postgresql", _)) => {
            Err("PostgreSQL is not built yet in this version: use `sqlite://data/gateway.db`".to_owned())
        }
        _ => Err("not a store: write it like `sqlite://data/gateway.db`".to_owned()),
    }
}

/// What escalations are told and kept by. None where its sections have problems.
pub(super) fn channels(raw: &RawConfig, problems: &mut Vec<Problem>) -> Option<Channels> {
    Channels::build(raw.smtp.as_ref(), raw.escalations.as_ref(), raw.secrets_key.as_deref())
        .map_err(|found| problems.extend(found))
        .ok()
}

fn check_listen(listen: &str, problems: &mut Vec<Problem>) {
    let fits = listen.rsplit_once(':').is_some_and(|(host, port)| {
        // An IPv6 address stands in brackets; the socket address parser knows.
        let host_fits = !host.is_empty() && !host.contains(['/', ' ', ':']);
        port.parse::<u16>().is_ok() && (host_fits || listen.parse::<std::net::SocketAddr>().is_ok())
    });
    if !fits {
        problems
            .push(Problem::new("listen", "not an address: write it like `127.0.0.1:8080` or `[::]:8080`"));
    }
}

fn limits(raw: &RawConfig, problems: &mut Vec<Problem>) -> Limits {
    match raw.limits.as_ref().map(|limits| limits.build("limits")) {
        None => Limits::default(),
        Some(Ok(limits)) => limits,
        Some(Err(found)) => {
            problems.extend(found);
            Limits::default()
        }
    }
}

fn admin_tokens(raw: &RawConfig, problems: &mut Vec<Problem>) -> Vec<AdminToken> {
    let mut tokens = Vec::with_capacity(raw.admin_tokens.len());
    for (at, token) in raw.admin_tokens.iter().enumerate() {
        match token.build(&format!("admin_tokens[{at}]")) {
            Ok(token) => tokens.push(token),
            Err(found) => problems.extend(found),
        }
    }
    // With one left out the indexes would be wrong.
    if tokens.len() == raw.admin_tokens.len() {
        problems.extend(check_together(&tokens));
    }
    tokens
}

fn exports(raw: &RawConfig, problems: &mut Vec<Problem>) -> Vec<ExportConfig> {
    let exports = match audit::export::parse_all(&Value::Array(raw.exports.clone()), "exports") {
        Ok(exports) => exports,
        Err(found) => {
            problems.extend(found);
            return Vec::new();
        }
    };
    for (at, export) in exports.iter().enumerate() {
        if let Err((field, error)) = export.check_secrets() {
            problems.push(Problem::new(format!("exports[{at}].{field}"), error.to_string()));
        }
    }
    exports
}

/// What the management API's destinations may reach and read. A `secrets_key` that does not hold is told with the channels.
fn export_rules(raw: &RawConfig, problems: &mut Vec<Problem>) -> ExportRules {
    let sealer = raw.secrets_key.as_deref().and_then(|key| {
        let secret = SecretSource::parse(key).and_then(|source| source.resolve()).ok()?;
        Some(Sealer::new(&secret, EXPORT_SECRETS))
    });
    let Some(egress) = &raw.egress else { return ExportRules { sealer, ..ExportRules::default() } };
    let is_name = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    for (at, _) in egress.env.iter().enumerate().filter(|(_, name)| !is_name(name)) {
        let message = "not the name of an environment variable: write it like `DD_API_KEY`, without `$`";
        problems.push(Problem::new(format!("egress.env[{at}]"), message));
    }
    let allowed = Egress::parse(&egress.allow).map_err(|found| problems.extend(found)).unwrap_or_default();
    ExportRules { egress: allowed, env: egress.env.clone(), sealer }
}

/// Upstreams, projects and prices. Names are followed once each of these and the policies hold.
fn desired(raw: &RawConfig, policies: Option<&[PolicyFile]>, problems: &mut Vec<Problem>) -> Option<Desired> {
    let before = problems.len();
    let mut desired = Desired::default();
    for (at, upstream) in raw.upstreams.iter().enumerate() {
        match upstream.build(&format!("upstreams[{at}]")) {
            Ok(upstream) => desired.upstreams.push(upstream),
            Err(found) => problems.extend(found),
        }
    }
    if let Some(moderation) = &raw.moderation {
        match moderation.build("moderation", &desired.upstreams) {
            Ok(moderation) => desired.moderation = moderation,
            Err(found) => problems.extend(found),
        }
    }
    for (name, plan) in &raw.plans {
        match plan.build(&format!("plans.{name}")) {
            Ok(plan) => drop(desired.plans.insert(name.clone(), plan)),
            Err(found) => problems.extend(found),
        }
    }
    for (at, project) in raw.projects.iter().enumerate() {
        match project.build(&format!("projects[{at}]")) {
            Ok(project) => desired.projects.push(project),
            Err(found) => problems.extend(found),
        }
    }
    desired.pricing = match raw.pricing.as_ref().map(|pricing| pricing.build("pricing")) {
        None => Pricing::default(),
        Some(Ok(pricing)) => pricing,
        Some(Err(found)) => {
            problems.extend(found);
            Pricing::default()
        }
    };
    // A section that is not all there would make names seem unknown that are not.
    let partial = |problem: &Problem| {
        ["upstreams", "projects", "policies", "plans"].iter().any(|section| problem.path.starts_with(section))
    };
    if problems.iter().any(partial) {
        return None;
    }
    follow(&desired, policies?, problems);
    (problems.len() == before).then_some(desired)
}

/// Follows every name to what it names.
pub(super) fn follow(desired: &Desired, policies: &[PolicyFile], problems: &mut Vec<Problem>) {
    let mut whole = desired.clone();
    match policies::sets(policies, &vec![1; policies.len()], &Rollouts::default()) {
        Ok(sets) => whole.policies = sets,
        Err((_, found)) => problems.extend(found),
    }
    problems.extend(Snapshot::build(whole).err().unwrap_or_default());
}
