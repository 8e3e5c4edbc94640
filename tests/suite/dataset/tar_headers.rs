//! Headers of tar archives, including some that `tar` does not write: sizes, links, ends, damage.

use std::fs;
use std::io::SeekFrom;
use std::process::Command;

use aztorch::{Dataset, Status};

use crate::support::client::{client, names, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::fault::FaultServer;
use crate::support::tar::{BLOCK, Folder, bytes_requested, expect_refused_archive, serve_archive};

/// A ustar header for one file.
fn header(name: &str, size: &str, kind: u8) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size.as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Pads to whole blocks.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A pax header with these attributes.
fn pax(attributes: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in attributes {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        content += &format!("{length}{rest}");
    }
    [header("PaxHeaders/x", &format!("{:011o}", content.len()), b'x'), padded(content.into_bytes())].concat()
}

#[test]
fn pax_sizes_and_paths_override_the_header() {
    let member = [
        pax(&[("path", "the real name"), ("size", "700")]),
        header("another name", "00000000000", b'0'),
        padded(vec![b'a'; 700]),
        header("next", "00000000003", b'0'),
        padded(b"abc".to_vec()),
        vec![0; 2 * BLOCK],
    ];
    let (_server, dataset) = serve_archive(member.concat());
    assert_eq!(names(&dataset), ["the real name", "next"]);
    assert_eq!(dataset.get(0).unwrap().bytes(), [b'a'; 700]);
    assert_eq!(dataset.get(1).unwrap().bytes(), b"abc");
}

#[test]
fn links_have_no_data_even_with_a_size() {
    // POSIX allows a hard link to have the size of its file, even at the end of the archive.
    for kind in *b"123456" {
        let archive =
            [header("file", "00000000003", b'0'), padded(b"abc".to_vec()), header("link", "00000100000", kind)];
        let (_server, dataset) = serve_archive(archive.concat());
        assert_eq!(names(&dataset), ["file"], "kind {}", char::from(kind));
    }
}

#[test]
fn sizes_above_8_gib_are_read() {
    // The field's eleven octal digits end at 8 GiB. pax stores larger sizes in decimal, GNU in binary.
    let size = 9_u64 << 30;
    let mut binary = vec![0x80, 0, 0, 0];
    binary.extend_from_slice(&size.to_be_bytes());
    let mut gnu = header("large", "", b'0');
    gnu[124..136].copy_from_slice(&binary);
    gnu[148..156].copy_from_slice(b"        ");
    let sum: u32 = gnu.iter().map(|byte| u32::from(*byte)).sum();
    gnu[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let pax = [pax(&[("size", &size.to_string())]), header("large", "00000000000", b'0')].concat();
    for head in [gnu, pax] {
        let server = FaultServer::start();
        let content = Content::new(1, head.len() as u64 + size);
        server.put_content_with_head("shard.tar", head, content);
        let dataset = Dataset::from_tars(&client(), &[server.url("shard.tar")]).unwrap();
        assert_eq!((names(&dataset), dataset.size(0).unwrap()), (vec!["large".to_owned()], Some(size)));
        let reader = dataset.open(0).unwrap();
        assert_eq!(reader.seek(SeekFrom::End(-10)).unwrap(), size - 10);
        assert_same(&read_rest(&reader).unwrap(), &content.bytes(content.size - 10, 10));
        let bytes = bytes_requested(&server.requests(), content.size);
        assert!(bytes < 128 << 20, "{bytes} bytes");
    }
}

#[test]
fn an_archive_may_end_without_padding() {
    let folder = Folder::new();
    folder.write("one", &[b'1'; 1000]);
    folder.write("two", &[b'2'; 700]);
    let whole = folder.tar(&["--format=ustar"], &["one", "two"]);
    let data_end = BLOCK + 1024 + BLOCK + 700;
    for end in [data_end, data_end + 1, BLOCK + 1024 + BLOCK + 1024, data_end + 1000, whole.len() - 1] {
        let (_server, dataset) = serve_archive(&whole[..end]);
        assert_eq!(names(&dataset), ["one", "two"], "cut at {end}");
        assert_eq!(dataset.get(1).unwrap().bytes(), [b'2'; 700]);
    }
}

#[test]
fn a_truncated_archive_is_corrupt() {
    let folder = Folder::new();
    folder.write("one", &[b'1'; 1000]);
    folder.write(&"two".repeat(50), &[b'2'; 700]);
    for format in ["gnu", "posix"] {
        let whole = folder.tar(&[&format!("--format={format}")], &["one", &"two".repeat(50)]);
        let second = (0..whole.len() - 700).find(|at| whole[*at..*at + 700] == [b'2'; 700]).unwrap();
        let first = (0..whole.len()).find(|at| whole[*at..*at + 1000] == [b'1'; 1000]).unwrap();
        // The ends are in a header, in an extended header and its data, and in the member's data.
        for end in [1, 100, first - 1, first, first + 1, first + 999, second - 1100, second - 1, second, second + 699] {
            let error = expect_refused_archive(&whole[..end], Status::Corrupt);
            assert!(!error.is_retryable(), "{error}");
        }
    }
}

#[test]
fn a_blob_that_is_not_a_tar_archive_is_corrupt_with_advice() {
    let folder = Folder::new();
    folder.write("file", &[b'x'; 5000]);
    folder.write("noise", &Content::new(6, 100_000).all());
    for (option, name) in [("--gzip", "gzip"), ("--bzip2", "bzip2"), ("--zstd", "zstd"), ("--xz", "xz")] {
        // Not every machine has all of these programs.
        if Command::new(name).arg("--version").output().is_err() {
            assert_ne!(name, "gzip", "gzip is missing");
            continue;
        }
        // Compressed archives smaller and larger than one tar block.
        for file in ["file", "noise"] {
            let error = expect_refused_archive(folder.tar(&[option], &[file]), Status::Corrupt);
            assert!(error.message().contains("compressed"), "{name} of {file}: {error}");
        }
    }
    for archive in [b"PK\x03\x04".repeat(1000), vec![b'x'; 10_000], Content::new(5, 100_000).all(), b"short".to_vec()] {
        let error = expect_refused_archive(archive, Status::Corrupt);
        assert!(error.message().contains("tar"), "{error}");
    }
}

#[test]
fn a_damaged_header_is_corrupt() {
    let folder = Folder::new();
    folder.write("one", &[b'1'; 100]);
    folder.write("two", &[b'2'; 100]);
    let whole = folder.tar(&["--format=ustar"], &["one", "two"]);
    for at in [0, 50, 110, 130, 148, 156, 300, 1024, 1024 + 130, 1024 + 150] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x11;
        expect_refused_archive(damaged, Status::Corrupt);
    }
    // Impossible sizes in headers with right checksums.
    for size in ["77777777777", "00000000xyz", "-0000000001", "\u{7f}\u{7f}\u{7f}"] {
        expect_refused_archive([header("file", size, b'0'), vec![0; 4 * BLOCK]].concat(), Status::Corrupt);
        expect_refused_archive([header("file", size, b'L'), vec![0; 4 * BLOCK]].concat(), Status::Corrupt);
        expect_refused_archive([header("file", size, b'x'), vec![0; 4 * BLOCK]].concat(), Status::Corrupt);
    }
    for size in ["-1", "99999999999999999999", "18446744073709551615", "18446744073709551000", "x", ""] {
        let archive = [pax(&[("size", size)]), header("file", "00000000000", b'0'), vec![0; 4 * BLOCK]].concat();
        expect_refused_archive(archive, Status::Corrupt);
    }
}

#[test]
fn sparse_files_are_unsupported() {
    let folder = Folder::new();
    let file = fs::File::create(folder.path("holes")).unwrap();
    file.set_len(10 << 20).unwrap();
    drop(file);
    folder.write("file", b"bytes");
    for format in ["gnu", "posix"] {
        let archive =
            folder.tar(&["--sparse", "--hole-detection=raw", &format!("--format={format}")], &["file", "holes"]);
        assert!(archive.len() < 1 << 20, "the archive is not sparse");
        let error = expect_refused_archive(archive, Status::Unsupported);
        assert!(error.message().contains("holes") && error.message().contains("sparse"), "{error}");
    }
}
