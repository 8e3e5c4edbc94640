//! Connection strings of storage accounts
//! (<https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>).

use std::collections::HashMap;

use super::sas::Sas;
use super::shared_key::SharedKey;
use crate::error::{Error, Result};
use crate::url::Endpoint;

/// The emulator's account and key. They are public: every installation has the same.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const EMULATOR_PORT: u16 = 10000;

const KEYS: [&str; 17] = [
    "AccountKey",
    "AccountName",
    "BlobEndpoint",
    "BlobSecondaryEndpoint",
    "DefaultEndpointsProtocol",
    "DevelopmentStorageProxyUri",
    "DfsEndpoint",
    "DfsSecondaryEndpoint",
    "EndpointSuffix",
    "FileEndpoint",
    "FileSecondaryEndpoint",
    "QueueEndpoint",
    "QueueSecondaryEndpoint",
    "SharedAccessSignature",
    "TableEndpoint",
    "TableSecondaryEndpoint",
    "UseDevelopmentStorage",
];

/// A credential that needs no token: a SAS or an account key.
#[derive(Clone, Debug)]
pub(crate) enum StorageSecret {
    Sas(Sas),
    SharedKey(SharedKey),
}

/// The credential and the endpoint of a connection string.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionString {
    pub(crate) secret: StorageSecret,
    pub(crate) account: Option<String>,
    pub(crate) endpoint: Endpoint,
}

impl ConnectionString {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let fields = fields(text)?;
        let get = |key: &str| fields.get(key).map(String::as_str);
        if let Some(value) = get("usedevelopmentstorage") {
            return Self::emulator(value, get("developmentstorageproxyuri"));
        }
        if get("developmentstorageproxyuri").is_some() {
            return Err(bad("DevelopmentStorageProxyUri needs UseDevelopmentStorage=true"));
        }
        let secret = match (get("accountname"), get("accountkey"), get("sharedaccesssignature")) {
            (_, Some(_), Some(_)) => return Err(bad("it has both an AccountKey and a SharedAccessSignature")),
            (Some(account), Some(key), None) => {
                StorageSecret::SharedKey(SharedKey::new(account, key).map_err(in_string)?)
            }
            (None, Some(_), None) => return Err(bad("AccountKey needs AccountName")),
            (_, None, Some(sas)) => StorageSecret::Sas(Sas::new(sas).map_err(in_string)?),
            (_, None, None) => return Err(bad("it has neither an AccountKey nor a SharedAccessSignature")),
        };
        let endpoint = match (get("blobendpoint"), get("accountname")) {
            (Some(endpoint), _) => Endpoint::parse(endpoint).map_err(in_string)?,
            (None, Some(account)) => {
                let protocol = get("defaultendpointsprotocol").unwrap_or("https");
                let suffix = get("endpointsuffix").unwrap_or("core.windows.net");
                Endpoint::parse(&format!("{protocol}://{account}.blob.{suffix}")).map_err(in_string)?
            }
            (None, None) => return Err(bad("it names no account: AccountName or BlobEndpoint is missing")),
        };
        Ok(Self { secret, account: get("accountname").map(str::to_owned), endpoint })
    }

    fn emulator(value: &str, proxy: Option<&str>) -> Result<Self> {
        if !value.eq_ignore_ascii_case("true") {
            return Err(bad("UseDevelopmentStorage can only be true"));
        }
        let mut endpoint = Endpoint::parse(&format!("http://127.0.0.1:{EMULATOR_PORT}/{EMULATOR_ACCOUNT}"))?;
        if let Some(proxy) = proxy {
            // Only the scheme and host of the proxy URI are used, as in Microsoft's own clients. The port is always the
            // emulator's.
            let proxy = Endpoint::parse(proxy).map_err(|error| error.context("DevelopmentStorageProxyUri"))?;
            endpoint.scheme = proxy.scheme;
            endpoint.host = proxy.host;
        }
        let key = SharedKey::new(EMULATOR_ACCOUNT, EMULATOR_KEY)?;
        Ok(Self { secret: StorageSecret::SharedKey(key), account: Some(EMULATOR_ACCOUNT.to_owned()), endpoint })
    }
}

fn fields(text: &str) -> Result<HashMap<String, String>> {
    let mut fields = HashMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        // A part without '=' may be part of a key, so it is not shown.
        let (key, value) = part.split_once('=').ok_or_else(|| bad("a part of it is not of the form Key=Value"))?;
        let (key, value) = (key.trim(), value.trim());
        // An unknown name is not shown either: it may be an account key, which ends in '='.
        let Some(known) = KEYS.iter().find(|known| known.eq_ignore_ascii_case(key)) else {
            return Err(bad(&match nearest(key) {
                Some(known) => format!("it has an unknown key; {known} is meant?"),
                None => "it has an unknown key; the form is Key=Value;Key=Value".to_owned(),
            }));
        };
        if value.is_empty() {
            return Err(bad(&format!("its {known} is empty")));
        }
        if fields.insert(known.to_ascii_lowercase(), value.to_owned()).is_some() {
            return Err(bad(&format!("it has {known} twice")));
        }
    }
    if fields.is_empty() {
        return Err(bad("it is empty"));
    }
    Ok(fields)
}

/// The known name that is nearest to `key`, if they differ by at most two letters.
fn nearest(key: &str) -> Option<&'static str> {
    let distance = |known: &str| edit_distance(&key.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let near = KEYS.iter().map(|known| (distance(known), *known)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// The number of letters that have to be changed, added or removed (Levenshtein distance).
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn bad(reason: &str) -> Error {
    Error::invalid(reason).context("bad connection string")
}

fn in_string(error: Error) -> Error {
    error.context("bad connection string")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_parsed() {
        let cases = [
            (
                "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn",
                "https",
                "acc.blob.core.chinacloudapi.cn",
                Some(443),
                0,
            ),
            ("AccountName=acc;AccountKey=a2V5", "https", "acc.blob.core.windows.net", Some(443), 0),
            ("BlobEndpoint=http://127.0.0.1:9/acc;AccountName=acc;AccountKey=a2V5;", "http", "127.0.0.1", Some(9), 1),
            (
                "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D",
                "https",
                "acc.blob.core.windows.net",
                Some(443),
                0,
            ),
            ("UseDevelopmentStorage=true", "http", "127.0.0.1", Some(10000), 1),
            (
                "usedevelopmentstorage=True;DevelopmentStorageProxyUri=http://emulator.local",
                "http",
                "emulator.local",
                Some(10000),
                1,
            ),
        ];
        for (text, scheme, host, port, account_segments) in cases {
            let parsed = ConnectionString::parse(text).unwrap();
            let expected = Endpoint { scheme: scheme.into(), host: host.into(), port, account_segments };
            assert_eq!(parsed.endpoint, expected, "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named_and_no_key_is_shown() {
        let cases = [
            ("", "empty"),
            (";;", "empty"),
            ("AccountName", "Key=Value"),
            ("AccountName=acc", "neither"),
            ("AccountKey=a2V5", "needs AccountName"),
            ("AccountName=acc;AccountKey=a2V5;AccountKey=a2V5", "twice"),
            ("AccountName=acc;AccountKey=***hidden***", "base64"),
            ("AccountName=acc;AccountKey=", "empty"),
            ("AccountName=acc;AccountKee=a2V5", "AccountKey is meant"),
            ("hiddenKeyThatEndsInPadding==", "unknown key"),
            ("AccountKey:hidden==", "unknown key"),
            ("UseDevelopmentStorage=false", "only be true"),
            ("SharedAccessSignature=sv=1&sig=x", "no account"),
            ("BlobEndpoint=ftp://h;AccountName=acc;AccountKey=a2V5", "https or http"),
            ("AccountName=acc;AccountKey=a2V5;SharedAccessSignature=sig=x", "both"),
            ("DevelopmentStorageProxyUri=http://h", "UseDevelopmentStorage"),
        ];
        for (text, reason) in cases {
            let error = ConnectionString::parse(text).unwrap_err();
            assert!(error.message().contains(reason), "{text}: {error}");
            assert!(!error.message().contains("hidden"), "{error}");
        }
    }
}
