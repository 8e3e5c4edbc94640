//! Opening, reading and seeking, on Azurite.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::thread;

use aztorch::Status;

use crate::support::azurite::azurite;
use crate::support::client::{client, read_at, read_blob, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;

#[test]
fn opening_sends_one_ranged_get_and_pins_size_and_etag() {
    let container = azurite().container();
    let etag = container.put("blob", b"some bytes");
    let reader = client().open(&container.blob("blob")).unwrap();
    assert_eq!(reader.size(), 10);
    assert_eq!(reader.etag(), etag);
    assert_eq!(reader.url(), format!("{}/blob", container.bare_url()));
    assert_eq!(reader.position().unwrap(), 0);
    assert_eq!(read_rest(&reader).unwrap(), b"some bytes");

    // The first request is the PUT of the test.
    let requests = container.requests("blob");
    let responses: Vec<_> = requests[1..].iter().map(|request| (request.method.as_str(), request.status)).collect();
    assert_eq!(responses, [("GET", 206)]);
}

#[test]
fn a_missing_blob_is_not_found_at_open() {
    let container = azurite().container();
    let error = expect_error(client().open(&container.blob("absent")), Status::NotFound);
    assert_eq!(error.http_status(), 404);
    assert_eq!(error.service_code(), "BlobNotFound");
    assert!(!error.request_id().is_empty());
    assert!(!error.is_retryable());
    assert!(error.message().contains("/absent"), "{error}");
    assert_eq!(container.requests("absent").len(), 1);
}

#[test]
fn a_missing_container_is_not_found_at_open() {
    let mut container = azurite().container();
    container.name.push_str("-absent");
    let error = expect_error(client().open(&container.blob("blob")), Status::NotFound);
    assert_eq!(error.service_code(), "ContainerNotFound");
}

#[test]
fn an_empty_blob_opens_without_error() {
    let container = azurite().container();
    let etag = container.put("empty", b"");
    let reader = client().open(&container.blob("empty")).unwrap();
    assert_eq!(reader.size(), 0);
    assert_eq!(reader.etag(), etag);
    assert_eq!(read_at(&reader, 0, 10).unwrap(), b"");
    assert_eq!(read_rest(&reader).unwrap(), b"");
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 0);
    assert!(container.requests("empty").iter().all(|request| request.method != "HEAD"));
}

#[test]
fn test_read_beyond_end() {
    let container = azurite().container();
    container.put("blob", b"0123456789");
    let reader = client().open(&container.blob("blob")).unwrap();
    let mut buffer = [0xAA; 16];
    assert_eq!(reader.read(&mut buffer).unwrap(), 10);
    assert_eq!(&buffer[..10], b"0123456789");
    assert_eq!(buffer[10..], [0xAA; 6], "bytes beyond the end of the blob were written");
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    assert_eq!(reader.position().unwrap(), 10);
    assert_eq!(read_at(&reader, 8, 16).unwrap(), b"89");
    assert_eq!(read_at(&reader, 10, 16).unwrap(), b"");
    assert_eq!(read_at(&reader, u64::MAX, 16).unwrap(), b"");
    assert_eq!(container.requests("blob").len(), 2, "one PUT, one GET");
}

#[test]
fn a_read_of_no_bytes_sends_no_request() {
    let container = azurite().container();
    container.put("blob", &Content::new(1, 20 << 20).all());
    let reader = client().open(&container.blob("blob")).unwrap();
    // The requests of `open` are in the server's log once their last byte has arrived.
    read_at(&reader, 0, 3 << 20).unwrap();
    assert_eq!(container.requests("blob").len(), 2, "one PUT, one GET");
    reader.seek(SeekFrom::Start(15 << 20)).unwrap();
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    assert_eq!(reader.read_at(12 << 20, &mut []).unwrap(), 0);
    assert_eq!(container.requests("blob").len(), 2);
}

#[test]
fn seeks_are_relative_to_start_position_and_end() {
    let container = azurite().container();
    container.put("blob", b"0123456789");
    let reader = client().open(&container.blob("blob")).unwrap();
    let mut two = [0; 2];
    for (seek, position, expected) in [
        (SeekFrom::Start(4), 4, b"45"),
        (SeekFrom::Current(1), 7, b"78"),
        (SeekFrom::Current(-9), 0, b"01"),
        (SeekFrom::End(-2), 8, b"89"),
        (SeekFrom::Start(0), 0, b"01"),
    ] {
        assert_eq!(reader.seek(seek).unwrap(), position, "{seek:?}");
        assert_eq!(reader.read(&mut two).unwrap(), 2);
        assert_eq!(&two, expected, "{seek:?}");
        assert_eq!(reader.position().unwrap(), position + 2);
    }
}

#[test]
fn test_seek_beyond_end() {
    let container = azurite().container();
    container.put("blob", b"0123456789");
    let reader = client().open(&container.blob("blob")).unwrap();
    for (seek, position) in [(SeekFrom::Start(11), 11), (SeekFrom::End(90), 100), (SeekFrom::Current(900), 1000)] {
        assert_eq!(reader.seek(seek).unwrap(), position);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(reader.position().unwrap(), position, "a read past the end moved the position");
    }
    assert_eq!(reader.seek(SeekFrom::Current(-999)).unwrap(), 1);
    assert_eq!(read_rest(&reader).unwrap(), b"123456789");
}

#[test]
fn test_seek_raises_when_results_in_negative_position() {
    let container = azurite().container();
    container.put("blob", b"0123456789");
    let reader = client().open(&container.blob("blob")).unwrap();
    reader.seek(SeekFrom::Start(5)).unwrap();
    for seek in [SeekFrom::Current(-6), SeekFrom::End(-11), SeekFrom::Current(i64::MIN)] {
        expect_error(reader.seek(seek), Status::InvalidArgument);
        assert_eq!(reader.position().unwrap(), 5, "a refused seek moved the position");
    }
    assert_eq!(read_rest(&reader).unwrap(), b"56789");
}

#[test]
fn test_read_size_synonyms_for_read_all() {
    let container = azurite().container();
    let content = Content::new(2, (9 << 20) + 5);
    container.put("blob", &content.all());
    let client = client();
    assert_same(&read_blob(&client, &container.blob("blob")).unwrap(), &content.all());
    let mut bytes = Vec::new();
    client.open(&container.blob("blob")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_same(&bytes, &content.all());
}

#[test]
fn reads_of_odd_sizes_return_adjacent_bytes() {
    let container = azurite().container();
    let content = Content::new(3, (25 << 20) + 13);
    container.put("blob", &content.all());
    let reader = client().open(&container.blob("blob")).unwrap();
    let mut offset = 0;
    for length in [1, 4095, 7, 1 << 20, 3, (9 << 20) + 1, 65_537].into_iter().cycle() {
        let mut buffer = vec![0; length];
        let read = reader.read(&mut buffer).unwrap();
        assert_same(&buffer[..read], &content.bytes(offset, read));
        offset += read as u64;
        assert_eq!(reader.position().unwrap(), offset);
        if read < length {
            break;
        }
    }
    assert_eq!(offset, content.size, "a read was short before the end");
}

#[test]
fn a_read_far_larger_than_a_range_returns_exact_bytes() {
    let container = azurite().container();
    let content = Content::new(4, (70 << 20) + 1);
    container.put("blob", &content.all());
    let reader = client().open(&container.blob("blob")).unwrap();
    assert_same(&read_at(&reader, 12_345, 66 << 20).unwrap(), &content.bytes(12_345, 66 << 20));
    assert_eq!(reader.position().unwrap(), 0, "read_at moved the position");
    assert_same(&read_rest(&reader).unwrap(), &content.all());
}

#[test]
fn many_threads_read_with_one_reader() {
    let container = azurite().container();
    let content = Content::new(5, 24 << 20);
    container.put("blob", &content.all());
    let reader = client().open(&container.blob("blob")).unwrap();
    thread::scope(|scope| {
        for worker in 0..16_u64 {
            let reader = &reader;
            scope.spawn(move || {
                for step in 0..20_u64 {
                    let offset = (worker * 7_919 + step * 1_000_003) * 61 % content.size;
                    let length = 1 + (worker * 104_729 + step * 65_537) % 300_000;
                    let bytes = read_at(reader, offset, length as usize).unwrap();
                    assert_same(&bytes, &content.bytes(offset, length.min(content.size - offset) as usize));
                }
            });
        }
    });
    assert_eq!(reader.position().unwrap(), 0);
}

#[test]
fn a_reader_outlives_its_client() {
    let container = azurite().container();
    let content = Content::new(6, 12 << 20);
    container.put("blob", &content.all());
    let client = client();
    let reader = client.open(&container.blob("blob")).unwrap();
    drop(client);
    assert_same(&read_rest(&reader).unwrap(), &content.all());
}

#[test]
fn a_closed_reader_refuses_reads() {
    let container = azurite().container();
    container.put("blob", b"0123456789");
    let reader = client().open(&container.blob("blob")).unwrap();
    reader.close().unwrap();
    reader.close().unwrap();
    expect_error(reader.read(&mut [0; 4]), Status::Unsupported);
    expect_error(reader.read_at(0, &mut [0; 4]), Status::Unsupported);
}

/// A text of many lines, and the offsets of the lines. `std`'s line reading replaces the reference's `readline`.
fn lines() -> (String, Vec<u64>) {
    let mut text = String::new();
    let mut starts = Vec::new();
    for line in 0..120_000_u32 {
        starts.push(text.len() as u64);
        text += &format!("{line} {}\n", "x".repeat((line.wrapping_mul(2_654_435_761) >> 24) as usize));
    }
    (text, starts)
}

#[test]
fn test_readline_multiple_prefetches() {
    let container = azurite().container();
    let (text, _) = lines();
    assert!(text.len() > 12 << 20);
    container.put("text", text.as_bytes());
    let reader = BufReader::new(client().open(&container.blob("text")).unwrap());
    assert!(reader.lines().map(Result::unwrap).eq(text.lines()));
}

#[test]
fn test_readline_mixed_with_seek() {
    let container = azurite().container();
    let (text, starts) = lines();
    container.put("text", text.as_bytes());
    let mut reader = BufReader::new(client().open(&container.blob("text")).unwrap());
    for number in [119_999, 0, 60_000, 60_001, 3, 119_998] {
        reader.seek(SeekFrom::Start(starts[number])).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end_matches('\n'), text.lines().nth(number).unwrap());
    }
}

#[test]
fn std_io_read_returns_the_librarys_error() {
    let container = azurite().container();
    container.put("blob", &Content::new(7, 20 << 20).all());
    let mut reader = client().open(&container.blob("blob")).unwrap();
    container.put("blob", b"another version");
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<aztorch::Error>()).expect("the library's error");
    assert_eq!(cause.status(), Status::Modified);
}
