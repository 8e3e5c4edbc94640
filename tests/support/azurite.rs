//! One real Azurite per test binary, a container of its own for each test, and Azurite's access log to count requests.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::http;
use super::percent::percent_encode;
use super::secure;

pub const ACCOUNT: &str = "devstoreaccount1";
/// Published with the emulator. Error messages must hide it like any other key.
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const SAS_EXPIRY: &str = "2099-01-01T00:00:00Z";
const SAS_VERSION: &str = "2021-12-02";

pub struct Azurite {
    /// `http://127.0.0.1:PORT/devstoreaccount1`
    pub url: String,
    log: String,
    /// Azurite exits when its input closes, which also happens if this process is killed.
    _server: Child,
}

/// The Azurite of this test binary, started by the first test that calls this.
pub fn azurite() -> &'static Azurite {
    static AZURITE: OnceLock<Azurite> = OnceLock::new();
    AZURITE.get_or_init(|| match secure::certificate_from_environment() {
        Some((certificate, key)) => Azurite::over_tls(&certificate, &key),
        None => Azurite::start(&[]),
    })
}

impl Azurite {
    /// Starts an Azurite that speaks https with this certificate and key.
    pub fn over_tls(certificate: &Path, key: &Path) -> Azurite {
        let server = Azurite::start(&[OsStr::new("--tls"), certificate.as_os_str(), key.as_os_str()]);
        assert!(server.url.starts_with("https://"), "{}", server.url);
        server
    }

    /// Starts an Azurite with these arguments for `azurite.mjs`.
    pub fn start(arguments: &[&OsStr]) -> Azurite {
        // The doctor is a package in a folder of this one; its tests use this file too.
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = if package.ends_with("doctor") { package.join("..") } else { package.to_owned() };
        assert!(
            root.join("target/azurite").is_dir(),
            "target/azurite is missing: run `make setup`, which installs Azurite there"
        );
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = format!("{}/azurite-{}-{number}.log", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let mut server = Command::new("node")
            .arg(root.join("tests/support/azurite.mjs"))
            .args(["--log", &log])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node: run `make setup`, which says how to install it");
        let mut ready = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut ready).expect("its first line");
        let url = ready
            .split('"')
            .skip_while(|field| *field != "url")
            .nth(2)
            .unwrap_or_else(|| panic!("Azurite did not start: {ready}"));
        Azurite { url: url.to_owned(), log, _server: server }
    }

    /// Whether this Azurite compares the CRC64 of uploads: 3.37 does, 3.35 refuses the header.
    pub fn supports_crc64(&self) -> bool {
        let headers = http::send("GET", &format!("{}/", self.url), &[], b"");
        let server = headers.header("server").expect("its name and version").to_owned();
        let is_earlier = std::env::var("AZTORCH_TEST_AZURITE").is_ok_and(|folder| folder == "azurite-3.35");
        let version = if is_earlier { "3.35." } else { "3.37." };
        assert!(server.starts_with(&format!("Azurite-Blob/{version}")), "{server} instead of {version}");
        !is_earlier
    }

    /// A container that no other test uses.
    pub fn container(&self) -> Container {
        self.container_with_headers(&[])
    }

    /// A container that no other test uses, created with these headers.
    pub fn container_with_headers(&self, headers: &[(&str, &str)]) -> Container {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let container = Container { azurite: self.url.clone(), name, sas: account_sas("rwdlacup") };
        container.send("PUT", "?restype=container", headers, b"").expect(201);
        container
    }

    /// The requests for `path` to which Azurite has responded, from its access log.
    pub fn requests(&self, path: &str) -> Vec<Logged> {
        // Azurite writes a line after each response. The line of this marker follows those of all earlier responses.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let marker = format!("/marker-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        http::send("GET", &format!("{}{marker}", self.url), &[], b"");
        for _ in 0..2000 {
            let log = std::fs::read_to_string(&self.log).expect("the access log");
            let lines: Vec<Logged> = log.lines().filter_map(Logged::parse).collect();
            if lines.iter().any(|line| line.path.ends_with(&marker)) {
                return lines.into_iter().filter(|line| line.path == path).collect();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} never contained {marker}", self.log);
    }
}

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub query: String,
    pub status: u16,
}

impl Logged {
    /// `… "GET /path?query HTTP/1.1" 206 …`
    fn parse(line: &str) -> Option<Logged> {
        let mut quoted = line.splitn(3, '"').skip(1);
        let mut request = quoted.next()?.split(' ');
        let (method, target) = (request.next()?, request.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The status is missing if the client went away before the response.
        let status = quoted.next()?.split_whitespace().next()?.parse().unwrap_or(0);
        Some(Logged { method: method.into(), path: path.into(), query: query.into(), status })
    }
}

pub struct Container {
    azurite: String,
    pub name: String,
    sas: String,
}

impl Container {
    /// The container's URL with a SAS.
    pub fn url(&self) -> String {
        format!("{}?{}", self.bare_url(), self.sas)
    }

    /// The container's URL without a credential.
    pub fn bare_url(&self) -> String {
        format!("{}/{}", self.azurite, self.name)
    }

    /// A blob's URL with a SAS. `name` is already encoded and may end in a query.
    pub fn blob(&self, name: &str) -> String {
        let separator = if name.contains('?') { '&' } else { '?' };
        format!("{}/{name}{separator}{}", self.bare_url(), self.sas)
    }

    /// Sends a request to a blob, or to the container if `name` begins with `?`, without using the library.
    pub fn send(&self, method: &str, name: &str, headers: &[(&str, &str)], body: &[u8]) -> http::Response {
        let url =
            if name.starts_with('?') { format!("{}{name}&{}", self.bare_url(), self.sas) } else { self.blob(name) };
        http::send(method, &url, headers, body)
    }

    /// Uploads a blob and returns its ETag.
    pub fn put(&self, name: &str, body: &[u8]) -> String {
        self.put_with(name, &[], body)
    }

    /// Uploads a blob with these headers and returns its ETag.
    pub fn put_with(&self, name: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let headers: Vec<_> = [("x-ms-blob-type", "BlockBlob")].iter().chain(headers).copied().collect();
        let response = self.send("PUT", name, &headers, body).expect(201);
        response.header("etag").expect("an ETag").to_owned()
    }

    /// Stages a block without committing it, as a killed program does.
    pub fn put_block(&self, name: &str, id: &str, body: &[u8]) {
        let id = percent_encode(&BASE64.encode(id));
        self.send("PUT", &format!("{name}?comp=block&blockid={id}"), &[], body).expect(201);
    }

    /// A blob's bytes in the service, or `None` if the blob does not exist.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let response = self.send("GET", name, &[], b"");
        if response.status == 404 {
            return None;
        }
        Some(response.expect(200).body)
    }

    pub fn etag(&self, name: &str) -> String {
        self.send("HEAD", name, &[], b"").expect(200).header("etag").expect("an ETag").to_owned()
    }

    /// The requests for a blob to which Azurite has responded, in order.
    pub fn requests(&self, name: &str) -> Vec<Logged> {
        azurite().requests(&format!("/{ACCOUNT}/{}/{name}", self.name))
    }
}

/// An account SAS for blobs with the given permissions, valid for the rest of this century.
pub fn account_sas(permissions: &str) -> String {
    let (expiry, signature) = (percent_encode(SAS_EXPIRY), percent_encode(&signature(permissions)));
    format!("sv={SAS_VERSION}&ss=b&srt=sco&sp={permissions}&spr=https,http&se={expiry}&sig={signature}")
}

/// The signature of an account SAS with the given permissions. It is a secret.
pub fn signature(permissions: &str) -> String {
    let text = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{SAS_EXPIRY}\n\nhttps,http\n{SAS_VERSION}\n\n");
    let key = BASE64.decode(ACCOUNT_KEY).expect("the key");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}
