//! `set_checksum` checks every byte end to end, with the best checksum that the service supports.

use std::sync::Mutex;

use aztorch::{Client, Dataset, Result, Status, WriteMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::support::azurite::{account_sas, azurite};
use crate::support::client::{client, client_with, read_at, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{ChecksumSupport, Fault, FaultServer};
use crate::support::secure::secure;

const MIB: u64 = 1 << 20;
const CONTENT: Content = Content { seed: 91, size: 9 * MIB + 77 };
const SUPPORTED: [ChecksumSupport; 3] = [ChecksumSupport::Structured, ChecksumSupport::Crc64, ChecksumSupport::Md5];

fn strict() -> Client {
    client_with(|options| {
        options.set_block_size(MIB)?;
        options.set_checksum(true)
    })
}

fn server(support: ChecksumSupport) -> FaultServer {
    let server = FaultServer::start();
    server.support_checksums(support);
    server.put_content("blob", CONTENT);
    server
}

/// Reads a blob in every way that the library offers.
fn read_in_each_way(client: &Client, server: &FaultServer) -> Result<()> {
    let url = server.url("blob");
    assert_same(&read_blob(client, &url)?, &CONTENT.all());
    let reader = client.open(&url)?;
    let mut small = vec![0; 100_001];
    for at in (0..CONTENT.size).step_by(small.len()) {
        let read = reader.read(&mut small)?;
        assert_same(&small[..read], &CONTENT.bytes(at, read));
    }
    assert_same(&read_at(&client.open(&url)?, 3 * MIB + 1, 5 << 20)?, &CONTENT.bytes(3 * MIB + 1, 5 << 20));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    client.download(&url, &path)?;
    assert_same(&std::fs::read(path).unwrap(), &CONTENT.all());
    let dataset = Dataset::from_urls(client, &[url])?;
    assert_same(dataset.get(0)?.bytes(), &CONTENT.all());
    let mut memory = vec![0; CONTENT.size as usize];
    dataset.get_into(0, &mut memory)?;
    assert_same(&memory, &CONTENT.all());
    Ok(())
}

#[test]
fn every_way_of_reading_uses_the_best_supported_checksum() {
    for support in SUPPORTED {
        let server = server(support);
        read_in_each_way(&strict(), &server).unwrap();
        let count =
            |name: &str| server.requests_of("GET").iter().filter(|request| request.header(name).is_some()).count();
        let all = server.requests_of("GET").len();
        let (structured, crc64, md5) =
            (count("x-ms-structured-body"), count("x-ms-range-get-content-crc64"), count("x-ms-range-get-content-md5"));
        assert_eq!(structured + crc64 + md5, all, "a range was requested without a checksum");
        match support {
            ChecksumSupport::Structured => assert_eq!(structured, all),
            ChecksumSupport::Crc64 => assert!(structured < 40 && md5 == 0, "{structured} {crc64} {md5}"),
            _ => assert!(structured + crc64 < 60 && md5 > 10, "{structured} {crc64} {md5}"),
        }
    }
}

#[test]
fn corrupt_bytes_are_fetched_again() {
    for support in SUPPORTED {
        let server = server(support);
        let client = strict();
        // After this read the client knows which checksums the server supports.
        read_at(&client.open(&server.url("blob")).unwrap(), 0, 1).unwrap();
        let flipped = Mutex::new(0);
        server.on_request(move |request| {
            let mut count = flipped.lock().unwrap();
            *count += 1;
            // Every other response, at an offset after the first segment of a structured body.
            let long = request.range().is_some_and(|(first, last)| last - first > 50_000 && last < CONTENT.size);
            (request.verb() == "GET" && long && *count % 2 == 1).then_some(Fault::FlipByte(30_000))
        });
        read_in_each_way(&client, &server).unwrap();
        assert!(client.stats().unwrap().retries > 5, "{support:?}: {}", client.stats().unwrap().retries);
    }
}

#[test]
fn corrupt_bytes_in_every_response_are_an_error_and_not_returned() {
    for support in SUPPORTED {
        let server = server(support);
        let client = client_with(|options| {
            options.set_checksum(true)?;
            options.set_max_retries(1)
        });
        let reader = client.open(&server.url("blob")).unwrap();
        server.on_request(|_| Some(Fault::FlipByte(50)));
        let mut memory = vec![0; 100];
        let error =
            expect_error(client.open(&server.url("blob")).and_then(|reader| reader.read(&mut memory)), Status::Corrupt);
        assert!(error.message().contains("checksum mismatch"), "{error}");
        // Small reads are copied from the read cache after the check.
        assert!(memory.iter().all(|&byte| byte == 0), "{support:?}");
        expect_error(reader.read_at(4 * MIB, &mut vec![0; 5 << 20]), Status::Corrupt);
    }
}

#[test]
fn without_set_checksum_reads_are_not_checked() {
    let server = server(ChecksumSupport::Structured);
    server.script("GET", [Fault::FlipByte(50)]);
    let wrong = read_at(&client().open(&server.url("blob")).unwrap(), 0, 100).unwrap();
    assert_eq!(wrong[50], CONTENT.bytes(50, 1)[0] ^ 1);
    assert!(server.requests().iter().all(|request| request.header("x-ms-structured-body").is_none()));
}

#[test]
fn damage_in_a_structured_body_is_corrected() {
    let server = server(ChecksumSupport::Structured);
    let client = client_with(|options| {
        options.set_checksum(true)?;
        options.set_max_retries(2)
    });
    // Damage each byte of the headers, of the first checksum and of the following segment's header.
    let body = 3 * MIB + 13 + 8 + 18 * (3 * MIB).div_ceil(10_000);
    for at in (0..40).chain(10_000 + 20..10_000 + 45).chain([body - 9]) {
        server.script("GET", [Fault::FlipByte(at)]);
        let reader = client.open(&server.url("blob")).unwrap();
        assert_same(&read_at(&reader, 0, 100_000).unwrap(), &CONTENT.bytes(0, 100_000));
    }
    for fault in [Fault::ShortBody(10), Fault::LongBody(10), Fault::TrailingBytes(3)] {
        server.script("GET", [fault]);
        assert_same(
            &read_at(&client.open(&server.url("blob")).unwrap(), 0, 100_000).unwrap(),
            &CONTENT.bytes(0, 100_000),
        );
    }
}

#[test]
fn the_service_compares_the_checksums_of_uploads() {
    for support in SUPPORTED {
        for (verb, size) in [("put-block", 3 * MIB), ("PUT", 1000)] {
            let server = server(support);
            let (client, bytes) = (strict(), CONTENT.bytes(0, size as usize));
            write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
            server.script(verb, [Fault::FlipSentByte(500)]);
            write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
            assert_same(&server.blob("new").unwrap(), &bytes);
            assert_eq!(client.stats().unwrap().retries, 1, "{support:?} {verb}");
            server.on_request(|request| (request.method == "PUT").then_some(Fault::FlipSentByte(5)));
            let client = client_with(|options| {
                options.set_checksum(true)?;
                options.set_max_retries(1)
            });
            expect_error(write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes), Status::Corrupt);
            server.on_request(|_| None);
            assert_same(&server.blob("new").unwrap(), &bytes);
        }
    }
}

#[test]
fn the_client_compares_the_checksum_of_the_response_to_an_upload() {
    for support in SUPPORTED {
        for (verb, size) in [("put-block", 3 * MIB), ("PUT", 1000)] {
            let server = server(support);
            let (client, bytes) = (strict(), CONTENT.bytes(0, size as usize));
            // After this write the client knows which checksums the server supports.
            write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
            server.script(verb, [Fault::OtherChecksum]);
            write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
            assert_same(&server.blob("new").unwrap(), &bytes);
            assert_eq!(client.stats().unwrap().retries, 1, "{support:?} {verb}");
            server.on_request(move |request| (request.verb() == verb).then_some(Fault::OtherChecksum));
            let client = client_with(|options| {
                options.set_block_size(MIB)?;
                options.set_checksum(true)?;
                options.set_max_retries(1)
            });
            let written = write_blob(&client, &server.url("other"), WriteMode::Replace, &bytes);
            let error = expect_error(written, Status::Corrupt);
            assert!(error.message().contains("the service received other bytes than were sent"), "{error}");
            // A blob of blocks is not published. A blob of one request was published, and the error says so.
            assert_eq!(server.blob("other").is_some(), verb == "PUT");
            assert_eq!(error.message().contains("was published"), verb == "PUT", "{error}");
        }
    }
}

/// Azurite 3.37 returns the CRC64 of blocks only, and compares that of whole blobs.
#[test]
fn a_crc64_that_the_response_does_not_repeat_is_trusted_for_whole_blobs_only() {
    let server = server(ChecksumSupport::Crc64);
    let (client, bytes) = (strict(), CONTENT.bytes(0, 3 << 20));
    // After this write the client knows that the server compares CRC64s.
    write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
    assert_eq!(server.requests_of("put-block").len(), 3);
    server.script("PUT", [Fault::NoChecksum]);
    write_blob(&client, &server.url("small"), WriteMode::Replace, b"bytes").unwrap();
    assert_eq!(server.requests_of("PUT").len(), 1);
    assert!(server.requests_of("PUT")[0].header("x-ms-content-crc64").is_some());

    server.script("put-block", [Fault::NoChecksum]);
    write_blob(&client, &server.url("new"), WriteMode::Replace, &bytes).unwrap();
    assert_same(&server.blob("new").unwrap(), &bytes);
    let blocks = server.requests_of("put-block").split_off(3);
    assert_eq!(blocks.len(), 4, "the block without a checksum in its response was not sent again");
    // Blocks are sent at the same time, so any of them may be the one.
    let is_repeated = |id: &Option<&str>| blocks.iter().filter(|block| block.query("blockid") == *id).count() == 2;
    let repeated = blocks.iter().map(|block| block.query("blockid")).find(is_repeated).unwrap();
    let mut of_it = blocks.iter().filter(|block| block.query("blockid") == repeated);
    assert!(of_it.any(|block| block.header("content-md5").is_some()));
}

#[test]
fn a_creation_with_a_wrong_checksum_after_a_lost_response_is_corrupt() {
    for support in SUPPORTED {
        let server = server(support);
        let client = strict();
        write_blob(&client, &server.url("first"), WriteMode::Create, b"bytes").unwrap();
        // After a lost response the client looks for its own marker, which the corrupt upload has set too.
        server.script("PUT", [Fault::Reset { after: None }, Fault::OtherChecksum]);
        let before = server.requests_of("PUT").len();
        let written = write_blob(&client, &server.url("second"), WriteMode::Create, b"bytes");
        let error = expect_error(written, Status::Corrupt);
        assert!(error.message().contains("was published"), "{error}");
        assert_eq!(server.requests_of("PUT").len() - before, 2, "{support:?}");
    }
}

#[test]
fn by_default_uploads_over_https_have_a_checksum() {
    let secure = secure();
    let sas = account_sas("rwdlacup");
    let url = |path: &str| format!("{}/checked{path}?{sas}", secure.azurite.url);
    let over_https = client_with(|options| options.set_ca_file(&secure.certificate));
    over_https.create_container(&url("")).unwrap();
    let write = |client: &Client, name| {
        let before = client.stats().unwrap().requests;
        write_blob(client, &url(name), WriteMode::Create, b"bytes").unwrap();
        client.stats().unwrap().requests - before
    };
    // An Azurite without CRC64 refuses the first upload; the client then sends no CRC64.
    let expected = if azurite().supports_crc64() { (1, 1) } else { (2, 1) };
    assert_eq!((write(&over_https, "/one"), write(&over_https, "/two")), expected);
    // Without `set_checksum(true)` http uploads have no checksum, and with `set_checksum(false)` none has.
    let server = server(ChecksumSupport::Crc64);
    write_blob(&client(), &server.url("new"), WriteMode::Replace, b"bytes").unwrap();
    assert!(server.requests_of("PUT")[0].header("x-ms-content-crc64").is_none());
    let off = client_with(|options| {
        options.set_ca_file(&secure.certificate)?;
        options.set_checksum(false)
    });
    assert_eq!(write(&off, "/three"), 1);
}

#[test]
fn a_service_without_checksums_is_unsupported() {
    let server = server(ChecksumSupport::None);
    let error = expect_error(read_blob(&strict(), &server.url("blob")), Status::Unsupported);
    assert!(error.message().contains("set_checksum"), "{error}");
}

#[test]
fn checksums_work_with_azurite() {
    let container = azurite().container();
    let (client, url) = (strict(), container.blob("checked"));
    for size in [0, 1000, 6 * MIB] {
        write_blob(&client, &url, WriteMode::Replace, &CONTENT.bytes(0, size as usize)).unwrap();
        assert_same(&read_blob(&client, &url).unwrap(), &CONTENT.bytes(0, size as usize));
    }
    // The client knows which checksums Azurite supports and sends one request; a second one would find the blob.
    write_blob(&client, &container.blob("created"), WriteMode::Create, b"small").unwrap();
}

/// Compares the library's CRC64 with that of another implementation.
#[test]
fn azurite_refuses_a_wrong_crc64_and_accepts_the_librarys() {
    let container = azurite().container();
    let crc64 = |bytes: &[u8]| {
        let sum = crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_NVME).checksum(bytes);
        BASE64.encode(sum.to_le_bytes())
    };
    let (right, wrong) = (crc64(b"bytes"), crc64(b"other"));
    let put = |name: &str, sum: &str| {
        let headers = [("x-ms-blob-type", "BlockBlob"), ("x-ms-content-crc64", sum)];
        let answer = container.send("PUT", name, &headers, b"bytes");
        (answer.status, answer.header("x-ms-error-code").unwrap_or_default().to_owned())
    };
    let block = "block?comp=block&blockid=AAAA";
    if !azurite().supports_crc64() {
        for sum in [&right, &wrong] {
            assert_eq!(put("blob", sum), (500, "FeatureNotSupported".to_owned()));
        }
        return;
    }
    for name in ["blob", block] {
        assert_eq!(put(name, &wrong), (400, "Crc64Mismatch".to_owned()), "{name}");
        assert!(container.get("blob").is_none());
        assert_eq!(put(name, &right), (201, String::new()), "{name}");
        container.send("DELETE", "blob", &[], b"");
    }
    // Four blocks in four requests: none was refused and sent again with an MD5.
    write_blob(&strict(), &container.blob("ours"), WriteMode::Create, &CONTENT.bytes(0, 4 << 20)).unwrap();
    let blocks = container.requests("ours").iter().filter(|request| request.query.contains("comp=block&")).count();
    assert_eq!(blocks, 4);
}
