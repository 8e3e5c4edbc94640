//! Fuzzing targets for the code that parses untrusted text and bytes. Each function takes any input and checks
//! properties of the result. `fuzz/` runs them under libFuzzer; the module `tests` runs them over the corpus in the
//! repository and over mutations of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how an input is reported")]

use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use memchr::memmem;
use sha2::{Digest, Sha256};

use crate::blob::block_plan::BlockPlan;
use crate::blob::read_pattern::{CHUNK, MAX_AHEAD, Pattern};
use crate::credential::{AuthHints, ConnectionString, Signed};
use crate::dataset::entries::Entries;
use crate::dataset::table_text::{self, Form, hexadecimal};
use crate::dataset::tar_index::in_memory;
use crate::dataset::{manifest, serialized};
use crate::error::{Error, Result};
use crate::options::{ClientOptions, MAX_BLOCK_SIZE};
use crate::service::client_core::ClientCore;
use crate::service::error_response;
use crate::service::{list_blobs, ranges};
use crate::stream::cursor::{Cursor, digest};
use crate::stream::listed::{NEARBY, ShardPage};
use crate::stream::shard::Shard;
use crate::url::{Container, Endpoint, parse_blob, parse_blob_parts, parse_container, parse_container_and_blob};

const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ";

/// Checks an error's message: it is one line and shows no secret.
fn check_error(error: &Error) {
    let message = error.message();
    assert!(!message.is_empty() && !message.contains(['\r', '\n']), "{message:?}");
    assert!(!message.contains(SECRET), "a secret is shown: {message:?}");
}

fn checked<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(check_error).ok()
}

/// The input as text, if it does not contain the secret: a fuzzer finds the constant in the program.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().filter(|text| !text.contains(SECRET))
}

fn container() -> Container {
    parse_container("https://account.blob.core.windows.net/container", None).expect("a good URL")
}

/// Reads numbers from the input; they are 0 after its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u64 {
        let (head, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        let mut bytes = [0; 8];
        bytes[..head.len()].copy_from_slice(head);
        u64::from_le_bytes(bytes)
    }

    fn up_to(&mut self, max: u64) -> u64 {
        self.next() % (max + 1)
    }
}

/// Input: a URL of a blob or container. A second line is a blob's name.
pub fn url(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (url, name) = text.split_once('\n').unwrap_or((text, "blob"));
    checked(Endpoint::parse(url));
    // An appended signature is part of the query, which no error shows.
    let with_secret = format!("{url}{}sig={SECRET}", if url.contains('?') { '&' } else { '?' });
    checked(parse_blob(&with_secret, None));
    checked(parse_container(&with_secret, None));
    checked(parse_blob_parts(&with_secret, None));
    if let Some(target) = checked(parse_blob(url, None)) {
        let shown = target.display();
        assert!(!shown.contains('?'), "{shown}");
        target.uri("comp=metadata").expect("a URI");
        target.url().expect("a URL");
        let again = parse_blob(&shown, None).expect("the shown text is a URL too");
        // An encoded host may decode to a host that is translated.
        let authority = url.split('/').nth(2).unwrap_or_default();
        if authority.is_ascii() && !authority.contains('%') {
            assert_eq!(again.display(), shown);
        }
    }
    if let Some(container) = checked(parse_container(url, None)) {
        let listed = container.display_blob("a b/c");
        assert_eq!(parse_blob(&listed, None).expect("a blob's URL").display(), listed);
    }
    if let Some(target) = checked(parse_container_and_blob("https://a.blob.core.windows.net/con", name, None)) {
        target.uri("").expect("a URI");
        let (_, blob) = parse_blob_parts(&target.display(), None).expect("a blob's URL");
        assert_eq!(blob, name, "the name is literal");
    }
}

/// Input: an account's connection string.
pub fn connection_string(data: &[u8]) {
    let Some(text) = text(data) else { return };
    checked(ConnectionString::parse(text));
    for key in ["AccountKey", "SharedAccessSignature"] {
        checked(ConnectionString::parse(&format!("{key}={SECRET};{text}")));
        checked(ConnectionString::parse(&format!("{text};{key}={SECRET}")));
    }
}

/// Input: the size of the pieces in which a page arrives (one byte), and the page of a listing.
pub fn listing_xml(data: &[u8]) {
    let Some((&first, document)) = data.split_first() else { return };
    let page = ShardPage::new(&container(), Shard::ALL, 0).expect("an empty page");
    let Some(page) = checked(list_blobs::parse_page(page, document, usize::from(first) + 1)) else { return };
    let page = page.blobs;
    assert_eq!(page.entries.len() as u64, page.count);
    assert_eq!(page.last_names.len() as u64, page.count.min(NEARBY as u64));
    for index in 0..page.entries.len() {
        let entry = page.entries.entry(index).expect("an entry");
        assert!(!entry.name().is_empty());
    }
}

/// Input: a tar archive.
pub fn tar_index(data: &[u8]) {
    let Some(members) = checked(in_memory::index(data)) else { return };
    for member in members {
        let end = member.offset.checked_add(member.size).expect("no overflow");
        assert!(end <= data.len() as u64 && member.offset % 512 == 0, "{member:?}");
    }
}

/// Input: a `Content-Range`, and also an error response: its status (two bytes), a line for its code, a line for
/// `Retry-After`, and its document.
pub fn content_range_and_error(data: &[u8]) {
    if let Some((range, size)) = text(data).and_then(ranges::parse_content_range) {
        assert!(range.start < range.end && range.end <= size);
        assert_eq!(
            ranges::parse_content_range(&format!("bytes {}-{}/{size}", range.start, range.end - 1)).unwrap().0,
            range
        );
    }
    let Some((&[high, low], rest)) = data.split_first_chunk::<2>() else { return };
    if memmem::find(rest, SECRET.as_bytes()).is_some() {
        return;
    }
    let Ok(status) = StatusCode::from_u16(400 + u16::from_be_bytes([high, low]) % 600) else { return };
    let mut lines = rest.splitn(3, |&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["x-ms-error-code", "retry-after"] {
        if let Ok(value) = HeaderValue::from_bytes(lines.next().unwrap_or_default()) {
            headers.insert(name, value);
        }
    }
    let document = lines.next().unwrap_or_default();
    let uri = Uri::from_static(
        "https://account.blob.core.windows.net/con/blob?se=2030-01-01&sig=c2VjcmV0LXNlY3JldC1zZWNyZXQ",
    );
    for (signed, creates) in
        [(Signed::SasInUrl, false), (Signed::SharedKey, true), (Signed::Token, false), (Signed::NothingOverHttp, true)]
    {
        let auth_hints = AuthHints::new(&uri, signed);
        let error = error_response::error(status, &headers, document, &auth_hints, creates);
        check_error(&error);
        assert_eq!(error.http_status(), status.as_u16());
        assert!(error.retry_after().is_none_or(|wait| wait.as_secs() <= 120), "{:?}", error.retry_after());
    }
}

/// Input: numbers for the splitting of ranges, the plan of a blob's blocks, and a sequence of reads.
pub fn range_planning(data: &[u8]) {
    let mut numbers = Numbers(data);
    // A blob has at most 190 TiB, and every range lies in a blob.
    let (start, length) = (numbers.up_to(1 << 48), numbers.up_to(1 << 40).max(1));
    let connections = numbers.up_to(4096) as usize;
    let parts = ranges::split(start..start + length, connections);
    assert_eq!((parts[0].start, parts[parts.len() - 1].end), (start, start + length));
    assert!(parts.iter().all(|part| part.start < part.end && part.end - part.start <= 16 << 20));
    assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!(ranges::header(&parts[0]), format!("bytes={}-{}", start, parts[0].end - 1));

    let base = numbers.up_to(MAX_BLOCK_SIZE - 1) + 1;
    let size = numbers.up_to(1 << 48);
    if let Some(mut plan) = checked(BlockPlan::new(base).for_size(size)) {
        assert!(plan.capacity() >= size && plan.check_capacity(0, size, None).is_ok());
        let before = plan.capacity();
        let block = plan.block_size();
        assert_eq!(plan.next_id().unwrap().len(), 36);
        assert_eq!(plan.capacity(), before - block);
        if let Some(direct) = plan.direct_block_size(length) {
            assert!((plan.block_size()..=MAX_BLOCK_SIZE).contains(&direct) && direct <= length / 4);
        }
    }

    let size = numbers.up_to(1 << 48).max(1);
    let mut pattern = Pattern::default();
    while !numbers.0.is_empty() {
        let start = numbers.up_to(size - 1);
        let end = start + (numbers.next() % (64 << 20)).clamp(1, size - start);
        pattern.observe(&(start..end), size, || start % 2 == 0);
        assert!(pattern.ahead() <= MAX_AHEAD && pattern.window() <= CHUNK && pattern.window() > 0);
        assert!(pattern.next() <= size);
    }
}

/// Input: a stream's cursor. It is also parsed with a correct checksum.
pub fn cursor(data: &[u8]) {
    let Some(text) = text(data) else { return };
    checked(Cursor::parse(text));
    let body = text.rsplit_once(";check=").map_or(text, |(body, _)| body);
    let whole = format!("{body};check={:016x}", digest(body.as_bytes()));
    if let Some(cursor) = checked(Cursor::parse(&whole)) {
        assert_eq!(Cursor::parse(&cursor.to_text()).expect("its own text"), cursor);
    }
}

/// Input: a dataset's manifest. It is also parsed with a correct checksum, and as a serialized dataset.
pub fn manifest(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let core = ClientCore::new(&anonymous());
    let target = parse_blob("https://account.blob.core.windows.net/container/manifest?sv=1&sp=r", None).unwrap();
    for document in [text, &with_checksum(text)] {
        let Some(entries) = checked(manifest::parse(&core, &target, document.as_bytes())) else { continue };
        for index in 0..entries.len() {
            let entry = entries.entry(index).expect("an entry");
            assert!(!entry.url().contains('?'));
        }
    }
    let text = text.replacen("aztorch manifest", "aztorch dataset", 1);
    for document in [&text, &with_checksum(&text)] {
        let Some(entries) = checked(serialized::parse(document.as_bytes())) else { continue };
        let again = serialize(&entries);
        let copy = serialized::parse(&again).expect("its own text");
        // An encoded host may decode to a host that is translated.
        if !text.contains('%') {
            assert!(serialize(&copy) == again, "the copy has another text: {}", again.escape_ascii());
        }
    }
}

fn with_checksum(lines: &str) -> String {
    let digest = Sha256::new().chain_update(lines).chain_update(b"\n").finalize();
    format!("{lines}\n{{\"sha256\":\"{}\"}}\n", hexadecimal(&digest))
}

fn serialize(entries: &Entries) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    table_text::write(entries, Form::Serialized, put).expect("the text of a table");
    bytes
}

fn anonymous() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.set_anonymous().expect("anonymous");
    options
}

#[cfg(test)]
mod tests;
