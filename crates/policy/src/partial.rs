//! What `partial` leaves of a value: what is customarily shown of its kind and identifies nobody by itself. Everything
//! else becomes `*`; separators stay. Secrets keep their issuer's prefix and not even their length.

use crate::entities::{EntityType, secret_prefix};

/// Letters and digits that are left at the end of a number.
const LAST: usize = 4;

/// Stands for the rest of a secret.
const SECRET_REST: &str = "********";

/// Appends what is left of a value.
pub(crate) fn write(entity: EntityType, value: &str, out: &mut String) {
    match entity {
        EntityType::EmailAddress => email(value, out),
        EntityType::IpAddress => address(value, out),
        EntityType::Secret => {
            out.push_str(secret_prefix(value));
            out.push_str(SECRET_REST);
        }
        _ => last(value, out),
    }
}

/// The first letter and the domain.
fn email(value: &str, out: &mut String) {
    let (local, domain) = value.rsplit_once('@').unwrap_or((value, ""));
    out.extend(local.chars().next());
    out.push_str("***@");
    out.push_str(domain);
}

/// The first two groups: of IPv4 the network of a provider, of IPv6 that of one too.
fn address(value: &str, out: &mut String) {
    let separator = if value.contains(':') { ':' } else { '.' };
    let mut groups = 0;
    for c in value.chars() {
        groups += usize::from(c == separator);
        out.push(if groups >= 2 && c.is_ascii_hexdigit() { '*' } else { c });
    }
}

/// The last letters and digits; of a short value fewer, so that most of it goes.
fn last(value: &str, out: &mut String) {
    let count = value.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = count - LAST.min(count / 2);
    let mut seen = 0;
    for c in value.chars() {
        seen += usize::from(c.is_alphanumeric());
        out.push(if c.is_alphanumeric() && seen <= hidden { '*' } else { c });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customary_part_is_left() {
        for (entity, value, left) in [
            (EntityType::EmailAddress, "bob.smith@example.com", "b***@example.com"),
            (EntityType::CreditCard, "4111 1111 1111 1234", "**** **** **** 1234"),
            (EntityType::IbanCode, "GB82WEST12345698765432", "******************5432"),
            (EntityType::PhoneNumber, "+1 (212) 555-0100", "+* (***) ***-0100"),
            (EntityType::UsSsn, "123-45-6789", "***-**-6789"),
            (EntityType::IpAddress, "10.1.22.3", "10.1.**.*"),
            (EntityType::IpAddress, "2001:db8::8a2e", "2001:db8::****"),
            (EntityType::Secret, "ghp_0123456789abcdefghijklmnopqrstuvwxyz", "ghp_********"),
            (EntityType::Secret, "hunter2", "********"),
        ] {
            let mut out = String::new();
            write(entity, value, &mut out);
            assert_eq!(out, left);
        }
    }
}
