//! Datasets of tar archives, most of them made by the real `tar`.

use std::fs;
use std::io::SeekFrom;
use std::os::unix::fs::symlink;
use std::process::Command;

use aztorch::{Dataset, Status};

use crate::support::azurite::azurite;
use crate::support::client::{client, client_with, names, read_at, read_rest};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};
use crate::support::tar::{BLOCK, Folder, bytes_requested, serve_archive};

const FORMATS: [&str; 4] = ["ustar", "gnu", "posix", "v7"];

#[test]
fn members_of_every_format_are_entries_in_archive_order() {
    let folder = Folder::new();
    let members = ["b.jpg", "a.txt", "folder/c with space", "empty", "folder/sub/d", "exactly-512", "Grüße/模型.bin"];
    let bytes = |name: &str| match name {
        "empty" => Vec::new(),
        "exactly-512" => vec![b'x'; BLOCK],
        other => other.repeat(100).into_bytes(),
    };
    for name in members {
        folder.write(name, &bytes(name));
    }
    let container = azurite().container();
    for format in FORMATS {
        let option = format!("--format={format}");
        container.put("shard.tar", &folder.tar(&[&option], &members));
        let dataset = Dataset::from_tars(&client(), &[container.blob("shard.tar")]).unwrap();
        assert_eq!(names(&dataset), members, "{format}");
        for (index, name) in members.into_iter().enumerate() {
            assert_eq!(dataset.size(index).unwrap(), Some(bytes(name).len() as u64));
            let sample = dataset.get(index).unwrap();
            assert_same(sample.bytes(), &bytes(name));
            assert_eq!(sample.bytes().as_ptr().align_offset(64), 0);
            // The name is the member's; container and URL are the archive's.
            assert_eq!((sample.name(), sample.container_name()), (name, container.name.as_str()));
            assert_eq!(sample.url(), format!("{}/shard.tar", container.bare_url()));
            assert_eq!((sample.position(), sample.blob_size()), (index as u64, Some(bytes(name).len() as u64)));
        }
    }
}

#[test]
fn long_names_are_read_in_every_format() {
    let folder = Folder::new();
    // ustar allows 155 bytes before a slash and 100 after it; the other formats have no limit.
    let split = format!("{}/{}", ["folder"; 20].join("/"), "n".repeat(90));
    let exact = format!("{}/{}", "p".repeat(155), "n".repeat(100));
    let long = format!("{}/{}", [&"p".repeat(60); 10].map(|part| part.as_str()).join("/"), "模".repeat(80));
    let short = "short".to_owned();
    for name in [&split, &exact, &long, &short] {
        folder.write(name, name.as_bytes());
    }
    for (format, members) in [
        ("ustar", vec![&split, &short, &exact]),
        ("gnu", vec![&split, &long, &short, &exact]),
        ("posix", vec![&long, &split, &short, &exact]),
    ] {
        let members: Vec<_> = members.into_iter().map(String::as_str).collect();
        let (_server, dataset) = serve_archive(folder.tar(&[&format!("--format={format}")], &members));
        assert_eq!(names(&dataset), members, "{format}");
        for (index, name) in members.into_iter().enumerate() {
            assert_eq!(dataset.get(index).unwrap().bytes(), name.as_bytes(), "{format}");
        }
    }
}

#[test]
fn members_other_than_regular_files_are_skipped() {
    let folder = Folder::new();
    folder.write("folder/file", b"bytes");
    folder.write("folder/other", b"other");
    let long = "l".repeat(150);
    symlink("file", folder.path("folder/link")).unwrap();
    symlink(&long, folder.path("folder/long link")).unwrap();
    symlink("file", folder.path(&format!("folder/{long}"))).unwrap();
    fs::hard_link(folder.path("folder/file"), folder.path("folder/hard")).unwrap();
    let status = Command::new("mkfifo").arg(folder.path("folder/pipe")).status().unwrap();
    assert!(status.success());
    fs::create_dir(folder.path("folder/empty")).unwrap();
    for format in FORMATS {
        let mut members = vec!["folder/file", "folder/link", "folder/hard", "folder/empty"];
        // Add the kinds of members that the format supports.
        match format {
            "v7" => {}
            "ustar" => members.push("folder/pipe"),
            _ => members.extend(["folder/pipe", "folder/long link"]),
        }
        members.push("folder/other");
        let (_server, dataset) = serve_archive(folder.tar(&[&format!("--format={format}")], &members));
        assert_eq!(names(&dataset), ["folder/file", "folder/other"], "{format}");
        assert_eq!(dataset.get(1).unwrap().bytes(), b"other");
    }
    let (_server, dataset) = serve_archive(folder.tar(&["--format=gnu"], &["folder"]));
    assert_eq!(dataset.len(), 2, "a folder with everything in it: {:?}", names(&dataset));
}

#[test]
fn unknown_pax_attributes_are_ignored() {
    let folder = Folder::new();
    folder.write("file", b"bytes");
    folder.write("other", b"other bytes");
    let archive = folder.tar(
        &[
            "--format=posix",
            "--pax-option=comment:=a comment\nof two lines,SCHILY.xattr.user.x:=a=b\n12 path=no\n",
            "--pax-option=globexthdr.name=/global",
            "--pax-option=mtime=1.5",
        ],
        &["file", "other"],
    );
    assert!(archive.windows(12).any(|window| window == b"of two lines"), "the comment is not in the archive");
    let (_server, dataset) = serve_archive(archive);
    assert_eq!(names(&dataset), ["file", "other"]);
    assert_eq!(dataset.get(1).unwrap().bytes(), b"other bytes");
}

#[test]
fn names_may_contain_line_breaks() {
    let folder = Folder::new();
    let name = format!("two\nlines {}", "é".repeat(60));
    folder.write(&name, b"bytes");
    for format in ["gnu", "posix"] {
        let (_server, dataset) = serve_archive(folder.tar(&[&format!("--format={format}")], &[&name]));
        assert_eq!(names(&dataset), [name.as_str()], "{format}");
    }
}

#[test]
fn an_empty_archive_is_empty_and_a_missing_one_not_found() {
    let (_server, dataset) = serve_archive(vec![0; 10_240]);
    assert!(dataset.is_empty());
    let none: [&str; 0] = [];
    assert!(Dataset::from_tars(&client(), &none).unwrap().is_empty());
    let server = FaultServer::start();
    server.put("shard.tar", vec![0; 1024]);
    let error = expect_error(
        Dataset::from_tars(&client(), &[server.url("shard.tar"), server.url("absent.tar")]),
        Status::NotFound,
    );
    assert!(error.message().contains("/absent.tar"), "{error}");
    // A blob of 0 bytes may be a failed upload; it is corrupt or an empty dataset.
    server.put("empty.tar", b"".to_vec());
    let result = Dataset::from_tars(&client(), &[server.url("empty.tar")]);
    assert!(result.as_ref().map_or_else(|error| error.status() == Status::Corrupt, Dataset::is_empty));
}

#[test]
fn members_of_several_archives_follow_each_other() {
    let folder = Folder::new();
    let server = FaultServer::start();
    let mut expected = Vec::new();
    for shard in 0..20 {
        let members: Vec<_> = (0..5).map(|member| format!("{shard:02}/{member}")).collect();
        members.iter().for_each(|name| folder.write(name, name.as_bytes()));
        let members: Vec<_> = members.iter().map(String::as_str).collect();
        server.put(&format!("shard-{shard}.tar"), folder.tar(&[], &members));
        expected.extend(members.iter().map(|name| (*name).to_owned()));
    }
    server.on_request(|_| Some(Fault::Delay(std::time::Duration::from_millis(50))));
    let urls: Vec<_> = (0..20).map(|shard| server.url(&format!("shard-{shard}.tar"))).collect();
    let dataset = Dataset::from_tars(&client(), &urls).unwrap();
    assert_eq!(names(&dataset), expected);
    let chain = server.longest_chain("GET");
    assert!(chain <= 4, "{chain} round trips to index 20 archives");
    for index in [99, 0, 42] {
        assert_eq!(dataset.get(index).unwrap().bytes(), expected[index].as_bytes());
    }
    let batch = dataset.get_batch(&[7, 93, 7, 50]).unwrap();
    assert_eq!(
        batch.iter().map(|sample| sample.name()).collect::<Vec<_>>(),
        [7, 93, 7, 50].map(|i| expected[i].as_str())
    );
}

#[test]
fn indexing_does_not_download_large_members() {
    let folder = Folder::new();
    let content = Content::new(3, 20 << 20);
    let members: Vec<_> = (0..5).map(|member| format!("volume-{member}")).collect();
    members.iter().for_each(|name| folder.write(name, &content.all()));
    let archive = folder.tar(&[], &members.iter().map(String::as_str).collect::<Vec<_>>());
    let size = archive.len() as u64;
    let (server, dataset) = serve_archive(archive);
    assert_eq!(dataset.len(), 5);
    let requests = server.requests();
    let bytes = bytes_requested(&requests, size);
    assert!(bytes < 1 << 20, "{bytes} bytes for the index of {size}");
    assert!(requests.len() <= 8, "{} requests for 5 members", requests.len());
    assert!(requests.iter().all(|request| request.verb() == "GET"));
    assert_same(dataset.get(3).unwrap().bytes(), &content.all());
    let bytes = bytes_requested(&server.requests()[requests.len()..], size);
    assert_eq!(bytes, content.size, "get fetches exactly the member");
}

#[test]
fn indexing_many_small_members_takes_few_requests() {
    let folder = Folder::new();
    let members: Vec<_> = (0..3000).map(|member| format!("{member:04}")).collect();
    members.iter().for_each(|name| folder.write(name, &[b'x'; 1500]));
    let archive = folder.tar(&[], &members.iter().map(String::as_str).collect::<Vec<_>>());
    let size = archive.len() as u64;
    let (server, dataset) = serve_archive(archive);
    assert_eq!(names(&dataset), members);
    let requests = server.requests().len();
    assert!(requests <= 120, "{requests} requests for 3,000 members in {size} bytes");
    let bytes = bytes_requested(&server.requests(), size);
    assert!(bytes * 10 <= size * 11, "{bytes} bytes requested of {size}");
}

#[test]
fn a_reader_over_a_member_has_its_size_and_bytes() {
    let folder = Folder::new();
    let (before, content) = (Content::new(4, 3 << 20), Content::new(5, (10 << 20) + 77));
    folder.write("before", &before.all());
    folder.write("volume", &content.all());
    folder.write("behind", &[0xee; 100_000]);
    let (server, dataset) = serve_archive(folder.tar(&[], &["before", "volume", "behind"]));
    let readers = [dataset.open(1).unwrap(), dataset.open(1).unwrap(), dataset.get(1).unwrap().open().unwrap()];
    for reader in &readers {
        assert_eq!(reader.size(), content.size);
        assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), content.size);
        assert_eq!(read_rest(reader).unwrap(), b"");
        assert_eq!(reader.seek(SeekFrom::Start(1000)).unwrap(), 1000);
        assert_same(&read_rest(reader).unwrap(), &content.bytes(1000, content.size as usize - 1000));
        assert_same(&read_at(reader, content.size - 5, 100).unwrap(), &content.bytes(content.size - 5, 5));
        assert!(reader.seek(SeekFrom::Current(-1_000_000_000)).is_err());
    }
    assert_same(&read_rest(&dataset.open(0).unwrap()).unwrap(), &before.all());
    // Every request after the first one requires the indexed version.
    let etag =
        crate::support::http::send("HEAD", &server.url("shard.tar"), &[], b"").header("etag").unwrap().to_owned();
    let requests = server.requests_of("GET");
    assert!(requests[1..].iter().all(|request| request.header("if-match") == Some(&etag)));
}

#[test]
fn a_replaced_archive_is_modified() {
    let folder = Folder::new();
    folder.write("one", &[b'1'; 100]);
    folder.write("two", &[b'2'; 100]);
    let (server, dataset) = serve_archive(folder.tar(&[], &["one", "two"]));
    assert_eq!(dataset.get(0).unwrap().bytes(), [b'1'; 100]);
    server.put("shard.tar", folder.tar(&[], &["two", "one"]));
    // The offsets in the index are those of the old archive.
    let error = expect_error(dataset.get(1), Status::Modified);
    assert!(error.message().contains("/shard.tar"), "{error}");
    expect_error(dataset.get_batch(&[1]), Status::Modified);
    expect_error(dataset.get_into(1, &mut [0; 100]), Status::Modified);
    expect_error(dataset.open(1).and_then(|reader| read_rest(&reader)), Status::Modified);
}

#[test]
fn failed_requests_of_the_indexing_are_retried() {
    let folder = Folder::new();
    let members: Vec<_> = (0..300).map(|member| format!("{member:03}")).collect();
    members.iter().for_each(|name| folder.write(name, &[b'x'; 3000]));
    let archive = folder.tar(&[], &members.iter().map(String::as_str).collect::<Vec<_>>());
    for fault in [
        Fault::status(503, "ServerBusy"),
        Fault::Reset { after: Some(20_000) },
        Fault::Close { after: None },
        Fault::ShortBody(100),
        Fault::ShiftedRange(512),
    ] {
        let server = FaultServer::start();
        server.put("shard.tar", archive.clone());
        let repeated = fault.clone();
        server.on_request(move |request| (request.index % 3 == 1).then(|| repeated.clone()));
        let dataset = Dataset::from_tars(&client(), &[server.url("shard.tar")])
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(names(&dataset), members);
        assert!(server.requests().len() > 3, "no request had {fault:?}");
    }
    let server = FaultServer::start();
    server.put("shard.tar", archive);
    server.on_request(|request| (request.index > 0).then(|| Fault::status(500, "")));
    let client = client_with(|options| options.set_max_retries(1));
    let result = Dataset::from_tars(&client, &[server.url("shard.tar")]);
    expect_error(result, Status::Unavailable);
}
