//! SharedKey: an HMAC over the request
//! (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>).

use std::collections::BTreeMap;
use std::time::SystemTime;

use azure_core::credentials::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::error::{Error, Result};

const X_MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// The headers whose values are part of the string to sign, in this order. Content-Length comes after the second one.
const SIGNED_HEADERS: [HeaderName; 9] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    HeaderName::from_static("content-md5"),
    header::CONTENT_TYPE,
    header::DATE,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
];

/// An account's name and key.
#[derive(Clone, Debug)]
pub(crate) struct SharedKey {
    account: String,
    key: Secret,
}

impl SharedKey {
    pub(crate) fn new(account: &str, key_base64: &str) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if account.is_empty() || !account.bytes().all(plain) {
            // The name is not shown: the key may have been passed in its place.
            return Err(Error::invalid("the account name must have lower-case letters and digits only"));
        }
        if key_base64.is_empty() {
            return Err(Error::invalid("the account key is empty"));
        }
        STANDARD.decode(key_base64).map_err(|_| {
            Error::invalid("the account key is not valid base64; copy it whole, with its '=' at the end")
        })?;
        Ok(Self { account: account.to_owned(), key: Secret::new(key_base64.to_owned()) })
    }

    /// Adds the `x-ms-date` and `Authorization` headers. The request must be complete otherwise.
    pub(super) fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body_length: usize) -> Result<()> {
        let now = httpdate::fmt_http_date(SystemTime::now());
        headers.insert(X_MS_DATE, header_value(&now)?);
        let signature = self.signature(&string_to_sign(&self.account, method, uri, headers, body_length))?;
        let mut value = header_value(&format!("SharedKey {}:{signature}", self.account))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    fn signature(&self, text: &str) -> Result<String> {
        let key = STANDARD
            .decode(self.key.secret())
            .map_err(|_| Error::internal("the account key was checked when it was set"))?;
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&key).map_err(|_| Error::invalid("the account key has a bad length"))?;
        mac.update(text.as_bytes());
        Ok(STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::internal("a signed header has an invalid character"))
}

fn string_to_sign(account: &str, method: &Method, uri: &Uri, headers: &HeaderMap, body_length: usize) -> String {
    let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut text = format!("{method}\n");
    for (index, name) in SIGNED_HEADERS.iter().enumerate() {
        if index == 2 {
            // An empty body has an empty length since version 2015-02-21.
            let length = if body_length == 0 { String::new() } else { body_length.to_string() };
            text.push_str(&length);
            text.push('\n');
        }
        text.push_str(value(name));
        text.push('\n');
    }
    text.push_str(value(&header::RANGE));
    text.push('\n');
    let ms_headers: BTreeMap<_, _> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-ms-"))
        .map(|name| (name.as_str(), value(name)))
        .collect();
    for (name, value) in ms_headers {
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    text.push_str(&format!("/{account}{}", uri.path()));
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        parameters.entry(decode(name).to_lowercase()).or_default().push(decode(value));
    }
    for (name, mut values) in parameters {
        values.sort();
        text.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in Microsoft's documentation of the 2015-02-21 format (Get Container Metadata).
    #[test]
    fn the_string_to_sign_is_that_of_the_documentation() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-date", HeaderValue::from_static("Fri, 26 Jun 2015 23:39:12 GMT"));
        headers.insert("x-ms-version", HeaderValue::from_static("2015-02-21"));
        let uri: Uri = "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20"
            .parse()
            .unwrap();
        assert_eq!(
            string_to_sign("myaccount", &Method::GET, &uri, &headers, 0),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn bad_names_and_keys_are_refused_where_they_are_set() {
        for (account, key) in [("", "a2V5"), ("Upper", "a2V5"), ("acc", ""), ("acc", "not base64!"), ("acc", "a2V5=")] {
            assert!(SharedKey::new(account, key).is_err(), "{account} {key}");
        }
        let key = SharedKey::new("acc", "c2VjcmV0").unwrap();
        assert!(!format!("{key:?}").contains("c2VjcmV0"));
    }
}
