//! What std does not offer: ending a connection with a RST.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// Waits until the peer's kernel has everything sent so far; a RST throws away what it has not.
pub fn wait_until_received(stream: &TcpStream) -> io::Result<()> {
    loop {
        let mut unacknowledged: libc::c_int = 0;
        // SAFETY: the descriptor is open, and TIOCOUTQ writes one int.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut unacknowledged) };
        match result {
            0 if unacknowledged == 0 => return Ok(()),
            0 => thread::sleep(Duration::from_millis(1)),
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

/// Ends the connection with a RST, at once and whoever else holds the socket: closing with SO_LINGER 0 would wait for
/// the last handle.
pub fn reset(stream: &TcpStream) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the address is of the length given.
    let result = unsafe { libc::connect(stream.as_raw_fd(), &raw const nobody, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
