//! Removes secrets from texts that leave the library. This is the only place that does so.

use percent_encoding::percent_decode_str;

/// The text before a secret in a URL, a header or a connection string, in lower case.
const MARKERS: [&str; 9] = [
    "sig=",
    // For a URL that is part of another URL, or is the name of a blob, and so is encoded twice.
    "sig%3d",
    "sig%253d",
    "accountkey=",
    "sharedaccesssignature=",
    "sharedkey ",
    "bearer ",
    "client_secret=",
    "client_assertion=",
];
/// The first characters of every JSON Web Token, in lower case: base64 of `{"`.
const TOKEN: &str = "eyj";

/// Replaces every secret by `REDACTED` that can be recognised by a marker, by the form of a token or by the form of a
/// URL.
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

/// The range of the next secret, from its marker or its token's start on.
fn next_secret(lower: &str, from: usize) -> Option<(usize, usize)> {
    let marked = MARKERS.iter().filter_map(|marker| find_marker(lower, marker, from)).min();
    let start = marked.into_iter().chain(find_token(lower, from)).min()?;
    let ends = |c: char| matches!(c, '&' | ';' | '"' | '\'' | '<' | '>' | ')' | ',') || c.is_whitespace();
    let end = lower[start..].find(ends).map_or(lower.len(), |length| start + length);
    Some((start, end))
}

/// The start of the next JSON Web Token: a word of three parts. It needs no marker.
fn find_token(lower: &str, from: usize) -> Option<usize> {
    let part_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    lower.get(from..)?.match_indices(TOKEN).map(|(at, _)| from + at).find(|&at| {
        let length = lower[at..].find(|c| !part_of_token(c)).unwrap_or(lower.len() - at);
        !lower[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) && lower[at..at + length].matches('.').count() == 2
    })
}

/// The end of the next `marker`. It counts at the start of a word only: `design=` is followed by no secret.
fn find_marker(lower: &str, marker: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + lower.get(at..)?.find(marker)?;
        let value = found + marker.len();
        let before = &lower[..found];
        let word_start = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            || ["%26", "%3f", "%3b", "%2526", "%253f", "%253b"].iter().any(|separator| before.ends_with(separator));
        let has_value = lower[value..].chars().next().is_some_and(|c| !c.is_whitespace());
        if word_start && has_value {
            return Some(value);
        }
        at = value;
    }
}

/// Replaces `https://user:password@host` by `https://REDACTED@host`. `abfss://container@host` has no secret.
fn strip_userinfo(text: String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(scheme_end) = rest.find("://") {
        let (head, tail) = rest.split_at(scheme_end + 3);
        out.push_str(head);
        let is_http = ["http://", "https://"].iter().any(|scheme| head.to_ascii_lowercase().ends_with(scheme));
        match userinfo(tail) {
            Some(at) if is_http || tail[..at].contains(':') => {
                out.push_str("REDACTED");
                rest = &tail[at..];
            }
            _ => rest = tail,
        }
    }
    out.push_str(rest);
    out
}

/// The position of the '@' after user and password. A password may have unencoded slashes, though it should not.
fn userinfo(tail: &str) -> Option<usize> {
    let authority = &tail[..tail.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(tail.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    let (host, port) = authority.rsplit_once(':')?;
    let is_port = host.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
    let word = &tail[..tail.find(char::is_whitespace).unwrap_or(tail.len())];
    if is_port { None } else { word.rfind('@') }
}

/// A caller's URL, path or name as a message may show it. Known secrets are redacted. Parts between slashes that could
/// be a secret, or a piece of one, are hidden; if the whole text could be a secret, all of it is.
pub(crate) fn shown(text: &str) -> String {
    let hidden =
        |part: &str| format!("({} characters, which could be a secret and are not shown)", part.chars().count());
    if !has_secret(text) {
        return redact(text).escape_debug().to_string();
    }
    if is_secret_as_a_whole(text) {
        return hidden(text);
    }
    // A secret may contain a '/'. A part without upper-case letters is hardly a piece of one.
    let is_name = |part: &str| !has_secret(part) && !part.bytes().any(|byte| byte.is_ascii_uppercase());
    let parts = text.split('/').map(|part| match is_name(part) {
        true => redact(part).escape_debug().to_string(),
        false => hidden(part),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether something in the text could be a secret without a marker.
pub(crate) fn has_secret(text: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || "/\\?&;:@'\"".contains(c);
    is_secret_as_a_whole(text) || redact(text).split(separates).any(could_be_secret)
}

/// Whether the text contains a key, of which no part may be shown. Slashes may be part of the key.
fn is_secret_as_a_whole(text: &str) -> bool {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    text.contains("-----BEGIN") || has_padded_key(&redact(text)) || has_padded_key(&redact(&decoded))
}

/// Whether the text contains padded base64 of 32 bytes or more. Names of that length change less often between kinds of
/// characters.
fn has_padded_key(text: &str) -> bool {
    const SHORTEST: usize = 42;
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let bytes = text.as_bytes();
    bytes.windows(2).enumerate().any(|(at, two)| {
        let length = bytes[..=at].iter().rev().take(SHORTEST).take_while(|byte| is_base64(byte)).count();
        two[1] == b'=' && length == SHORTEST && is_mixed(&text[at + 1 - length..=at], 7)
    })
}

/// Whether a word is padded base64, or as long and as mixed as generated secrets, or begins like Entra's client
/// secrets. In names that people make, characters of one kind stand together. In a random word, more than half of the
/// characters differ in kind from the one before.
fn could_be_secret(word: &str) -> bool {
    const SHORTEST_PADDED: usize = 20;
    const SHORTEST: usize = 28;
    let trimmed = word.trim_end_matches('=');
    if trimmed.len() < word.len() && word.len() >= SHORTEST_PADDED {
        return true;
    }
    if word.len() >= SHORTEST && matches!(word.as_bytes(), [_, _, _, b'0'..=b'9', b'A'..=b'Z', b'~', ..]) {
        return true;
    }
    trimmed.split(['=', '%']).any(|word| word.bytes().filter_map(kind).count() >= SHORTEST && is_mixed(word, 9))
}

/// Whether a word has all kinds of characters, and `in_twenty` of twenty differ in kind from the one before.
fn is_mixed(word: &str, in_twenty: usize) -> bool {
    let kinds: Vec<u8> = word.bytes().filter_map(kind).collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    [LOWER, UPPER, DIGIT].iter().all(|kind| kinds.contains(kind)) && changes * 20 >= kinds.len() * in_twenty
}

const LOWER: u8 = 0;
const UPPER: u8 = 1;
const DIGIT: u8 = 2;

/// The kind of a character; `None` for separators.
fn kind(byte: u8) -> Option<u8> {
    match byte {
        b'a'..=b'z' => Some(LOWER),
        b'A'..=b'Z' => Some(UPPER),
        b'0'..=b'9' => Some(DIGIT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{redact, shown};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;

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
            ("https://user@host/p", "https://REDACTED@host/p"),
            ("http://user:p/w@host:1/p and HTTPS://u:p@h", "http://REDACTED@host:1/p and HTTPS://REDACTED@h"),
            ("https://host:8443/a@b http://[::1]:1/a@b", "https://host:8443/a@b http://[::1]:1/a@b"),
            ("https://a/c%3Fsv%3D1%26sig%3Dx%252F&y", "https://a/c%3Fsv%3D1%26sig%3DREDACTED&y"),
            ("design=round, résumé sig=", "design=round, résumé sig="),
            ("abfss://container@account.dfs/x", "abfss://container@account.dfs/x"),
        ];
        for (input, expected) in cases {
            assert_eq!(redact(input), expected);
        }
    }

    #[test]
    fn almost_no_key_is_shown_in_any_position_or_encoding() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut shown_whole, mut tried) = (Vec::new(), 0);
        for length in [32, 64] {
            for _ in 0..2000 {
                let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                let key = BASE64.encode(bytes);
                let encoded = key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                for text in [
                    key.clone(),
                    encoded.clone(),
                    format!("/srv/{key}"),
                    format!("https://acc.blob.core.windows.net/container/{encoded}"),
                ] {
                    tried += 1;
                    shown_whole.extend(Some(shown(&text)).filter(|shown| !shown.contains("not shown")));
                }
            }
        }
        assert!(shown_whole.len() * 1000 <= tried, "{} of {tried}: {shown_whole:?}", shown_whole.len());
    }

    #[test]
    fn possible_secrets_are_not_shown() {
        for text in [
            "ASZLcJW63wQpTnOYveIHLFF2m8DlCi9UeZ7D6A0yV3yhxusQNVp/pMnuEzhdgqfM8RY7YIWqz/QZPmOIrdL3HA==",
            "https://acc.blob.core.windows.net/c3ZhcmV0IGtleSBpcyBoZXJl==/b",
            "Abc8Q~d0EfGh1IjKl2MnOp3QrStUv4WxYz5aBcDe",
            "k3-Vd9.Xq_R7tB1mZ-8wLp2.Ns4Yc6Hj_0Gf5Ae.onmicrosoft.com",
            "-----BEGIN PRIVATE KEY----- MIIE",
        ] {
            let shown = shown(text);
            assert!(shown.contains("not shown") && !shown.contains("A"), "{shown}");
        }
        let path = "/mnt/models/CLIP-ViT-bigG-14-laion2B-39B-b160k-s13B-x7Y/open_clip_pytorch_model.bin";
        let shown_path = shown(path);
        assert!(
            shown_path.starts_with("/mnt/models/(") && shown_path.ends_with(")/open_clip_pytorch_model.bin"),
            "{shown_path}"
        );
        for text in [
            "/srv/Data_2024/Train_ILSVRC2012_val_00000293.JPEG",
            "https://acc.blob.core.windows.net/Container/date=2024-01-01/part=3/x",
            "/tmp/.tmpAbC123/file~",
            "models/Llama-3.1-8B-Instruct/model-00001-of-00004.safetensors",
            "DeepSeek-R1-Distill-Qwen-32B-GGUF/Phi-3.5-MoE-Instruct-Q4_K_M.gguf",
            "11111111-2222-3333-4444-5555AAAA5555",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "https://data.example.org:8443/acc/con/a=",
        ] {
            assert_eq!(shown(text), text);
        }
    }
}
