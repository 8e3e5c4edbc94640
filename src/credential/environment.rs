//! The storage credential in the environment, in the variables of the `az` CLI, for a client without one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use azure_core::credentials::Secret;
use http::Uri;

use super::connection_string::{ConnectionString, StorageSecret};
use super::ids::variable;
use super::sas::Sas;
use super::shared_key::SharedKey;
use crate::error::Result;
use crate::url::{Endpoint, account_in, host, is_azure_blob};

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
const KEY: &str = "AZURE_STORAGE_KEY";
const SAS_TOKEN: &str = "AZURE_STORAGE_SAS_TOKEN";

/// The credential that the variables had when the client was made. A bad variable is an error only if a request needs
/// the credential: not if the URL has a SAS of its own.
#[derive(Debug)]
pub(super) struct Environment {
    credential: Result<Option<EnvironmentCredential>>,
    is_logged: AtomicBool,
}

/// A credential for storage, and its account.
#[derive(Clone, Debug)]
struct EnvironmentCredential {
    /// `None`: any account.
    account: Option<String>,
    /// The endpoint of a connection string.
    endpoint: Option<Endpoint>,
    secret: StorageSecret,
}

impl Environment {
    pub(super) fn read() -> Self {
        let secret = |name| variable(name).map(Secret::new);
        Self::of(secret(CONNECTION_STRING), variable(ACCOUNT), secret(KEY), secret(SAS_TOKEN))
    }

    fn of(
        connection_string: Option<Secret>,
        account: Option<String>,
        key: Option<Secret>,
        sas: Option<Secret>,
    ) -> Self {
        Self { credential: parse(connection_string, account, key, sas), is_logged: AtomicBool::new(false) }
    }

    /// The environment's credential for the account of this URL; `None` also if it belongs to another account.
    pub(super) fn credential_for(&self, uri: &Uri) -> Result<Option<&StorageSecret>> {
        let credential = self.credential().as_ref().map_err(Clone::clone)?;
        Ok(credential.as_ref().filter(|credential| credential.is_for(uri)).map(|credential| &credential.secret))
    }

    /// The endpoint of the environment's connection string; `None` also if the string is invalid, which is an error in
    /// [`Self::credential_for`].
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.credential().as_ref().ok()?.as_ref()?.endpoint.as_ref()
    }

    /// The credential. Logs its kind at the first use.
    fn credential(&self) -> &Result<Option<EnvironmentCredential>> {
        if let Ok(Some(credential)) = &self.credential
            && !self.is_logged.load(Ordering::Relaxed)
            && !self.is_logged.swap(true, Ordering::Relaxed)
        {
            let kind = match credential.secret {
                StorageSecret::Sas(_) => "a SAS",
                StorageSecret::SharedKey(_) => "an account key",
            };
            // The account's name is not shown: a secret may have been set in its place.
            let whose = if credential.account.is_some() { "one account" } else { "any account" };
            tracing::info!(target: "aztorch::credential", "the environment has {kind} for {whose}");
        }
        &self.credential
    }
}

fn parse(
    connection_string: Option<Secret>,
    account: Option<String>,
    key: Option<Secret>,
    sas: Option<Secret>,
) -> Result<Option<EnvironmentCredential>> {
    if let Some(text) = connection_string {
        let parsed = ConnectionString::parse(text.secret()).map_err(|error| error.context(CONNECTION_STRING))?;
        return Ok(Some(EnvironmentCredential {
            account: parsed.account,
            endpoint: Some(parsed.endpoint),
            secret: parsed.secret,
        }));
    }
    if let (Some(account), Some(key)) = (&account, key) {
        let key =
            SharedKey::new(account, key.secret()).map_err(|error| error.context(format!("{ACCOUNT} and {KEY}")))?;
        let secret = StorageSecret::SharedKey(key);
        return Ok(Some(EnvironmentCredential { account: Some(account.clone()), endpoint: None, secret }));
    }
    let Some(sas) = sas else { return Ok(None) };
    let secret = StorageSecret::Sas(Sas::new(sas.secret()).map_err(|error| error.context(SAS_TOKEN))?);
    Ok(Some(EnvironmentCredential { account, endpoint: None, secret }))
}

impl EnvironmentCredential {
    /// Whether a request to `uri` may be signed with this credential. A URL of another account gets no signature and no
    /// SAS. A custom domain does not show its account.
    fn is_for(&self, uri: &Uri) -> bool {
        if let Some(endpoint) = &self.endpoint {
            if endpoint.serves_uri(uri) {
                return true;
            }
            if !may_be_of(endpoint, &host(uri)) {
                return false;
            }
        }
        match (&self.account, account_of(uri)) {
            (Some(ours), Some(theirs)) => *ours == theirs,
            // A connection string's secret goes to its own endpoint, or to the account that it names.
            (None, _) => self.endpoint.is_none(),
            (Some(_), None) => self.endpoint.is_none(),
        }
    }
}

/// Whether `host` may be another name of the account with this endpoint. Anyone can name a host
/// `ACCOUNT.blob.example.org`, so only names in Azure's domains and in the endpoint's own domain count, and hosts of
/// the local network.
fn may_be_of(endpoint: &Endpoint, host: &str) -> bool {
    if account_in(host).is_some() {
        let own_domain = endpoint.host.split_once(".blob.").map(|(_, domain)| domain);
        return is_azure_blob(host) || own_domain.is_some_and(|own| host.ends_with(&format!(".blob.{own}")));
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => !host.contains('.'),
    }
}

/// The account that a URL shows: in its host name, or first in the path if the host is an address or a single label.
fn account_of(uri: &Uri) -> Option<String> {
    let host = host(uri);
    if let Some(account) = account_in(&host) {
        return Some(account.to_owned());
    }
    let is_path_style = !host.contains('.') || host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let in_path = uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
    is_path_style.then(|| in_path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(connection_string: &str, account: &str, key: &str, sas: &str) -> Environment {
        let secret = |text: &str| (!text.is_empty()).then(|| Secret::new(text.to_owned()));
        let account = (!account.is_empty()).then(|| account.to_owned());
        Environment::of(secret(connection_string), account, secret(key), secret(sas))
    }

    fn kind(environment: &Environment, uri: &str) -> &'static str {
        match environment.credential_for(&uri.parse().unwrap()).unwrap() {
            None => "none",
            Some(StorageSecret::Sas(_)) => "sas",
            Some(StorageSecret::SharedKey(_)) => "key",
        }
    }

    #[test]
    fn the_connection_string_comes_before_the_key_and_the_key_before_the_sas() {
        let ours = "https://acc.blob.core.windows.net/c/b";
        let text = "AccountName=acc;SharedAccessSignature=sv=1&sig=x";
        assert_eq!(kind(&environment(text, "acc", "a2V5", ""), ours), "sas");
        assert_eq!(kind(&environment("", "acc", "a2V5", "sv=1&sig=x"), ours), "key");
        assert_eq!(kind(&environment("", "acc", "", "sv=1&sig=x"), ours), "sas");
        assert_eq!(kind(&environment("", "", "a2V5", "sv=1&sig=x"), ours), "sas");
        assert_eq!(kind(&environment("", "acc", "", ""), ours), "none");
        assert!(environment("hunter2", "", "", "").credential_for(&ours.parse().unwrap()).is_err());
    }

    #[test]
    fn another_account_gets_no_credential() {
        let by_key = environment("", "acc", "a2V5", "");
        for (uri, expected) in [
            ("https://acc.blob.core.windows.net/c/b", "key"),
            ("https://other.blob.core.windows.net/c/b", "none"),
            ("https://acc.privatelink.blob.core.windows.net/c/b", "key"),
            ("http://127.0.0.1:10000/acc/c/b", "key"),
            ("http://127.0.0.1:10000/other/c/b", "none"),
            ("https://data.example.org/c/b", "key"),
            ("https://acc.z12.blob.storage.azure.net/c/b", "key"),
            ("https://other.z12.blob.storage.azure.net/c/b", "none"),
            ("https://acc-secondary.z12.blob.storage.azure.net/c/b", "key"),
            ("https://acc-ipv6.blob.core.windows.net/c/b", "key"),
            ("https://acc-dualstack.blob.core.windows.net/c/b", "key"),
            ("https://acc-secondary-ipv6.blob.core.windows.net/c/b", "key"),
            ("https://acc-secondary-dualstack.z01.blob.storage.azure.net/c/b", "key"),
            ("https://acc-internetrouting.blob.core.windows.net/c/b", "key"),
            ("https://other-ipv6.blob.core.windows.net/c/b", "none"),
            ("https://acc-other.blob.core.windows.net/c/b", "none"),
        ] {
            assert_eq!(kind(&by_key, uri), expected, "{uri}");
        }
        // A connection string's key is sent to its own account only, under any of the account's names.
        let by_name = environment("AccountName=acc;AccountKey=a2V5", "", "", "");
        for (uri, expected) in [
            ("https://acc-ipv6.blob.core.windows.net/c/b", "key"),
            ("https://acc.z12.blob.storage.azure.net/c/b", "key"),
            ("https://other.z12.blob.storage.azure.net/c/b", "none"),
            ("https://evil-blob.storage.azure.net.attacker.example/c/b", "none"),
            ("https://acc.blob.attacker.example/c/b", "none"),
            ("https://acc.blob.core.windows.net.attacker.example/c/b", "none"),
            ("http://203.0.113.7/acc/c/b", "none"),
            ("http://10.0.0.7:10000/acc/c/b", "key"),
            ("http://localhost:10000/acc/c/b", "key"),
        ] {
            assert_eq!(kind(&by_name, uri), expected, "{uri}");
        }
        let text = "AccountName=acc;AccountKey=a2V5;EndpointSuffix=local.azurestack.external";
        let by_suffix = environment(text, "", "", "");
        assert_eq!(kind(&by_suffix, "https://acc-ipv6.blob.local.azurestack.external/c/b"), "key");
        assert_eq!(kind(&by_suffix, "https://other.blob.local.azurestack.external/c/b"), "none");
        let text = "BlobEndpoint=http://127.0.0.1:10000/acc;AccountName=acc;AccountKey=a2V5";
        let by_string = environment(text, "", "", "");
        assert_eq!(kind(&by_string, "http://127.0.0.1:10000/acc/c/b"), "key");
        assert_eq!(kind(&by_string, "https://data.example.org/c/b"), "none");
        assert_eq!(by_string.endpoint().map(|endpoint| endpoint.account_segments), Some(1));
    }
}
