//! The socket options of this process's connections, as the kernel reports them.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};

/// The connections of this process to `peer`.
pub fn connected_to(peer: SocketAddr) -> Vec<RawFd> {
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let is_connected = |fd: &RawFd| {
        // SAFETY: only the peer's address is queried, and the descriptor is not closed at the end.
        let stream = unsafe { TcpStream::from_raw_fd(*fd) };
        let is_connected = stream.peer_addr().is_ok_and(|address| address == peer);
        let _ = stream.into_raw_fd();
        is_connected
    };
    numbers.filter(is_connected).collect()
}

/// The value of a socket option of type int.
pub fn option(fd: RawFd, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: both are on this stack, and the length is the value's.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

/// Asserts that the kernel detects a peer that has disappeared: it probes after 30 and 60 seconds without traffic, and
/// `TCP_USER_TIMEOUT` then ends the connection.
pub fn assert_keepalive(fd: RawFd) {
    let tcp = |name| option(fd, libc::IPPROTO_TCP, name);
    assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1, "SO_KEEPALIVE");
    assert_eq!(tcp(libc::TCP_KEEPIDLE), 30, "TCP_KEEPIDLE");
    assert_eq!(tcp(libc::TCP_KEEPINTVL), 30, "TCP_KEEPINTVL");
    assert_eq!(tcp(libc::TCP_USER_TIMEOUT), 30_000, "TCP_USER_TIMEOUT");
}
