//! Cursors: a resumed stream returns exactly the rest of the epoch, in the same process or in another.

use std::collections::BTreeSet;
use std::io::Read;

use aztorch::{BlobRange, Dataset, Status, Stream};

use crate::support::azurite::azurite;
use crate::support::child::{self, test_path};
use crate::support::client::client;
use crate::support::error::expect_error;
use crate::support::fault::{FaultServer, GeneratedBlobs};
use crate::support::streams::{ListedStreams, SHUFFLES, all_names, names_from, numbered_names, take_names};

/// A cursor without the names that follow its position in the listing.
fn without_following_names(cursor: &str) -> &str {
    cursor.split(";behind=").next().unwrap()
}

#[test]
fn every_position_of_an_epoch_can_be_resumed() {
    for shuffle in SHUFFLES {
        for (index, count) in [(0, 1), (0, 3), (2, 3)] {
            let streams = ListedStreams::new(numbered_names(0..60), 13, shuffle);
            let whole = streams.shard(index, count);
            let names = all_names(&whole);
            whole.reset().unwrap();
            let next_epoch = all_names(&whole);
            let stream = streams.shard(index, count);
            let fresh = stream.cursor(None).unwrap();
            let mut cursors = vec![fresh];
            for position in 0..names.len() as u64 {
                stream.next().unwrap().unwrap();
                cursors.push(stream.cursor(None).unwrap());
                // A page that arrives between the two calls changes the cursor, so they may have to be repeated.
                let is_same = (0..10).any(|_| {
                    let (last, again) = (stream.cursor(None).unwrap(), stream.cursor(Some(position)).unwrap());
                    without_following_names(&last) == without_following_names(&again)
                });
                assert!(is_same, "{shuffle:?} {position}: the cursor of this position differs");
            }
            for (position, cursor) in cursors.iter().enumerate() {
                assert!(cursor.is_ascii() && !cursor.contains(['\n', '\r', '\0', ' ']), "{cursor}");
                let resumed = streams.shard(index, count);
                resumed.resume(cursor).unwrap();
                // The cursor of a resumed stream that has read nothing is at the same position.
                let again = resumed.cursor(None).unwrap();
                let other = streams.shard(index, count);
                other.resume(&again).unwrap();
                assert_eq!(names_from(&other, position as u64), names[position..], "{shuffle:?} {position}");
                assert_eq!(names_from(&resumed, position as u64), names[position..], "{shuffle:?} {position}");
                assert!(resumed.next().unwrap().is_none());
                resumed.reset().unwrap();
                assert_eq!(all_names(&resumed), next_epoch, "{shuffle:?} {position}: the next epoch");
            }
        }
    }
}

#[test]
fn a_stream_returns_cursors_of_earlier_positions() {
    for shuffle in SHUFFLES {
        let streams = ListedStreams::new(numbered_names(0..60), 13, shuffle);
        let stream = streams.unsharded();
        let names = take_names(&stream, 60);
        for position in 0..60 {
            let resumed = streams.unsharded();
            resumed.resume(&stream.cursor(Some(position)).unwrap()).unwrap();
            assert_eq!(names_from(&resumed, position + 1), names[position as usize + 1..], "{shuffle:?} {position}");
        }
        for position in [60, 61, u64::MAX - 1] {
            let error = stream.cursor(Some(position)).expect_err("a position that was not reached");
            assert!(matches!(error.status(), Status::OutOfRange | Status::InvalidArgument), "{error}");
        }
        // A resumed stream returns cursors of positions since the resume.
        let resumed = streams.unsharded();
        resumed.resume(&stream.cursor(Some(29)).unwrap()).unwrap();
        take_names(&resumed, 10);
        let again = streams.unsharded();
        again.resume(&resumed.cursor(Some(34)).unwrap()).unwrap();
        assert_eq!(names_from(&again, 35), names[35..]);
    }
}

#[test]
fn cursors_go_back_65536_positions() {
    let server = FaultServer::start();
    let url = server.put_generated("many", GeneratedBlobs { count: 70_000, size: 1 });
    for shuffle in [None, Some((1000, 1))] {
        let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
        if let Some((buffer, seed)) = shuffle {
            stream.set_shuffle(buffer, seed).unwrap();
        }
        stream.set_lazy().unwrap();
        let names = take_names(&stream, 69_000);
        let oldest = 69_000 - 65_536;
        let cursor = stream.cursor(Some(oldest)).unwrap_or_else(|error| panic!("{shuffle:?}: {error}"));
        let resumed = Stream::list(&client(), &url, None, 0, 1).unwrap();
        if let Some((buffer, seed)) = shuffle {
            resumed.set_shuffle(buffer, seed).unwrap();
        }
        resumed.set_lazy().unwrap();
        resumed.resume(&cursor).unwrap();
        assert_eq!(take_names(&resumed, 1000), names[oldest as usize + 1..][..1000]);
        let error = expect_error(stream.cursor(Some(0)), Status::OutOfRange);
        assert!(error.message().contains("65536") || error.message().contains("65,536"), "{error}");
    }
}

#[test]
fn later_epochs_can_be_resumed() {
    let streams = ListedStreams::new(numbered_names(0..50), 13, Some((20, 9)));
    let stream = streams.unsharded();
    for epoch in 0..4 {
        let names = take_names(&stream, 20);
        let cursor = stream.cursor(None).unwrap();
        let rest = names_from(&stream, 20);
        let resumed = streams.unsharded();
        resumed.resume(&cursor).unwrap();
        assert_eq!(names_from(&resumed, 20), rest, "epoch {epoch}");
        let union: BTreeSet<_> = names.into_iter().chain(rest).collect();
        assert!(union.into_iter().eq(numbered_names(0..50)));
        // A cursor that is taken at the end of an epoch resumes at that end.
        let end = stream.cursor(None).unwrap();
        resumed.resume(&end).unwrap();
        assert!(resumed.next().unwrap().is_none());
        stream.reset().unwrap();
    }
}

#[test]
fn streams_of_urls_and_datasets_can_be_resumed() {
    let server = FaultServer::start();
    server.put("a", b"0123456789".to_vec());
    server.put("b", b"abc".to_vec());
    // The same blobs several times: names do not identify a position.
    let urls: Vec<_> = (0..40).map(|index| server.url(if index % 3 == 0 { "a" } else { "b" })).collect();
    let ranges: Vec<_> = (0..10).map(|offset| BlobRange { url: server.url("a"), offset, length: 1 }).collect();
    let of_urls = Dataset::from_urls(&client(), &urls).unwrap();
    let of_ranges = Dataset::from_ranges(&client(), &ranges).unwrap();
    let bytes = |stream: &Stream| {
        std::iter::from_fn(|| stream.next().unwrap()).map(|sample| sample.bytes().to_vec()).collect::<Vec<_>>()
    };
    let make: [&dyn Fn() -> Stream; 4] = [
        &|| Stream::from_urls(&client(), &urls, 0, 1).unwrap(),
        &|| Stream::from_urls(&client(), &urls, 1, 3).unwrap(),
        &|| Stream::from_dataset(&of_urls, 0, 1).unwrap(),
        &|| Stream::from_dataset(&of_ranges, 0, 1).unwrap(),
    ];
    for make in make {
        for shuffle in SHUFFLES {
            let stream = || {
                let stream = make();
                if let Some((buffer, seed)) = shuffle {
                    stream.set_shuffle(buffer, seed).unwrap();
                }
                stream
            };
            let whole = bytes(&stream());
            for position in [0, 1, 5, whole.len() - 1, whole.len()] {
                let begun = stream();
                (0..position).for_each(|_| drop(begun.next().unwrap()));
                let resumed = stream();
                resumed.resume(&begun.cursor(None).unwrap()).unwrap();
                assert_eq!(bytes(&resumed), whole[position..], "{shuffle:?} {position}");
            }
        }
    }
    // A manifest's dataset is the same listing on every rank.
    of_urls.save_manifest(&server.url("manifest")).unwrap();
    let loaded = Dataset::from_manifest(&client(), &server.url("manifest")).unwrap();
    let stream = Stream::from_dataset(&of_urls, 0, 1).unwrap();
    stream.next().unwrap();
    let resumed = Stream::from_dataset(&loaded, 0, 1).unwrap();
    resumed.resume(&stream.cursor(None).unwrap()).unwrap();
    assert_eq!(bytes(&resumed).len(), 39);
}

#[test]
fn another_process_resumes_in_the_middle_of_an_epoch() {
    if let Some(argument) = child::argument() {
        let [url, shuffle, cursor, count] = argument.split(' ').collect::<Vec<_>>()[..] else { panic!("{argument}") };
        let stream = Stream::list(&client(), url, None, 0, 1).unwrap();
        if let Some((buffer, seed)) = shuffle.split_once('/') {
            stream.set_shuffle(buffer.parse().unwrap(), seed.parse().unwrap()).unwrap();
        }
        if cursor != "-" {
            stream.resume(cursor).unwrap();
        }
        for _ in 0..count.parse().unwrap() {
            let sample = stream.next().unwrap().unwrap();
            assert_eq!(sample.bytes(), sample.name().as_bytes());
            println!("\nsample {} {}", sample.position(), sample.name());
        }
        println!("\ncursor {}", stream.cursor(None).unwrap());
        // Like a killed program: no destructors run.
        std::process::abort();
    }
    let container = azurite().container();
    let names = numbered_names(0..40);
    names.iter().for_each(|name| drop(container.put(name, name.as_bytes())));
    for shuffle in ["-", "15/7"] {
        let (mut cursor, mut seen) = ("-".to_owned(), Vec::new());
        for count in [3, 0, 20, 1, 16] {
            let argument = format!("{} {shuffle} {cursor} {count}", container.url());
            let mut process = child::spawn(test_path(another_process_resumes_in_the_middle_of_an_epoch), &argument);
            let mut output = String::new();
            process.stdout.take().unwrap().read_to_string(&mut output).unwrap();
            process.wait().unwrap();
            for line in output.lines() {
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["sample", position, name] => {
                        assert_eq!(position, seen.len().to_string());
                        seen.push(name.to_owned());
                    }
                    ["cursor", text] => cursor = text.to_owned(),
                    _ => {}
                }
            }
        }
        let one_process = Stream::list(&client(), &container.url(), None, 0, 1).unwrap();
        if shuffle != "-" {
            one_process.set_shuffle(15, 7).unwrap();
        }
        assert_eq!(seen, all_names(&one_process), "five processes return other samples than one");
        let union: BTreeSet<_> = seen.into_iter().collect();
        assert!(union.into_iter().eq(names.iter().cloned()), "each blob is returned exactly once");
    }
}

#[test]
fn a_resumed_stream_lists_only_the_pages_that_it_needs() {
    let server = FaultServer::start();
    let url = server.put_generated("many", GeneratedBlobs { count: 50_000, size: 1 });
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_lazy().unwrap();
    take_names(&stream, 12_000);
    let resumed = Stream::list(&client(), &url, None, 0, 1).unwrap();
    resumed.set_lazy().unwrap();
    let before = server.requests().len();
    resumed.resume(&stream.cursor(None).unwrap()).unwrap();
    assert_eq!(server.requests().len(), before, "resume sent a request");
    assert_eq!(resumed.next().unwrap().unwrap().name(), GeneratedBlobs::name(12_000));
    let pages = server.requests().len() - before;
    assert!(pages <= 4, "{pages} pages up to sample 12,000");
}

#[test]
fn a_cursor_of_a_consumed_position_resumes_there_with_several_threads() {
    let server = FaultServer::start();
    let url = server.put_generated("many", GeneratedBlobs { count: 1000, size: 100 });
    server.set_page_size(300);
    let make = || {
        let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
        stream.set_shuffle(100, 11).unwrap();
        stream
    };
    let stream = make();
    let received = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..150 {
                    let sample = stream.next().unwrap().unwrap();
                    received.lock().unwrap().push((sample.position(), sample.name().to_owned()));
                }
            });
        }
    });
    let mut received = received.into_inner().unwrap();
    received.sort();
    // The training loop has consumed 400 of the 600 samples that its workers received.
    let cursor = stream.cursor(Some(399)).unwrap();
    let resumed = make();
    resumed.resume(&cursor).unwrap();
    let rest = names_from(&resumed, 400);
    assert_eq!(rest[..200], received[400..].iter().map(|(_, name)| name.clone()).collect::<Vec<_>>());
    let union: BTreeSet<_> = received[..400].iter().map(|(_, name)| name.clone()).chain(rest).collect();
    assert!(union.into_iter().eq((0..1000).map(GeneratedBlobs::name)));
}
