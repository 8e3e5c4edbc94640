//! The Azure cloud of an account, by its host name, and the authority that issues tokens for it.

use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use http::Uri;

use crate::error::{Error, Result, Status};
use crate::redact::has_secret;
use crate::url::{host, is_azure_blob};

const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";

/// The authority whose tokens an account accepts: a cloud and a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) cloud: Cloud,
    /// The tenant that the account has named in a 401 response; "" before.
    pub(super) tenant: String,
}

/// An Azure cloud. Each has identities of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    Public,
    UsGovernment,
    China,
}

impl Cloud {
    /// The cloud of this URI's host. Custom domains and private front ends count as the public cloud.
    pub(super) fn of(uri: &Uri) -> Self {
        let host = host(uri);
        if host.ends_with(".core.usgovcloudapi.net") {
            Self::UsGovernment
        } else if host.ends_with(".core.chinacloudapi.cn") {
            Self::China
        } else {
            Self::Public
        }
    }

    /// Whether this is an https URI of Azure Storage itself, in any cloud and for any account. The owner of the account
    /// does not see the credential of a request.
    pub(super) fn is_storage(uri: &Uri) -> bool {
        uri.scheme_str() == Some("https") && is_azure_blob(&host(uri))
    }

    /// The URL of the host that issues this cloud's tokens: `AZURE_AUTHORITY_HOST` if it is set.
    pub(super) fn authority_host(self) -> Result<String> {
        let host = std::env::var(AUTHORITY_HOST).unwrap_or_default();
        // The host becomes part of URLs, which logs and errors show.
        if has_secret(&host) {
            return Err(Error::new(Status::Unauthenticated, format!("{AUTHORITY_HOST} is not the name of a host")));
        }
        Ok(match (host.trim_end_matches('/'), self) {
            ("", Self::Public) => "https://login.microsoftonline.com".to_owned(),
            ("", Self::UsGovernment) => "https://login.microsoftonline.us".to_owned(),
            ("", Self::China) => "https://login.chinacloudapi.cn".to_owned(),
            (host, _) if host.contains("://") => host.to_owned(),
            (host, _) => format!("https://{host}"),
        })
    }

    /// The configuration of this cloud for `azure_identity`.
    pub(super) fn configuration(self) -> Result<Arc<CloudConfiguration>> {
        let mut custom = CustomConfiguration::default();
        custom.authority_host = self.authority_host()?;
        Ok(Arc::new(custom.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_determines_the_cloud() {
        for (host, cloud) in [
            ("acc.blob.core.windows.net", Cloud::Public),
            ("acc.privatelink.blob.core.windows.net", Cloud::Public),
            ("acc.blob.core.usgovcloudapi.net", Cloud::UsGovernment),
            ("ACC.blob.core.chinacloudapi.cn.", Cloud::China),
            ("data.example.org", Cloud::Public),
            ("core.usgovcloudapi.net.evil.example", Cloud::Public),
        ] {
            assert_eq!(Cloud::of(&format!("https://{host}/c/b").parse().unwrap()), cloud, "{host}");
        }
    }

    #[test]
    fn azure_storage_is_recognised_by_its_domain() {
        for (url, expected) in [
            ("https://acc.blob.core.windows.net/c/b", true),
            ("https://ACC.privatelink.blob.core.windows.net./c/b", true),
            ("https://acc.blob.core.chinacloudapi.cn/c/b", true),
            ("https://acc.z12.blob.storage.azure.net/c/b", true),
            ("https://acc-secondary.z12.blob.storage.azure.net/c/b", true),
            ("https://acc-secondary-dualstack.blob.core.windows.net/c/b", true),
            ("https://acc-ipv6.blob.core.usgovcloudapi.net/c/b", true),
            ("https://evil-blob.storage.azure.net.attacker.example/c/b", false),
            ("https://evil-blob.storage.azure.net/c/b", false),
            ("https://acc.z12.evil-blob.storage.azure.net/c/b", false),
            ("https://acc.z12.blob.storage.azure.net.attacker.example/c/b", false),
            ("https://z12.blob.storage.azure.net.attacker.example/c/b", false),
            ("https://acc.blob.core.windows.net@attacker.example/c/b", false),
            ("http://acc.blob.core.windows.net/c/b", false),
            ("https://acc.blob.core.windows.net.evil.example/c/b", false),
            ("https://evil-blob.core.windows.net/c/b", false),
            ("https://evil.example/.blob.core.windows.net/b", false),
            ("https://acc.z1.web.core.windows.net/c/b", false),
            ("https://data.example.org/c/b", false),
            ("https://127.0.0.1:10000/acc/c/b", false),
        ] {
            assert_eq!(Cloud::is_storage(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
