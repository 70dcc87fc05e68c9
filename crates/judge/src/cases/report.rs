//! The result of a run of cases, as `--json` prints it, as text for people and as JUnit XML for CI.

use serde::Serialize;
use serde_json::Value;

use super::{Mismatch, coverage::Rule};

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether every case holds and coverage is as high as was asked for.
    pub ok: bool,
    /// In the order in which they ran.
    pub cases: Vec<CaseResult>,
    /// What the cases of each policy reach.
    pub policies: Vec<PolicyResult>,
    /// The coverage asked for, in percent.
    pub min_coverage: Option<f64>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseResult {
    /// The file it is in.
    pub file: String,
    /// Where it begins, from 1.
    pub line: Option<u64>,
    /// Its name.
    pub name: String,
    /// The policy it was judged by.
    pub policy_id: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why the policy decided as it did.
    pub because: String,
    /// What came out otherwise.
    pub mismatches: Vec<Located>,
    /// Ways in which its stream was cut.
    pub cuts: usize,
}

/// A mismatch and the line of the expectation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Located {
    /// Where it was expected, from 1.
    pub line: Option<u64>,
    /// What came out otherwise.
    #[serde(flatten)]
    pub mismatch: Mismatch,
}

/// Coverage of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyResult {
    /// The policy.
    pub policy_id: String,
    /// The file it is in.
    pub file: String,
    /// Cases that ran on it.
    pub cases: usize,
    /// Terms, categories and overrides that it has.
    pub rules: usize,
    /// Those that some case reached.
    pub reached: usize,
    /// The same in percent; 100 where there is no rule.
    pub percent: f64,
    /// Those that none reached, with their lines.
    pub missed: Vec<Missed>,
}

/// A rule that no case reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// Where it stands, from 1.
    pub line: Option<u64>,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
}

impl Report {
    /// Sets `ok` from what was found.
    pub fn conclude(&mut self) {
        let min = self.min_coverage.unwrap_or(0.0);
        self.ok =
            self.cases.iter().all(|case| case.ok) && self.policies.iter().all(|policy| policy.percent >= min);
    }

    /// For people. Cases that hold are one line, those that do not say what was expected.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut file = None;
        for case in &self.cases {
            if file != Some(&case.file) {
                out.push_str(&format!("{}\n", case.file));
                file = Some(&case.file);
            }
            out.push_str(&format!("  {}  {}\n", if case.ok { "ok  " } else { "FAIL" }, case.name));
            for Located { line, mismatch } in &case.mismatches {
                out.push_str(&format!("        {}: {}\n", place(&case.file, *line), told(mismatch)));
            }
            if !case.ok {
                out.push_str(&format!("        because {}\n", case.because));
            }
        }
        let failed = self.cases.iter().filter(|case| !case.ok).count();
        let cuts: usize = self.cases.iter().map(|case| case.cuts).sum();
        out.push_str(&format!(
            "{}: {} hold, {failed} do not; streams were cut in {cuts} ways\n",
            counted(self.cases.len(), "case"),
            self.cases.len() - failed
        ));
        for policy in &self.policies {
            out.push_str(&policy.text(self.min_coverage));
        }
        out
    }

    /// For CI: <https://github.com/testmoapp/junitxml> describes what readers understand.
    pub fn junit(&self) -> String {
        let failures = |cases: &[&CaseResult]| cases.iter().filter(|case| !case.ok).count();
        let all: Vec<&CaseResult> = self.cases.iter().collect();
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        out.push_str(&format!(
            "<testsuites name=\"policy test\" tests=\"{}\" failures=\"{}\">\n",
            all.len(),
            failures(&all)
        ));
        for suite in all.chunk_by(|one, next| one.file == next.file) {
            let name = suite.first().map(|case| escaped(&case.file)).unwrap_or_default();
            let (tests, failed) = (suite.len(), failures(suite));
            out.push_str(&format!("  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\">\n"));
            for case in suite {
                out.push_str(&case.junit());
            }
            out.push_str("  </testsuite>\n");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

impl CaseResult {
    fn junit(&self) -> String {
        let line = self.line.map(|line| format!(" line=\"{line}\"")).unwrap_or_default();
        let head = format!(
            "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\"{line}",
            escaped(&self.policy_id),
            escaped(&self.name),
            escaped(&self.file)
        );
        if self.ok {
            return format!("{head}/>\n");
        }
        let told: Vec<String> = self
            .mismatches
            .iter()
            .map(|Located { line, mismatch }| format!("{}: {}", place(&self.file, *line), told(mismatch)))
            .collect();
        let first = self.mismatches.first().map(|one| told_short(&one.mismatch)).unwrap_or_default();
        format!(
            "{head}>\n      <failure message=\"{}\">{}\nbecause {}</failure>\n    </testcase>\n",
            escaped(&first),
            escaped(&told.join("\n")),
            escaped(&self.because)
        )
    }
}

impl PolicyResult {
    fn text(&self, min: Option<f64>) -> String {
        let Self { policy_id, rules, reached, percent, .. } = self;
        let low = match min {
            Some(min) if *percent < min => format!(" FAIL: {min} % are asked for"),
            _ => String::new(),
        };
        let mut out = format!(
            "policy `{policy_id}`: {} reached {reached} of {} ({percent:.1} %){low}\n",
            counted(self.cases, "case"),
            counted(*rules, "rule")
        );
        for Missed { line, rule } in &self.missed {
            out.push_str(&format!(
                "  not reached: {}: {} `{}`\n",
                place(&self.file, *line),
                rule.path,
                rule.about
            ));
        }
        out
    }
}

fn place(file: &str, line: Option<u64>) -> String {
    line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"))
}

fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn told(mismatch: &Mismatch) -> String {
    let Mismatch { field, expected, got, cut_after } = mismatch;
    let cut = match cut_after {
        Some(cut_after) => format!(" where the stream is cut after {}", counted(*cut_after, "character")),
        None => String::new(),
    };
    if let (Value::Array(expected), Value::Array(got)) = (expected, got) {
        let lacks: Vec<String> = expected.iter().filter(|one| !got.contains(one)).map(shown).collect();
        let has: Vec<String> = got.iter().filter(|one| !expected.contains(one)).map(shown).collect();
        let part =
            |what: &str, list: Vec<String>| (!list.is_empty()).then(|| format!("{what} {}", list.join(", ")));
        let parts: Vec<String> =
            [part("lacks", lacks), part("has beside", has)].into_iter().flatten().collect();
        if !parts.is_empty() {
            return format!("expect.{field}: {}{cut}", parts.join("; "));
        }
    }
    format!("expect.{field}: expected {}, got {}{cut}", shown(expected), shown(got))
}

fn told_short(mismatch: &Mismatch) -> String {
    format!("{} is not as expected", mismatch.field)
}

/// Texts stand in quotes with their control characters escaped, as JSON has them.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    }
}

/// Text for XML 1.0: markup escaped, characters that it does not allow made visible.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.extend(control.escape_unicode()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let mismatch = |field, expected, got, cut_after| Located {
            line: Some(9),
            mismatch: Mismatch { field, expected, got, cut_after },
        };
        let case = |name: &str, mismatches: Vec<Located>| CaseResult {
            file: "tests/a.yaml".to_owned(),
            line: Some(3),
            name: name.to_owned(),
            policy_id: "p".to_owned(),
            ok: mismatches.is_empty(),
            because: "allow: nothing that the policy forbids was found".to_owned(),
            mismatches,
            cuts: 2,
        };
        let policy = PolicyResult {
            policy_id: "p".to_owned(),
            file: "p.yaml".to_owned(),
            cases: 2,
            rules: 2,
            reached: 1,
            percent: 50.0,
            missed: vec![Missed {
                line: Some(4),
                rule: Rule { path: "rules.denylist[1]".to_owned(), about: "theft".to_owned() },
            }],
        };
        let mut report = Report {
            cases: vec![
                case("it <holds>", vec![]),
                case(
                    "it \"does\" not\u{1}",
                    vec![
                        mismatch("decision", json!("refuse"), json!("allow"), None),
                        mismatch("denylist_hits", json!(["a", "b"]), json!(["b", "c"]), None),
                        mismatch("released", json!("a\nb"), json!(null), Some(1)),
                    ],
                ),
            ],
            policies: vec![policy],
            min_coverage: Some(75.0),
            ..Report::default()
        };
        report.conclude();
        report
    }

    #[test]
    fn text_says_what_was_expected_where() {
        insta::assert_snapshot!(report().text());
    }

    #[test]
    fn junit_is_well_formed() {
        insta::assert_snapshot!(report().junit());
    }

    #[test]
    fn low_coverage_alone_fails_a_run() {
        let mut report = report();
        report.cases.truncate(1);
        report.conclude();
        assert!(!report.ok);
        report.min_coverage = Some(50.0);
        report.conclude();
        assert!(report.ok);
    }
}
