//! Datadog tags: the normal form that the intake would give them anyway, made here so that what is sent is what is
//! found. Rules from <https://docs.datadoghq.com/getting_started/tagging/>: starts with a letter; then letters,
//! digits, `_ - : . /`, all else becomes `_`; lower case; at most 200 characters; no `:` at the end.

/// Longest tag, in characters.
const CHARS_MAX: usize = 200;
/// Datadog takes at most 100 tags on a log, and each event may add two of its own (`project`, `data_classification`).
pub(super) const CONFIGURED_MAX: usize = 98;

/// The tag in normal form; `None` where nothing is left of it.
pub(super) fn normalise(tag: &str) -> Option<String> {
    let mut normal = String::with_capacity(tag.len());
    push_normalised(tag.trim_start_matches(|c: char| !c.is_alphabetic()), &mut normal);
    let normal = cut(normal);
    (!normal.is_empty()).then_some(normal)
}

/// `key:value` in normal form, where the key is one already.
pub(super) fn key_value(key: &str, value: &str) -> String {
    let mut normal = String::with_capacity(key.len() + 1 + value.len());
    normal.push_str(key);
    normal.push(':');
    push_normalised(value, &mut normal);
    cut(normal)
}

fn push_normalised(text: &str, normal: &mut String) {
    for c in text.chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | ':' | '.' | '/') {
            normal.push(c);
        } else if c.is_alphanumeric() {
            normal.extend(c.to_lowercase());
        } else {
            normal.push('_');
        }
    }
}

fn cut(mut tag: String) -> String {
    // Lower-casing may add combining marks (`İ`), which are no letters: they stay, the intake folds them.
    if let Some((end, _)) = tag.char_indices().nth(CHARS_MAX) {
        tag.truncate(end);
    }
    tag.truncate(tag.trim_end_matches(':').len());
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_take_the_form_that_the_intake_would_give_them() {
        for (given, normal) in [
            ("env:prod", Some("env:prod")),
            ("Env:PROD", Some("env:prod")),
            ("team:plat form!", Some("team:plat_form_")),
            ("1env:prod", Some("env:prod")),
            ("env:", Some("env")),
            ("env:::", Some("env")),
            ("a.b/c-d_e:f", Some("a.b/c-d_e:f")),
            ("größe:XL", Some("größe:xl")),
            ("123", None),
            ("", None),
            (":", None),
        ] {
            assert_eq!(normalise(given).as_deref(), normal, "{given}");
        }
    }

    #[test]
    fn a_tag_is_cut_at_200_characters() {
        assert_eq!(normalise(&"a".repeat(300)).unwrap().chars().count(), 200);
        assert_eq!(normalise(&"ö".repeat(300)).unwrap().chars().count(), 200);
        let colon_at_the_cut = format!("{}:bc", "a".repeat(199));
        assert_eq!(normalise(&colon_at_the_cut).unwrap(), "a".repeat(199));
    }

    #[test]
    fn values_are_normalised_behind_their_key() {
        assert_eq!(key_value("project", "Support Bot"), "project:support_bot");
        assert_eq!(key_value("project", "42"), "project:42");
        assert_eq!(key_value("project", "a,b\"c"), "project:a_b_c");
    }
}
