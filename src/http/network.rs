//! How a client reaches the network: proxies, trusted CA certificates and the `User-Agent`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use azure_core::credentials::Secret;
use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};
use crate::redact::shown;

/// The beginning of each request's `User-Agent`. A client's suffix follows it.
const PRODUCT: &str = concat!("aztorch/", env!("CARGO_PKG_VERSION"));
const MAX_SUFFIX: usize = 200;
/// The variables that curl and most other programs read.
const PROXY_VARIABLES: [&str; 8] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// The settings of a client's connections, to storage and to the services that issue tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Network {
    /// `None`: the environment's proxies.
    pub(crate) proxy: Option<Proxies>,
    /// CA certificates in addition to the system's.
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
    /// The text after the library's name in `User-Agent`; "" for none.
    pub(crate) user_agent_suffix: String,
}

impl Network {
    /// A copy whose proxies are read from the environment, unless they are set.
    pub(crate) fn resolved(&self) -> Self {
        let proxy = self.proxy.clone().unwrap_or_else(Proxies::from_environment);
        Self { proxy: Some(proxy), ..self.clone() }
    }

    /// A copy without a proxy, for endpoints on this machine or on the local link.
    pub(crate) fn direct(&self) -> Self {
        Self { proxy: Some(Proxies::none()), ..self.clone() }
    }

    /// The proxy that a request to `uri` has to go through.
    pub(super) fn proxy(&self, uri: &Uri) -> Result<Option<Intercept>> {
        let Some(proxy) = self.proxy.as_ref().and_then(|proxies| proxies.matcher.intercept(uri)) else {
            return Ok(None);
        };
        match proxy.uri().scheme_str() {
            Some("http") => Ok(Some(proxy)),
            other => Err(Error::invalid(format!(
                "the proxy {} is of the kind '{}'; only http:// proxies are supported",
                shown(&proxy.uri().to_string()),
                other.unwrap_or_default()
            ))),
        }
    }

    pub(super) fn user_agent(&self) -> Result<HeaderValue> {
        let text = match self.user_agent_suffix.as_str() {
            "" => PRODUCT.to_owned(),
            suffix => format!("{PRODUCT} {suffix}"),
        };
        HeaderValue::from_str(&text).map_err(|_| Error::internal("the user agent was checked when it was set"))
    }

    /// The TLS settings of all connections.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        // SSL_CERT_FILE and SSL_CERT_DIR replace the system's certificates.
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        if roots.is_empty() {
            let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
            return Err(Error::internal(format!("no CA certificates were found on this system{why}"))
                .hint("install ca-certificates, or set a CA file"));
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("TLS settings: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Reads the certificates of a PEM file, and checks that each can be used as a CA.
pub(crate) fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).map_err(|error| Error::file("cannot read the CA file", path, &error))?;
    let path = shown(&path.to_string_lossy());
    // The parser's error may repeat a line of the file, which may be part of a key.
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::invalid(format!("the CA file {path} is not a PEM file")))?;
    if certificates.is_empty() {
        return Err(Error::invalid(format!("the CA file {path} contains no certificate")));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| Error::invalid(format!("a certificate in the CA file {path} cannot be used: {error}")))?;
    }
    Ok(certificates)
}

pub(crate) fn check_user_agent_suffix(suffix: &str) -> Result<()> {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if suffix.trim().is_empty() || suffix.len() > MAX_SUFFIX || !suffix.bytes().all(printable) {
        return Err(Error::invalid(format!(
            "the user agent must be 1 to {MAX_SUFFIX} printable ASCII characters, for example 'trainer/1.2'"
        )));
    }
    Ok(())
}

/// Which proxy a request goes through.
#[derive(Clone)]
pub(crate) struct Proxies {
    matcher: Arc<Matcher>,
    /// The text that the rules were made from, for comparisons. It is secret because proxies may have passwords.
    source: Secret,
}

impl Proxies {
    /// One proxy for every request.
    pub(crate) fn explicit(url: &str) -> Result<Self> {
        let bad = |reason: &str| Error::invalid(format!("bad proxy URL: {reason}; expected http://HOST:PORT"));
        let parsed = url::Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(bad("only http:// proxies are supported; they pass https on unread"));
        }
        if parsed.host().is_none() || parsed.path() != "/" || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(bad("it must have a host, and neither path nor query"));
        }
        let matcher = Matcher::builder().all(parsed.as_str().to_owned()).build();
        let probe = Uri::from_static("https://host.example/");
        if matcher.intercept(&probe).is_none() {
            return Err(bad("it cannot be used"));
        }
        Ok(Self { matcher: Arc::new(matcher), source: Secret::new(url.to_owned()) })
    }

    fn none() -> Self {
        Self { matcher: Arc::new(Matcher::builder().build()), source: Secret::new("") }
    }

    fn from_environment() -> Self {
        let values = PROXY_VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
        Self { matcher: Arc::new(Matcher::from_env()), source: Secret::new(values.join("\n")) }
    }
}

impl PartialEq for Proxies {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.matcher.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_with_a_host() {
        let proxies = Proxies::explicit("http://user:hunter2@proxy.example:8080").unwrap();
        let network = Network { proxy: Some(proxies), ..Network::default() };
        for uri in ["https://acc.blob.core.windows.net/c/b", "http://127.0.0.1:10000/acc/c/b"] {
            let proxy = network.proxy(&uri.parse().unwrap()).unwrap().unwrap();
            assert_eq!(proxy.uri().authority().unwrap().as_str(), "proxy.example:8080");
            assert!(proxy.basic_auth().unwrap().is_sensitive());
        }
        assert!(!format!("{network:?}").contains("hunter2"));
        for url in
            ["", "proxy:8080", "https://proxy:8080", "socks5://proxy", "http://", "http://p:1/path", "http://p?q"]
        {
            assert!(Proxies::explicit(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_user_agent_fits_into_a_header() {
        assert!(check_user_agent_suffix("trainer/1.2 (gpu)").is_ok());
        for bad in ["", "  ", "a\r\nx: y", "ü", &"x".repeat(201)] {
            assert!(check_user_agent_suffix(bad).is_err(), "{bad:?}");
        }
    }
}
