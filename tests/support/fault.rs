//! A loopback blob service that answers truly until a test says otherwise: each request may be given a fault, and
//! every request is kept for the test to look at.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::content::Content;
use super::http::{self, Headers};
use store::Store;

mod connection;
mod socket;
mod store;

/// What goes wrong with one request. Byte counts are of the body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error answer; nothing is done.
    Status { status: u16, code: &'static str, retry_after: Option<u32> },
    /// The connection ends with a RST after so many bytes of the answer's body; `None`: before the answer's head.
    Reset { after: Option<u64> },
    /// The same with an orderly FIN.
    Close { after: Option<u64> },
    /// The request is carried out, and its answer never sent.
    LoseAnswer,
    /// A true head, then nothing until the server ends.
    StallAfterHead,
    /// A RST after the request's head, its body unread.
    NeverReadBody,
    /// So many bytes fewer than asked for, under a head that says so.
    ShortRange(u64),
    /// The `Content-Range` begins so many bytes late; the body is the one asked for.
    ShiftedRange(u64),
    /// `Content-Range` as asked, `Content-Length` and body so many bytes shorter.
    ShortBody(u64),
    /// `Content-Range` as asked, `Content-Length` and body so many bytes longer.
    LongBody(u64),
    /// So many bytes after the end of the body, as if the next answer began with them.
    TrailingBytes(u64),
    /// 200 and all of the blob, as from a server that knows no ranges.
    WholeBlob,
    /// The bytes are right, the version is another's.
    OtherETag,
    /// One byte of the body is flipped.
    FlipByte(u64),
    /// A true answer, late.
    Delay(Duration),
}

impl Fault {
    pub fn status(status: u16, code: &'static str) -> Fault {
        Fault::Status { status, code, retry_after: None }
    }
}

/// What a request asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Headers,
    pub body_length: u64,
    /// Of all requests to this server: 0, 1, 2 …
    pub index: usize,
    pub arrived: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }

    /// The value of a query parameter, as it was sent.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// `put-block`, `put-block-list`, `get-block-list`, or the method.
    pub fn verb(&self) -> &str {
        match self.query("comp") {
            Some("block") if self.method == "PUT" => "put-block",
            Some("blocklist") if self.method == "PUT" => "put-block-list",
            Some("blocklist") => "get-block-list",
            _ => &self.method,
        }
    }

    /// First and last byte asked for; the last is `u64::MAX` when left open.
    pub fn range(&self) -> Option<(u64, u64)> {
        let range = self.header("x-ms-range").or_else(|| self.header("range"))?;
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, if last.is_empty() { u64::MAX } else { last.parse().ok()? }))
    }
}

type Hook = Box<dyn Fn(&Request) -> Option<Fault> + Send + Sync>;

#[derive(Default)]
struct State {
    store: Store,
    requests: Vec<Request>,
    script: VecDeque<(&'static str, Fault)>,
    connections: Vec<TcpStream>,
    stopped: bool,
    bytes_per_second: Option<u64>,
}

struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
    hook: Mutex<Option<Arc<Hook>>>,
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that the script holds next for this verb, or else what the hook says.
    fn fault(&self, request: &Request) -> Option<Fault> {
        let script = &mut self.state().script;
        if let Some(at) = script.iter().position(|(verb, _)| *verb == request.verb()) {
            return script.remove(at).map(|(_, fault)| fault);
        }
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hook.and_then(|hook| hook(request))
    }

    fn wait_until_stopped(&self) {
        drop(self.stopped.wait_while(self.state(), |state| !state.stopped));
    }
}

pub struct FaultServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultServer {
    pub fn start() -> FaultServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            stopped: Condvar::new(),
            hook: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            peak_in_flight: AtomicUsize::new(0),
        });
        let server = FaultServer { address, shared: shared.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let mut state = shared.state();
                if state.stopped {
                    return;
                }
                state.connections.push(stream.try_clone().expect("a second handle"));
                let shared = shared.clone();
                thread::spawn(move || {
                    connection::serve(&stream, &shared);
                    // The list of connections holds the socket open; a peer that is gone already refuses.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// A container's URL, with a SAS that nobody checks.
    pub fn container_url(&self) -> String {
        format!("http://{}/account/container?{SAS}", self.address)
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/account/container/{name}?{SAS}", self.address)
    }

    /// Stores a blob under its name in the container, or under a path when it begins with `/`; returns its ETag.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        self.shared.state().store.put(&path(name), store::Body::Bytes(Arc::new(bytes.into())))
    }

    /// Stores a blob of any size that takes no memory.
    pub fn put_content(&self, name: &str, content: Content) -> String {
        self.shared.state().store.put(&path(name), store::Body::Content(content))
    }

    /// A blob's bytes, or `None` when there is no such blob.
    pub fn blob(&self, name: &str) -> Option<Vec<u8>> {
        let blob = self.shared.state().store.get(&path(name))?;
        Some(blob.body.read(0, blob.body.size()))
    }

    /// The next requests of a verb ([`Request::verb`]) meet these faults in order; later ones are answered truly.
    pub fn script(&self, verb: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().script.extend(faults.into_iter().map(|fault| (verb, fault)));
    }

    /// Asks `hook` about every request that the script has no fault for.
    pub fn on_request(&self, hook: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Box::new(hook)));
    }

    /// Every connection sends answers at most this fast.
    pub fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.shared.state().bytes_per_second = Some(bytes_per_second);
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The requests of one verb.
    pub fn requests_of(&self, verb: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.verb() == verb).collect()
    }

    /// The most requests that were being answered at one time.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.peak_in_flight.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        for connection in &state.connections {
            // One that the peer has closed refuses, and is as shut as it can be.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.stopped.notify_all();
        // Wakes the accepting thread; refused only if that is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

const SAS: &str = "sv=2021-12-02&sp=rwdlc&sig=bm90LWEtcmVhbC1zaWduYXR1cmU%3D";

fn path(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/account/container/{name}") }
}
