//! Windows that limits are counted over: calendar windows in UTC, so that everybody can say when one ends.

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use policy::document::QuotaWindow;

/// A calendar window in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// From minute to minute: rate limits.
    Minute,
    /// From hour to hour.
    Hourly,
    /// From midnight to midnight.
    Daily,
    /// From Monday to Monday.
    Weekly,
    /// From the first of a month to the next.
    Monthly,
}

/// A window in time: from `start_s` on, up to and without `end_s`. Unix time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it begins.
    pub start_s: i64,
    /// When it ends.
    pub end_s: i64,
}

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// 1970-01-01 was a Thursday: Monday was three days before.
const MONDAY_S: i64 = -3 * DAY_S;

impl Window {
    /// The window that holds the moment.
    pub fn span(self, now_s: i64) -> Span {
        match self {
            Self::Minute => fixed(now_s, 0, 60),
            Self::Hourly => fixed(now_s, 0, HOUR_S),
            Self::Daily => fixed(now_s, 0, DAY_S),
            Self::Weekly => fixed(now_s, MONDAY_S, 7 * DAY_S),
            Self::Monthly => month(now_s),
        }
    }

    /// Its name, as in a policy: `hourly`, `daily`, `weekly`, `monthly`; that of a rate limit is `minute`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }
}

impl From<QuotaWindow> for Window {
    fn from(window: QuotaWindow) -> Self {
        match window {
            QuotaWindow::Hourly => Self::Hourly,
            QuotaWindow::Daily => Self::Daily,
            QuotaWindow::Weekly => Self::Weekly,
            QuotaWindow::Monthly => Self::Monthly,
        }
    }
}

fn fixed(now_s: i64, origin_s: i64, length_s: i64) -> Span {
    let start_s = (now_s - origin_s).div_euclid(length_s) * length_s + origin_s;
    Span { start_s, end_s: start_s + length_s }
}

/// A time outside the calendar (years -9999 to 9999) is in a window of 30 days.
fn month(now_s: i64) -> Span {
    let calendar = || {
        let today = TimeZone::UTC.to_datetime(Timestamp::from_second(now_s).ok()?).date();
        let first = date(today.year(), today.month(), 1);
        let next = first.checked_add(1.month()).ok()?;
        let second = |day: jiff::civil::Date| {
            TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok().map(Timestamp::as_second)
        };
        Some(Span { start_s: second(first)?, end_s: second(next)? })
    };
    calendar().unwrap_or_else(|| fixed(now_s, 0, 30 * DAY_S))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Window; 5] = [Window::Minute, Window::Hourly, Window::Daily, Window::Weekly, Window::Monthly];

    fn span(window: Window, at: &str) -> (String, String) {
        let span = window.span(at.parse::<Timestamp>().unwrap().as_second());
        let text = |second| Timestamp::from_second(second).unwrap().to_string();
        (text(span.start_s), text(span.end_s))
    }

    #[test]
    fn windows_are_those_of_the_calendar_in_utc() {
        for (window, at, start, end) in [
            (Window::Minute, "2026-11-25T11:02:41Z", "2026-11-25T11:02:00Z", "2026-11-25T11:03:00Z"),
            (Window::Hourly, "2026-11-25T11:59:59.999Z", "2026-11-25T11:00:00Z", "2026-11-25T12:00:00Z"),
            (Window::Daily, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Window::Weekly, "2026-11-25T11:02:41Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Window::Weekly, "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
            (Window::Monthly, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Window::Monthly, "2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(span(window, at), (start.to_owned(), end.to_owned()), "{window:?} {at}");
        }
    }

    proptest! {
        #[test]
        fn windows_tile_time(now_s in any::<i32>().prop_map(|half| i64::from(half) * 40)) {
            for window in ALL {
                let span = window.span(now_s);
                prop_assert!(span.start_s <= now_s && now_s < span.end_s);
                prop_assert_eq!(window.span(span.start_s), span);
                prop_assert_eq!(window.span(span.end_s - 1), span);
                prop_assert_eq!(window.span(span.end_s).start_s, span.end_s);
            }
        }
    }
}
