//! The parsed URLs of blobs and containers, and the requests' URIs that they lead to.

use http::Uri;
use url::Url;

use super::names::encode_name;
use crate::error::{Error, Result};

/// The target of requests: an origin, a percent-encoded path, and the query of the caller's URL.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(super) origin: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

impl Target {
    /// The URL for messages, without its query, which may hold a secret.
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

    /// An error if the URL names a snapshot or a version, which cannot be written.
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

    /// The URI of one request, with the parameters `extra` ("comp=block&blockid=…") before the caller's own.
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

    /// The whole URL with its query, for the SDK's clients.
    pub(crate) fn url(&self) -> Result<Url> {
        let uri = self.uri("")?;
        Url::parse(&uri.to_string()).map_err(|error| Error::invalid(format!("{}: {error}", self.display())))
    }
}

/// A container's URL and its name.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) target: Target,
    pub(crate) name: String,
}

impl Container {
    /// The blob with this name. The name is literal and is encoded here. The container's query is kept.
    pub(crate) fn blob(&self, name: &str) -> Target {
        let mut target = self.target.clone();
        target.path = format!("{}/{}", target.path, encode_name(name));
        target
    }

    /// A blob's URL for messages.
    pub(crate) fn display_blob(&self, name: &str) -> String {
        format!("{}/{}", self.target.display(), encode_name(name))
    }

    /// An error if the query belongs to the URL of one blob.
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

/// Whether a query contains a shared access signature: a `sig` parameter.
pub(crate) fn has_signature(query: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        name.eq_ignore_ascii_case("sig") && !value.is_empty()
    })
}

/// The first of `names` in the query, compared without case like the service does.
pub(super) fn parameter<'a>(query: &str, names: &[&'a str]) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        names.iter().copied().find(|candidate| name.eq_ignore_ascii_case(candidate))
    })
}
