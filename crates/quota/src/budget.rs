//! What projects have spent in the windows that budgets are for. In memory, and fed again after a restart from the sums
//! of usage, which are by day: hence no window is shorter than one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::window::{Span, Window};

/// Windows that a budget may be for.
const WINDOWS: [Window; 3] = [Window::Daily, Window::Weekly, Window::Monthly];

/// What was spent in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The window.
    pub span: Span,
    /// Tokens.
    pub tokens: u64,
    /// Picodollars.
    pub pico_usd: u128,
}

/// What every project has spent in each window that is running.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<HashMap<String, [Spending; 3]>>);

impl Budgets {
    /// Adds what a call of the project used that came at `at_s` (Unix time in seconds). What belongs to a window that is
    /// over is nobody's any more.
    pub fn add(&self, project_id: &str, at_s: i64, tokens: u64, pico_usd: u128) {
        let mut projects = self.lock();
        let fresh = || WINDOWS.map(|window| Spending { span: window.span(at_s), tokens: 0, pico_usd: 0 });
        if !projects.contains_key(project_id) {
            projects.insert(project_id.to_owned(), fresh());
        }
        let Some(spendings) = projects.get_mut(project_id) else { return };
        for (spending, new) in spendings.iter_mut().zip(fresh()) {
            if spending.span.end_s < new.span.end_s {
                *spending = new;
            }
            if spending.span == new.span {
                spending.tokens = spending.tokens.saturating_add(tokens);
                spending.pico_usd = spending.pico_usd.saturating_add(pico_usd);
            }
        }
    }

    /// What the project has spent in the window that is running at `now_s`. Nothing in one that is shorter than a day.
    pub fn spent(&self, project_id: &str, window: Window, now_s: i64) -> Spending {
        let span = window.span(now_s);
        let projects = self.lock();
        let known = projects.get(project_id).and_then(|spendings| {
            WINDOWS.iter().zip(spendings).find(|(one, _)| **one == window).map(|(_, spending)| *spending)
        });
        known.filter(|known| known.span == span).unwrap_or(Spending { span, tokens: 0, pico_usd: 0 })
    }

    /// From when on usage has to be known at `now_s`, for every window: the earliest beginning of one.
    pub fn since_s(now_s: i64) -> i64 {
        WINDOWS.iter().map(|window| window.span(now_s).start_s).min().unwrap_or(now_s)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, [Spending; 3]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Friday.
    const NOW: i64 = 1_768_587_731;
    const DAY: i64 = 24 * 3600;

    #[test]
    fn each_window_has_its_own_days() {
        let budgets = Budgets::default();
        let spent = |window, now_s| {
            let spending = budgets.spent("p", window, now_s);
            assert_eq!(spending.span, window.span(now_s));
            (spending.tokens, spending.pico_usd)
        };
        assert_eq!(Budgets::since_s(NOW), Window::Monthly.span(NOW).start_s);
        for (days_ago, tokens) in [(8, 1), (2, 10), (0, 100)] {
            budgets.add("p", NOW - days_ago * DAY, tokens, u128::from(tokens) * 2);
        }
        budgets.add("q", NOW, 5, 5);
        assert_eq!(spent(Window::Daily, NOW), (100, 200));
        assert_eq!(spent(Window::Weekly, NOW), (110, 220));
        assert_eq!(spent(Window::Monthly, NOW), (111, 222));
        assert_eq!(spent(Window::Hourly, NOW), (0, 0));
        // A call of a day that is over came late.
        budgets.add("p", NOW - DAY, 7, 7);
        assert_eq!((spent(Window::Daily, NOW), spent(Window::Weekly, NOW)), ((100, 200), (117, 227)));
        // The next day begins with nothing, and so does the next month.
        assert_eq!((spent(Window::Daily, NOW + DAY), spent(Window::Weekly, NOW + DAY)), ((0, 0), (117, 227)));
        budgets.add("p", NOW + 31 * DAY, 3, 3);
        assert_eq!((spent(Window::Monthly, NOW), spent(Window::Monthly, NOW + 31 * DAY)), ((0, 0), (3, 3)));
        assert_eq!(budgets.spent("nobody", Window::Daily, NOW).tokens, 0);
    }
}
