//! What stands where a secret would and is none: placeholders, examples of documentation, words.
//! Rules that hold for any issuer; what a secret looks like is said by `formats`, `secrets` and `assigned`.

/// Bytes below which few distinct ones are no wonder.
const VARIED_BYTES_MIN: usize = 16;

/// Distinct bytes in a body of that length below which nobody drew it at random.
const DISTINCT_MIN: u32 = 5;

/// One byte so many times in a row is no accident.
const REPEATED_MAX: usize = 8;

/// Whether a body is repetition: `xxxxxxxx`.
pub(super) fn is_stand_in(body: &[u8]) -> bool {
    if body.len() < VARIED_BYTES_MIN {
        return false;
    }
    let seen = body.iter().fold(0u128, |seen, byte| seen | 1 << (byte & 127));
    seen.count_ones() < DISTINCT_MIN
        || body
            .chunk_by(|a, b| a == b)
            .any(|run| run.len() >= REPEATED_MAX && !run.first().is_some_and(u8::is_ascii_digit))
}

/// Whether a key ends as those of documentation do (`…EXAMPLE`).
pub(super) fn is_example(key: &[u8]) -> bool {
    let padding = key.iter().rev().take_while(|byte| **byte == b'=').count();
    let key = key.get(..key.len() - padding).unwrap_or_default();
    key.ends_with(b"EXAMPLE") || key.ends_with(b"EXAMPLEKEY")
}

/// Letters of a word that tells.
const WORD_BYTES_MIN: usize = 4;

/// Consonants in a row in a word: `ngths`.
const CONSONANTS_MAX: usize = 4;

/// Of 100 letters and digits, so many are in words where a text consists of them. Of random ones far fewer are: their
/// case changes and digits leave few runs that long.
const WORDS_PERCENT_MIN: usize = 65;

/// Of 100 letters and digits, at most so many are digits in names. Of random ones in base 36, 28 are.
const DIGITS_PERCENT_MAX: usize = 15;

/// Whether a text is made of words, as names in code, file names and hosts are: `client-vpn-endpoint.id2`, `kVK_Return`.
pub(super) fn is_words(text: &[u8]) -> bool {
    let (mut in_words, mut digits, mut all) = (0, 0, 0);
    for run in text.chunk_by(|a, b| continues(*a, *b)) {
        if !run.first().is_some_and(u8::is_ascii_alphanumeric) {
            continue;
        }
        all += run.len();
        if run.first().is_some_and(u8::is_ascii_digit) {
            digits += run.len();
        } else if is_word(run) {
            in_words += run.len();
        }
    }
    all > 0 && in_words * 100 >= all * WORDS_PERCENT_MIN && digits * 100 <= all * DIGITS_PERCENT_MAX
}

/// Whether a part of a name goes on: small letters after any, capitals after capitals.
fn continues(a: u8, b: u8) -> bool {
    match (a, b) {
        (b'A'..=b'Z' | b'a'..=b'z', b'a'..=b'z') | (b'A'..=b'Z', b'A'..=b'Z') => true,
        _ => {
            a.is_ascii_digit() && b.is_ascii_digit()
                || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric()
        }
    }
}

fn is_word(run: &[u8]) -> bool {
    let is_vowel = |byte: &u8| b"aeiouy".contains(&byte.to_ascii_lowercase());
    let consonants = || run.split(is_vowel).map(<[u8]>::len);
    let rest = run.get(1..).unwrap_or_default();
    run.len() >= WORD_BYTES_MIN
        && (rest.iter().all(u8::is_ascii_lowercase) || run.iter().all(u8::is_ascii_uppercase))
        && run.iter().any(is_vowel)
        && consonants().all(|count| count <= CONSONANTS_MAX)
}

/// Whether a text has the shape of a UUID: an identifier, which some make their keys of too.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_in_code_and_hosts_are_words() {
        for words in [
            "aws_ec2_client_vpn_endpoint.client-vpn-endpoint.id",
            "SalesResults-1.2",
            "requiredCharacteristicTypesForDisplayMetadata",
            "PASSWORD_FROM_ENVIRONMENT_2",
            "my-secrets-manager-secret-01",
            "settings.production.database1",
        ] {
            assert!(is_words(words.as_bytes()), "{words}");
        }
    }

    #[test]
    fn what_was_drawn_is_no_words() {
        for drawn in [
            "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx",
            "6fe4476ee5a1832882e326b506d14126",
            "dafa7817-e246-48f3-91a7-e87653d587b8",
            "TfLOjIfnXcdiVrDiPzzCFbiYtclobEiKvR",
            "SJxviKVVaKQsuutqzxEMWRrHFzFwLVZyrM",
            "k3v9q0mabexi27tuwoz5rcdeli48hgnaju",
        ] {
            assert!(!is_words(drawn.as_bytes()), "{drawn}");
        }
    }

    #[test]
    fn repetitions_examples_and_identifiers() {
        assert!(
            is_example(b"IOSFODNN7EXAMPLE") && is_example(b"S1EXAMPLEEXAMPLE==") && !is_example(b"EXAMPLE7")
        );
        assert!(is_stand_in(b"xxxxxxxxxxxxxxxxxxxx") && !is_stand_in(b"xxxxxxxx"));
        assert!(
            is_uuid(b"dafa7817-e246-48f3-91a7-e87653d587b8")
                && !is_uuid(b"dafa7817-e246-48f3-91a7-e87653d587b")
        );
    }

    proptest! {
        // Of 62 characters; the share of accidents is far below one in a million.
        #[test]
        fn random_keys_are_none_of_it(key in "[A-Za-z0-9]{24,64}") {
            prop_assert!(!is_words(key.as_bytes()));
        }
    }
}
