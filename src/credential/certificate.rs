//! A service principal that authenticates with a certificate: it sends a short-lived assertion, signed with the
//! certificate's key (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>).
//!
//! `azure_identity` implements this with OpenSSL, which this library must not load into a host program.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result, Status};
use crate::redact::shown;

/// How long an assertion is valid. It is used immediately.
const VALID: Duration = Duration::from_secs(600);

pub(super) struct Certificate {
    thumbprint: String,
    key: RsaKeyPair,
}

impl Certificate {
    /// Reads the certificate and its unencrypted RSA key from one PEM file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(
                Status::Unauthenticated,
                format!("AZURE_CLIENT_CERTIFICATE_PATH {}: {why}", shown(&path.to_string_lossy())),
            )
            .hint("it must be a PEM file with a certificate and its unencrypted RSA key")
        };
        let pem = std::fs::read(path).map_err(|error| bad(&error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| bad("no certificate was found in it"))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad("no private key was found in it"))?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(bad("its key is not an RSA key")),
        };
        let key = key.map_err(|_| bad("its key is not an RSA key that can be used"))?;
        Ok(Self { thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)), key })
    }

    /// An assertion for one token request.
    pub(super) fn assertion(&self, client_id: &str, audience: &str) -> Result<Assertion> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (from, until) = (now.as_secs(), (now + VALID).as_secs());
        let id = uuid::Uuid::new_v4();
        let header = format!(r#"{{"alg":"PS256","typ":"JWT","x5t#S256":"{}"}}"#, self.thumbprint);
        let claims = format!(
            r#"{{"aud":"{audience}","iss":"{client_id}","sub":"{client_id}","jti":"{id}","nbf":{from},"iat":{from},"exp":{until}}}"#
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Error::internal("the certificate's key could not sign"))?;
        Ok(Assertion(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// A signed JSON Web Token. Its `Debug` output does not show it.
pub(super) struct Assertion(String);

impl fmt::Debug for Assertion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Assertion")
    }
}

#[async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.clone())
    }
}
