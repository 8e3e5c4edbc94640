//! Parses a caller's URL into a [`Target`] or a [`Container`].

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::account::as_blob_host;
use super::names::{check_blob, check_container, decode};
use super::target::{Container, Target, has_signature, parameter};
use crate::error::{Error, Result};
use crate::redact::{has_secret, shown};

const BLOB_FORM: &str =
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, or http://HOST:PORT/ACCOUNT/CONTAINER/BLOB for an emulator";
const CONTAINER_FORM: &str =
    "https://ACCOUNT.blob.core.windows.net/CONTAINER, or http://HOST:PORT/ACCOUNT/CONTAINER for an emulator";

/// The account's endpoint from a connection string. For URLs with its host it determines the style: whether the account
/// is in the host or in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// The number of path segments before the container: 0 (host style) or 1 (path style).
    pub(crate) account_segments: usize,
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|error| Error::invalid(format!("BlobEndpoint: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::invalid("BlobEndpoint: the scheme must be https or http"));
        }
        let segments = url.path().split('/').filter(|segment| !segment.is_empty()).count();
        if segments > 1 || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(Error::invalid(
                "BlobEndpoint: expected https://ACCOUNT.blob.core.windows.net or http://HOST:PORT/ACCOUNT",
            ));
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default(),
            account_segments: segments,
        })
    }

    /// Whether this URI has the endpoint's scheme, host and port.
    pub(crate) fn serves_uri(&self, uri: &http::Uri) -> bool {
        Url::parse(&uri.to_string()).is_ok_and(|url| self.serves(&url))
    }

    /// Whether this URL has the endpoint's scheme, host and port.
    fn serves(&self, url: &Url) -> bool {
        self.scheme == url.scheme()
            && Some(self.host.as_str()) == url.host_str()
            && self.port == url.port_or_known_default()
    }
}

/// Parses a blob's URL.
pub(crate) fn parse_blob(text: &str, endpoint: Option<&Endpoint>) -> Result<Target> {
    parse(text, endpoint, BLOB_FORM, names_blob).map(|parsed| parsed.target)
}

/// Parses a blob's URL into its container, which keeps the query, and its name.
pub(crate) fn parse_blob_parts(text: &str, endpoint: Option<&Endpoint>) -> Result<(Container, String)> {
    let Parsed { mut target, container_end, container, blob } = parse(text, endpoint, BLOB_FORM, names_blob)?;
    target.path.truncate(container_end);
    Ok((Container { target, name: container }, blob.unwrap_or_default()))
}

fn names_blob(blob: Option<&str>) -> std::result::Result<(), String> {
    if blob.is_none_or(str::is_empty) {
        return Err("it names a container but no blob in it".to_owned());
    }
    Ok(())
}

/// Parses a container's URL.
pub(crate) fn parse_container(text: &str, endpoint: Option<&Endpoint>) -> Result<Container> {
    let parsed = parse(text, endpoint, CONTAINER_FORM, |blob| match blob {
        Some(blob) if !blob.is_empty() => Err("it names a blob, not a container".to_owned()),
        _ => Ok(()),
    })?;
    Ok(Container { target: parsed.target, name: parsed.container })
}

/// Parses a container's URL that this library has written: the last path segment is the container on every host, whatever
/// the client's endpoint is.
pub(crate) fn parse_written_container(text: &str) -> Result<Container> {
    let own_style = Url::parse(text).ok().and_then(|url| {
        let segments = url.path_segments()?.filter(|segment| !segment.is_empty()).count();
        Some(Endpoint {
            scheme: url.scheme().to_owned(),
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default(),
            account_segments: segments.saturating_sub(1).min(1),
        })
    });
    parse_container(text, own_style.as_ref())
}

/// The blob with this name in a container. The name is literal and is encoded here.
pub(crate) fn parse_container_and_blob(
    container_url: &str,
    blob_name: &str,
    endpoint: Option<&Endpoint>,
) -> Result<Target> {
    let container = parse_container(container_url, endpoint)?;
    check_blob(blob_name).map_err(|reason| Error::invalid(format!("blob name '{}': {reason}", shown(blob_name))))?;
    Ok(container.blob(blob_name))
}

type CheckParts = fn(blob: Option<&str>) -> std::result::Result<(), String>;

/// A URL that passed every check.
struct Parsed {
    target: Target,
    /// The end of the container's name in the target's path.
    container_end: usize,
    container: String,
    blob: Option<String>,
}

fn parse(text: &str, endpoint: Option<&Endpoint>, form: &str, check_parts: CheckParts) -> Result<Parsed> {
    parse_parts(text, endpoint, check_parts).map_err(|reason| {
        // The query is never shown: it may hold a signature in a form that the redaction does not recognise.
        let shown: String = shown(text.split('?').next().unwrap_or_default()).chars().take(200).collect();
        Error::invalid(format!("bad URL '{shown}': {reason}; expected {form}"))
    })
}

fn parse_parts(
    text: &str,
    endpoint: Option<&Endpoint>,
    check_parts: CheckParts,
) -> std::result::Result<Parsed, String> {
    check_text(text)?;
    let translated = translate(text)?;
    let (before_query, query) = match translated.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (translated.as_str(), None),
    };
    let url = Url::parse(before_query).map_err(|error| error.to_string())?;
    check_authority(&url)?;
    let raw_path = raw_path(before_query)?;
    let skip = match endpoint {
        Some(endpoint) if endpoint.serves(&url) => endpoint.account_segments,
        _ => usize::from(is_path_style(&url)),
    };
    let mut segments = raw_path.splitn(skip + 2, '/');
    for _ in 0..skip {
        if segments.next().is_none_or(str::is_empty) {
            return Err("the account, which comes first in the path on such a host, is missing".to_owned());
        }
    }
    let container = decode(segments.next().unwrap_or_default())?;
    if container.is_empty() {
        return Err("the container is missing".to_owned());
    }
    if matches!(container.as_str(), "." | "..") {
        return Err("'.' and '..' are not container names".to_owned());
    }
    let blob = segments.next().map(decode).transpose()?;
    if skip == 0 && blob.is_none() && check_container(&container).is_err() {
        return Err(
            "its only path segment is not a container name; a blob in the root container is written /$root/BLOB"
                .to_owned(),
        );
    }
    check_container(&container)?;
    check_parts(blob.as_deref())?;
    if let Some(blob) = blob.as_deref().filter(|blob| !blob.is_empty()) {
        check_blob(blob)?;
    }
    let query = query.filter(|query| !query.is_empty());
    query.map_or(Ok(()), check_query)?;
    let path = if blob.as_deref().is_none_or(str::is_empty) { url.path().trim_end_matches('/') } else { url.path() };
    // The path begins with a slash, which stands before the first segment.
    let container_end = path.match_indices('/').nth(skip + 1).map_or(path.len(), |(at, _)| at);
    let target =
        Target { origin: url.origin().ascii_serialization(), path: path.to_owned(), query: query.map(encode_query) };
    Ok(Parsed { target, container_end, container, blob })
}

/// Refuses characters that the URL standard would silently remove or replace, because the URL would then name another
/// blob.
fn check_text(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.trim() != text {
        return Err("it begins or ends with white space".to_owned());
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("it has the control character U+{:04X}", u32::from(control)));
    }
    if text.contains('#') {
        return Err("it has a '#'; write one in a blob name as %23".to_owned());
    }
    if text.split('?').next().is_some_and(|path| path.contains('\\')) {
        return Err("it has a backslash; write one in a blob name as %5C".to_owned());
    }
    Ok(())
}

/// Translates Hadoop-style schemes and Data Lake hosts, which name the same blobs, to `https://` and the Blob Storage
/// host.
fn translate(text: &str) -> std::result::Result<String, String> {
    // With one slash or none the URL standard would take the container for the host.
    let (scheme, rest) = text.split_once("://").ok_or("it does not begin with https://")?;
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "https" | "http" => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, tail) = rest.split_at(end);
            // The URL standard would drop surplus slashes and take the container for the host.
            if authority.is_empty() {
                return Err("it has no host".to_owned());
            }
            // Later errors would show the host in lower case, where a secret is not recognised any more.
            if has_secret(authority) {
                return Err("its host looks like a key or another secret".to_owned());
            }
            Ok(format!("{scheme}://{}{tail}", as_blob_host(authority)))
        }
        "abfs" | "abfss" | "wasb" | "wasbs" => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, tail) = rest.split_at(end);
            if has_secret(authority) {
                return Err("its host looks like a key or another secret".to_owned());
            }
            match authority.split_once('@') {
                Some((container, host)) if !container.is_empty() && !host.is_empty() && !container.contains(':') => {
                    Ok(format!("https://{}/{container}{tail}", as_blob_host(host)))
                }
                _ => Err(format!(
                    "{scheme}:// URLs have the form {scheme}://CONTAINER@ACCOUNT.dfs.core.windows.net/BLOB"
                )),
            }
        }
        // A short scheme cannot be a secret, so it may be shown.
        short if short.len() <= 8 => Err(format!("the scheme '{}' is not supported", short.escape_debug())),
        _ => Err("its scheme is not supported".to_owned()),
    }
}

/// The path as the caller wrote it. The URL parser would resolve dot segments, which are refused here instead.
fn raw_path(before_query: &str) -> std::result::Result<&str, String> {
    let after_scheme = before_query.split_once("://").map_or(before_query, |(_, rest)| rest);
    let path = after_scheme.split_once('/').map_or("", |(_, path)| path);
    for segment in path.split('/') {
        let plain = percent_decode_str(segment).decode_utf8_lossy();
        if matches!(plain.as_ref(), "." | "..") {
            return Err("'.' and '..' cannot be path segments: HTTP would resolve them".to_owned());
        }
    }
    Ok(path)
}

fn check_authority(url: &Url) -> std::result::Result<(), String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or password, which Blob Storage does not take".to_owned());
    }
    if url.host().is_none() {
        return Err("it has no host".to_owned());
    }
    // The URL standard accepts characters that HTTP does not.
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    if let Some(odd) = url.host_str().and_then(|host| host.chars().find(|&c| !is_usual(c))) {
        return Err(format!("no host name has a '{}'", odd.escape_debug()));
    }
    if url.port() == Some(0) {
        return Err("port 0 cannot be used".to_owned());
    }
    Ok(())
}

/// Whether the account is in the path, as with emulators and private front ends.
fn is_path_style(url: &Url) -> bool {
    let by_host = match url.host() {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => !name.trim_end_matches('.').contains('.') || name.parse::<IpAddr>().is_ok(),
        None => false,
    };
    by_host || url.port().is_some_and(|port| !matches!(port, 80 | 443))
}

fn check_query(query: &str) -> std::result::Result<(), String> {
    if query.contains('?') {
        return Err("its query has a second '?'; a SAS is joined with one '?' only".to_owned());
    }
    if let Some(name) = parameter(query, &["comp", "restype"]) {
        return Err(format!("the query parameter '{name}' belongs to the service's protocol"));
    }
    for name in ["sig", "snapshot", "versionid"] {
        let values: Vec<_> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .collect();
        if values.iter().any(|(_, value)| value.is_empty()) {
            return Err(format!("the query parameter '{name}' is empty"));
        }
        if values.len() > 1 {
            return Err(format!("the query has '{name}' {} times", values.len()));
        }
    }
    if parameter(query, &["snapshot"]).is_some() && parameter(query, &["versionid"]).is_some() {
        return Err("it names both a snapshot and a version".to_owned());
    }
    if has_sas_fields(query) && !has_signature(query) {
        return Err("its SAS has no signature (sig=); was it cut off at an unquoted '&' in a shell?".to_owned());
    }
    Ok(())
}

/// Whether the query has the fields of every SAS: the signed version and the signed expiry.
fn has_sas_fields(query: &str) -> bool {
    parameter(query, &["se"]).is_some() && parameter(query, &["sv"]).is_some()
}

/// Encodes the characters that a request line cannot contain. The caller's escapes are kept.
fn encode_query(query: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const QUERY: &AsciiSet =
        &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
    utf8_percent_encode(query, QUERY).to_string()
}
