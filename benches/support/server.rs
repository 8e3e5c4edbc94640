//! A loopback blob service that does as little as it can: one blob, made up or a local file, under every name;
//! writes that go nowhere. It runs in a process of its own, so that its CPU time is not counted, and can be as
//! slow as a real network.
//!
//! The blob `requests` is special: it lists the requests since it was last read, one to a line, as
//! `BEGIN_MS END_MS FIRST_BYTE BYTES`, in the order in which they ended.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

#[path = "listing.rs"]
pub mod listing;

const PIECE: usize = 1 << 20;
const ETAG: &str = "\"0x8DFACADE\"";

/// How slow the network pretends to be.
#[derive(Clone, Copy, Default)]
pub struct Network {
    pub latency: Duration,
    /// 0: as fast as it goes.
    pub bytes_per_second: u64,
}

/// A server process, ended with this value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Runs this program again as a server of a blob of `size` bytes.
    pub fn start(size: u64, network: Network) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVE, format!("{} {} {size}", network.latency.as_millis(), network.bytes_per_second))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, port: line.trim().parse().unwrap() }
    }

    pub fn url(&self, blob: &str) -> String {
        format!("http://127.0.0.1:{}/account/container/{blob}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `LATENCY_MS BYTES_PER_SECOND BLOB`, where the blob is a size in bytes or a file.
const SERVE: &str = "AZTORCH_BENCH_SERVE";

#[derive(Clone)]
enum Blob {
    MadeUp(u64),
    File(String),
}

impl Blob {
    fn parse(text: &str) -> Blob {
        text.parse().map_or_else(|_| Blob::File(text.to_owned()), Blob::MadeUp)
    }

    fn size(&self) -> u64 {
        match self {
            Blob::MadeUp(size) => *size,
            Blob::File(path) => std::fs::metadata(path).unwrap().len(),
        }
    }
}

/// Serves for ever if this process was started as a server.
pub fn serve_if_asked() {
    let Ok(settings) = std::env::var(SERVE) else { return };
    let [latency, rate, blob] = settings.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{SERVE}={settings}") };
    let latency = Duration::from_millis(latency.parse().unwrap());
    let network = Network { latency, bytes_per_second: rate.parse().unwrap() };
    let blob = Blob::parse(blob);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    // An orphan would serve on: the parent's end of this pipe closes with it.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let (stream, blob) = (stream.unwrap(), blob.clone());
        // A peer that hangs up ends its own thread only.
        thread::spawn(move || drop(serve(stream, &blob, network)));
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
    PATTERN.get_or_init(|| (0..PIECE).map(|i| ((i * 31) >> 3) as u8).collect())
}

fn serve(stream: TcpStream, blob: &Blob, network: Network) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(PIECE, stream);
    loop {
        let mut head = String::new();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        let began = Instant::now();
        let header = |name: &str| head.split(name).nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body: u64 = header("\r\ncontent-length: ").map_or(0, |length| length.parse().unwrap());
        while body > 0 {
            let length = input.fill_buf()?.len().min(body as usize);
            input.consume(length);
            body -= length as u64;
        }
        if head.starts_with("get /account/container/requests ") {
            let log = take_log();
            write_head(&mut output, 0..log.len() as u64, log.len() as u64)?;
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
            output
                .write_all(format!("HTTP/1.1 201 Created\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
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
        write_head(&mut output, range.clone(), size)?;
        let mut bytes = 0;
        let sent = send(&mut output, blob, range.clone(), network, &mut bytes);
        SERVED.lock().unwrap().push(Served { began, ended: Instant::now(), first: range.start, bytes });
        sent?;
    }
}

fn write_head(output: &mut TcpStream, range: Range<u64>, size: u64) -> std::io::Result<()> {
    let (first, last, length) = (range.start, range.end - 1, range.end - range.start);
    output.write_all(
        format!(
            "HTTP/1.1 206 Partial Content\r\nETag: {ETAG}\r\nContent-Length: {length}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
        )
        .as_bytes(),
    )
}

/// Counts in `sent` what went out, also when the peer hangs up.
fn send(
    output: &mut TcpStream,
    blob: &Blob,
    range: Range<u64>,
    network: Network,
    sent: &mut u64,
) -> std::io::Result<()> {
    let mut file = match blob {
        Blob::MadeUp(_) => None,
        Blob::File(path) => Some(File::open(path)?),
    };
    if let Some(file) = &mut file {
        file.seek(SeekFrom::Start(range.start))?;
    }
    let began = Instant::now();
    let length = range.end - range.start;
    let piece = if network.bytes_per_second == 0 { PIECE } else { 64 << 10 };
    while *sent < length {
        let now = (length - *sent).min(piece as u64);
        *sent += match &mut file {
            None => output.write_all(&pattern()[..now as usize]).map(|()| now)?,
            // From the page cache to the socket: the kernel's business alone.
            Some(file) => std::io::copy(&mut file.take(now), output)?,
        };
        if network.bytes_per_second > 0 {
            let due = Duration::from_secs_f64(*sent as f64 / network.bytes_per_second as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    Ok(())
}
