//! What numbers look like in a country: ITU-T E.164 and the national numbering plans, as far as limits and spelling
//! need them.

/// The numbering of a country.
pub(super) struct Country {
    /// ISO 3166.
    pub(super) code: &'static str,
    /// Its calling code.
    pub(super) calling: &'static str,
    /// What is dialled before another country's calling code.
    pub(super) international: &'static [&'static str],
    /// What is dialled before a national number, the longer ones first.
    pub(super) trunk: &'static [&'static str],
    /// How many digits a national number has without all that, least and most.
    pub(super) digits: (usize, usize),
    /// How national numbers begin that are paid for.
    pub(super) premium: &'static [&'static str],
    /// How numbers under the same calling code begin that are another country's.
    pub(super) abroad: &'static [&'static str],
}

const fn country(
    code: &'static str,
    calling: &'static str,
    international: &'static [&'static str],
    trunk: &'static [&'static str],
    digits: (usize, usize),
    premium: &'static [&'static str],
) -> Country {
    Country { code, calling, international, trunk, digits, premium, abroad: &[] }
}

/// Islands with the calling code 1: a call there costs like one around the world.
const CARIBBEAN: &[&str] = &[
    "242", "246", "264", "268", "284", "345", "441", "473", "649", "658", "664", "721", "758", "767", "784",
    "809", "829", "849", "868", "869", "876",
];

/// The numbering of a country by its two letters.
pub(super) fn by_code(code: &str) -> Option<&'static Country> {
    COUNTRIES.iter().find(|country| country.code.eq_ignore_ascii_case(code))
}

pub(super) const COUNTRIES: &[Country] = &[
    country("AT", "43", &["00"], &["0"], (4, 13), &["900", "901", "930", "931", "939"]),
    country("AU", "61", &["0011"], &["0"], (9, 9), &["190"]),
    country("BE", "32", &["00"], &["0"], (8, 9), &["90"]),
    country("BG", "359", &["00"], &["0"], (7, 9), &["90"]),
    country("BY", "375", &["810", "00"], &["80"], (9, 9), &["902"]),
    Country { abroad: CARIBBEAN, ..country("CA", "1", &["011"], &["1"], (10, 10), &["900", "976"]) },
    country("CH", "41", &["00"], &["0"], (9, 9), &["900", "901", "906"]),
    country("CZ", "420", &["00"], &[], (9, 9), &["90"]),
    country("DE", "49", &["00"], &["0"], (5, 13), &["900", "118", "137"]),
    country("DK", "45", &["00"], &[], (8, 8), &["90"]),
    country("EE", "372", &["00"], &[], (7, 8), &["900"]),
    country("ES", "34", &["00"], &[], (9, 9), &["803", "806", "807", "905"]),
    country("FI", "358", &["00"], &["0"], (5, 12), &["600", "700"]),
    country("FR", "33", &["00"], &["0"], (9, 9), &["89"]),
    country("GB", "44", &["00"], &["0"], (9, 10), &["9", "70", "871", "872", "873"]),
    country("GE", "995", &["00"], &["0"], (9, 9), &[]),
    country("GR", "30", &["00"], &[], (10, 10), &["90"]),
    country("HR", "385", &["00"], &["0"], (8, 9), &["60", "61", "64", "65", "69"]),
    country("HU", "36", &["00"], &["06"], (8, 9), &["90", "91"]),
    country("IE", "353", &["00"], &["0"], (7, 9), &["15"]),
    country("IL", "972", &["00"], &["0"], (8, 9), &["19"]),
    country("IN", "91", &["00"], &["0"], (10, 10), &["1900"]),
    country("IT", "39", &["00"], &[], (6, 11), &["89"]),
    Country {
        abroad: &["3", "4", "8", "9"],
        ..country("KZ", "7", &["810", "00"], &["8"], (10, 10), &["809"])
    },
    country("LT", "370", &["00"], &["8", "0"], (8, 8), &["90"]),
    country("LV", "371", &["00"], &[], (8, 8), &["90"]),
    country("MD", "373", &["00"], &["0"], (8, 8), &["900"]),
    country("NL", "31", &["00"], &["0"], (9, 9), &["90"]),
    country("NO", "47", &["00"], &[], (8, 8), &["820", "829"]),
    country("PL", "48", &["00"], &[], (9, 9), &["70"]),
    country("PT", "351", &["00"], &[], (9, 9), &["60", "76"]),
    country("RO", "40", &["00"], &["0"], (9, 9), &["90"]),
    country("RS", "381", &["00"], &["0"], (8, 9), &["90"]),
    Country { abroad: &["6", "7"], ..country("RU", "7", &["810"], &["8"], (10, 10), &["809"]) },
    country("SE", "46", &["00"], &["0"], (7, 9), &["900", "939", "944", "99"]),
    country("SI", "386", &["00"], &["0"], (8, 8), &["90"]),
    country("SK", "421", &["00"], &["0"], (9, 9), &["97", "98"]),
    country("TR", "90", &["00"], &["0"], (10, 10), &["900"]),
    country("UA", "380", &["00"], &["80", "0"], (9, 9), &["900"]),
    Country { abroad: CARIBBEAN, ..country("US", "1", &["011"], &["1"], (10, 10), &["900", "976"]) },
    country("UZ", "998", &["00", "810"], &[], (9, 9), &[]),
];
