//! Blob and container URLs: what is accepted, what is translated, and what is refused with a reason.

mod account;
mod names;
mod parse;

use http::Uri;
use url::Url;

use crate::error::{Error, Result};

use names::encode_name;

pub(crate) use account::{account_in, host, is_azure_blob};
pub(crate) use parse::{Endpoint, parse_blob, parse_blob_parts, parse_container, parse_container_and_blob};

/// Where a request goes: an origin, a percent-encoded path and the query that the caller's URL had.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    origin: String,
    path: String,
    query: Option<String>,
}

impl Target {
    /// The URL as it may be shown: without query, so without secrets.
    pub(crate) fn display(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    pub(crate) fn set_query(&mut self, query: Option<String>) {
        self.query = query;
    }

    /// Why this URL cannot be written to, if it cannot: snapshots and versions are immutable.
    pub(crate) fn require_writable(&self) -> Result<()> {
        match parameter(self.query.as_deref().unwrap_or(""), &["snapshot", "versionid"]) {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "{} names a {}, which cannot be written; leave {name}= out of the URL",
                self.display(),
                if name == "snapshot" { "snapshot" } else { "version" }
            ))),
        }
    }

    /// The URI of one request, with `extra` parameters ("comp=block&blockid=…") before the caller's own.
    pub(crate) fn uri(&self, extra: &str) -> Result<Uri> {
        let query = [extra, self.query.as_deref().unwrap_or("")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("&");
        let separator = if query.is_empty() { "" } else { "?" };
        let text = format!("{}{}{separator}{query}", self.origin, self.path);
        text.parse().map_err(|error| Error::invalid(format!("{}: {error}", self.display())))
    }

    /// The whole URL, query included, as the SDK's clients take it.
    pub(crate) fn url(&self) -> Result<Url> {
        let uri = self.uri("")?;
        Url::parse(&uri.to_string()).map_err(|error| Error::invalid(format!("{}: {error}", self.display())))
    }
}

/// A container, and the name by which its account knows it.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) target: Target,
    pub(crate) name: String,
}

impl Container {
    /// The blob of this name, which is taken literally and encoded here. The query is kept.
    pub(crate) fn blob(&self, name: &str) -> Target {
        let mut target = self.target.clone();
        target.path = format!("{}/{}", target.path, encode_name(name));
        target
    }

    /// A blob's URL as it may be shown.
    pub(crate) fn display_blob(&self, name: &str) -> String {
        format!("{}/{}", self.target.display(), encode_name(name))
    }

    /// Refuses a query that belongs to one blob.
    pub(crate) fn require_listable(&self) -> Result<()> {
        match parameter(self.target.query().unwrap_or(""), &["snapshot", "versionid"]) {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "{}: {name}= belongs to the URL of one blob, not of a container",
                self.target.display()
            ))),
        }
    }
}

/// A query with a `sig` parameter is a shared access signature.
pub(crate) fn has_signature(query: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        name.eq_ignore_ascii_case("sig") && !value.is_empty()
    })
}

/// The first of `names` that the query has, compared without case as the service does.
fn parameter<'a>(query: &str, names: &[&'a str]) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        names.iter().copied().find(|candidate| name.eq_ignore_ascii_case(candidate))
    })
}

#[cfg(test)]
mod tests;
