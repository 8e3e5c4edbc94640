//! Names of containers and blobs, and the service's rules for them
//! (<https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters except RFC 3986's unreserved ones and the separator of virtual directories.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

const MAX_BLOB_NAME: usize = 1024;

/// A blob's name, encoded for a URL's path.
pub(super) fn encode_name(name: &str) -> String {
    utf8_percent_encode(name, NAME).to_string()
}

/// Decodes the name in a path segment. The error describes the mistake in it.
pub(super) fn decode(segment: &str) -> Result<String, String> {
    let bytes = segment.as_bytes();
    for (at, _) in segment.match_indices('%') {
        let escape = bytes.get(at + 1..at + 3);
        if !escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err("'%' must be followed by two hexadecimal digits; write a literal '%' as %25".to_owned());
        }
    }
    let decoded =
        percent_decode_str(segment).decode_utf8().map_err(|_| "its percent-escapes are not valid UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}

pub(super) fn check_container(name: &str) -> Result<(), String> {
    if matches!(name, "$root" | "$web" | "$logs") {
        return Ok(());
    }
    if !(3..=63).contains(&name.chars().count()) {
        return Err("the container name must have 3 to 63 characters".to_owned());
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("the container name may have lower-case letters, digits and hyphens only".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err("in the container name each hyphen must stand between letters or digits".to_owned());
    }
    Ok(())
}

pub(super) fn check_blob(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the blob name is empty".to_owned());
    }
    let length = name.encode_utf16().count();
    if length > MAX_BLOB_NAME {
        return Err(format!("the blob name has {length} characters, {MAX_BLOB_NAME} are allowed"));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(format!("the blob name has the control character U+{:04X}", u32::from(control)));
    }
    if name.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
        return Err("a blob name cannot have '.' or '..' as a segment: HTTP would resolve it".to_owned());
    }
    Ok(())
}
