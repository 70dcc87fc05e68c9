//! The formats of issuers' tokens, as data. Adding an issuer is adding a line.

/// A set of characters: the classes below, or-ed.
pub(super) type Alphabet = u16;

const HEX_LETTERS: Alphabet = 1;
const OTHER_SMALL: Alphabet = 1 << 1;
const CAPITALS: Alphabet = 1 << 2;
const DIGITS: Alphabet = 1 << 3;
pub(super) const DASH: Alphabet = 1 << 4;
pub(super) const UNDERSCORE: Alphabet = 1 << 5;
pub(super) const DOT: Alphabet = 1 << 6;
/// `+`, `/`.
pub(super) const BASE64: Alphabet = 1 << 7;
pub(super) const EQUALS: Alphabet = 1 << 8;
/// What else passwords are made of.
pub(super) const SYMBOLS: Alphabet = 1 << 9;
pub(super) const AMPERSAND: Alphabet = 1 << 10;
pub(super) const COLON: Alphabet = 1 << 11;

/// `0`–`9`, `a`–`f`.
pub(super) const HEX: Alphabet = DIGITS | HEX_LETTERS;
const LETTERS: Alphabet = HEX_LETTERS | OTHER_SMALL | CAPITALS;
pub(super) const ALNUM: Alphabet = LETTERS | DIGITS;
pub(super) const UPPER: Alphabet = CAPITALS | DIGITS;
const URL_SAFE: Alphabet = ALNUM | DASH | UNDERSCORE;

/// Whether a byte belongs to an alphabet.
pub(super) const fn in_alphabet(byte: u8, alphabet: Alphabet) -> bool {
    let class = match byte {
        b'a'..=b'f' => HEX_LETTERS,
        b'g'..=b'z' => OTHER_SMALL,
        b'A'..=b'Z' => CAPITALS,
        b'0'..=b'9' => DIGITS,
        b'-' => DASH,
        b'_' => UNDERSCORE,
        b'.' => DOT,
        b'+' | b'/' => BASE64,
        b'=' => EQUALS,
        b'~' | b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'*' | b'?' | b'|' => SYMBOLS,
        b'&' => AMPERSAND,
        b':' => COLON,
        _ => 0,
    };
    class & alphabet != 0
}

/// What else a token must have, where its prefix also begins ordinary names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// A digit after the prefix.
    Digit,
    /// Several, anywhere.
    Digits,
    /// A number of several.
    Number,
    /// No words.
    Random,
    /// What it ends with.
    End(&'static [u8]),
}

/// A prefix and what follows it.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) prefix: &'static [u8],
    pub(super) alphabet: Alphabet,
    /// Characters after the prefix.
    pub(super) min: u16,
    /// Likewise; 0 for no limit. An alphabet with a full stop needs a limit.
    pub(super) max: u16,
    pub(super) need: Need,
}

const fn format(prefix: &'static [u8], alphabet: Alphabet, min: u16, max: u16) -> Format {
    Format { prefix, alphabet, min, max, need: Need::Nothing }
}

const fn with_digit(prefix: &'static [u8], alphabet: Alphabet, min: u16, max: u16) -> Format {
    Format { prefix, alphabet, min, max, need: Need::Digit }
}

const fn with_digits(prefix: &'static [u8], alphabet: Alphabet, min: u16, max: u16) -> Format {
    Format { prefix, alphabet, min, max, need: Need::Digits }
}

/// Slack's ids are numbers of at least that many digits, `xoxe` and `xapp` apart.
const fn with_number(prefix: &'static [u8], alphabet: Alphabet, min: u16, max: u16) -> Format {
    Format { prefix, alphabet, min, max, need: Need::Number }
}

/// Prefixes that also begin names in code.
const fn random(prefix: &'static [u8], alphabet: Alphabet, min: u16, max: u16) -> Format {
    Format { prefix, alphabet, min, max, need: Need::Random }
}

/// Formats as the issuers' own documentation and published examples show them. The longer of two prefixes
/// stands first.
pub(super) static FORMATS: &[Format] = &[
    // Policy Gateway's own project keys.
    with_digit(b"ak_", URL_SAFE, 20, 0),
    // AWS access key ids and Bedrock keys
    format(b"AKIA", UPPER, 16, 16),
    format(b"ASIA", UPPER, 16, 16),
    format(b"ABIA", UPPER, 16, 16),
    format(b"ACCA", UPPER, 16, 16),
    format(b"ABSK", ALNUM | BASE64 | EQUALS, 100, 0),
    // GitHub
    format(b"github_pat_", ALNUM | UNDERSCORE, 36, 255),
    format(b"ghp_", ALNUM, 36, 255),
    format(b"gho_", ALNUM, 36, 255),
    format(b"ghu_", ALNUM, 36, 255),
    format(b"ghs_", ALNUM, 36, 255),
    format(b"ghr_", ALNUM, 36, 255),
    // GitLab
    format(b"glpat-", URL_SAFE | DOT, 20, 300),
    format(b"gldt-", URL_SAFE, 20, 0),
    format(b"glptt-", HEX, 40, 40),
    format(b"glrt-", URL_SAFE | DOT, 20, 300),
    format(b"glcbt-", URL_SAFE, 20, 0),
    format(b"glimt-", URL_SAFE, 25, 25),
    format(b"glagent-", URL_SAFE, 40, 0),
    format(b"glsoat-", URL_SAFE, 20, 0),
    format(b"glffct-", URL_SAFE, 20, 0),
    format(b"gloas-", URL_SAFE, 40, 0),
    format(b"GR1348941", URL_SAFE, 20, 20),
    // Slack
    with_digits(b"xoxe.xox", ALNUM | DASH, 40, 0),
    with_number(b"xoxb-", ALNUM | DASH, 20, 0),
    with_number(b"xoxp-", ALNUM | DASH, 20, 0),
    with_number(b"xoxa-", ALNUM | DASH, 20, 0),
    with_number(b"xoxr-", ALNUM | DASH, 20, 0),
    with_number(b"xoxs-", ALNUM | DASH, 20, 0),
    with_number(b"xoxo-", ALNUM | DASH, 20, 0),
    with_digits(b"xoxe-", ALNUM | DASH, 20, 0),
    with_digits(b"xapp-", ALNUM | DASH, 20, 0),
    format(b"https://hooks.slack.com/services/", ALNUM | BASE64, 20, 0),
    format(b"https://hooks.slack.com/workflows/", ALNUM | BASE64, 20, 0),
    format(b"http://hooks.slack.com/services/", ALNUM | BASE64, 20, 0),
    format(b"http://hooks.slack.com/workflows/", ALNUM | BASE64, 20, 0),
    // Stripe
    format(b"sk_live_", ALNUM, 10, 0),
    format(b"sk_test_", ALNUM, 10, 0),
    format(b"rk_live_", ALNUM, 10, 0),
    format(b"rk_test_", ALNUM, 10, 0),
    format(b"whsec_", ALNUM | BASE64 | EQUALS, 24, 0),
    // Model providers
    // `sk-ant-api03-`, `sk-ant-admin01-` and so on, then 95 characters of base64 whose last bits are always zero.
    Format { prefix: b"sk-ant-", alphabet: URL_SAFE, min: 80, max: 0, need: Need::End(b"AA") },
    format(b"sk-or-v1-", ALNUM, 32, 0),
    with_digit(b"sk-proj-", URL_SAFE, 20, 0),
    with_digit(b"sk-svcacct-", URL_SAFE, 20, 0),
    with_digit(b"sk-admin-", URL_SAFE, 20, 0),
    with_digit(b"sk-None-", URL_SAFE, 20, 0),
    with_digit(b"sk-", ALNUM, 20, 0),
    random(b"hf_", ALNUM, 34, 37),
    random(b"api_org_", ALNUM, 34, 37),
    format(b"gsk_", ALNUM, 40, 0),
    format(b"xai-", ALNUM, 60, 0),
    format(b"pplx-", ALNUM, 40, 0),
    with_digit(b"r8_", ALNUM, 37, 40),
    format(b"lsv2_pt_", ALNUM | UNDERSCORE, 32, 0),
    format(b"lsv2_sk_", ALNUM | UNDERSCORE, 32, 0),
    format(b"tvly-", ALNUM | DASH, 32, 0),
    // Google
    format(b"AIza", URL_SAFE, 35, 35),
    format(b"ya29.", URL_SAFE, 20, 0),
    format(b"GOCSPX-", URL_SAFE, 28, 28),
    // Package registries
    format(b"npm_", ALNUM, 36, 36),
    format(b"pypi-AgE", URL_SAFE, 50, 0),
    format(b"rubygems_", HEX, 48, 48),
    format(b"dckr_pat_", URL_SAFE, 27, 0),
    format(b"dckr_oat_", URL_SAFE, 27, 0),
    // Clouds and infrastructure
    format(b"dop_v1_", HEX, 64, 64),
    format(b"doo_v1_", HEX, 64, 64),
    format(b"dor_v1_", HEX, 64, 64),
    format(b"hvs.", URL_SAFE, 24, 0),
    format(b"hvb.", URL_SAFE, 24, 0),
    format(b"hvr.", URL_SAFE, 24, 0),
    format(b"dapi", HEX, 32, 32),
    format(b"pul-", HEX, 40, 40),
    format(b"HRKU-", URL_SAFE, 60, 0),
    format(b"fo1_", URL_SAFE, 43, 0),
    format(b"sbp_", HEX, 40, 40),
    format(b"pscale_tkn_", URL_SAFE | DOT, 32, 64),
    format(b"pscale_pw_", URL_SAFE | DOT, 32, 64),
    format(b"LTAI", ALNUM, 16, 24),
    format(b"sha256~", URL_SAFE, 43, 43),
    format(b"ico-", ALNUM, 32, 32),
    // Observability
    format(b"glc_", ALNUM | BASE64 | EQUALS, 32, 0),
    format(b"glsa_", ALNUM | UNDERSCORE, 41, 41),
    format(b"sntrys_", ALNUM | BASE64 | EQUALS | UNDERSCORE, 40, 0),
    format(b"sntryu_", HEX, 64, 64),
    format(b"NRAK-", UPPER, 27, 27),
    format(b"sqp_", ALNUM, 40, 40),
    format(b"squ_", ALNUM, 40, 40),
    format(b"sqa_", ALNUM, 40, 40),
    // Commerce and messages
    format(b"shpat_", HEX | CAPITALS, 32, 32),
    format(b"shpca_", HEX | CAPITALS, 32, 32),
    format(b"shppa_", HEX | CAPITALS, 32, 32),
    format(b"shpss_", HEX | CAPITALS, 32, 32),
    format(b"sq0atp-", URL_SAFE, 22, 22),
    format(b"sq0csp-", URL_SAFE, 43, 43),
    format(b"SK", HEX, 32, 32),
    format(b"key-", HEX, 32, 32),
    format(b"xkeysib-", ALNUM | DASH, 60, 0),
    format(b"shippo_live_", HEX, 40, 40),
    format(b"shippo_test_", HEX, 40, 40),
    format(b"AC", HEX, 32, 32),
    format(b"sk_prod_", ALNUM, 10, 0),
    format(b"rk_prod_", ALNUM, 10, 0),
    format(b"EAACEdEose0cBA", ALNUM, 20, 0),
    format(b"EAAC", ALNUM, 80, 0),
    format(b"EAAM", ALNUM, 80, 0),
    format(b"FLWSECK_TEST-", HEX, 32, 34),
    format(b"FLWSECK-", HEX | DASH | OTHER_SMALL, 32, 40),
    format(b"rzp_live_", ALNUM, 14, 0),
    format(b"rzp_test_", ALNUM, 14, 0),
    format(b"sq0idp-", URL_SAFE, 22, 22),
    format(b"EAAAE", URL_SAFE, 55, 60),
    // Tools
    with_digit(b"A3-", UPPER | DASH, 36, 37),
    format(b"4b1d", ALNUM, 38, 38),
    format(b"AKCp", ALNUM, 69, 69),
    format(b"cmVmdGtu", ALNUM, 56, 56),
    format(b"dp.st.", ALNUM | DOT | UNDERSCORE, 40, 90),
    format(b"dp.ct.", ALNUM, 40, 50),
    format(b"dp.sa.", ALNUM, 40, 50),
    format(b"CFPAT-", URL_SAFE, 43, 43),
    format(b"tfp_", ALNUM, 40, 70),
    format(b"rdme_", ALNUM, 70, 70),
    format(b"EZAK", ALNUM, 54, 54),
    format(b"EZTK", ALNUM, 54, 54),
    format(b"nfp_", ALNUM, 36, 0),
    format(b"pat-na1-", HEX | CAPITALS | DASH, 36, 36),
    format(b"pat-eu1-", HEX | CAPITALS | DASH, 36, 36),
    format(b"phc_", ALNUM, 40, 50),
    format(b"phx_", ALNUM, 40, 50),
    format(b"dt0c01.", ALNUM | DOT, 80, 100),
    format(b"tk-us-", URL_SAFE, 48, 48),
    format(b"duffel_live_", URL_SAFE | EQUALS, 43, 43),
    format(b"duffel_test_", URL_SAFE | EQUALS, 43, 43),
    format(b"lin_api_", ALNUM, 32, 64),
    format(b"PMAK-", HEX | DASH, 59, 59),
    format(b"ntn_", ALNUM, 40, 50),
    format(b"figd_", URL_SAFE, 40, 0),
    format(b"ATATT3", URL_SAFE | EQUALS, 100, 0),
    format(b"dp.pt.", ALNUM, 40, 50),
    format(b"bkua_", HEX, 40, 40),
    format(b"pnu_", ALNUM, 36, 36),
    format(b"sgp_local_", HEX | CAPITALS, 40, 40),
    format(b"sgp_", HEX | CAPITALS | UNDERSCORE, 40, 57),
    format(b"s-s4t2ud-", HEX, 64, 64),
    format(b"s-s4t2af-", HEX, 64, 64),
    format(b"ops_eyJ", ALNUM | BASE64 | EQUALS | DASH | UNDERSCORE, 100, 0),
    format(b"AGE-SECRET-KEY-1", UPPER, 58, 58),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_alphabet_has_no_full_stop() {
        for format in FORMATS {
            assert!(format.max > 0 || format.alphabet & DOT == 0, "{format:?}");
            assert!(format.max == 0 || format.max >= format.min, "{format:?}");
            assert!(format.prefix.len() >= 2);
        }
    }
}
