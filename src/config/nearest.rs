//! The nearest right word for a wrong one.

/// Words longer than this are not compared: nobody mistypes a known word into one.
const LONGEST: usize = 40;

/// The candidate that was most likely meant, if any is near enough: a third of the letters may be wrong, and at least
/// one. The earlier one wins a tie.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = folded(word);
    if given.is_empty() || given.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let wanted = folded(candidate);
        let distance = distance(&given, &wanted);
        let allowed = (given.len().max(wanted.len()) / 3).max(1);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Case and the choice between `-`, `_` and a space are no mistakes of spelling.
fn folded(word: &str) -> Vec<char> {
    word.chars()
        .take(LONGEST + 1)
        .flat_map(char::to_lowercase)
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that make `b` of `a` (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_lead_to_the_word_that_was_meant() {
        let words = ["port_udp", "port_tcp", "port_tls", "user", "user_agent", "domain"];
        for (wrong, right) in [
            ("port_upd", Some("port_udp")),
            ("portudp", Some("port_udp")),
            ("Port-TLS", Some("port_tls")),
            ("usr", Some("user")),
            ("useragent", Some("user_agent")),
            ("doman", Some("domain")),
            ("volume", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, words), right, "{wrong}");
        }
        assert_eq!(nearest(&"u".repeat(100_000), words), None);
    }
}
