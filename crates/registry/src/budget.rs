//! Budgets of projects: the `budget` of a project as written, and checked.

use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Dollars of a budget at most: far more than anybody has, and far from the limits of a number.
const USD_MAX: f64 = 1e12;
const MICROS: f64 = 1e6;

/// What a project may spend.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// US dollars in a window, by the configured prices.
    #[schemars(range(min = 0))]
    pub usd: Option<f64>,
    /// Tokens in a window.
    pub tokens: Option<u64>,
    /// A calendar window in UTC. Default `monthly`.
    pub window: Option<BudgetWindow>,
    /// What happens once it is used up. Default `alert`.
    pub on_exceeded: Option<OnExceeded>,
}

/// The window of a budget. Spending is kept by day: there is none shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// From midnight to midnight.
    Daily,
    /// From Monday to Monday.
    Weekly,
    /// From the first of a month to the next.
    #[default]
    Monthly,
}

/// What happens once a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// It is told.
    #[default]
    Alert,
    /// And requests are refused until the window ends.
    Refuse,
}

/// What a project may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Millionths of a US dollar in a window.
    pub usd_micros: Option<u64>,
    /// Tokens in a window.
    pub tokens: Option<u64>,
    /// The window.
    pub window: BudgetWindow,
    /// What happens once one of them is used up.
    pub on_exceeded: OnExceeded,
}

impl BudgetConfig {
    /// Checks it.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`projects[0].budget`).
    pub fn build(&self, prefix: &str) -> Result<Budget, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut add = |name: &str, message: &str| {
            problems.push(Problem { path: format!("{prefix}{name}"), message: message.to_owned() });
        };
        if self.usd.is_none() && self.tokens.is_none() {
            add("", "it limits nothing: give `usd`, `tokens` or both");
        }
        let usd_micros = self.usd.map(|usd| (usd * MICROS).round());
        if usd_micros.is_some_and(|micros| !(1.0..=USD_MAX * MICROS).contains(&micros)) {
            add(".usd", "a budget is a number of US dollars, 0.000001 to 1000000000000");
        }
        if self.tokens == Some(0) {
            add(".tokens", "a budget is 1 token or more: leave it out for none");
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Budget {
            // Within its range, which was checked.
            usd_micros: usd_micros.map(|micros| micros as u64),
            tokens: self.tokens,
            window: self.window.unwrap_or_default(),
            on_exceeded: self.on_exceeded.unwrap_or_default(),
        })
    }
}

impl From<Budget> for BudgetConfig {
    fn from(budget: Budget) -> Self {
        Self {
            usd: budget.usd_micros.map(|micros| micros as f64 / MICROS),
            tokens: budget.tokens,
            window: Some(budget.window),
            on_exceeded: Some(budget.on_exceeded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_checked_and_told_as_it_was_written() {
        let config: BudgetConfig = serde_json::from_str(r#"{"usd": 12.5, "on_exceeded": "refuse"}"#).unwrap();
        let budget = config.build("projects[0].budget").unwrap();
        let expected = Budget {
            usd_micros: Some(12_500_000),
            tokens: None,
            window: BudgetWindow::Monthly,
            on_exceeded: OnExceeded::Refuse,
        };
        assert_eq!(budget, expected);
        assert_eq!(BudgetConfig::from(budget).usd, Some(12.5));
        for (wrong, path) in [
            ("{}", "projects[0].budget"),
            (r#"{"usd": 0}"#, "projects[0].budget.usd"),
            (r#"{"usd": -1}"#, "projects[0].budget.usd"),
            (r#"{"usd": 1e13}"#, "projects[0].budget.usd"),
            (r#"{"usd": 1, "tokens": 0}"#, "projects[0].budget.tokens"),
        ] {
            let config: BudgetConfig = serde_json::from_str(wrong).unwrap();
            let problems = config.build("projects[0].budget").unwrap_err();
            assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
        }
        for unread in [r#"{"usd": 1, "window": "hourly"}"#, r#"{"usd": 1, "euro": 1}"#, r#"{"tokens": -1}"#] {
            assert!(serde_json::from_str::<BudgetConfig>(unread).is_err(), "{unread}");
        }
    }
}
