//! A minimal blob service on the loopback interface. It serves one blob, generated or a local file, under every name,
//! and discards uploads. It runs in a process of its own, so that its CPU time is not measured. It can be as slow as a
//! real network, and use TLS. It sends checksums in structured bodies when the client asks for them, and confirms the
//! CRC64 of uploads without computing it.
//!
//! The blob `requests` lists the requests since it was last read, one per line, as `BEGIN_MS END_MS FIRST_BYTE BYTES`,
//! in the order in which they ended.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::NamedTempFile;

#[path = "listing.rs"]
pub mod listing;

const CHUNK: usize = 1 << 20;
const ETAG: &str = "\"0x8DFACADE\"";

/// The simulated network.
#[derive(Clone, Copy, Default)]
pub struct Network {
    /// Added to each request.
    pub latency: Duration,
    /// The limit of each connection; 0: no limit.
    pub bytes_per_second: u64,
    pub tls: bool,
}

/// A server process; dropping this ends it.
pub struct Server {
    child: Child,
    pub port: u16,
    /// With TLS: a file with the certificate.
    pub certificate: Option<NamedTempFile>,
}

impl Server {
    /// Runs this program again as a server of a blob of `size` bytes.
    pub fn start(size: u64, network: Network) -> Server {
        let (certificate, pem) = network.tls.then(make_certificate).unzip();
        let pem = pem.unwrap_or_default();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVE, format!("{} {} {size}", network.latency.as_millis(), network.bytes_per_second))
            .env(CERTIFICATE, &pem)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, port: line.trim().parse().unwrap(), certificate }
    }

    pub fn url(&self, blob: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/account/container/{blob}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a file with a self-signed certificate, for the client, and that certificate with its key, for the server.
fn make_certificate() -> (NamedTempFile, String) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(certified.cert.pem().as_bytes()).unwrap();
    (file, certified.cert.pem() + &certified.signing_key.serialize_pem())
}

fn tls_settings(pem: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

/// Environment variable: the certificate and its key; empty for plain http.
const CERTIFICATE: &str = "AZTORCH_BENCH_CERTIFICATE";

/// Environment variable: `LATENCY_MS BYTES_PER_SECOND BLOB`, where BLOB is a size in bytes or the path of a file.
const SERVE: &str = "AZTORCH_BENCH_SERVE";

#[derive(Clone)]
enum Blob {
    Generated(u64),
    File(String),
}

impl Blob {
    fn parse(text: &str) -> Blob {
        text.parse().map_or_else(|_| Blob::File(text.to_owned()), Blob::Generated)
    }

    fn size(&self) -> u64 {
        match self {
            Blob::Generated(size) => *size,
            Blob::File(path) => std::fs::metadata(path).unwrap().len(),
        }
    }
}

/// Serves forever if this process was started as a server; otherwise returns.
pub fn serve_if_asked() {
    let Ok(settings) = std::env::var(SERVE) else { return };
    let [latency, rate, blob] = settings.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{SERVE}={settings}") };
    let latency = Duration::from_millis(latency.parse().unwrap());
    let tls = std::env::var(CERTIFICATE).ok().filter(|pem| !pem.is_empty()).map(|pem| tls_settings(&pem));
    let network = Network { latency, bytes_per_second: rate.parse().unwrap(), tls: tls.is_some() };
    let blob = Blob::parse(blob);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    // Ends the process with its parent, which holds the other end of this pipe.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let (stream, blob, tls) = (stream.unwrap(), blob.clone(), tls.clone());
        stream.set_nodelay(true).unwrap();
        // An error ends only the thread of this connection.
        thread::spawn(move || match tls {
            None => drop(serve(stream, &blob, network)),
            Some(settings) => {
                let session = ServerConnection::new(settings).unwrap();
                drop(serve(StreamOwned::new(session, stream), &blob, network));
            }
        });
    }
}

struct Served {
    began: Instant,
    ended: Instant,
    first: u64,
    bytes: u64,
}

static SERVED: Mutex<Vec<Served>> = Mutex::new(Vec::new());

fn take_log() -> String {
    let served = std::mem::take(&mut *SERVED.lock().unwrap());
    let first = served.iter().map(|request| request.began).min();
    let since = |time: Instant| first.map_or(0, |first| (time - first).as_millis());
    let mut log = String::from("begin_ms end_ms first_byte bytes\n");
    for Served { began, ended, first, bytes } in served {
        writeln!(log, "{} {} {first} {bytes}", since(began), since(ended)).unwrap();
    }
    log
}

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| (0..CHUNK).map(|i| ((i * 31) >> 3) as u8).collect())
}

fn serve(stream: impl Read + Write, blob: &Blob, network: Network) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(CHUNK, stream);
    loop {
        let mut original = String::new();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            original.push_str(&line);
        }
        let head = original.to_ascii_lowercase();
        let began = Instant::now();
        let header = |name: &str| head.split(name).nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body: u64 = header("\r\ncontent-length: ").map_or(0, |length| length.parse().unwrap());
        while body > 0 {
            let length = input.fill_buf()?.len().min(body as usize);
            input.consume(length);
            body -= length as u64;
        }
        let output = input.get_mut();
        if head.starts_with("get /account/container/requests ") {
            let log = take_log();
            write_head(output, 0..log.len() as u64, log.len() as u64, "")?;
            output.write_all(log.as_bytes())?;
            continue;
        }
        thread::sleep(network.latency);
        if head.contains("&comp=list&") {
            let page = listing::page(&head);
            write!(output, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len())?;
            output.write_all(page.as_bytes())?;
            continue;
        }
        if head.starts_with("put") {
            // From the original head: base64 is case-sensitive.
            let sum = line_of(&original, "x-ms-content-crc64: ").map(|sum| format!("x-ms-content-crc64: {sum}\r\n"));
            let sum = sum.unwrap_or_default();
            output.write_all(
                format!("HTTP/1.1 201 Created\r\nETag: {ETAG}\r\n{sum}Content-Length: 0\r\n\r\n").as_bytes(),
            )?;
            continue;
        }
        let size = blob.size();
        let range = match header("\r\nrange: bytes=") {
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap();
                first.parse().unwrap()..(last.parse::<u64>().unwrap() + 1).min(size)
            }
            None => 0..size,
        };
        if head.contains("\r\nx-ms-structured-body: ") {
            send_structured(output, range, size)?;
            continue;
        }
        write_head(output, range.clone(), size, "")?;
        let mut bytes = 0;
        let sent = send(output, blob, range.clone(), network, &mut bytes);
        SERVED.lock().unwrap().push(Served { began, ended: Instant::now(), first: range.start, bytes });
        sent?;
    }
}

fn line_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split(name).nth(1).and_then(|rest| rest.split("\r\n").next())
}

/// Sends generated bytes as a structured body, in segments of 4 MiB, as the service does.
fn send_structured(output: &mut impl Write, range: Range<u64>, size: u64) -> std::io::Result<()> {
    const SEGMENT: usize = 4 << 20;
    static WHOLE: OnceLock<u64> = OnceLock::new();
    let sum_of = |length: usize| {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        (0..length).step_by(CHUNK).for_each(|at| digest.update(&pattern()[..CHUNK.min(length - at)]));
        digest.finalize()
    };
    let length = (range.end - range.start) as usize;
    let segments = length.div_ceil(SEGMENT);
    let total = 13 + segments * 18 + 8 + length;
    let more =
        format!("x-ms-structured-body: XSM/1.0; properties=crc64\r\nx-ms-structured-content-length: {length}\r\n");
    write_head_of(output, range, size, total as u64, &more)?;
    let mut message = vec![1];
    message.extend((total as u64).to_le_bytes());
    message.extend([1, 0]);
    message.extend((segments as u16).to_le_bytes());
    output.write_all(&message)?;
    for (number, at) in (0..length).step_by(SEGMENT).enumerate() {
        let segment = SEGMENT.min(length - at);
        output.write_all(&(number as u16 + 1).to_le_bytes())?;
        output.write_all(&(segment as u64).to_le_bytes())?;
        for chunk in (0..segment).step_by(CHUNK) {
            output.write_all(&pattern()[..CHUNK.min(segment - chunk)])?;
        }
        let sum = if segment == SEGMENT { *WHOLE.get_or_init(|| sum_of(SEGMENT)) } else { sum_of(segment) };
        output.write_all(&sum.to_le_bytes())?;
    }
    // The checksum of the whole message, which the client does not use.
    output.write_all(&[0; 8])?;
    output.flush()
}

fn write_head(output: &mut impl Write, range: Range<u64>, size: u64, more: &str) -> std::io::Result<()> {
    let length = range.end - range.start;
    write_head_of(output, range, size, length, more)
}

fn write_head_of(
    output: &mut impl Write,
    range: Range<u64>,
    size: u64,
    length: u64,
    more: &str,
) -> std::io::Result<()> {
    let (first, last) = (range.start, range.end - 1);
    output.write_all(
        format!(
            "HTTP/1.1 206 Partial Content\r\nETag: {ETAG}\r\nContent-Length: {length}\r\nContent-Range: bytes {first}-{last}/{size}\r\n{more}\r\n"
        )
        .as_bytes(),
    )
}

/// Sends a range of the blob at the speed of the network. Counts the bytes in `sent`, also when it fails.
fn send(
    output: &mut impl Write,
    blob: &Blob,
    range: Range<u64>,
    network: Network,
    sent: &mut u64,
) -> std::io::Result<()> {
    let mut file = match blob {
        Blob::Generated(_) => None,
        Blob::File(path) => Some(File::open(path)?),
    };
    if let Some(file) = &mut file {
        file.seek(SeekFrom::Start(range.start))?;
    }
    let began = Instant::now();
    let length = range.end - range.start;
    let chunk = if network.bytes_per_second == 0 { CHUNK } else { 64 << 10 };
    while *sent < length {
        let now = (length - *sent).min(chunk as u64);
        *sent += match &mut file {
            None => output.write_all(&pattern()[..now as usize]).map(|()| now)?,
            // Copied within the kernel, from the page cache to the socket.
            Some(file) => std::io::copy(&mut file.take(now), output)?,
        };
        if network.bytes_per_second > 0 {
            let due = Duration::from_secs_f64(*sent as f64 / network.bytes_per_second as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    Ok(())
}
