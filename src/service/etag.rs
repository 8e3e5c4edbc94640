//! ETags that callers pass in.

use crate::error::{Error, Result};

/// An ETag in quotes, as conditional headers need it. Listings give ETags without quotes.
pub(crate) fn quoted(etag: &str) -> Result<String> {
    let bare = etag.strip_prefix("W/").unwrap_or(etag);
    let inner = bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(bare);
    if inner.is_empty() || !inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return Err(Error::invalid("the ETag is empty, or has a character that no ETag has"));
    }
    match etag {
        "*" => Ok(etag.to_owned()),
        _ if inner.len() < bare.len() => Ok(etag.to_owned()),
        _ => Ok(format!("\"{inner}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_are_added_only_where_they_are_missing() {
        for (etag, expected) in [("0x8D", "\"0x8D\""), ("\"0x8D\"", "\"0x8D\""), ("W/\"a\"", "W/\"a\""), ("*", "*")] {
            assert_eq!(quoted(etag).unwrap(), expected);
        }
        for bad in ["", "\"\"", "a\"b", "a b", "a\n", "é"] {
            assert!(quoted(bad).is_err(), "{bad:?}");
        }
    }
}
