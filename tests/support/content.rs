//! Bytes that are computed from a seed and an offset, so that a blob of any size needs no memory and no copy for
//! comparison.

use sha2::{Digest, Sha256};

#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub seed: u64,
    pub size: u64,
}

impl Content {
    pub fn new(seed: u64, size: u64) -> Content {
        Content { seed, size }
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let skip = (offset % 8) as usize;
        let mut word = offset / 8;
        let (head, rest) = buffer.split_at_mut(((8 - skip) % 8).min(buffer.len()));
        if !head.is_empty() {
            head.copy_from_slice(&self.word(word)[skip..skip + head.len()]);
            word += 1;
        }
        for chunk in rest.chunks_mut(8) {
            chunk.copy_from_slice(&self.word(word)[..chunk.len()]);
            word += 1;
        }
    }

    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes);
        bytes
    }

    pub fn all(&self) -> Vec<u8> {
        self.bytes(0, self.size as usize)
    }

    /// The SHA-256 of all bytes, computed a MiB at a time.
    pub fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.size {
            let length = (self.size - offset).min(buffer.len() as u64) as usize;
            self.fill(offset, &mut buffer[..length]);
            hash.update(&buffer[..length]);
            offset += length as u64;
        }
        hash.finalize().into()
    }

    /// splitmix64: each word depends on its index only.
    fn word(&self, index: u64) -> [u8; 8] {
        let mut z = self.seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

/// Compares two byte strings without printing them.
#[track_caller]
pub fn assert_same(actual: &[u8], expected: &[u8]) {
    assert_eq!(actual.len(), expected.len(), "length");
    if actual != expected {
        let at = actual.iter().zip(expected).position(|(one, other)| one != other);
        panic!("the bytes differ from {at:?} on");
    }
}
