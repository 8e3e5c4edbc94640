//! A loopback blob service that answers truly until a test says otherwise: each request may be given a fault, and
//! every request is kept for the test to look at.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::content::Content;
use super::{http, percent};
use percent::encode_path;
use store::Store;

pub use chance::by_chance;
pub use checksums::Knows;
pub use quota::{Count, Quota};
pub use request::{Request, longest_chain};
pub use store::{Kind, MadeUp, Order};

mod chance;
mod checksums;
mod connection;
mod listing;
mod quota;
mod request;
mod socket;
mod spoil;
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
    /// The request is carried out, and the answer is this error.
    DoneBut { status: u16, code: &'static str },
    /// A true head, then nothing until the server ends.
    StallAfterHead,
    /// A true head, then a byte of the body with each of these pauses.
    Trickle(Duration),
    /// The request is read, and nothing happens until the server ends.
    Silence,
    /// A RST after the request's head, its body unread.
    NeverReadBody,
    /// Nothing is read after the request's head until the server ends.
    NeverRead,
    /// 307, to this URL.
    Redirect(String),
    /// The answer repeats another request's id.
    OtherRequest,
    /// The answer repeats no id.
    NoEcho,
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
    /// One byte of the request's body is flipped on its way.
    FlipSentByte(u64),
    /// The answer to an upload repeats the checksum of other bytes.
    OtherChecksum,
    /// A true answer, late.
    Delay(Duration),
}

/// How a connection ends that a NAT or a load balancer has forgotten: when its next request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// With a RST.
    Reset,
    /// With a FIN.
    Close,
    /// Without a word: nothing comes back until the server ends.
    Silence,
}

impl Fault {
    pub fn status(status: u16, code: &'static str) -> Fault {
        Fault::Status { status, code, retry_after: None }
    }
}

type Hook = Box<dyn Fn(&Request) -> Option<Fault> + Send + Sync>;

#[derive(Default)]
struct State {
    store: Store,
    requests: Vec<Request>,
    seen: usize,
    forgets: bool,
    script: VecDeque<(&'static str, Fault)>,
    connections: Vec<TcpStream>,
    /// How many of the connections, the oldest ones, are dead, and how that shows.
    forgotten: (usize, Option<Death>),
    /// How many requests were sent on dead connections.
    swallowed: usize,
    stopped: bool,
    bytes_per_second: Option<u64>,
    page_limits: VecDeque<usize>,
    page_size: Option<usize>,
    knows: Knows,
    ranges_first: Option<bool>,
}

struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
    hook: Mutex<Option<Arc<Hook>>>,
    bucket: Mutex<quota::Bucket>,
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self) -> MutexGuard<'_, quota::Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request to look at, and gives it its number.
    fn note(&self, mut request: Request) -> Request {
        let mut state = self.state();
        request.index = state.seen;
        state.seen += 1;
        if !state.forgets {
            state.requests.push(request.clone());
        }
        request
    }

    fn note_answer(&self, request: &Request) {
        if let Some(kept) = self.state().requests.get_mut(request.index) {
            kept.answered = Some(Instant::now());
        }
    }

    fn spend(&self, bytes: u64) {
        self.bucket().spend(bytes);
    }

    /// What the quota refuses, or the fault that the script holds next for this verb, or else what the hook says.
    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut bucket = self.bucket();
        if !bucket.grants(&request.path) {
            return Some(Fault::Status { status: 503, code: "ServerBusy", retry_after: bucket.retry_after() });
        }
        drop(bucket);
        let mut state = self.state();
        if let Some(at) = state.script.iter().position(|(verb, _)| *verb == request.verb()) {
            return state.script.remove(at).map(|(_, fault)| fault);
        }
        // A hook may change the blobs.
        drop(state);
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hook.and_then(|hook| hook(request))
    }

    /// How the connection of this number has died, if it has. Counts the request that met it.
    fn death(&self, number: usize) -> Option<Death> {
        let mut state = self.state();
        let (count, death) = state.forgotten;
        let death = death.filter(|_| number < count)?;
        state.swallowed += 1;
        Some(death)
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
        FaultServer::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> FaultServer {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            stopped: Condvar::new(),
            hook: Mutex::new(None),
            bucket: Mutex::default(),
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
                let number = state.connections.len();
                state.connections.push(stream.try_clone().expect("a second handle"));
                let shared = shared.clone();
                thread::spawn(move || {
                    connection::serve(&stream, number, &shared);
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
        self.url_of(CONTAINER)
    }

    /// A blob's URL, its name escaped as needed.
    pub fn url(&self, name: &str) -> String {
        self.url_of(&format!("{CONTAINER}/{}", encode_path(name)))
    }

    /// The URL of a path, which is `/ACCOUNT/CONTAINER` or `/ACCOUNT/CONTAINER/BLOB`, escaped already.
    pub fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}?{SAS}", self.address)
    }

    /// Stores a blob under its name in the container, or under a path when it begins with `/`; returns its ETag.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        self.shared.state().store.put(&path(name), store::Body::Bytes(Arc::new(bytes.into())))
    }

    /// Gives a blob metadata, with their names as headers.
    pub fn set_metadata(&self, name: &str, metadata: Vec<(String, String)>) {
        self.shared.state().store.set_metadata(&path(name), metadata);
    }

    /// Refuses a range of an empty blob before it looks at the request's conditions; whether the refusal has an ETag.
    pub fn look_at_ranges_first(&self, with_etag: bool) {
        self.shared.state().ranges_first = Some(with_etag);
    }

    /// Stores a blob of any size that takes no memory.
    pub fn put_content(&self, name: &str, content: Content) -> String {
        self.shared.state().store.put(&path(name), store::Body::Content(content))
    }

    /// The same with these bytes in place of its first.
    pub fn put_headed(&self, name: &str, head: impl Into<Vec<u8>>, content: Content) -> String {
        self.shared.state().store.put(&path(name), store::Body::Headed(Arc::new(head.into()), content))
    }

    /// Stores what a hierarchical account lists for a directory.
    pub fn put_directory(&self, name: &str, kind: Kind) {
        self.shared.state().store.put_directory(&path(name), kind);
    }

    /// Fills a container of the account with blobs that take no memory, in place of those that it had so; its URL.
    pub fn make_up(&self, container: &str, blobs: MadeUp) -> String {
        let path = format!("/account/{container}");
        self.shared.state().store.make_up(&path, blobs);
        self.url_of(&path)
    }

    pub fn delete(&self, name: &str) {
        assert!(self.shared.state().store.delete(&path(name)), "{name} is not there");
    }

    /// Lists as accounts with a hierarchical namespace do, a folder's blobs right behind the folder.
    pub fn order_slash_first(&self) {
        self.order_by(|name| name.replace('/', "\0").into_bytes());
    }

    /// Lists names in the order of what `order` makes of them.
    pub fn order_by(&self, order: Order) {
        self.shared.state().store.order_by(order);
    }

    /// The next pages of listings have at most so many entries each, possibly none: the service may end a page early.
    pub fn limit_pages(&self, entries: impl IntoIterator<Item = usize>) {
        self.shared.state().page_limits.extend(entries);
    }

    /// All pages but those of [`limit_pages`](Self::limit_pages) have at most so many entries.
    pub fn set_page_size(&self, entries: usize) {
        self.shared.state().page_size = Some(entries);
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

    /// Grants no more than this from now on; `None` grants everything.
    pub fn set_quota(&self, quota: Option<Quota>) {
        self.shared.bucket().set(quota);
    }

    /// What was granted and refused by path, since a quota was set, or none.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        self.shared.bucket().counts()
    }

    /// Keeps no requests to look at, for tests that make very many. To be called before the first.
    #[allow(dead_code, reason = "the binary `quotas` needs it")]
    pub fn forget_requests(&self) {
        self.shared.state().forgets = true;
    }

    /// Which checksums the server gives and compares.
    pub fn know(&self, knows: Knows) {
        self.shared.state().knows = knows;
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The requests of one verb.
    pub fn requests_of(&self, verb: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.verb() == verb).collect()
    }

    /// How many requests of one verb were waited for one after another; see [`longest_chain`].
    pub fn longest_chain(&self, verb: &str) -> usize {
        longest_chain(&self.requests_of(verb))
    }

    /// The most requests that were being answered at one time.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.peak_in_flight.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// All connections that are open now are dead: their next requests reach nobody, and are not kept to look at.
    pub fn forget_connections(&self, death: Death) {
        let mut state = self.shared.state();
        state.forgotten = (state.connections.len(), Some(death));
    }

    /// How many requests were sent on connections that were dead by then.
    pub fn swallowed(&self) -> usize {
        self.shared.state().swallowed
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

/// The container that is always there.
const CONTAINER: &str = "/account/container";

fn path(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{CONTAINER}/{name}") }
}
