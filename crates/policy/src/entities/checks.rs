//! Check digits and characters, as pure arithmetic over the digits of a number. Which number has which, and how it is
//! written, is in `national` and `codes`.

/// ISO/IEC 7812-1 annex B.
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_sum(digits).is_multiple_of(10)
}

fn luhn_sum(digits: &[u8]) -> u32 {
    let value = |(index, digit): (usize, &u8)| {
        let value = u32::from(*digit) * if index % 2 == 1 { 2 } else { 1 };
        if value > 9 { value - 9 } else { value }
    };
    digits.iter().rev().enumerate().map(value).sum()
}

/// The sum of digits by weights; of the shorter of the two as far as it goes.
fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

fn digit(digits: &[u8], at: usize) -> u32 {
    digits.get(at).copied().map_or(0, u32::from)
}

fn number(digits: &[u8], range: std::ops::Range<usize>) -> u64 {
    digits.get(range).unwrap_or_default().iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

/// Not one digit over and over: a sample that passes many checksums.
fn varies(digits: &[u8]) -> bool {
    digits.windows(2).any(|pair| pair.first() != pair.last())
}

/// Areas, groups and serials that are never assigned are none
/// (<https://www.ssa.gov/employer/randomization.html>).
pub(super) fn us_ssn(digits: &[u8]) -> bool {
    let (area, group, serial) = (number(digits, 0..3), number(digits, 3..5), number(digits, 5..9));
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
}

/// 9xx, and a fourth and fifth digit that the IRS gives out (<https://www.irs.gov/irm/part3/irm_03-021-263r>).
pub(super) fn us_itin(digits: &[u8]) -> bool {
    digit(digits, 0) == 9 && matches!(number(digits, 3..5), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// Luhn with the issuer's prefix 80840 before it (45 CFR 162.406).
pub(super) fn us_npi(digits: &[u8]) -> bool {
    // The prefix adds 24 to the sum.
    matches!(digits.first(), Some(1 | 2)) && varies(digits) && (luhn_sum(digits) + 24).is_multiple_of(10)
}

/// Weights 3, 7, 1, and the first two digits of a Federal Reserve district.
pub(super) fn aba(digits: &[u8]) -> bool {
    let district = matches!(number(digits, 0..2), 1..=12 | 21..=32 | 61..=72 | 80);
    district && weighted(digits, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// <https://www.datadictionary.nhs.uk/attributes/nhs_number.html>
pub(super) fn uk_nhs(digits: &[u8]) -> bool {
    let check = 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    varies(digits) && check % 11 == digit(digits, 9) && check != 10
}

/// Luhn; 0 and 8 begin none.
pub(super) fn ca_sin(digits: &[u8]) -> bool {
    !matches!(digits.first(), Some(0 | 8)) && luhn(digits)
}

/// A check digit: 11 less the remainder, 0 from ten on.
fn brazilian(digits: &[u8], weights: &[u32]) -> bool {
    let remainder = weighted(digits, weights) % 11;
    digit(digits, weights.len()) == if remainder < 2 { 0 } else { 11 - remainder }
}

pub(super) fn br_cpf(digits: &[u8]) -> bool {
    varies(digits)
        && brazilian(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2])
        && brazilian(digits, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
}

pub(super) fn br_cnpj(digits: &[u8]) -> bool {
    varies(digits)
        && brazilian(digits, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
        && brazilian(digits, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
}

/// ISO 7064 MOD 11,10; of the first ten digits one occurs twice or three times.
pub(super) fn de_tax_id(digits: &[u8]) -> bool {
    let mut counts = [0u8; 10];
    let mut product = 10;
    for digit in digits.iter().take(10) {
        if let Some(count) = counts.get_mut(usize::from(*digit)) {
            *count += 1;
        }
        let sum = (u32::from(*digit) + product) % 10;
        product = if sum == 0 { 10 } else { sum } * 2 % 11;
    }
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let check = (11 - product) % 10;
    digit(digits, 0) != 0
        && repeated <= 1
        && counts.iter().all(|count| *count <= 3)
        && check == digit(digits, 10)
}

pub(super) fn pl_pesel(digits: &[u8]) -> bool {
    let date = matches!(number(digits, 2..4) % 20, 1..=12) && matches!(number(digits, 4..6), 1..=31);
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    date && sum.is_multiple_of(10)
}

/// The Dutch elevenfold test.
pub(super) fn nl_bsn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    varies(digits) && sum % 11 == digit(digits, 8)
}

/// 97 less the remainder of the first 13 digits; sex, and a month that is one or a stand-in for it.
pub(super) fn fr_nir(digits: &[u8]) -> bool {
    let month = matches!(number(digits, 3..5), 1..=12 | 20..=42 | 50..=99);
    matches!(digits.first(), Some(1 | 2 | 7 | 8))
        && month
        && 97 - number(digits, 0..13) % 97 == number(digits, 13..15)
}

/// Verhoeff's dihedral group and permutation.
pub(super) fn in_aadhaar(digits: &[u8]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PERMUTED: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let look = |table: &[[u8; 10]], row: usize, column: u8| {
        table.get(row).and_then(|row| row.get(usize::from(column))).copied().unwrap_or(0)
    };
    let product = digits.iter().rev().enumerate().fold(0, |product, (index, digit)| {
        look(&PRODUCT, usize::from(product), look(&PERMUTED, index % 8, *digit))
    });
    !matches!(digits.first(), Some(0 | 1)) && varies(digits) && product == 0
}

pub(super) fn au_tfn(digits: &[u8]) -> bool {
    varies(digits) && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Modulus 89, with one taken off the first digit.
pub(super) fn au_abn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    digit(digits, 0) > 0 && (sum - 10).is_multiple_of(89)
}

/// A date of birth and a digit for sex and century. The check digit is given up since October 2020.
pub(super) fn kr_rrn(digits: &[u8]) -> bool {
    matches!(number(digits, 2..4), 1..=12)
        && matches!(number(digits, 4..6), 1..=31)
        && matches!(digit(digits, 6), 1..=4)
}

/// No check digit: any nine.
pub(super) fn any(_: &[u8]) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(number: &str) -> Vec<u8> {
        number.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    #[test]
    fn published_numbers_pass_and_no_other_last_digit_does() {
        type Check = fn(&[u8]) -> bool;
        let checks: [(Check, &str); 14] = [
            (us_npi, "1234567893"),
            (aba, "021000021"),
            (uk_nhs, "943 476 5919"),
            (ca_sin, "130 692 544"),
            (br_cpf, "111.444.777-35"),
            (br_cnpj, "11.222.333/0001-81"),
            (de_tax_id, "86095742719"),
            (pl_pesel, "44051401458"),
            (nl_bsn, "111222333"),
            (fr_nir, "2 55 08 14 168 025 38"),
            (in_aadhaar, "2341 2341 2346"),
            (au_tfn, "876 543 210"),
            (au_abn, "51 824 753 556"),
            (luhn, "4111 1111 1111 1111"),
        ];
        for (check, number) in checks {
            let mut digits = digits(number);
            assert!(check(&digits), "{number}");
            let last = digits.len() - 1;
            let passing = (0..10)
                .filter(|digit| {
                    digits[last] = *digit;
                    check(&digits)
                })
                .count();
            assert_eq!(passing, 1, "{number}");
        }
    }

    #[test]
    fn structure_is_checked_where_there_is_no_check_digit() {
        assert!(us_ssn(&digits("123-45-6789")) && !us_ssn(&digits("666-45-6789")));
        assert!(us_itin(&digits("911-53-1234")) && !us_itin(&digits("911-45-1234")));
        assert!(kr_rrn(&digits("960121-1234567")) && !kr_rrn(&digits("961321-1234567")));
    }
}
