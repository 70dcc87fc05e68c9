//! Examples and documentation are true: what they show as a policy, a configuration, cases or a command is one.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A fenced block of a Markdown file.
#[derive(Debug)]
struct Block {
    file: PathBuf,
    line: usize,
    /// As it stands after the backticks, for example `yaml policy`.
    kind: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

fn markdown(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

fn blocks() -> Vec<Block> {
    let root = root();
    let mut files = vec![root.join("README.md")];
    markdown(&root.join("docs"), &mut files);
    markdown(&root.join("examples"), &mut files);
    let mut blocks = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut open: Option<Block> = None;
        for (at, line) in text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(kind)) => {
                    let file = file.strip_prefix(&root).unwrap().to_owned();
                    open = Some(Block { file, line: at + 1, kind: kind.to_owned(), text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text.push_str(&format!("{line}\n")),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", file.display());
    }
    blocks
}

/// Values for every `$NAME` of a configuration: what they are does not matter to a check.
fn environment(text: &str) -> Vec<(String, String)> {
    let name = |rest: &str| -> String {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect()
    };
    let mut names: Vec<String> = text.split('$').skip(1).map(name).filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    let value = |name: String| {
        // Project keys must differ, and look like keys.
        let value = format!("ak_{}", name.to_lowercase());
        (name, value)
    };
    names.into_iter().map(value).collect()
}

async fn check_config(folder: &Path, file: &str, text: &str, place: &str) {
    let environment = environment(text);
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let done = run(folder, &environment, &["check", "-c", file]).await;
    assert_eq!(done.code, Some(0), "{place}: {}{}", done.out, done.err);
}

/// What a part of a configuration needs around it to be one.
const AROUND: &[(&str, &str)] = &[
    (
        "upstreams:",
        "upstreams: [{ name: main, kind: openai, base_url: https://api.openai.com/v1, models: [\"*\"] }]\n",
    ),
    ("policies:", "policies: [policies/*.yaml]\n"),
    (
        "projects:",
        "projects: [{ id: support-bot, policy_id: support-guardrails, keys: [$SUPPORT_BOT_KEY] }]\n",
    ),
];

fn whole_config(part: &str) -> String {
    let mut text = part.to_owned();
    for (section, default) in AROUND {
        if !part.lines().any(|line| line.starts_with(section)) {
            text.push_str(default);
        }
    }
    text
}

#[tokio::test]
async fn every_policy_configuration_and_case_in_the_documentation_holds() {
    let mut found = Vec::new();
    for block in blocks() {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        std::fs::create_dir(path.join("policies")).unwrap();
        let support = root().join("examples/policies/support.yaml");
        std::fs::copy(support, path.join("policies/support.yaml")).unwrap();
        found.push(block.kind.clone());
        match block.kind.as_str() {
            "yaml policy" | "json policy" => {
                write("p.yaml", &block.text);
                let done = run(path, &[], &["policy", "validate", "p.yaml"]).await;
                assert_eq!(done.code, Some(0), "{}: {}", block.place(), done.err);
            }
            "yaml cases" => {
                write("cases.yaml", &block.text);
                let done = run(path, &[], &["policy", "test", "policies", "cases.yaml"]).await;
                assert_eq!(done.code, Some(0), "{}: {}{}", block.place(), done.out, done.err);
            }
            "yaml config" => {
                let text = whole_config(&block.text);
                write("gateway.yaml", &text);
                check_config(path, "gateway.yaml", &text, &block.place()).await;
            }
            "yaml export" => {
                let entry = block.text.trim_start_matches("exports:").trim_end();
                let is_entry = entry.trim_start().starts_with('-');
                let indented = entry.lines().map(|line| format!("    {line}\n")).collect::<String>();
                let list = if is_entry { entry.to_owned() } else { format!("  -\n{indented}") };
                let text = whole_config(&format!("exports:\n{list}\n"));
                write("gateway.yaml", &text);
                check_config(path, "gateway.yaml", &text, &block.place()).await;
            }
            "json" | "json event" | "json log" => {
                for value in serde_json::Deserializer::from_str(&block.text).into_iter::<serde_json::Value>()
                {
                    value.unwrap_or_else(|error| panic!("{}: {error}", block.place()));
                }
            }
            _ => {}
        }
    }
    for kind in ["yaml policy", "yaml export", "yaml cases", "sh"] {
        assert!(found.iter().any(|one| one == kind), "the documentation has no `{kind}` block any more");
    }
}

/// The commands of this binary that a shell text calls, without what a shell does beside. Each is asked for its help
/// with the same words up to the first option or file: a command that is not there would be an error.
fn subcommands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let is_word = |word: &&str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
    };
    let call = |line: &str| {
        let rest = line.split_once("policy-gateway ").filter(|(before, _)| !before.ends_with(['/', '-']))?.1;
        Some(rest.split_whitespace().take_while(|word| is_word(word)).map(str::to_owned).collect::<Vec<_>>())
    };
    joined.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(call).collect()
}

#[tokio::test]
async fn every_command_in_the_documentation_is_there() {
    let folder = TempDir::new().unwrap();
    let mut calls = Vec::new();
    for block in blocks().into_iter().filter(|block| block.kind == "sh") {
        calls.extend(subcommands(&block.text).into_iter().map(|words| (block.place(), words)));
    }
    calls.sort_by(|(_, one), (_, other)| one.cmp(other));
    calls.dedup_by(|(_, one), (_, other)| one == other);
    assert!(calls.len() >= 3, "{calls:?}");
    for (place, words) in calls {
        // Arguments may look like words (an id, a destination): the command is the longest part that has a help.
        let mut good = false;
        for end in (1..=words.len().min(3)).rev() {
            let args: Vec<&str> = words[..end].iter().map(String::as_str).chain(["--help"]).collect();
            good |= run(folder.path(), &[], &args).await.code == Some(0);
        }
        assert!(good, "{place}: there is no command `{}`", words.join(" "));
    }
}

#[tokio::test]
async fn the_example_configuration_holds() {
    let file = root().join("examples/gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    check_config(&root(), "examples/gateway.yaml", &text, "examples/gateway.yaml").await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The steps of the workflow that call this binary, run as a shell runs them.
#[tokio::test]
async fn the_example_repository_passes_its_own_workflow() {
    let folder = TempDir::new().unwrap();
    let repository = folder.path();
    copy(&root().join("examples/policy-repo"), repository);
    copy(&repository.join("policies"), &repository.join("before/policies"));
    let workflow = std::fs::read_to_string(repository.join(".github/workflows/policy.yml")).unwrap();
    let workflow: serde_json::Value = serde_saphyr::from_str(&workflow).unwrap();
    let steps = workflow["jobs"]["policy"]["steps"].as_array().unwrap();
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let ours: Vec<&str> = runs.filter(|run| run.contains("policy-gateway policy ")).collect();
    assert_eq!(ours.len(), 3, "validate, test, diff");
    let summary = repository.join("summary.md");
    for script in ours {
        let (code, told) = shell(repository, script, &summary).await;
        assert_eq!(code, Some(0), "{script}: {told}");
    }
    let junit = std::fs::read_to_string(repository.join("results.xml")).unwrap();
    assert!(junit.contains("failures=\"0\""), "{junit}");
    let told = std::fs::read_to_string(&summary).unwrap();
    assert!(told.contains("None of 5 requests"), "{told}");
    // A change that is too strict is stopped.
    let policy = repository.join("policies/support.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace("malware,", "malware, parcel,")).unwrap();
    let compare = steps.iter().find(|step| step["name"] == "Compare").unwrap()["run"].as_str().unwrap();
    let (code, told) = shell(repository, compare, &summary).await;
    assert_ne!(code, Some(0), "{told}");
    assert!(told.contains("20.00 % of the requests"), "{told}");
}

async fn shell(folder: &Path, script: &str, summary: &Path) -> (Option<i32>, String) {
    let bin = Path::new(env!("CARGO_BIN_EXE_policy-gateway")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // As GitHub runs a step: <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax>.
    let mut command = tokio::process::Command::new("bash");
    command
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("GITHUB_STEP_SUMMARY", summary);
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}
