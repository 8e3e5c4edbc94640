//! What can go wrong with a request or with a connection.

use std::time::Duration;

/// What goes wrong with one request. Byte counts are of the body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error response. The request is not executed.
    Status { status: u16, code: &'static str, retry_after: Option<u32> },
    /// The connection ends with a RST after this many bytes of the response's body; `None`: before the response's head.
    Reset { after: Option<u64> },
    /// The connection ends with a FIN after this many bytes of the response's body; `None`: before the response's head.
    Close { after: Option<u64> },
    /// The request is executed. Its response is never sent: the connection ends with a RST.
    LoseAnswer,
    /// The request is executed, and the response is this error.
    ExecuteThenStatus { status: u16, code: &'static str },
    /// A correct head, then nothing until the server stops.
    StallAfterHead,
    /// A correct head, then one byte of the body after each of these pauses.
    Trickle(Duration),
    /// The request is read, and nothing is sent until the server stops.
    Silence,
    /// A RST after the request's head. The server does not read the body.
    NeverReadBody,
    /// The server reads nothing after the request's head until it stops.
    NeverRead,
    /// 307 to this URL.
    Redirect(String),
    /// The response repeats the id of another request.
    OtherRequestId,
    /// The response repeats no request id.
    NoRequestId,
    /// The body and the `Content-Range` are this many bytes shorter than requested.
    ShortRange(u64),
    /// The `Content-Range` begins this many bytes late; the body is the requested one.
    ShiftedRange(u64),
    /// `Content-Range` as requested; `Content-Length` and body are this many bytes shorter.
    ShortBody(u64),
    /// `Content-Range` as requested; `Content-Length` and body are this many bytes longer.
    LongBody(u64),
    /// This many extra bytes follow the body, where the next response would begin.
    TrailingBytes(u64),
    /// 200 and the whole blob, as from a server that does not support ranges.
    WholeBlob,
    /// The bytes are right; the ETag is of another version.
    OtherETag,
    /// One byte of the response's body is flipped.
    FlipByte(u64),
    /// One byte of the request's body is flipped in transit.
    FlipSentByte(u64),
    /// The response to an upload repeats the checksum of other bytes.
    OtherChecksum,
    /// The response to an upload repeats no checksum.
    NoChecksum,
    /// A correct response, late.
    Delay(Duration),
}

impl Fault {
    /// An error response without `Retry-After`.
    pub fn status(status: u16, code: &'static str) -> Fault {
        Fault::Status { status, code, retry_after: None }
    }
}

/// How a connection that a NAT or a load balancer has dropped behaves when its next request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadConnection {
    /// It ends with a RST.
    Reset,
    /// It ends with a FIN.
    Close,
    /// It sends nothing until the server stops.
    Silence,
}
