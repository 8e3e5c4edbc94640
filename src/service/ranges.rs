//! Byte ranges: splitting them for parallel requests, and the headers `Range` and `Content-Range`.

use std::ops::Range;

const MIB: u64 = 1 << 20;
/// The shortest part, in bytes: in shorter ones the fixed cost of a request shows.
const MIN_PART: u64 = 4 * MIB;
/// The longest part, in bytes: with longer ones a slow connection holds up the whole read.
const MAX_PART: u64 = 16 * MIB;

/// Splits a range into parts of equal size: about one for each connection, but at least `MIN_PART` and at most
/// `MAX_PART` long.
pub(crate) fn split(range: Range<u64>, connections: usize) -> Vec<Range<u64>> {
    let length = range.end - range.start;
    let per_connection = length.div_ceil(connections.max(1) as u64).max(MIN_PART);
    let count = (length / per_connection).max(length.div_ceil(MAX_PART)).max(1);
    let part = length.div_ceil(count);
    (0..count)
        .map(|i| range.start + i * part..(range.start + (i + 1) * part).min(range.end))
        .filter(|part| part.start < part.end)
        .collect()
}

/// The value of a `Range` header. `range` must not be empty.
pub(crate) fn header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// Reads `bytes 0-99/1000`, the value of a `Content-Range` header: the range, and the blob's size.
pub(crate) fn parse_content_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (number(first)?, number(last)?, number(size)?);
    // Below `i64::MAX`, since C and C++ streams have signed positions; it also rules out overflows.
    (first <= last && last < size && size <= i64::MAX as u64).then(|| (first..last + 1, size))
}

/// A number of digits only: `str::parse` would also accept a '+' before them.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_without_gaps_or_overlaps() {
        for (start, length, connections) in
            [(0, 1, 32), (5, 4 * MIB, 32), (7, 100 * MIB + 3, 32), (0, 5000 * MIB, 4), (1, 64 * MIB, 1)]
        {
            let parts = split(start..start + length, connections);
            assert_eq!(parts.first().unwrap().start, start);
            assert_eq!(parts.last().unwrap().end, start + length);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| part.end - part.start <= MAX_PART));
        }
        assert_eq!(split(0..7 * MIB, 32).len(), 1);
        assert_eq!(split(0..256 * MIB, 32).len(), 32);
    }

    #[test]
    fn an_impossible_content_range_is_refused() {
        assert_eq!(parse_content_range("bytes 0-99/1000"), Some((0..100, 1000)));
        for bad in [
            "",
            "bytes */0",
            "bytes 0-99/*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "0-1/2",
            "bytes +0-1/2",
            "bytes 0-1",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 0-99/9223372036854775808",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
