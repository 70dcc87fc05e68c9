//! What of the log a destination gets to see: its filters, its sample of allows, and users under pseudonyms. Decided on
//! the stored text alone, so that the same event is always treated alike. How it is configured is `export`'s.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::outbox::StoredEvent;
use crate::secret::Secret;
use crate::stored::{Members, plain, ranges, unquote};

/// Place of `policy_user` among the members of a stored event.
const USER_AT: usize = 4;
/// Hexadecimal digits of a pseudonym: 128 bits.
const PSEUDONYM_DIGITS: usize = 32;

/// Which events go to a destination; where a list is not given, it does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Decisions, by their names.
    pub decisions: Option<BTreeSet<String>>,
    /// Event types, by their names.
    pub event_types: Option<BTreeSet<String>>,
    /// Policy ids.
    pub policies: Option<BTreeSet<String>>,
    /// Project ids.
    pub projects: Option<BTreeSet<String>>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Screen {
    filters: Option<Arc<Filters>>,
    /// Of 2^64 plain allows, so many go.
    allows: Option<u64>,
    pseudonyms: Option<Arc<Secret>>,
}

impl Screen {
    /// Lets through what the filters name; of plain allows only this share (0 to 1); users under pseudonyms where there
    /// is a secret to make them with.
    pub fn new(filters: Filters, sample_allows: Option<f64>, pseudonyms: Option<Secret>) -> Self {
        Self {
            filters: (filters != Filters::default()).then(|| Arc::new(filters)),
            allows: sample_allows.filter(|share| *share < 1.0).map(threshold),
            pseudonyms: pseudonyms.map(Arc::new),
        }
    }

    /// Nothing is left out.
    pub(super) fn is_open(&self) -> bool {
        self.filters.is_none() && self.allows.is_none()
    }

    /// The same, with nothing left out: for events that passed before.
    pub(super) fn opened(&self) -> Self {
        Self { filters: None, allows: None, pseudonyms: self.pseudonyms.clone() }
    }

    /// Whether the destination gets this event. What tells about the log itself (checkpoints, heartbeats, gaps) and what
    /// cannot be read always goes.
    pub fn passes(&self, text: &[u8]) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(members) = std::str::from_utf8(text).ok().and_then(Members::of) else { return true };
        let event_type = plain(members.event_type).unwrap_or_default();
        if matches!(event_type, "checkpoint" | "heartbeat" | "gap") {
            return true;
        }
        self.filters.as_ref().is_none_or(|filters| filters.name(&members)) && self.sampled(&members)
    }

    fn sampled(&self, members: &Members<'_>) -> bool {
        let Some(allows) = self.allows else { return true };
        // An allow that redacted something, or that a reviewer granted, is an intervention and never left out.
        let is_plain_allow = members.event_type == "\"enforcement\""
            && members.decision == "\"allow\""
            && members.reason_code != "\"REDACT\""
            && members.redactions == "{}";
        !is_plain_allow || place(members.event_id) < allows
    }

    /// The event as the destination gets it.
    pub(super) fn disguise<'a>(&self, event: &'a StoredEvent) -> Cow<'a, StoredEvent> {
        let Some(key) = &self.pseudonyms else { return Cow::Borrowed(event) };
        match disguised(key, event) {
            Some(text) => Cow::Owned(StoredEvent { seq: event.seq, text: text.into() }),
            None => Cow::Borrowed(event),
        }
    }
}

impl Filters {
    fn name(&self, members: &Members<'_>) -> bool {
        let named = |set: &Option<BTreeSet<String>>, raw: &str| {
            set.as_ref().is_none_or(|set| unquote(raw).is_some_and(|value| set.contains(value.as_ref())))
        };
        named(&self.decisions, members.decision)
            && named(&self.event_types, members.event_type)
            && named(&self.policies, members.policy_id)
            && named(&self.projects, members.project_id)
    }
}

/// The text with the user's pseudonym in place of the user; `None` where there is no user.
fn disguised(key: &Secret, event: &StoredEvent) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(&event.text).ok()?;
    let (name, value) = ranges(text)?.into_iter().nth(USER_AT)?;
    if text.get(name)? != "policy_user" {
        return None;
    }
    let user = unquote(text.get(value.clone())?)?;
    let mut disguised = String::with_capacity(text.len() + PSEUDONYM_DIGITS);
    disguised.push_str(text.get(..value.start)?);
    disguised.push('"');
    disguised.push_str(&pseudonym(key, &user));
    disguised.push('"');
    disguised.push_str(text.get(value.end..)?);
    Some(disguised.into_bytes())
}

/// `u_` and 32 hexadecimal digits of the HMAC-SHA256 of the user: the same user has the same pseudonym, and without the
/// key nobody can tell which user that is.
fn pseudonym(key: &Secret, user: &str) -> String {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()) {
        Ok(mac) => mac,
        // HMAC takes keys of any length.
        Err(_) => return "u_".to_owned(),
    };
    mac.update(user.as_bytes());
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let mut name = crate::event::hex(&digest);
    name.truncate(PSEUDONYM_DIGITS);
    format!("u_{name}")
}

/// Where an event stands among 2^64 places, by its id alone.
fn place(event_id: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(event_id.as_bytes()).into();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^64; casts from floats saturate"
)]
fn threshold(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use policy::Decision;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::event::{AuditEvent, ChainedEvent, EventType};
    use crate::testing::{example_event, stored};

    fn set(names: &[&str]) -> Option<BTreeSet<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn passes(screen: &Screen, event: AuditEvent) -> bool {
        screen.passes(&stored(event, 7).text)
    }

    #[test]
    fn each_filter_names_what_goes() {
        let screen = |filters: Filters| Screen::new(filters, None, None);
        let event = example_event;
        assert!(passes(&screen(Filters::default()), event()));
        for (fits, does_not) in [
            (
                Filters { decisions: set(&["refuse", "rewrite"]), ..Filters::default() },
                Filters { decisions: set(&["refuse"]), ..Filters::default() },
            ),
            (
                Filters { event_types: set(&["enforcement"]), ..Filters::default() },
                Filters { event_types: set(&["admin"]), ..Filters::default() },
            ),
            (
                Filters { policies: set(&["support-guardrails"]), ..Filters::default() },
                Filters { policies: set(&["support"]), ..Filters::default() },
            ),
            (
                Filters { projects: set(&["support-bot"]), ..Filters::default() },
                Filters { projects: set(&[]), ..Filters::default() },
            ),
        ] {
            assert!(passes(&screen(fits.clone()), event()), "{fits:?}");
            assert!(!passes(&screen(does_not.clone()), event()), "{does_not:?}");
            let both = Filters { projects: set(&["other"]), ..fits };
            assert!(!passes(&screen(both), event()), "every list has to fit");
        }
    }

    #[test]
    fn what_tells_about_the_log_itself_always_goes() {
        let filters = Filters { decisions: set(&["refuse"]), projects: set(&["a"]), ..Filters::default() };
        let screen = Screen::new(filters, Some(0.0), None);
        let of = |event_type| AuditEvent::blank(Uuid::nil(), event_type, "2026-01-16T18:22:11.000Z".into());
        for event_type in [EventType::Checkpoint, EventType::Heartbeat, EventType::Gap] {
            assert!(passes(&screen, of(event_type)), "{event_type:?}");
        }
        assert!(!passes(&screen, of(EventType::Admin)));
        assert!(screen.passes(b"not an event"), "what cannot be judged is not left out");
    }

    #[test]
    fn only_plain_allows_are_sampled() {
        let none = Screen::new(Filters::default(), Some(0.0), None);
        let allow = || AuditEvent {
            decision: Some(Decision::Allow),
            reason_code: Some("ALLOW".into()),
            redactions: std::collections::BTreeMap::new(),
            ..example_event()
        };
        assert!(!passes(&none, allow()));
        assert!(passes(&Screen::new(Filters::default(), Some(1.0), None), allow()));
        for kept in [
            example_event(),
            AuditEvent { decision: Some(Decision::Refuse), ..allow() },
            AuditEvent { decision: Some(Decision::Escalate), ..allow() },
            AuditEvent { decision: None, ..allow() },
            AuditEvent { reason_code: Some("REDACT".into()), ..allow() },
            AuditEvent { redactions: [("email".to_owned(), 1)].into(), ..allow() },
            AuditEvent { event_type: EventType::Simulation, ..allow() },
        ] {
            assert!(passes(&none, kept.clone()), "{kept:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_larger_sample_holds_the_smaller_and_has_about_its_share(seed in any::<u64>()) {
            let allow = |number: u64| AuditEvent {
                event_id: Uuid::from_u64_pair(seed, number),
                decision: Some(Decision::Allow),
                reason_code: Some("ALLOW".into()),
                redactions: std::collections::BTreeMap::new(),
                ..example_event()
            };
            let (tenth, half) = (Screen::new(Filters::default(), Some(0.1), None), Screen::new(Filters::default(), Some(0.5), None));
            let mut counts = (0, 0);
            for number in 0..400 {
                let (few, many) = (passes(&tenth, allow(number)), passes(&half, allow(number)));
                prop_assert!(many || !few);
                prop_assert_eq!(few, passes(&tenth, allow(number)));
                counts = (counts.0 + i32::from(few), counts.1 + i32::from(many));
            }
            // Six standard deviations and more.
            prop_assert!((2..=80).contains(&counts.0) && (135..=265).contains(&counts.1), "{:?}", counts);
        }

        #[test]
        fn a_pseudonym_changes_the_user_and_nothing_else(user in "\\PC{0,12}") {
            let key = Secret::new("0123456789abcdef".into(), "a test").unwrap();
            let screen = Screen::new(Filters::default(), None, Some(key));
            let event = stored(AuditEvent { policy_user: Some(user.clone()), ..example_event() }, 7);
            let shown = screen.disguise(&event).into_owned();
            let read = |event: &StoredEvent| serde_json::from_slice::<ChainedEvent>(&event.text).unwrap();
            let (before, mut after) = (read(&event), read(&shown));
            let name = after.event.policy_user.replace(user.clone()).unwrap();
            prop_assert_eq!(name.len(), 34);
            prop_assert!(user.is_empty() || !name.contains(&user) || user.len() < 3);
            prop_assert_eq!(before, after);
            prop_assert_eq!(screen.disguise(&event).into_owned(), shown, "the same each time");
        }
    }

    #[test]
    fn pseudonyms_differ_by_key_and_are_not_made_of_nothing() {
        let screen = |key: &str| {
            Screen::new(Filters::default(), None, Some(Secret::new(key.into(), "a test").unwrap()))
        };
        let event = stored(example_event(), 7);
        let text = |screen: &Screen| String::from_utf8(screen.disguise(&event).text.to_vec()).unwrap();
        assert!(!text(&screen("a")).contains("user-12345"));
        assert_ne!(text(&screen("a")), text(&screen("b")));
        let nobody = stored(AuditEvent { policy_user: None, ..example_event() }, 7);
        assert!(matches!(screen("a").disguise(&nobody), Cow::Borrowed(_)));
    }
}
