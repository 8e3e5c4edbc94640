//! Socket operations that `std` does not offer, such as ending a connection with a RST.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// Waits until the peer's kernel has received everything sent so far. A RST would discard the rest.
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

/// Ends the connection with a RST at once, even if the socket has other handles. Closing with SO_LINGER 0 would wait
/// for the last of them.
pub fn reset(stream: &TcpStream) -> io::Result<()> {
    let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of_val(&unspecified) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the address is of the length given.
    let result = unsafe { libc::connect(stream.as_raw_fd(), &raw const unspecified, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
