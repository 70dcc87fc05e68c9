//! Plans: what a key may do in a minute, and who goes first when there is too much to do. How it is counted is in `quota`.

use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// That of a plan that names none, and of a key that is on no plan.
pub const PRIORITY_DEFAULT: u8 = 5;
/// The highest.
pub const PRIORITY_MAX: u8 = 9;

/// Limits and priority of the keys that are on a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Requests of one key in a calendar minute; 0: no limit.
    pub requests_per_minute: u64,
    /// Tokens of one key in a calendar minute; 0: no limit.
    pub tokens_per_minute: u64,
    /// 0 to [`PRIORITY_MAX`]; the lowest is shed first.
    pub priority: u8,
}

impl Plan {
    /// Whether it limits anything.
    pub fn limits(&self) -> bool {
        self.requests_per_minute > 0 || self.tokens_per_minute > 0
    }
}

/// Limits and priority of the projects and keys that are on a plan. All are optional.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// Requests that one key may make in a calendar minute (UTC); further ones get 429. 0 or absent: no limit.
    pub requests_per_minute: Option<u64>,
    /// Tokens that one key may use in a calendar minute (UTC), those of its prompts included. 0 or absent: no limit.
    pub tokens_per_minute: Option<u64>,
    /// From 0 to 9. Near `limits.requests_max` requests of the lowest priority are the first to get 503. Default 5,
    /// also for what is on no plan.
    #[schemars(range(max = 9))]
    pub priority: Option<u64>,
}

impl PlanConfig {
    /// Checks it.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`plans.free`).
    pub fn build(&self, prefix: &str) -> Result<Plan, Vec<Problem>> {
        let priority = self.priority.map_or(Some(PRIORITY_DEFAULT), |priority| {
            u8::try_from(priority).ok().filter(|priority| *priority <= PRIORITY_MAX)
        });
        let Some(priority) = priority else {
            let given = self.priority.unwrap_or_default();
            let message = format!("`{given}` is out of range: give a whole number from 0 to {PRIORITY_MAX}");
            return Err(vec![Problem::new(format!("{prefix}.priority"), message)]);
        };
        Ok(Plan {
            requests_per_minute: self.requests_per_minute.unwrap_or(0),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(0),
            priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_checked() {
        let config = PlanConfig { requests_per_minute: Some(60), ..PlanConfig::default() };
        let plan = config.build("plans.free").unwrap();
        assert_eq!(plan, Plan { requests_per_minute: 60, tokens_per_minute: 0, priority: PRIORITY_DEFAULT });
        assert!(plan.limits());
        assert!(!PlanConfig::default().build("plans.free").unwrap().limits());
        let config = PlanConfig { priority: Some(10), ..PlanConfig::default() };
        let problems = config.build("plans.free").unwrap_err();
        assert_eq!(problems.first().map(|problem| problem.path.as_str()), Some("plans.free.priority"));
    }
}
