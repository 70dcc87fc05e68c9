//! A notice as a mail. The Message-ID is the notice's own, so that a reader shows one that was sent twice once.

use audit::event::AuditEvent;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncTransport, Message, Tokio1Executor};

use super::{TIMEOUT, cause, link, plain};
use crate::config::{Channels, Smtp, SmtpTls};
use crate::ticket::{Ticket, rfc3339};
use crate::tickets::{About, Notice, NoticeKind};

/// Longest value in a mail: names of the caller's making stay readable.
const VALUE_CHARS_MAX: usize = 200;

pub(super) async fn send(channels: &Channels, notice: &Notice) -> Result<(), String> {
    let smtp = channels.smtp.as_ref().ok_or("the configuration has no `smtp` any more: give it")?;
    let to: Mailbox = notice.path.parse().map_err(|_| "`escalation_path` is no address".to_owned())?;
    let message = message(channels, smtp, notice, to).map_err(|error| error.to_string())?;
    let transport = transport(smtp).map_err(|error| error.to_string())?;
    transport.send(message).await.map(drop).map_err(|error| cause(&error))
}

fn transport(smtp: &Smtp) -> Result<AsyncSmtpTransport<Tokio1Executor>, lettre::transport::smtp::Error> {
    let tls = match smtp.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::StartTls => Tls::Required(TlsParameters::new_rustls(smtp.host.clone())?),
        SmtpTls::Implicit => Tls::Wrapper(TlsParameters::new_rustls(smtp.host.clone())?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
        .port(smtp.port)
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if let Some((user, password)) = &smtp.credentials {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}

fn message(
    channels: &Channels,
    smtp: &Smtp,
    notice: &Notice,
    to: Mailbox,
) -> Result<Message, lettre::error::Error> {
    let policy_id = notice.about.policy_id();
    let subject = match notice.kind {
        NoticeKind::Opened => format!("Review wanted: {policy_id}"),
        NoticeKind::Expired => format!("Review expired: {policy_id}"),
        NoticeKind::RolledBack => format!("Candidate taken back: {policy_id}"),
    };
    let domain = smtp.from.email.domain();
    Message::builder()
        .from(smtp.from.clone())
        .to(to)
        .subject(subject)
        .message_id(Some(format!("<{}.{}@{domain}>", notice.about.id(), notice.kind.as_str())))
        .header(header::ContentType::TEXT_PLAIN)
        .body(match &notice.about {
            About::Ticket(ticket) => ticket_text(channels, notice.kind, ticket),
            About::Rollback(event) => rollback_text(event),
        })
}

fn rollback_text(event: &AuditEvent) -> String {
    let mut text = "Too many decisions of a policy's candidate were severe: it was taken back, and the stable revision is \
        applied to all requests.\n\n"
        .to_owned();
    let info = event.rollback.as_ref();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let returns = info.and_then(|info| info.resume_at.clone());
    let lines = [
        ("Policy", event.policy_id.clone().unwrap_or_default()),
        ("Candidate", format!("revision {}", number(event.policy_revision))),
        ("Rules", info.map_or_else(String::new, |info| info.rules.join(", "))),
        ("At", event.created_at.clone()),
        ("Requests", number(info.map(|info| info.requests))),
        ("Window", format!("{} minutes", number(info.map(|info| info.window_minutes)))),
        ("Severe", info.map(|info| percent(info.rate)).unwrap_or_default()),
        ("Stable", info.map(|info| percent(info.stable_rate)).unwrap_or_default()),
        ("Threshold", info.map(|info| percent(info.threshold)).unwrap_or_default()),
        ("Returns", returns.unwrap_or_else(|| "when another revision of it is saved".to_owned())),
        ("Event", event.event_id.to_string()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {}\n", plain(value, VALUE_CHARS_MAX)));
    }
    text
}

fn ticket_text(channels: &Channels, kind: NoticeKind, ticket: &Ticket) -> String {
    let case = &ticket.case;
    let default = if case.terms.default_verdict == policy::document::DefaultVerdict::Approve {
        "it passes"
    } else {
        "it is refused"
    };
    let expires = rfc3339(ticket.expires_ms);
    let mut text = match kind {
        NoticeKind::Opened => {
            format!("A request waits for a review. Without a decision by {expires} {default}.\n\n")
        }
        NoticeKind::Expired | NoticeKind::RolledBack => {
            format!("Nobody decided by {expires}: when the request is made again, {default}.\n\n")
        }
    };
    let none = || "-".to_owned();
    let list = |terms: &[String]| if terms.is_empty() { none() } else { terms.join(", ") };
    let lines = [
        ("Escalation", ticket.id.to_string()),
        ("Policy", case.policy_id.clone()),
        ("Project", case.project_id.clone().unwrap_or_else(none)),
        ("User", case.policy_user.clone().unwrap_or_else(none)),
        ("Target", case.policy_target.clone().unwrap_or_else(none)),
        ("Model", case.model.clone().unwrap_or_else(none)),
        ("Reason", case.reason_code.clone().unwrap_or_else(none)),
        ("Terms", list(&case.denylist_hits)),
        ("Categories", list(&case.triggered_categories)),
        ("Entities", list(&case.redactions.keys().cloned().collect::<Vec<_>>())),
    ];
    for (name, value) in lines {
        text.push_str(&format!("{name}: {}\n", plain(&value, VALUE_CHARS_MAX)));
    }
    if kind == NoticeKind::Opened {
        let (link, id) = (link(channels, ticket), ticket.id);
        text.push_str(&format!(
            "\nGET {link}\nPOST {link}/approve or {link}/deny with {{\"reason\": \"…\"}}, or\n\
             policy-gateway escalation approve {id} --reason TEXT\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SmtpConfig;
    use crate::ticket::tests::ticket;

    #[test]
    fn a_mail_says_what_a_reviewer_needs_and_names_cannot_add_lines() {
        let smtp: SmtpConfig = serde_json::from_str(
            r#"{"host": "localhost", "tls": "none", "from": "Gateway <gateway@example.com>"}"#,
        )
        .unwrap();
        let channels = Channels::build(Some(&smtp), None, None).unwrap();
        let mut ticket = ticket();
        ticket.case.policy_user = Some("user\r\nBcc: everybody@example.com".to_owned());
        let notice = Notice {
            id: 1,
            kind: NoticeKind::Opened,
            path: "review@example.com".to_owned(),
            attempts: 0,
            next_ms: 0,
            about: About::Ticket(Box::new(ticket)),
        };
        let smtp = channels.smtp.clone().unwrap();
        let mail = message(&channels, &smtp, &notice, notice.path.parse().unwrap()).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        assert!(text.contains("Subject: Review wanted: p\r\n"), "{text}");
        assert!(
            text.contains("Message-ID: <00000000-0000-0000-0000-000000000000.opened@example.com>"),
            "{text}"
        );
        assert!(text.contains("Terms: credential theft"), "{text}");
        assert!(text.contains("User: user  Bcc: everybody"), "{text}");
        assert_eq!(mail.envelope().to().len(), 1);
    }

    #[test]
    fn a_mail_about_a_rollback_says_how_bad_it_was() {
        let mut event = AuditEvent::blank(
            uuid::Uuid::nil(),
            audit::event::EventType::Rollback,
            "2026-01-16T18:22:11.000Z".to_owned(),
        );
        event.policy_id = Some("p".to_owned());
        event.policy_revision = Some(7);
        event.rollback = Some(audit::event::RollbackInfo {
            window_minutes: 15,
            requests: 40,
            rate: 0.35,
            stable_rate: 0.025,
            threshold: 0.25,
            resume_at: None,
            rules: vec!["gift card".to_owned()],
        });
        let text = rollback_text(&event);
        for line in [
            "Policy: p",
            "Candidate: revision 7",
            "Requests: 40",
            "Severe: 35.0 %",
            "Stable: 2.5 %",
            "Rules: gift card",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }
}
