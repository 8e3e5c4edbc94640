//! The host names of storage accounts: `ACCOUNT[-VARIANT].[ZONE.]blob.DOMAIN`, also with `privatelink` before the
//! service, and with `dfs` as the service. This is the only place that parses them.
//!
//! Endpoints with a DNS zone, secondary and private ones:
//! <https://learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-endpoints>. Routing:
//! <https://learn.microsoft.com/azure/storage/common/network-routing-preference>. IPv6 and dual-stack, also behind
//! `-secondary`: `UriExtensions` of Microsoft's .NET client (<https://github.com/Azure/azure-sdk-for-net/pull/55349>).

use http::Uri;

/// The suffixes of an account's name in host names. The name itself has letters and digits only.
const VARIANTS: [&str; 5] = ["-secondary", "-ipv6", "-dualstack", "-internetrouting", "-microsoftrouting"];

/// The domains of Azure Storage in all clouds. Only the service registers names in them.
const CLASSIC_DOMAINS: [&str; 3] = ["core.windows.net", "core.usgovcloudapi.net", "core.chinacloudapi.cn"];
const ZONED_DOMAIN: &str = "storage.azure.net";

/// A URI's host in lower case, without a dot at its end.
pub(crate) fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase()
}

/// The account in a host name of any domain.
pub(crate) fn account_in(host: &str) -> Option<&str> {
    let labels: Vec<_> = host.split('.').collect();
    service_at(&labels).filter(|&at| labels[at] == "blob")?;
    let mut account = labels[0];
    while let Some(rest) = VARIANTS.iter().find_map(|variant| account.strip_suffix(variant)) {
        account = rest;
    }
    Some(account)
}

/// Whether a host name belongs to Azure Blob Storage itself.
pub(crate) fn is_azure_blob(host: &str) -> bool {
    let labels: Vec<_> = host.split('.').collect();
    let Some(at) = service_at(&labels).filter(|&at| labels[at] == "blob") else { return false };
    let domain = labels[at + 1..].join(".");
    domain == ZONED_DOMAIN || CLASSIC_DOMAINS.contains(&domain.as_str())
}

/// The Blob Storage host for a Data Lake host: `account.dfs.core.windows.net` and `account.blob.core.windows.net` are
/// two endpoints of one store. `authority` is a host with or without a port.
pub(super) fn as_blob_host(authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    let mut labels: Vec<_> = authority.split('.').collect();
    if let Some(at) = service_at(&labels) {
        labels[at] = "blob";
    }
    labels.join(".")
}

/// The index of the service's label.
fn service_at(labels: &[&str]) -> Option<usize> {
    let at = 1 + labels.iter().skip(1).take_while(|label| **label == "privatelink" || is_zone(label)).count();
    let is_service = matches!(labels.get(at), Some(&("blob" | "dfs")));
    let has_domain = labels.get(at + 1).is_some_and(|label| !label.is_empty());
    (is_service && has_domain && !labels[0].is_empty()).then_some(at)
}

/// `z00` to `z99`.
fn is_zone(label: &str) -> bool {
    let digits = label.strip_prefix('z').unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_name_of_an_account_shows_the_account() {
        for before in ["acc", "acc-secondary", "acc-ipv6", "acc-dualstack", "acc-secondary-ipv6"] {
            for between in ["", ".z00", ".z99", ".z5", ".privatelink", ".z12.privatelink", ".privatelink.z12"] {
                for domain in ["core.windows.net", "core.chinacloudapi.cn", "storage.azure.net"] {
                    let host = format!("{before}{between}.blob.{domain}");
                    assert_eq!((account_in(&host), is_azure_blob(&host)), (Some("acc"), true), "{host}");
                    let data_lake = host.replace(".blob.", ".dfs.");
                    assert_eq!(as_blob_host(&data_lake), host);
                    assert_eq!((account_in(&data_lake), is_azure_blob(&data_lake)), (None, false), "{data_lake}");
                }
            }
        }
        let elsewhere = "acc-ipv6.blob.local.azurestack.external";
        assert_eq!((account_in(elsewhere), is_azure_blob(elsewhere)), (Some("acc"), false));
    }

    #[test]
    fn other_host_names_show_no_account() {
        for host in [
            "evil-blob.storage.azure.net.attacker.example",
            "acc.zz.blob.storage.azure.net",
            "acc.z123.blob.storage.azure.net",
            "acc.z.blob.storage.azure.net",
            ".blob.core.windows.net",
            "blob.core.windows.net",
            "acc.blob",
            "acc.blob.",
            "data.example.org",
            "acc.z12.web.core.windows.net",
            "",
        ] {
            assert!(!is_azure_blob(host), "{host}");
            assert_eq!(account_in(host), None, "{host}");
        }
        let below = "acc.blob.core.windows.net.attacker.example";
        assert!(!is_azure_blob(below) && account_in(below) == Some("acc"));
    }
}
