//! What a token with a good signature must say: from whom, for whom, when, and as what. Pure.

use serde_json::{Map, Value};

use super::config::Oidc;
use crate::auth::Caller;
use crate::config::Role;

/// Longest name of a subject in the audit log.
const NAME_CHARS_MAX: usize = 200;
/// Which role counts where several fit.
const ROLES: [Role; 4] = [Role::Admin, Role::Editor, Role::Reviewer, Role::Auditor];

/// Why a token does not let its bearer in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not good.
    Token(String),
    /// It is good, and whoever has it may do nothing here.
    Role(String),
}

/// The bearer of a token with these claims, at this time (Unix seconds).
pub(super) fn caller(claims: &Map<String, Value>, oidc: &Oidc, now_s: i64) -> Result<Caller, Refused> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(oidc.issuer.as_str()) {
        return Err(token(format!("the token is not from `{}` (`iss`)", oidc.issuer)));
    }
    let is_for = |value: &Value| value.as_str() == Some(oidc.audience.as_str());
    let fits = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_for),
        Some(one) => is_for(one),
        None => false,
    };
    if !fits {
        return Err(token(format!("the token is not for `{}` (`aud`)", oidc.audience)));
    }
    let Some(expires_s) = time(claims, "exp")? else {
        return Err(token("the token never expires (`exp`): such a one is not taken".to_owned()));
    };
    if now_s >= expires_s.saturating_add(oidc.leeway_s) {
        return Err(token(format!("the token has expired{}: get another", at(expires_s))));
    }
    for (name, says) in [("nbf", "is not good yet"), ("iat", "was made in the future")] {
        if let Some(from_s) =
            time(claims, name)?.filter(|from_s| now_s < from_s.saturating_sub(oidc.leeway_s))
        {
            return Err(token(format!("the token {says} (`{name}`{}): check both clocks", at(from_s))));
        }
    }
    let Some(subject) = text("sub").filter(|subject| !subject.is_empty()) else {
        return Err(token("the token does not say whose it is (`sub`)".to_owned()));
    };
    let name = match text("email") {
        Some(email) => format!("oidc:{email} ({subject})"),
        None => format!("oidc:{subject}"),
    };
    let name = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    Ok(Caller { name, role: role(claims, oidc)?, token: None })
}

fn role(claims: &Map<String, Value>, oidc: &Oidc) -> Result<Role, Refused> {
    let path = oidc.roles_claim.join(".");
    let mut names = oidc.roles_claim.iter();
    let first = names.next().and_then(|name| claims.get(name));
    let found = names.fold(first, |value, name| value?.get(name));
    let values: Vec<&str> = match found {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mapped: Vec<Role> = values.iter().filter_map(|value| oidc.role_map.get(*value).copied()).collect();
    let chosen = ROLES.into_iter().find(|role| mapped.contains(role));
    chosen.ok_or_else(|| {
        Refused::Role(format!(
            "the token is good, but gives no role here: nothing in its claim `{path}` is in `oidc.role_map`"
        ))
    })
}

/// A time in Unix seconds, perhaps with a fraction, which does not count.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refused> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let wrong = || token(format!("the token's `{name}` is no time"));
    if let Some(whole) = value.as_i64() {
        return Ok(Some(whole));
    }
    let number = value.as_f64().filter(|number| number.abs() < 1e15).ok_or_else(wrong)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "its size was checked, and the fraction does not count"
    )]
    Ok(Some(number.floor() as i64))
}

fn at(time_s: i64) -> String {
    jiff::Timestamp::from_second(time_s).map_or_else(|_| String::new(), |time| format!(" at {time}"))
}

fn token(message: String) -> Refused {
    Refused::Token(message)
}
