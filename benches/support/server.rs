//! A loopback blob service that does as little as it can: one endless blob, writes that go nowhere. It runs
//! in a process of its own, so that its CPU time is not counted, and can be as slow as a real network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

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
            .env(SERVE, format!("{size} {} {}", network.latency.as_millis(), network.bytes_per_second))
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

const SERVE: &str = "AZTORCH_BENCH_SERVE";

/// Serves for ever if this process was started as a server.
pub fn serve_if_asked() {
    let Ok(settings) = std::env::var(SERVE) else { return };
    let numbers: Vec<u64> = settings.split(' ').map(|number| number.parse().unwrap()).collect();
    let size = numbers[0];
    let network = Network { latency: Duration::from_millis(numbers[1]), bytes_per_second: numbers[2] };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    // An orphan would serve on: the parent's end of this pipe closes with it.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        // A peer that hangs up ends its own thread only.
        thread::spawn(move || drop(serve(stream, size, network)));
    }
}

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| (0..PIECE).map(|i| (i * 31 >> 3) as u8).collect())
}

fn serve(stream: TcpStream, size: u64, network: Network) -> std::io::Result<()> {
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
        let header = |name: &str| head.split(name).nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body: u64 = header("\r\ncontent-length: ").map_or(0, |length| length.parse().unwrap());
        while body > 0 {
            let length = input.fill_buf()?.len().min(body as usize);
            input.consume(length);
            body -= length as u64;
        }
        thread::sleep(network.latency);
        if head.starts_with("put") {
            output.write_all(format!("HTTP/1.1 201 Created\r\nETag: {ETAG}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
            continue;
        }
        let (start, end) = match header("\r\nrange: bytes=") {
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap();
                (first.parse().unwrap(), (last.parse::<u64>().unwrap() + 1).min(size))
            }
            None => (0, size),
        };
        let length = end - start;
        output.write_all(
            format!(
                "HTTP/1.1 206 Partial Content\r\nETag: {ETAG}\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{}/{size}\r\n\r\n",
                end - 1
            )
            .as_bytes(),
        )?;
        send(&mut output, length, network)?;
    }
}

fn send(output: &mut TcpStream, length: u64, network: Network) -> std::io::Result<()> {
    let began = Instant::now();
    let mut sent = 0;
    let piece = if network.bytes_per_second == 0 { PIECE } else { 64 << 10 };
    while sent < length {
        let now = (length - sent).min(piece as u64);
        output.write_all(&pattern()[..now as usize])?;
        sent += now;
        if network.bytes_per_second > 0 {
            let due = Duration::from_secs_f64(sent as f64 / network.bytes_per_second as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    Ok(())
}
