//! `policy simulate`: one exchange judged, and why. The judging and its explanation are `judge::simulate`.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ::policy::{Revision, Subject};
use anyhow::{Context, bail};
use judge::explain::Finding;
use judge::simulate::{Said, Simulated, request_of, request_of_text, simulate};
use llm_api::chat::request::ChatRequest;
use serde_json::{Value, json};

use super::{compile, newest, revision_of_file};
use crate::args::SimulateArgs;
use crate::config::policies::PolicyFile;
use crate::config::{policies_of, read_text};
use crate::output::{Output, printable};

/// Most that is read of stdin.
const STDIN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Judges and prints.
///
/// # Errors
/// A policy or messages that cannot be read.
pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let revision = find_policy(args)?;
    let request = read_request(args)?;
    let said = args.answer.as_ref().map(|answer| match args.stream {
        true => Said::Stream(vec![answer.clone()]),
        false => Said::text(answer),
    });
    let target = args.target.as_deref().unwrap_or_default();
    let subject = Subject::new(target).scored_by(judge::moderation::embedded());
    let done = simulate(&revision, &subject, &request, said.as_ref())?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&to_json(&revision, &done))?;
    } else {
        print(&mut output, &done)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn find_policy(args: &SimulateArgs) -> anyhow::Result<Arc<Revision>> {
    let file = Path::new(&args.policy);
    let Some(config) = &args.config else {
        if !file.is_file() {
            bail!(
                "there is no file `{}`: name a policy file, or give --config with a policy's id",
                args.policy
            );
        }
        return Ok(revision_of_file(file)?);
    };
    // The secrets that a configuration names are not needed to judge.
    let policies = policies_of(config)?;
    let of_id: Vec<PolicyFile> =
        policies.iter().filter(|policy| policy.document.policy_id == args.policy).cloned().collect();
    match newest(&of_id) {
        Some(policy) => Ok(compile(policy.document.clone(), &policy.file)?),
        None if file.is_file() => Ok(revision_of_file(file)?),
        None => {
            let ids: Vec<&str> = policies.iter().map(|policy| policy.document.policy_id.as_str()).collect();
            bail!("{} has no policy `{}`: it has `{}`", config.display(), args.policy, ids.join("`, `"))
        }
    }
}

fn read_request(args: &SimulateArgs) -> anyhow::Result<ChatRequest> {
    if let Some(text) = &args.text {
        return Ok(request_of_text(text)?);
    }
    match &args.messages {
        Some(file) => {
            let name = file.display();
            let text = read_text(file).map_err(|message| anyhow::anyhow!("{name}: {message}"))?;
            let value: Value = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
            request_of_json(&value).with_context(|| name.to_string())
        }
        None => {
            let mut text = String::new();
            io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text).context("stdin cannot be read")?;
            match serde_json::from_str::<Value>(&text) {
                Ok(value @ (Value::Array(_) | Value::Object(_))) => request_of_json(&value).context("stdin"),
                _ => Ok(request_of_text(text.trim_end_matches(['\r', '\n']))?),
            }
        }
    }
}

fn request_of_json(value: &Value) -> anyhow::Result<ChatRequest> {
    Ok(request_of(value.get("messages").unwrap_or(value))?)
}

fn to_json(revision: &Revision, done: &Simulated) -> Value {
    let verdict = &done.verdict;
    let terms = |terms: &[Arc<str>]| terms.iter().map(|term| Value::from(&**term)).collect::<Value>();
    json!({
        "policy_id": revision.policy_id(),
        "decision": verdict.decision,
        "reason_code": verdict.reason_code,
        "stage": verdict.stage,
        "triggered_categories": verdict.triggered_categories,
        "allowlist_hits": terms(&verdict.allowlist_hits),
        "denylist_hits": terms(&verdict.denylist_hits),
        "redactions": verdict.redactions,
        "calls_model": done.calls_model,
        "redacted_messages": done.messages,
        "released": done.released,
        "explanation": done.explanation,
    })
}

fn print(output: &mut Output, done: &Simulated) -> io::Result<()> {
    output.line(&printable(&done.explanation.because))?;
    let calls = if done.calls_model { "the model is called" } else { "the model is not called" };
    output.line(&format!("reason code {}; {calls}", json_text(&json!(done.verdict.reason_code))))?;
    if !done.explanation.findings.is_empty() {
        output.line("")?;
        let rows: Vec<Vec<String>> = done.explanation.findings.iter().map(row).collect();
        let header = ["rule", "found", "compared as", "where", "characters", "alone", "decides"];
        output.table(&header, &rows)?;
        if done.explanation.is_cut_off {
            output.line("… and more")?;
        }
    }
    output.line("")?;
    output.line("messages as the model would see them:")?;
    for message in done.messages.as_array().into_iter().flatten() {
        output.line(&format!("  {message}"))?;
    }
    if let Some(released) = &done.released {
        output.line("what leaves of the answer:")?;
        output.line(&format!("  {}", Value::from(released.as_str())))?;
    }
    Ok(())
}

fn row(finding: &Finding) -> Vec<String> {
    let found = match (&finding.term, finding.entity, finding.category) {
        (Some(term), ..) => term.clone(),
        (_, Some(entity), _) => entity.as_str().to_owned(),
        (.., Some(category)) => category.to_owned(),
        _ => "nothing".to_owned(),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        finding.rule.clone(),
        found,
        or_dash(finding.normalised.clone()),
        or_dash(finding.at.clone()),
        or_dash(finding.characters.map(|[start, end]| format!("{start}-{end}"))),
        finding.decision.as_str().to_owned(),
        if finding.decides { "yes" } else { "" }.to_owned(),
    ]
}

fn json_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
