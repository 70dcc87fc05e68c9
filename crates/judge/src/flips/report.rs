//! Flips as a report: JSON, tables for people, and Markdown for a pull request.

use serde::Serialize;

use super::{Distinct, Flips, Outcome, Top};

/// What changes between two policies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlipReport {
    /// Requests judged by both.
    pub requests: u64,
    /// Different users among them; see `users_are_estimated`.
    pub users: u64,
    /// To a more severe decision.
    pub stricter: u64,
    /// To a less severe one.
    pub milder: u64,
    /// Redacted, or no longer, under the same decision.
    pub other: u64,
    /// Share of the requests, 0 to 1, that come to a more severe decision.
    pub stricter_share: f64,
    /// Users with any change.
    pub flipped_users: u64,
    /// Whether counts of users are estimates, with this standard error.
    pub users_error: f64,
    /// Requests by outcome before and after, those that changed only; the most frequent first.
    pub changes: Vec<Outcomes>,
    /// By rule.
    pub rules: Table,
    /// By project.
    pub projects: Table,
    /// By target.
    pub targets: Table,
    /// By user.
    pub by_user: Table,
}

/// Requests that came to one outcome and come to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcomes {
    /// What it came to before.
    pub from: Outcome,
    /// What it comes to after.
    pub to: Outcome,
    /// How many.
    pub requests: u64,
}

/// The names with the most changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// The most changes first.
    pub rows: Vec<Row>,
    /// How many names there are; null where they were too many to be kept.
    pub names: Option<usize>,
    /// A name that is not in the table has at most so many changes more than the last row, where names were dropped.
    pub dropped_max: u64,
}

/// The changes of one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The rule, project, target or user.
    pub name: String,
    /// To a more severe decision.
    pub stricter: u64,
    /// To a less severe one.
    pub milder: u64,
    /// Redacted, or no longer.
    pub other: u64,
    /// Users behind them.
    pub users: u64,
    /// Changes that may have been missed: 0 where counts are exact.
    pub missed_max: u64,
}

impl Flips {
    /// The report, with so many rows a table.
    pub fn report(&self, rows: usize) -> FlipReport {
        let mut changes = Vec::new();
        for (from, row) in Outcome::ALL.into_iter().zip(&self.outcomes) {
            for (to, requests) in Outcome::ALL.into_iter().zip(row) {
                if from != to && *requests > 0 {
                    changes.push(Outcomes { from, to, requests: *requests });
                }
            }
        }
        changes.sort_by_key(|change| std::cmp::Reverse(change.requests));
        FlipReport {
            requests: self.requests,
            users: self.users.count(),
            stricter: self.flipped.stricter,
            milder: self.flipped.milder,
            other: self.flipped.other,
            stricter_share: self.stricter_share(),
            flipped_users: self.flipped.users.count(),
            users_error: if self.users.is_estimate() { Distinct::ERROR } else { 0.0 },
            changes,
            rules: table(&self.rules, rows),
            projects: table(&self.projects, rows),
            targets: table(&self.targets, rows),
            by_user: table(&self.by_user, rows),
        }
    }
}

fn table(top: &Top, rows: usize) -> Table {
    let row = |(name, tally, missed_max): (&str, &super::Tally, u64)| Row {
        name: name.to_owned(),
        stricter: tally.stricter,
        milder: tally.milder,
        other: tally.other,
        users: tally.users.count(),
        missed_max,
    };
    Table {
        rows: top.first(rows).into_iter().map(row).collect(),
        names: top.names(),
        dropped_max: top.floor(),
    }
}

impl FlipReport {
    /// The tables with their titles; empty ones are left out.
    pub fn tables(&self) -> Vec<(&'static str, &Table)> {
        let all = [
            ("rule", &self.rules),
            ("project", &self.projects),
            ("target", &self.targets),
            ("user", &self.by_user),
        ];
        all.into_iter().filter(|(_, table)| !table.rows.is_empty()).collect()
    }

    /// The first line: how much changes.
    pub fn summary(&self) -> String {
        let Self { requests, users, stricter, milder, other, flipped_users, .. } = self;
        let about = if self.users_error > 0.0 { "about " } else { "" };
        if stricter + milder + other == 0 {
            return format!("none of {requests} requests of {about}{users} users is decided otherwise");
        }
        format!(
            "of {requests} requests of {about}{users} users, {stricter} ({:.2} %) come to a more severe decision, \
             {milder} to a less severe one, {other} differ in redaction; {about}{flipped_users} users are concerned",
            self.stricter_share * 100.0
        )
    }

    /// A summary for a pull request. Names are escaped: they come from outside.
    pub fn markdown(&self, title: &str) -> String {
        let mut out = format!("### {}\n\n{}.\n", escaped(title), capital(&self.summary()));
        if !self.changes.is_empty() {
            out.push_str("\n| before | after | requests |\n|---|---|---:|\n");
            for change in &self.changes {
                let (from, to) = (change.from.as_str(), change.to.as_str());
                out.push_str(&format!("| {from} | {to} | {} |\n", change.requests));
            }
        }
        for (title, table) in self.tables() {
            out.push_str(&format!(
                "\n| {title} | stricter | milder | redaction | users |\n|---|---:|---:|---:|---:|\n"
            ));
            for row in &table.rows {
                let cells = row.cells().map(|cell| escaped(&cell));
                out.push_str(&format!("| {} |\n", cells.join(" | ")));
            }
            if let Some(note) = table.note() {
                out.push_str(&format!("\n{note}\n"));
            }
        }
        out
    }
}

impl Row {
    /// Its cells: name, stricter, milder, redaction, users.
    pub fn cells(&self) -> [String; 5] {
        let Self { name, stricter, milder, other, users, .. } = self;
        [name.clone(), stricter.to_string(), milder.to_string(), other.to_string(), users.to_string()]
    }
}

impl Table {
    /// What its reader must know of its error.
    pub fn note(&self) -> Option<String> {
        (self.dropped_max > 0).then(|| {
            format!(
                "There are more names than are kept: counts may be up to {} too low, and a name with fewer changes may be missing.",
                self.rows.iter().map(|row| row.missed_max).max().unwrap_or(0).max(self.dropped_max)
            )
        })
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// Text in a cell of a Markdown table that stays one cell and means nothing else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '@' => {
                out.push('\\');
                out.push(character);
            }
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flips::{Ruling, Whose};
    use policy::Decision;

    #[test]
    fn markdown_is_one_table_a_subject_and_names_stay_in_their_cells() {
        let mut flips = Flips::default();
        let before = Ruling::new(Decision::Allow, [], [], [], false, false);
        let after = Ruling::new(Decision::Refuse, ["a|b"], [], [], false, false);
        let whose = Whose { user: "@all <b>\n", project: "p", target: "" };
        for _ in 0..3 {
            flips.note(whose, before.outcome, after.outcome, || (before.clone(), after.clone()));
        }
        flips.note(whose, before.outcome, before.outcome, || (before.clone(), before.clone()));
        insta::assert_snapshot!(flips.report(5).markdown("p: 1 → 2"));
    }

    #[test]
    fn nothing_changed_is_said_so() {
        let report = Flips::default().report(5);
        assert_eq!(report.summary(), "none of 0 requests of 0 users is decided otherwise");
        assert_eq!(report.tables(), []);
        assert_eq!(report.rules.note(), None);
    }
}
