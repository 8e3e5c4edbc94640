//! Which cursors a stream refuses: damaged ones, those of an earlier version, and those of another listing.

use aztorch::{Dataset, Status, Stream};

use crate::support::client::client;
use crate::support::error::{assert_no_secret, expect_error};
use crate::support::streams::{ListedStreams, numbered_names, take_names};

#[test]
fn a_cursor_of_another_stream_is_refused() {
    let streams = ListedStreams::new(numbered_names(0..30), 10, Some((5, 1)));
    streams.server.put("/account/other/blob", b"x".to_vec());
    let begun = streams.shard(1, 3);
    take_names(&begun, 4);
    let cursor = begun.cursor(None).unwrap();
    let other = |url: &str, prefix, index, count, shuffle: Option<(usize, u64)>| {
        let stream = Stream::list(&client(), url, prefix, index, count).unwrap();
        if let Some((buffer, seed)) = shuffle {
            stream.set_shuffle(buffer, seed).unwrap();
        }
        stream
    };
    let url = streams.url.clone();
    let another_url = streams.server.url_of("/account/other");
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    let of_dataset = Stream::from_dataset(&dataset, 1, 3).unwrap();
    of_dataset.set_shuffle(5, 1).unwrap();
    for (what, stream) in [
        ("container", other(&another_url, None, 1, 3, Some((5, 1)))),
        ("prefix", other(&url, Some("blob"), 1, 3, Some((5, 1)))),
        ("shard", other(&url, None, 0, 3, Some((5, 1)))),
        ("shards", other(&url, None, 1, 4, Some((5, 1)))),
        ("buffer", other(&url, None, 1, 3, Some((6, 1)))),
        ("seed", other(&url, None, 1, 3, Some((5, 2)))),
        ("no shuffle", other(&url, None, 1, 3, None)),
        ("a dataset", of_dataset),
    ] {
        let Err(error) = stream.resume(&cursor) else { panic!("accepted a cursor with another {what}") };
        expect_error::<()>(Err(error), Status::InvalidArgument);
        // The refused cursor has not changed the stream.
        let next = stream.next().unwrap();
        assert!(next.is_none_or(|sample| sample.position() == 0), "{what}");
    }
    // Another SAS or an empty prefix does not make it another listing.
    let another_sas = url.replace("sp=rwdlc", "sp=r");
    assert_ne!(another_sas, url);
    for stream in [other(&another_sas, None, 1, 3, Some((5, 1))), other(&url, Some(""), 1, 3, Some((5, 1)))] {
        stream.resume(&cursor).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().position(), 4);
    }
    // Streams of URLs differ if their URLs differ.
    let urls = [streams.server.url("blob-0001"), streams.server.url("blob-0002")];
    let stream = Stream::from_urls(&client(), &urls, 0, 1).unwrap();
    stream.next().unwrap();
    let cursor = stream.cursor(None).unwrap();
    let reversed = [urls[1].clone(), urls[0].clone()];
    expect_error(Stream::from_urls(&client(), &reversed, 0, 1).unwrap().resume(&cursor), Status::InvalidArgument);
    expect_error(Stream::from_urls(&client(), &urls[..1], 0, 1).unwrap().resume(&cursor), Status::InvalidArgument);
    Stream::from_urls(&client(), &urls, 0, 1).unwrap().resume(&cursor).unwrap();
}

#[test]
fn a_damaged_cursor_is_refused() {
    let streams = ListedStreams::new(numbered_names(0..30), 10, Some((5, 1)));
    let begun = streams.unsharded();
    take_names(&begun, 7);
    let cursor = begun.cursor(None).unwrap();
    let stream = streams.unsharded();
    for at in 0..cursor.len() {
        for with in ["", "x", "0", "=", ";"] {
            let damaged = format!("{}{with}{}", &cursor[..at], &cursor[at + 1..]);
            if damaged == cursor {
                continue;
            }
            let Err(error) = stream.resume(&damaged) else { panic!("accepted {damaged} instead of {cursor}") };
            assert_eq!(error.status(), Status::InvalidArgument, "{error}");
        }
        expect_error(stream.resume(&cursor[..at]), Status::InvalidArgument);
    }
    for other in
        ["", " ", "cursor", &cursor.to_uppercase(), &format!("{cursor} "), &format!("{cursor}{cursor}"), "模型"]
    {
        expect_error(stream.resume(other), Status::InvalidArgument);
    }
    stream.resume(&cursor).unwrap();
    assert_eq!(stream.next().unwrap().unwrap().position(), 7);
}

#[test]
fn cursors_contain_no_secret() {
    let streams = ListedStreams::new(numbered_names(0..5), 10, None);
    let cursor = streams.unsharded().cursor(None).unwrap();
    assert_no_secret(&cursor);
    assert!(!cursor.contains("sig=") && !cursor.contains("sp=rw"), "{cursor}");
}

#[test]
fn a_cursor_of_an_earlier_version_is_refused() {
    let streams = ListedStreams::new(numbered_names(0..5), 10, None);
    let old = "azt-cursor-1;listing=00000000000000ff;shard=0/1;epoch=0;position=3;count=3;check=f9e389137baa3a66";
    let error = expect_error(streams.unsharded().resume(old), Status::InvalidArgument);
    assert!(error.message().contains("earlier version"), "{error}");
}
