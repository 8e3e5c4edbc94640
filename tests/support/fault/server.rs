//! The fault server: its address, its blobs, its faults, and the requests that it received.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;

use super::percent::encode_path;
use super::state::Shared;
use super::store::Body;
use super::{CONTAINER, ChecksumSupport, Content, Count, DeadConnection, Fault, GeneratedBlobs, Kind, Order, Quota};
use super::{Request, connection, longest_chain};

const SAS: &str = "sv=2021-12-02&sp=rwdlc&sig=bm90LWEtcmVhbC1zaWduYXR1cmU%3D";

pub struct FaultServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultServer {
    /// Starts a server on a free port.
    pub fn start() -> FaultServer {
        FaultServer::start_at("127.0.0.1:0")
    }

    /// Starts a server at `ADDRESS:PORT`.
    pub fn start_at(address: &str) -> FaultServer {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
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
                    // The list of connections keeps the socket open. An error means that the peer is gone.
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

    /// A container's URL, with a SAS that the server does not check.
    pub fn container_url(&self) -> String {
        self.url_of(CONTAINER)
    }

    /// A blob's URL; its name is escaped here.
    pub fn url(&self, name: &str) -> String {
        self.url_of(&format!("{CONTAINER}/{}", encode_path(name)))
    }

    /// The URL of an escaped path: `/ACCOUNT/CONTAINER` or `/ACCOUNT/CONTAINER/BLOB`.
    pub fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}?{SAS}", self.address)
    }

    /// Stores a blob under its name in the container, or under a path if it begins with `/`; returns its ETag.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        self.shared.state().store.put(&path(name), Body::Bytes(Arc::new(bytes.into())))
    }

    /// Sets a blob's metadata, given as header names and values.
    pub fn set_metadata(&self, name: &str, metadata: Vec<(String, String)>) {
        self.shared.state().store.set_metadata(&path(name), metadata);
    }

    /// Refuses a range of an empty blob before it checks the request's conditions. `with_etag`: the refusal has an
    /// ETag.
    pub fn check_range_before_conditions(&self, with_etag: bool) {
        self.shared.state().range_before_conditions = Some(with_etag);
    }

    /// Stores a blob of any size without using memory for it; returns its ETag.
    pub fn put_content(&self, name: &str, content: Content) -> String {
        self.shared.state().store.put(&path(name), Body::Content(content))
    }

    /// Stores a blob that begins with `head` and goes on with the bytes of `content`; returns its ETag.
    pub fn put_content_with_head(&self, name: &str, head: impl Into<Vec<u8>>, content: Content) -> String {
        self.shared.state().store.put(&path(name), Body::Headed(Arc::new(head.into()), content))
    }

    /// Stores an entry as an account with a hierarchical namespace lists it for a directory.
    pub fn put_directory(&self, name: &str, kind: Kind) {
        self.shared.state().store.put_directory(&path(name), kind);
    }

    /// Fills a container of the account with generated blobs, which replace earlier generated ones; returns its URL.
    pub fn put_generated(&self, container: &str, blobs: GeneratedBlobs) -> String {
        let path = format!("/account/{container}");
        self.shared.state().store.put_generated(&path, blobs);
        self.url_of(&path)
    }

    pub fn delete(&self, name: &str) {
        assert!(self.shared.state().store.delete(&path(name)), "{name} does not exist");
    }

    /// Lists as an account with a hierarchical namespace does: a folder's blobs follow the folder directly.
    pub fn list_like_hierarchical_namespace(&self) {
        self.order_listing_by(|name| name.replace('/', "\0").into_bytes());
    }

    /// Lists names in the order of the keys that `order` returns.
    pub fn order_listing_by(&self, order: Order) {
        self.shared.state().store.order_by(order);
    }

    /// The next pages of listings have at most this many entries each, possibly none: the service may end a page early.
    pub fn limit_pages(&self, entries: impl IntoIterator<Item = usize>) {
        self.shared.state().page_limits.extend(entries);
    }

    /// All pages except those of [`limit_pages`](Self::limit_pages) have at most this many entries.
    pub fn set_page_size(&self, entries: usize) {
        self.shared.state().page_size = Some(entries);
    }

    /// A blob's bytes, or `None` if it does not exist.
    pub fn blob(&self, name: &str) -> Option<Vec<u8>> {
        let blob = self.shared.state().store.get(&path(name))?;
        Some(blob.body.read(0, blob.body.size()))
    }

    /// The next requests of a verb ([`Request::verb`]) get these faults, in order. Later requests get none.
    pub fn script(&self, verb: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().script.extend(faults.into_iter().map(|fault| (verb, fault)));
    }

    /// Calls `hook` for every request for which the script has no fault.
    pub fn on_request(&self, hook: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Box::new(hook)));
    }

    /// Limits how fast each connection sends responses.
    pub fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.shared.state().bytes_per_second = Some(bytes_per_second);
    }

    /// Refuses requests that exceed this quota from now on; `None` grants everything.
    pub fn set_quota(&self, quota: Option<Quota>) {
        self.shared.bucket().set(quota);
    }

    /// How many requests were granted and refused, by path, since the first call of [`set_quota`](Self::set_quota).
    pub fn counts(&self) -> BTreeMap<String, Count> {
        self.shared.bucket().counts()
    }

    /// Records no requests, for tests that send very many. Call it before the first request.
    #[allow(dead_code, reason = "only the binary `quotas` needs it")]
    pub fn forget_requests(&self) {
        self.shared.state().discards_requests = true;
    }

    /// Sets which checksums the server returns and compares.
    pub fn support_checksums(&self, support: ChecksumSupport) {
        self.shared.state().checksum_support = support;
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The requests of one verb, in order of arrival.
    pub fn requests_of(&self, verb: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.verb() == verb).collect()
    }

    /// How many requests of one verb followed each other at most; see [`longest_chain`].
    pub fn longest_chain(&self, verb: &str) -> usize {
        longest_chain(&self.requests_of(verb))
    }

    /// The largest number of requests that were in progress at one time.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.peak_in_flight.load(Ordering::SeqCst)
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// Makes all connections that are open now dead. Requests on them are not executed and not recorded.
    pub fn kill_connections(&self, behaviour: DeadConnection) {
        let mut state = self.shared.state();
        state.dead_connections = (state.connections.len(), Some(behaviour));
    }

    /// How many requests arrived on dead connections.
    pub fn requests_on_dead_connections(&self) -> usize {
        self.shared.state().requests_on_dead_connections
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        for connection in &state.connections {
            // An error means that the peer has closed the connection.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.stopped.notify_all();
        // Wakes the accepting thread. An error means that the thread has ended.
        let _ = TcpStream::connect(self.address);
    }
}

fn path(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{CONTAINER}/{name}") }
}
