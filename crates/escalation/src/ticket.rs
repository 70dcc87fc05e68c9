//! A review ticket from its opening to its end: pure data and pure transitions. Who keeps it is `tickets`, who asks
//! for it `desk`.
//!
//! ```text
//! open ──approve──▶ approved   the request passes until `until_ms` (`grant_minutes`)
//!      ──deny─────▶ denied     it is refused until `until_ms` (`sla_minutes`)
//!      ──time─────▶ expired    as `default_verdict` says, from `expires_ms` on
//! ```
//! Past `until_ms` the ticket says nothing any more: the same request opens another.

use std::collections::BTreeMap;

use audit::event::{AuditEvent, EventType, Stage};
use policy::document::{DefaultVerdict, EscalationTerms};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fingerprint::Fingerprint;

const MINUTE_MS: i64 = 60_000;

/// What a ticket is about. Metadata only: hits are the policy's own spellings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The policy that escalated.
    pub policy_id: String,
    /// Its revision.
    pub policy_revision: Option<u64>,
    /// The project of the request.
    pub project_id: Option<String>,
    /// The end user, where one is named.
    pub policy_user: Option<String>,
    /// The key that was used.
    pub key_id: String,
    /// The target.
    pub policy_target: Option<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// Where the text stood that escalated.
    pub stage: Option<Stage>,
    /// The verdict's reason code.
    pub reason_code: Option<String>,
    /// Listed categories that fired.
    pub triggered_categories: Vec<String>,
    /// Denylist terms found.
    pub denylist_hits: Vec<String>,
    /// Entities found, by type.
    pub redactions: BTreeMap<String, u64>,
    /// The policy's label.
    pub data_classification: Option<String>,
    /// The request that opened it.
    pub request_id: Option<String>,
    /// Its event.
    pub event_id: Uuid,
    /// How long, and what then.
    pub terms: EscalationTerms,
    /// Who is notified.
    pub escalation_path: Option<String>,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody decided yet.
    Open,
    /// A reviewer let the request pass.
    Approved,
    /// A reviewer did not.
    Denied,
    /// Nobody decided in time.
    Expired,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Approved, Self::Denied, Self::Expired];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

/// What a reviewer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Approve,
    /// It may not.
    Deny,
}

/// A reviewer's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Which.
    pub verdict: Verdict,
    /// Who.
    pub actor: String,
    /// Why, in their words.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// How a ticket ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who decided; nobody where time did.
    pub by: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Whether the request passes.
    pub passes: bool,
    /// Until when that holds, Unix milliseconds.
    pub until_ms: i64,
}

/// What a ticket means to a request at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Open,
    /// It passes.
    Granted,
    /// It is refused.
    Refused,
    /// The ticket says nothing any more.
    Over,
}

/// A ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// UUIDv7: `escalation_id` wherever it is named.
    pub id: Uuid,
    /// Its place among all tickets, given by the store.
    #[serde(skip)]
    pub number: u64,
    /// The request it is for.
    pub fingerprint: Fingerprint,
    /// What it is about.
    pub case: Case,
    /// Where it stands.
    pub state: State,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// When the default verdict applies, Unix milliseconds.
    pub expires_ms: i64,
    /// None while open.
    pub ending: Option<Ending>,
    /// Whether the judged messages are kept, encrypted.
    #[serde(skip)]
    pub has_content: bool,
}

impl Ticket {
    /// A new ticket.
    pub fn open(id: Uuid, fingerprint: Fingerprint, case: Case, now_ms: i64) -> Self {
        let expires_ms = now_ms.saturating_add(minutes(case.terms.sla_minutes));
        Self {
            id,
            number: 0,
            fingerprint,
            case,
            state: State::Open,
            created_ms: now_ms,
            expires_ms,
            ending: None,
            has_content: false,
        }
    }

    /// The ticket as decided.
    ///
    /// # Errors
    /// The state it is in already, which nobody can change any more.
    pub fn decide(&self, ruling: &Ruling) -> Result<Self, State> {
        if let Some(expired) = self.expire(ruling.at_ms) {
            return Err(expired.state);
        }
        if self.state != State::Open {
            return Err(self.state);
        }
        let passes = ruling.verdict == Verdict::Approve;
        Ok(Self {
            state: if passes { State::Approved } else { State::Denied },
            ending: Some(Ending {
                at_ms: ruling.at_ms,
                by: Some(ruling.actor.clone()),
                reason: Some(ruling.reason.clone()),
                passes,
                until_ms: self.until_ms(ruling.at_ms, passes),
            }),
            has_content: false,
            ..self.clone()
        })
    }

    /// The ticket as expired; none where it is not due or not open.
    pub fn expire(&self, now_ms: i64) -> Option<Self> {
        if self.state != State::Open || now_ms < self.expires_ms {
            return None;
        }
        let passes = self.case.terms.default_verdict == DefaultVerdict::Approve;
        Some(Self {
            state: State::Expired,
            ending: Some(Ending {
                at_ms: self.expires_ms,
                by: None,
                reason: None,
                passes,
                until_ms: self.until_ms(self.expires_ms, passes),
            }),
            has_content: false,
            ..self.clone()
        })
    }

    fn until_ms(&self, from_ms: i64, passes: bool) -> i64 {
        let terms = &self.case.terms;
        from_ms.saturating_add(minutes(if passes { terms.grant_minutes } else { terms.sla_minutes }))
    }

    /// What it means now, whether or not its expiry was written down yet.
    pub fn standing(&self, now_ms: i64) -> Standing {
        let expired = self.expire(now_ms);
        match &expired.as_ref().unwrap_or(self).ending {
            None => Standing::Open,
            Some(ending) if now_ms >= ending.until_ms => Standing::Over,
            Some(ending) if ending.passes => Standing::Granted,
            Some(_) => Standing::Refused,
        }
    }

    /// Last moment at which it means anything.
    pub fn over_ms(&self) -> i64 {
        let ended = self.expire(self.expires_ms);
        ended.as_ref().unwrap_or(self).ending.as_ref().map_or(i64::MAX, |ending| ending.until_ms)
    }

    /// Whether this is a later word on the same request than `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.number, self.ending.is_some()) > (other.number, other.ending.is_some())
    }

    /// The `admin` event of its ending: who decided what, and never why or about which text.
    pub fn ending_event(&self, now_ms: i64) -> Option<AuditEvent> {
        let ending = self.ending.as_ref()?;
        let code = match self.state {
            State::Open => return None,
            State::Approved => "ESCALATION_APPROVED",
            State::Denied => "ESCALATION_DENIED",
            State::Expired => "ESCALATION_EXPIRED",
        };
        let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Admin, rfc3339(now_ms));
        event.policy_id = Some(self.case.policy_id.clone());
        event.reason_code = Some(code.to_owned());
        event.policy_user.clone_from(&self.case.policy_user);
        event.project_id.clone_from(&self.case.project_id);
        event.policy_target.clone_from(&self.case.policy_target);
        event.model.clone_from(&self.case.model);
        event.policy_revision = self.case.policy_revision;
        event.data_classification.clone_from(&self.case.data_classification);
        event.escalation_id = Some(self.id);
        event.actor.clone_from(&ending.by);
        Some(event)
    }
}

fn minutes(minutes: u32) -> i64 {
    i64::from(minutes).saturating_mul(MINUTE_MS)
}

/// RFC 3339 UTC with milliseconds.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn case() -> Case {
        Case {
            policy_id: "p".to_owned(),
            policy_revision: Some(3),
            project_id: Some("project".to_owned()),
            policy_user: Some("user-1".to_owned()),
            key_id: "key_1".to_owned(),
            policy_target: Some("target".to_owned()),
            model: Some("model".to_owned()),
            stage: Some(Stage::Input),
            reason_code: Some("ESCALATE".to_owned()),
            triggered_categories: Vec::new(),
            denylist_hits: vec!["credential theft".to_owned()],
            redactions: BTreeMap::new(),
            data_classification: None,
            request_id: Some("r".to_owned()),
            event_id: Uuid::nil(),
            terms: EscalationTerms {
                sla_minutes: 10,
                default_verdict: DefaultVerdict::Deny,
                grant_minutes: 5,
            },
            escalation_path: Some("https://hooks.example/x".to_owned()),
        }
    }

    pub(crate) fn ticket() -> Ticket {
        Ticket::open(Uuid::nil(), Fingerprint([1; 32]), case(), 1_000)
    }

    fn ruling(verdict: Verdict, at_ms: i64) -> Ruling {
        Ruling { verdict, actor: "rita".to_owned(), reason: "seen".to_owned(), at_ms }
    }

    #[test]
    fn an_approval_holds_for_the_grant_and_a_denial_for_the_sla() {
        let approved = ticket().decide(&ruling(Verdict::Approve, 2_000)).unwrap();
        assert_eq!(approved.state, State::Approved);
        assert_eq!(approved.standing(2_000 + 5 * MINUTE_MS - 1), Standing::Granted);
        assert_eq!(approved.standing(2_000 + 5 * MINUTE_MS), Standing::Over);
        let denied = ticket().decide(&ruling(Verdict::Deny, 2_000)).unwrap();
        assert_eq!(denied.standing(2_000 + 10 * MINUTE_MS - 1), Standing::Refused);
        assert_eq!(denied.standing(2_000 + 10 * MINUTE_MS), Standing::Over);
        assert_eq!(denied.decide(&ruling(Verdict::Approve, 3_000)), Err(State::Denied));
    }

    #[test]
    fn past_its_time_the_default_applies_written_down_or_not() {
        let due = 1_000 + 10 * MINUTE_MS;
        assert_eq!(ticket().standing(due - 1), Standing::Open);
        assert_eq!(ticket().standing(due), Standing::Refused);
        assert_eq!(ticket().decide(&ruling(Verdict::Approve, due)), Err(State::Expired));
        let mut lenient = ticket();
        lenient.case.terms.default_verdict = DefaultVerdict::Approve;
        assert_eq!(lenient.standing(due), Standing::Granted);
        assert_eq!(lenient.standing(due + 5 * MINUTE_MS), Standing::Over);
        assert_eq!(lenient.expire(due + 99 * MINUTE_MS).unwrap().standing(due + 1), Standing::Granted);
    }

    #[test]
    fn the_event_names_the_ticket_and_the_actor_and_not_the_reason() {
        let denied = ticket().decide(&ruling(Verdict::Deny, 2_000)).unwrap();
        let event = denied.ending_event(2_000).unwrap();
        assert_eq!(event.reason_code.as_deref(), Some("ESCALATION_DENIED"));
        assert_eq!(event.actor.as_deref(), Some("rita"));
        assert_eq!(event.policy_user.as_deref(), Some("user-1"));
        assert_eq!((event.event_type, event.decision, event.enforced), (EventType::Admin, None, false));
        let text = String::from_utf8(event.to_json()).unwrap();
        assert!(!text.contains("seen"), "{text}");
        assert_eq!(ticket().ending_event(2_000), None);
    }

    proptest! {
        #[test]
        fn a_ticket_ends_once_and_never_passes_unasked(
            steps in prop::collection::vec((0i64..3_000_000, 0u8..3), 1..12), lenient: bool,
        ) {
            let mut ticket = ticket();
            if lenient {
                ticket.case.terms.default_verdict = DefaultVerdict::Approve;
            }
            let (mut now, mut ended) = (1_000, None);
            for (wait, step) in steps {
                now += wait;
                let next = match step {
                    0 => ticket.decide(&ruling(Verdict::Approve, now)).ok(),
                    1 => ticket.decide(&ruling(Verdict::Deny, now)).ok(),
                    _ => ticket.expire(now),
                };
                if let Some(next) = next {
                    prop_assert!(ended.is_none(), "it ended twice");
                    ended = Some(next.state);
                    ticket = next;
                }
                if ticket.standing(now) == Standing::Granted {
                    prop_assert!(ticket.state == State::Approved || (lenient && now >= ticket.expires_ms));
                    prop_assert!(now < ticket.over_ms());
                }
            }
        }
    }
}
