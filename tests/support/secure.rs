//! Https: a certificate made for this run, and an Azurite that uses it and accepts tokens. If `AZTORCH_TEST_TLS` names
//! a directory with `cert.pem` and `key.pem`, the shared Azurite of the tests uses https too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::azurite::Azurite;

/// A storage host in each of Azure's clouds, and the authority that issues tokens there. The certificate is valid for
/// them.
pub const CLOUDS: [(&str, &str); 3] = [
    ("acc.blob.core.windows.net", "login.microsoftonline.com"),
    ("acc.blob.core.usgovcloudapi.net", "login.microsoftonline.us"),
    ("acc.blob.core.chinacloudapi.cn", "login.chinacloudapi.cn"),
];

pub struct Secure {
    pub azurite: Azurite,
    pub certificate: PathBuf,
    key: PathBuf,
}

/// The certificate and key of the shared Azurite, if the environment sets them.
pub fn certificate_from_environment() -> Option<(PathBuf, PathBuf)> {
    let directory = PathBuf::from(std::env::var_os("AZTORCH_TEST_TLS")?);
    Some((directory.join("cert.pem"), directory.join("key.pem")))
}

/// TLS for the plain HTTP client, which trusts only the certificate of the environment.
pub fn client_config() -> Arc<ClientConfig> {
    let (certificate, _) = certificate_from_environment().expect("AZTORCH_TEST_TLS, which https needs here");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).expect("the certificate")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The https Azurite of this test binary.
pub fn secure() -> &'static Secure {
    static SECURE: OnceLock<Secure> = OnceLock::new();
    SECURE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secure-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        let names = CLOUDS.iter().flat_map(|(service, authority)| [service, authority]).chain([&"127.0.0.1"]);
        let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        fs::write(&certificate, made.cert.pem()).expect("write");
        fs::write(&key, made.signing_key.serialize_pem()).expect("write");
        Secure { azurite: Azurite::over_tls(&certificate, &key), certificate, key }
    })
}

impl Secure {
    /// TLS for a server of the tests, with the same certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("the certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("the key");
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("TLS settings"))
    }
}

/// A token that Azurite accepts for this long. `mark` distinguishes it from others.
pub fn token(mark: &str, life: Duration) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let (from, until) = (now - 60, now + life.as_secs());
    let header = r#"{"alg":"none","typ":"JWT"}"#;
    let claims = format!(
        r#"{{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/tenant/","jti":"{mark}","nbf":{from},"iat":{from},"exp":{until}}}"#
    );
    [header, &claims, "planted-hunter2-signature"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}
