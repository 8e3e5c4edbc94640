//! Cursors: where a stream is in its epoch, as one line of text.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::stream::shuffle::Shuffle;

const FORMAT: &str = "azt-cursor-2";
/// The format of earlier versions. Its cursors lost their place when one blob was deleted.
const EARLIER_FORMAT: &str = "azt-cursor-1";

/// All that a stream needs to continue: its sequence, how far the listing was read, and the entries before that place
/// that were not given out yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) id: SequenceId,
    pub(crate) epoch: u64,
    /// The next position.
    pub(crate) position: u64,
    pub(crate) place: ListingPosition,
    /// The [`key`]s of the entries in the shuffle's buffer.
    pub(crate) slots: Vec<u64>,
    /// The [`key`]s of entries that were listed and have not been in the buffer, unless they are after `place`.
    pub(crate) queue: Vec<u64>,
    /// Earlier positions whose samples are to be tried again, and their entries' [`key`]s.
    pub(crate) retry: Vec<(u64, u64)>,
}

/// Identifies the sequence that a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceId {
    /// A digest of the container and prefix, or of the entries.
    pub(crate) listing: u64,
    pub(crate) shard_index: usize,
    pub(crate) shard_count: usize,
    pub(crate) shuffle: Option<Shuffle>,
}

/// How far the listing, or the table, was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListingPosition {
    /// The number of entries, of all shards, before the place.
    pub(crate) count: u64,
    /// Names near a place in a listing; `None` for a table, which never changes.
    pub(crate) landmarks: Option<Landmarks>,
}

/// Identifies a place in a listing that may change. Services list in different orders, so names cannot be compared. But
/// names that are in both listings have the same order in both, so that one name near the place is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landmarks {
    /// The [`key`]s of the last names before the place, the nearest first.
    pub(crate) before: Vec<u64>,
    /// The [`key`]s of the first names after the place, as far as they are known, the nearest first.
    pub(crate) behind: Vec<u64>,
    /// The marker of the page that the place is on; `None` if the place is the end of the listing.
    pub(crate) page: Option<String>,
}

impl Landmarks {
    pub(crate) fn of_the_beginning() -> Self {
        Self { before: Vec::new(), behind: Vec::new(), page: Some(String::new()) }
    }
}

/// The number that stands for a name in a cursor.
pub(crate) fn key(name: &str) -> u64 {
    digest(name.as_bytes())
}

/// The first 8 bytes of the SHA-256, as a number.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    hash.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl SequenceId {
    /// Fails if `other` is another sequence; the error says how it differs.
    pub(crate) fn check(&self, other: &SequenceId) -> Result<()> {
        let shuffle = |id: &SequenceId| match id.shuffle {
            None => "none".to_owned(),
            Some(Shuffle { buffer, seed }) => format!("a buffer of {buffer} names and seed {seed}"),
        };
        let differs = if self.listing != other.listing {
            "another listing (container, prefix, URLs or dataset)".to_owned()
        } else if self.shard_count != other.shard_count || self.shard_index != other.shard_index {
            format!(
                "shard {} of {}, and this is {} of {}",
                other.shard_index, other.shard_count, self.shard_index, self.shard_count
            )
        } else if self.shuffle != other.shuffle {
            format!("another shuffle ({}), and this one has {}", shuffle(other), shuffle(self))
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("the cursor is of {differs}")))
    }
}

impl Cursor {
    pub(crate) fn to_text(&self) -> String {
        let SequenceId { listing, shard_index, shard_count, shuffle } = self.id;
        let mut text = format!("{FORMAT};listing={listing:016x};shard={shard_index}/{shard_count}");
        // Writing to a String cannot fail.
        if let Some(Shuffle { buffer, seed }) = shuffle {
            let _ = write!(text, ";shuffle={buffer}/{seed}");
        }
        let _ = write!(text, ";epoch={};position={};count={}", self.epoch, self.position, self.place.count);
        let (before, behind) = match &self.place.landmarks {
            None => (&[][..], &[][..]),
            Some(Landmarks { before, behind, page }) => {
                let _ = match page {
                    Some(marker) => write!(text, ";page={}", utf8_percent_encode(marker, NON_ALPHANUMERIC)),
                    None => write!(text, ";end=1"),
                };
                (&before[..], &behind[..])
            }
        };
        let retry: Vec<_> = self.retry.iter().flat_map(|&(position, key)| [position, key]).collect();
        let lists = [
            ("before", before),
            ("behind", behind),
            ("buffer", &self.slots),
            ("queue", &self.queue),
            ("retry", &retry),
        ];
        for (name, numbers) in lists {
            if !numbers.is_empty() {
                let bytes: Vec<_> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
                let _ = write!(text, ";{name}={}", URL_SAFE_NO_PAD.encode(bytes));
            }
        }
        let check = digest(text.as_bytes());
        let _ = write!(text, ";check={check:016x}");
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("this is no cursor of a stream: {why}"));
        if text.starts_with(&format!("{EARLIER_FORMAT};")) {
            let message = "the cursor was made by an earlier version of this library and cannot be resumed";
            return Err(Error::invalid(message).hint("begin the epoch anew"));
        }
        let (body, check) = text.rsplit_once(";check=").ok_or_else(|| refused("it has no checksum"))?;
        if !body.starts_with(&format!("{FORMAT};")) {
            return Err(refused(&format!("it does not begin with '{FORMAT}'")));
        }
        if check != format!("{:016x}", digest(body.as_bytes())) {
            return Err(refused("it is damaged"));
        }
        let fields: HashMap<_, _> = body.split(';').filter_map(|field| field.split_once('=')).collect();
        Self::from_fields(&fields).ok_or_else(|| refused("a field is missing or cannot be read"))
    }

    fn from_fields(fields: &HashMap<&str, &str>) -> Option<Self> {
        // Larger than any real number, and small enough for additions.
        let number = |name: &str| fields.get(name)?.parse::<u64>().ok().filter(|&number| number <= i64::MAX as u64);
        let numbers = |name: &str| match fields.get(name) {
            None => Some(Vec::new()),
            Some(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
                let (numbers, rest) = bytes.as_chunks::<8>();
                rest.is_empty().then(|| numbers.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect())
            }
        };
        let (shard_index, shard_count) = fields.get("shard")?.split_once('/')?;
        let shuffle = match fields.get("shuffle") {
            None => None,
            Some(text) => {
                let (buffer, seed) = text.split_once('/')?;
                Some(Shuffle { buffer: buffer.parse().ok()?, seed: seed.parse().ok()? })
            }
        };
        let (before, behind) = (numbers("before")?, numbers("behind")?);
        let landmarks = match (fields.get("page"), fields.get("end")) {
            (None, None) if before.is_empty() && behind.is_empty() => None,
            (Some(marker), None) => {
                let marker = percent_decode_str(marker).decode_utf8().ok()?.into_owned();
                Some(Landmarks { before, behind, page: Some(marker) })
            }
            (None, Some(&"1")) => Some(Landmarks { before, behind, page: None }),
            _ => return None,
        };
        Some(Self {
            id: SequenceId {
                listing: u64::from_str_radix(fields.get("listing")?, 16).ok()?,
                shard_index: shard_index.parse().ok()?,
                shard_count: shard_count.parse().ok()?,
                shuffle,
            },
            epoch: number("epoch")?,
            position: number("position")?,
            place: ListingPosition { count: number("count")?, landmarks },
            slots: numbers("buffer")?,
            queue: numbers("queue")?,
            retry: numbers("retry")?.as_chunks::<2>().0.iter().map(|&[position, key]| (position, key)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_parsed_from_its_text_and_damage_is_detected() {
        let id =
            SequenceId { listing: 7, shard_index: 1, shard_count: 3, shuffle: Some(Shuffle { buffer: 9, seed: 4 }) };
        let cursor = Cursor {
            id,
            epoch: 2,
            position: 11,
            place: ListingPosition {
                count: 40,
                landmarks: Some(Landmarks {
                    before: vec![key("b"), key("a")],
                    behind: vec![key("c")],
                    page: Some("2!a;b=ü\n".to_owned()),
                }),
            },
            slots: vec![1, u64::MAX],
            queue: vec![key("x")],
            retry: vec![(3, key("y"))],
        };
        let plain = Cursor {
            id: SequenceId { shuffle: None, ..id },
            place: ListingPosition { count: 0, landmarks: None },
            slots: Vec::new(),
            queue: Vec::new(),
            retry: Vec::new(),
            ..cursor.clone()
        };
        let with =
            |landmarks| Cursor { place: ListingPosition { count: 1, landmarks: Some(landmarks) }, ..plain.clone() };
        let begun = with(Landmarks::of_the_beginning());
        let ended = with(Landmarks { page: None, before: vec![7], ..Landmarks::of_the_beginning() });
        for cursor in [cursor, begun, ended, plain] {
            let text = cursor.to_text();
            assert!(text.is_ascii() && !text.contains(char::is_whitespace), "{text}");
            assert_eq!(Cursor::parse(&text).unwrap(), cursor);
            for at in 0..text.len() {
                assert!(Cursor::parse(&text[..at]).is_err(), "cut at {at}");
                let changed = format!("{}!{}", &text[..at], &text[at + 1..]);
                assert!(Cursor::parse(&changed).is_err(), "changed at {at}");
            }
        }
    }

    #[test]
    fn numbers_that_could_overflow_are_refused() {
        let id = SequenceId { listing: 7, shard_index: 0, shard_count: 1, shuffle: None };
        let cursor = |epoch, position, count| Cursor {
            id,
            epoch,
            position,
            place: ListingPosition { count, landmarks: None },
            slots: Vec::new(),
            queue: Vec::new(),
            retry: Vec::new(),
        };
        let most = i64::MAX as u64;
        assert!(Cursor::parse(&cursor(most, most, most).to_text()).is_ok());
        for (epoch, position, count) in [(most + 1, 0, 0), (0, most + 1, 0), (0, 0, u64::MAX)] {
            assert!(Cursor::parse(&cursor(epoch, position, count).to_text()).is_err());
        }
    }

    #[test]
    fn a_cursor_of_another_sequence_is_refused() {
        let id = SequenceId { listing: 7, shard_index: 1, shard_count: 3, shuffle: None };
        assert!(id.check(&id).is_ok());
        for other in [
            SequenceId { listing: 8, ..id },
            SequenceId { shard_index: 0, ..id },
            SequenceId { shard_count: 4, ..id },
            SequenceId { shuffle: Some(Shuffle { buffer: 1, seed: 0 }), ..id },
        ] {
            assert!(id.check(&other).is_err(), "{other:?}");
        }
    }
}
