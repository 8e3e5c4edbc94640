//! Which cloud an account lives in, told by its host name; each has identities of its own.

use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use http::Uri;

use crate::error::{Error, Result, Status};
use crate::redact::has_secret;
use crate::url::{host, is_azure_blob};

const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";

/// Whose tokens an account takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Realm {
    pub(super) cloud: Cloud,
    /// The tenant that the account has named; "" as long as it has named none.
    pub(super) tenant: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Public,
    UsGovernment,
    China,
}

impl Cloud {
    /// Custom domains and private front ends tell nothing, and are taken for the public cloud's.
    pub(crate) fn of(uri: &Uri) -> Self {
        let host = host(uri);
        if host.ends_with(".core.usgovcloudapi.net") {
            Self::UsGovernment
        } else if host.ends_with(".core.chinacloudapi.cn") {
            Self::China
        } else {
            Self::Public
        }
    }

    /// Whether Azure Storage itself answers there, in whatever cloud and for whatever account, over https: who owns the
    /// account sees nothing of what a request was signed with.
    pub(super) fn is_storage(uri: &Uri) -> bool {
        uri.scheme_str() == Some("https") && is_azure_blob(&host(uri))
    }

    /// The authority that gives out its tokens: `AZURE_AUTHORITY_HOST` where that is set.
    pub(super) fn authority(self) -> Result<String> {
        let host = std::env::var(AUTHORITY_HOST).unwrap_or_default();
        // It becomes a part of URLs, which logs and errors show.
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

    pub(super) fn configuration(self) -> Result<Arc<CloudConfiguration>> {
        let mut custom = CustomConfiguration::default();
        custom.authority_host = self.authority()?;
        Ok(Arc::new(custom.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_tells_the_cloud() {
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
    fn azure_storage_is_told_by_the_end_of_its_name() {
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
