//! Words that say what a number or code after them is. They are looked for before a place only, so that a stream need
//! not wait for them, and no further back than the entity or placeholder before.

use super::types::{EntitySet, EntityType};
use super::view::View;

/// Bytes before a place in which such a word counts.
const CONTEXT_BYTES: usize = 64;

/// Bytes of the longest word below.
const WORD_BYTES_MAX: usize = 28;

/// The words in small letters, sorted.
static WORDS: &[(&str, EntityType)] = &[
    ("aadhaar", EntityType::InAadhaar),
    ("aadhar", EntityType::InAadhaar),
    ("aba", EntityType::AbaRoutingNumber),
    ("abn", EntityType::AuAbn),
    ("amex", EntityType::CreditCard),
    ("bic", EntityType::SwiftCode),
    ("bsn", EntityType::NlBsn),
    ("burgerservicenummer", EntityType::NlBsn),
    ("card", EntityType::CreditCard),
    ("cc", EntityType::CreditCard),
    ("chassis", EntityType::Vin),
    ("cnpj", EntityType::BrCnpj),
    ("cpf", EntityType::BrCpf),
    ("credit", EntityType::CreditCard),
    ("debit", EntityType::CreditCard),
    ("dl", EntityType::UsDriverLicense),
    ("dni", EntityType::EsNif),
    ("driver", EntityType::UsDriverLicense),
    ("drivers", EntityType::UsDriverLicense),
    ("driving", EntityType::UsDriverLicense),
    ("identifikationsnummer", EntityType::DeTaxId),
    ("idnr", EntityType::DeTaxId),
    ("insee", EntityType::FrNir),
    ("itin", EntityType::UsItin),
    ("licence", EntityType::UsDriverLicense),
    ("license", EntityType::UsDriverLicense),
    ("maestro", EntityType::CreditCard),
    ("mastercard", EntityType::CreditCard),
    ("nas", EntityType::CaSin),
    ("nhs", EntityType::UkNhs),
    ("nie", EntityType::EsNie),
    ("nif", EntityType::EsNif),
    ("nino", EntityType::UkNino),
    ("npi", EntityType::UsNpi),
    ("nric", EntityType::SgNricFin),
    ("passport", EntityType::UsPassport),
    ("pesel", EntityType::PlPesel),
    ("provider", EntityType::UsNpi),
    ("resident", EntityType::KrRrn),
    ("routing", EntityType::AbaRoutingNumber),
    ("rrn", EntityType::KrRrn),
    ("rtn", EntityType::AbaRoutingNumber),
    ("sin", EntityType::CaSin),
    ("sofinummer", EntityType::NlBsn),
    ("ssn", EntityType::UsSsn),
    ("ssns", EntityType::UsSsn),
    ("steuer", EntityType::DeTaxId),
    ("steueridentifikationsnummer", EntityType::DeTaxId),
    ("steuernummer", EntityType::DeTaxId),
    ("swift", EntityType::SwiftCode),
    ("tfn", EntityType::AuTfn),
    ("uidai", EntityType::InAadhaar),
    ("vehicle", EntityType::Vin),
    ("vin", EntityType::Vin),
    ("visa", EntityType::CreditCard),
];

/// Pairs of words that say it together.
static PAIRS: &[(&str, &str, EntityType)] = &[
    ("bank", "transit", EntityType::AbaRoutingNumber),
    ("file", "number", EntityType::AuTfn),
    ("insurance", "no", EntityType::CaSin),
    ("insurance", "number", EntityType::CaSin),
    ("permanent", "account", EntityType::InPan),
    ("sécurité", "sociale", EntityType::FrNir),
    ("social", "insurance", EntityType::CaSin),
    ("social", "security", EntityType::UsSsn),
    ("tax", "file", EntityType::AuTfn),
];

/// The types that the words before a place name.
pub(super) fn named(view: &View<'_>, start: usize) -> EntitySet {
    let mut types = EntitySet::default();
    let mut before = [0u8; WORD_BYTES_MAX];
    let mut before_len = 0;
    for word in words(view, start, CONTEXT_BYTES) {
        let mut small = [0u8; WORD_BYTES_MAX];
        let Some(small) = small.get_mut(..word.len()) else {
            before_len = 0;
            continue;
        };
        small.copy_from_slice(word);
        small.make_ascii_lowercase();
        let small: &[u8] = small;
        let place = WORDS.partition_point(|(known, _)| known.as_bytes() < small);
        if let Some((known, entity)) = WORDS.get(place)
            && known.as_bytes() == small
        {
            types.insert(*entity);
        }
        let first = before.get(..before_len).unwrap_or_default();
        for (known, second, entity) in PAIRS {
            if second.as_bytes() == small && known.as_bytes() == first {
                types.insert(*entity);
            }
        }
        if let Some(copy) = before.get_mut(..small.len()) {
            copy.copy_from_slice(small);
            before_len = small.len();
        }
    }
    types
}

/// The words in so many bytes before a place. Looking back ends at a placeholder, as it does at the entity that was
/// there; and a word that begins before does not count.
pub(super) fn words<'t>(view: &View<'t>, start: usize, bytes: usize) -> impl Iterator<Item = &'t [u8]> {
    let back = view.back(start, bytes + 1);
    let placeholder = placeholder_end(back);
    let is_cut = back.len() > bytes && placeholder == 0;
    back.get(placeholder..)
        .unwrap_or_default()
        .split(|byte| byte.is_ascii() && !byte.is_ascii_alphabetic())
        .skip(usize::from(is_cut))
        .filter(|word| !word.is_empty())
}

/// Where the last placeholder (`…_1]`, `…_0123456789ab]`) ends; 0 if there is none.
fn placeholder_end(text: &[u8]) -> usize {
    let ends = memchr::memrchr_iter(b']', text).find(|end| {
        let before = text.get(..*end).unwrap_or_default();
        let digits = before.iter().rev().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        digits > 0 && before.get(..before.len() - digits).is_some_and(|before| before.ends_with(b"_"))
    });
    ends.map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_sorted_and_short_enough() {
        assert!(WORDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(WORDS.iter().all(|(word, _)| word.len() <= WORD_BYTES_MAX));
        const { assert!(CONTEXT_BYTES < super::super::CONTEXT_BYTES) };
    }
}
