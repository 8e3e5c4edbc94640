//! What this process's sockets are set to, as the kernel has it.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};

/// The connections of this process to `peer`.
pub fn connected_to(peer: SocketAddr) -> Vec<RawFd> {
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let is_meant = |fd: &RawFd| {
        // SAFETY: asking who the peer is does no harm to any descriptor, and this one is not closed at the end.
        let stream = unsafe { TcpStream::from_raw_fd(*fd) };
        let is_meant = stream.peer_addr().is_ok_and(|address| address == peer);
        let _ = stream.into_raw_fd();
        is_meant
    };
    numbers.filter(is_meant).collect()
}

/// An option that is one int.
pub fn option(fd: RawFd, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: both are on this stack, and the length is the value's.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}
