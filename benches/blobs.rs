//! Measures bulk reads and writes, and beside each its floor: the same bytes over plain blocking sockets, in the same
//! run. `cargo bench --bench blobs` prints medians. Compare the ratios: absolute times depend on the machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use aztorch::{Client, ClientOptions, WriteMode};

#[path = "support/compare.rs"]
mod compare;
#[path = "support/server.rs"]
mod server;

use compare::compare;
use server::{Network, Server};

const MIB: u64 = 1 << 20;

/// The floor of reading: blocking threads that receive into one buffer.
fn plain_read(port: u16, buffer: &mut [u8], connections: usize) {
    let part = buffer.len().div_ceil(connections);
    thread::scope(|scope| {
        for (index, target) in buffer.chunks_mut(part).enumerate() {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (first, last) = (index * part, index * part + target.len() - 1);
                write!(stream, "GET /account/container/b HTTP/1.1\r\nHost: x\r\nRange: bytes={first}-{last}\r\n\r\n")
                    .unwrap();
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                }
                reader.read_exact(target).unwrap();
            });
        }
    });
}

/// The floor of writing: blocking threads that send from one buffer, in blocks of 8 MiB.
fn plain_write(port: u16, buffer: &[u8], connections: usize) {
    thread::scope(|scope| {
        for part in buffer.chunks(buffer.len().div_ceil(connections)) {
            scope.spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
                for block in part.chunks(8 << 20) {
                    write!(
                        stream.get_mut(),
                        "PUT /account/container/b HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                        block.len()
                    )
                    .unwrap();
                    stream.get_mut().write_all(block).unwrap();
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        stream.read_line(&mut line).unwrap();
                    }
                }
            });
        }
    });
}

fn main() {
    server::serve_if_asked();
    let client = Client::new(&ClientOptions::new()).unwrap();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only));
    let gib = 1024 * MIB;

    if wanted("read") {
        let server = Server::start(gib, Network::default());
        let url = server.url("b");
        let mut buffer = vec![1u8; gib as usize];
        let mut other = vec![1u8; gib as usize];
        compare(
            "read 1 GiB in one call",
            || plain_read(server.port, &mut buffer, 4),
            || {
                let reader = client.open(&url).unwrap();
                assert_eq!(reader.read(&mut other).unwrap() as u64, gib);
            },
        );
        assert!(buffer == other);
        compare(
            "read 1 GiB in calls of 1 MiB",
            || plain_read(server.port, &mut buffer, 4),
            || {
                let reader = client.open(&url).unwrap();
                while reader.read(&mut other[..MIB as usize]).unwrap() > 0 {}
            },
        );
        compare(
            "read 1 GiB in calls of 64 KiB",
            || plain_read(server.port, &mut buffer, 4),
            || {
                let reader = client.open(&url).unwrap();
                while reader.read(&mut other[..64 << 10]).unwrap() > 0 {}
            },
        );
    }
    if wanted("slow") {
        let slow = Network { latency: Duration::from_millis(20), bytes_per_second: 60_000_000, tls: false };
        let server = Server::start(256 * MIB, slow);
        let url = server.url("b");
        let mut buffer = vec![1u8; 256 * MIB as usize];
        let mut other = buffer.clone();
        compare(
            "slow network, 256 MiB, one call",
            || plain_read(server.port, &mut buffer, 16),
            || {
                let reader = client.open(&url).unwrap();
                reader.read(&mut other).unwrap();
            },
        );
        compare(
            "slow network, 256 MiB, 1 MiB calls",
            || plain_read(server.port, &mut buffer, 16),
            || {
                let reader = client.open(&url).unwrap();
                while reader.read(&mut other[..MIB as usize]).unwrap() > 0 {}
            },
        );
    }
    if wanted("write") {
        let server = Server::start(0, Network::default());
        let buffer = vec![1u8; gib as usize];
        let url = server.url("b");
        compare(
            "write 1 GiB in one call",
            || plain_write(server.port, &buffer, 4),
            || {
                let writer = client.writer(&url, WriteMode::Replace).unwrap();
                writer.write_all(&buffer).unwrap();
                writer.close().unwrap();
            },
        );
        compare(
            "write 1 GiB in calls of 1 MiB",
            || plain_write(server.port, &buffer, 4),
            || {
                let writer = client.writer(&url, WriteMode::Replace).unwrap();
                buffer.chunks(MIB as usize).for_each(|chunk| writer.write_all(chunk).unwrap());
                writer.close().unwrap();
            },
        );
    }
    if wanted("checksums") {
        let server = Server::start(gib, Network { tls: true, ..Network::default() });
        let url = server.url("b");
        let client = |verify| {
            let mut options = ClientOptions::new();
            options.set_anonymous().unwrap();
            options.set_ca_file(server.certificate.as_ref().unwrap().path()).unwrap();
            options.set_checksum(verify).unwrap();
            Client::new(&options).unwrap()
        };
        let (unchecked, checked) = (client(false), client(true));
        let mut buffer = vec![1u8; gib as usize];
        let mut read = |client: &Client| {
            assert_eq!(client.open(&url).unwrap().read(&mut buffer).unwrap() as u64, gib);
        };
        let read = std::cell::RefCell::new(&mut read);
        compare("read 1 GiB over TLS, checked", || read.borrow_mut()(&unchecked), || read.borrow_mut()(&checked));
        let data = vec![1u8; gib as usize];
        let write = |client: &Client| {
            let writer = client.writer(&url, WriteMode::Replace).unwrap();
            data.chunks(MIB as usize).for_each(|chunk| writer.write_all(chunk).unwrap());
            writer.close().unwrap();
        };
        compare("write 1 GiB over TLS, checked", || write(&unchecked), || write(&checked));
    }
}
