//! Parses structured bodies: a blob's bytes in segments, each followed by its checksum, so that a large answer is
//! checked while it arrives. See <https://learn.microsoft.com/rest/api/storageservices/structured-body-format>.

use crate::error::{Error, Result, Status};

pub(crate) const HEADER: usize = 13;
pub(crate) const SEGMENT_HEADER: usize = 10;
pub(crate) const CHECKSUM: usize = 8;

const VERSION: u8 = 1;
const WITH_CRC64: u16 = 1;

/// The state of a message that is being read.
#[derive(Debug)]
pub(crate) struct Message {
    segments: u16,
    /// The number of the next segment.
    next: u16,
    /// Bytes of content that have not arrived.
    left: u64,
}

impl Message {
    /// Reads a message's header. The body has `length` bytes, and must hold `content` bytes of content.
    pub(crate) fn begin(header: [u8; HEADER], length: u64, content: u64) -> Result<Self> {
        let [version, rest @ ..] = header;
        let (total, flags) = (u64::from_le_bytes(array(&rest)), u16::from_le_bytes(array(&rest[8..])));
        let segments = u16::from_le_bytes(array(&rest[10..]));
        if version != VERSION || flags != WITH_CRC64 {
            return Err(damaged(&format!("version {version} with flags {flags} is not understood")));
        }
        let overhead = HEADER as u64 + u64::from(segments) * (SEGMENT_HEADER + CHECKSUM) as u64 + CHECKSUM as u64;
        if total != length || content.checked_add(overhead) != Some(length) || segments == 0 {
            return Err(damaged(&format!("{segments} segments and {total} bytes in a body of {length} for {content}")));
        }
        Ok(Self { segments, next: 1, left: content })
    }

    /// Reads a segment's header and returns the segment's length in bytes. Segments are numbered from 1, so none can be
    /// missing.
    pub(crate) fn segment(&mut self, header: [u8; SEGMENT_HEADER]) -> Result<u64> {
        let (number, length) = (u16::from_le_bytes(array(&header)), u64::from_le_bytes(array(&header[2..])));
        if number != self.next || length > self.left {
            return Err(damaged(&format!(
                "segment {number} of {length} bytes where {} of {} is due",
                self.next, self.left
            )));
        }
        self.next = self.next.wrapping_add(1);
        self.left -= length;
        Ok(length)
    }

    /// Whether all segments were read.
    pub(crate) fn is_over(&self) -> Result<bool> {
        match (self.next > self.segments, self.left) {
            (true, 0) => Ok(true),
            (true, left) => Err(damaged(&format!("{left} bytes are missing behind the last segment"))),
            (false, _) => Ok(false),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

fn damaged(what: &str) -> Error {
    Error::new(Status::Corrupt, format!("the structured body is damaged: {what}")).retryable(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, length: u64, flags: u16, segments: u16) -> [u8; HEADER] {
        let mut bytes = vec![version];
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(segments.to_le_bytes());
        bytes.try_into().unwrap()
    }

    fn segment(number: u16, length: u64) -> [u8; SEGMENT_HEADER] {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.try_into().unwrap()
    }

    #[test]
    fn a_message_with_wrong_lengths_or_numbers_is_damaged() {
        let length = 13 + 2 * 18 + 8 + 10;
        let mut message = Message::begin(header(1, length, 1, 2), length, 10).unwrap();
        assert_eq!(message.segment(segment(1, 7)).unwrap(), 7);
        assert!(!message.is_over().unwrap());
        assert_eq!(message.segment(segment(2, 3)).unwrap(), 3);
        assert!(message.is_over().unwrap());

        for bad in
            [header(2, length, 1, 2), header(1, length, 0, 2), header(1, length + 1, 1, 2), header(1, length, 1, 0)]
        {
            assert!(Message::begin(bad, length, 10).is_err(), "{bad:?}");
        }
        assert!(Message::begin(header(1, length, 1, 2), length, u64::MAX).is_err());
        for (number, bytes) in [(2, 7), (1, 11), (1, u64::MAX)] {
            let mut message = Message::begin(header(1, length, 1, 2), length, 10).unwrap();
            assert!(message.segment(segment(number, bytes)).is_err(), "{number} {bytes}");
        }
        let mut message = Message::begin(header(1, length, 1, 2), length, 10).unwrap();
        message.segment(segment(1, 2)).unwrap();
        message.segment(segment(2, 2)).unwrap();
        assert!(message.is_over().is_err());
    }
}
