//! The one place that takes secrets out of text that leaves the library.

/// What comes before a secret in a URL, a header or a connection string, in lower case.
const MARKERS: [&str; 7] =
    ["sig=", "accountkey=", "sharedaccesssignature=", "sharedkey ", "bearer ", "client_secret=", "client_assertion="];
/// How the base64 of a JSON Web Token's header begins, whatever it says.
const TOKEN: &str = "eyj";

/// Replaces every secret that is recognisable by what stands before it.
pub(crate) fn redact(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some((start, end)) = next_secret(&lower, at) {
        out.push_str(&text[at..start]);
        out.push_str("REDACTED");
        at = end;
    }
    out.push_str(&text[at..]);
    strip_userinfo(out)
}

/// Where the value behind the next marker begins and ends.
fn next_secret(lower: &str, from: usize) -> Option<(usize, usize)> {
    let marked = MARKERS.iter().filter_map(|marker| find_marker(lower, marker, from)).min();
    let start = marked.into_iter().chain(find_token(lower, from)).min()?;
    let ends = |c: char| matches!(c, '&' | ';' | '"' | '\'' | '<' | '>' | ')' | ',') || c.is_whitespace();
    let end = lower[start..].find(ends).map_or(lower.len(), |length| start + length);
    Some((start, end))
}

/// A word of three parts that begins as tokens do needs no marker.
fn find_token(lower: &str, from: usize) -> Option<usize> {
    let part_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    lower.get(from..)?.match_indices(TOKEN).map(|(at, _)| from + at).find(|&at| {
        let length = lower[at..].find(|c| !part_of_token(c)).unwrap_or(lower.len() - at);
        !lower[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) && lower[at..at + length].matches('.').count() == 2
    })
}

/// A marker counts at the start of a word only: `design=` holds no secret.
fn find_marker(lower: &str, marker: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + lower.get(at..)?.find(marker)?;
        let value = found + marker.len();
        let word_start = !lower[..found].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let has_value = lower[value..].chars().next().is_some_and(|c| !c.is_whitespace());
        if word_start && has_value {
            return Some(value);
        }
        at = value;
    }
}

/// `https://user:password@host` becomes `https://REDACTED@host`.
fn strip_userinfo(text: String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(scheme_end) = rest.find("://") {
        let (head, tail) = rest.split_at(scheme_end + 3);
        out.push_str(head);
        let authority = tail.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(tail.len());
        match tail[..authority].rfind('@') {
            Some(at) if tail[..at].contains(':') => {
                out.push_str("REDACTED");
                rest = &tail[at..];
            }
            _ => rest = tail,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn secrets_are_replaced_and_the_rest_is_kept() {
        let cases = [
            ("https://a/b?sv=1&sig=S%2Bx%3D&se=3", "https://a/b?sv=1&sig=REDACTED&se=3"),
            ("?SIG=one and sig=two", "?SIG=REDACTED and sig=REDACTED"),
            ("AccountName=a;AccountKey=k+/==;x=1", "AccountName=a;AccountKey=REDACTED;x=1"),
            ("Authorization: SharedKey acc:abc= end", "Authorization: SharedKey REDACTED end"),
            ("Bearer eyJ0.e.s", "Bearer REDACTED"),
            ("it said {\"t\": \"eyJhbGciOi.eyJhdWQi.c2ln\"}", "it said {\"t\": \"REDACTED\"}"),
            ("keyJ.a.b and eyJ alone", "keyJ.a.b and eyJ alone"),
            ("a=1&client_assertion=x&b", "a=1&client_assertion=REDACTED&b"),
            ("https://user:pw@host/p", "https://REDACTED@host/p"),
            ("design=round, résumé sig=", "design=round, résumé sig="),
            ("abfss://container@account.dfs/x", "abfss://container@account.dfs/x"),
        ];
        for (input, expected) in cases {
            assert_eq!(redact(input), expected);
        }
    }
}
