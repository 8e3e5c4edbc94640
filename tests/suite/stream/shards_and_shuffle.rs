//! Shards of streams, and the order of a shuffled stream.

use aztorch::{Dataset, Status, Stream};

use crate::support::client::client;
use crate::support::error::expect_error;
use crate::support::streams::{all_names, generated_names, generated_server};

// test_worker_sharding
#[test]
fn shards_take_every_nth_sample_and_cover_all() {
    let (server, _, url) = generated_server(103, 10);
    server.set_page_size(10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    let urls: Vec<_> = (0..103).map(|index| dataset.url(index).unwrap()).collect();
    for count in [1, 2, 3, 7, 103, 200] {
        let mut union = Vec::new();
        for index in 0..count {
            let expected: Vec<_> = generated_names(0..103).into_iter().skip(index).step_by(count).collect();
            let listed = Stream::list(&client(), &url, None, index, count).unwrap();
            listed.set_lazy().unwrap();
            assert_eq!(all_names(&listed), expected, "shard {index} of {count}");
            let of_dataset = Stream::from_dataset(&dataset, index, count).unwrap();
            of_dataset.set_lazy().unwrap();
            assert_eq!(all_names(&of_dataset), expected, "shard {index} of {count}");
            let of_urls = Stream::from_urls(&client(), &urls, index, count).unwrap();
            of_urls.set_lazy().unwrap();
            assert_eq!(all_names(&of_urls), expected, "shard {index} of {count}");
            union.extend(expected);
        }
        union.sort();
        assert_eq!(union, generated_names(0..103));
    }
}

#[test]
fn shards_beyond_the_last_sample_are_empty() {
    let (_server, _, url) = generated_server(3, 10);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    for count in [1 << 52, usize::MAX] {
        for (index, expected) in [(0, 0..1), (2, 2..3), (3, 0..0), (count - 1, 0..0)] {
            for stream in
                [Stream::list(&client(), &url, None, index, count), Stream::from_dataset(&dataset, index, count)]
            {
                let stream = stream.unwrap();
                assert_eq!(all_names(&stream), generated_names(expected.clone()), "shard {index} of {count}");
                let again = stream.cursor(None).unwrap();
                stream.resume(&again).unwrap();
                assert!(stream.next().unwrap().is_none(), "shard {index} of {count}");
            }
        }
    }
}

#[test]
fn an_invalid_shard_is_refused() {
    let (_server, _, url) = generated_server(1, 1);
    let dataset = Dataset::list(&client(), &url, None).unwrap();
    for (index, count) in [(0, 0), (1, 1), (5, 3), (usize::MAX, usize::MAX), (1, 0)] {
        expect_error(Stream::list(&client(), &url, None, index, count), Status::InvalidArgument);
        expect_error(Stream::from_dataset(&dataset, index, count), Status::InvalidArgument);
        expect_error(Stream::from_urls(&client(), std::slice::from_ref(&url), index, count), Status::InvalidArgument);
    }
    // A shard without samples is valid.
    assert!(all_names(&Stream::list(&client(), &url, None, 1, 2).unwrap()).is_empty());
}

#[test]
fn the_shuffle_is_a_permutation_determined_by_seed_and_epoch() {
    let (server, _, url) = generated_server(400, 10);
    server.set_page_size(90);
    let epochs = |buffer, seed, index, count| {
        let stream = Stream::list(&client(), &url, None, index, count).unwrap();
        stream.set_shuffle(buffer, seed).unwrap();
        stream.set_lazy().unwrap();
        (0..3)
            .map(|_| {
                let names = all_names(&stream);
                stream.reset().unwrap();
                names
            })
            .collect::<Vec<_>>()
    };
    for buffer in [2, 50, 400, 10_000] {
        let first = epochs(buffer, 42, 0, 1);
        for names in &first {
            let mut sorted = names.clone();
            sorted.sort();
            assert_eq!(sorted, generated_names(0..400), "{buffer}");
            assert_ne!(*names, generated_names(0..400), "{buffer}: not shuffled");
            // The sample at position p was in the buffer at that time.
            for (position, name) in names.iter().enumerate() {
                let index: usize = name[9..16].parse().unwrap();
                assert!(index < position + buffer, "{name} at {position} with a buffer of {buffer}");
            }
        }
        assert!(
            first[0] != first[1] && first[1] != first[2] && first[0] != first[2],
            "{buffer}: two epochs have the same order"
        );
        assert_eq!(epochs(buffer, 42, 0, 1), first, "{buffer}: the same seed gives another order");
        assert_ne!(epochs(buffer, 43, 0, 1)[0], first[0], "{buffer}: another seed gives the same order");
    }
    assert_eq!(epochs(1, 42, 0, 1)[0], generated_names(0..400), "a buffer of one name does not shuffle");
    // The shuffle comes after sharding: a shard has the same names with and without it.
    let mut union = Vec::new();
    for index in 0..3 {
        let mut names = epochs(100, 5, index, 3).remove(1);
        union.append(&mut names.clone());
        names.sort();
        assert_eq!(names, generated_names(0..400).into_iter().skip(index).step_by(3).collect::<Vec<_>>());
    }
    union.sort();
    assert_eq!(union, generated_names(0..400));
}

#[test]
fn the_shuffle_mixes_well() {
    let (_server, _, url) = generated_server(5000, 10);
    let stream = Stream::list(&client(), &url, None, 0, 1).unwrap();
    stream.set_shuffle(5000, 3).unwrap();
    stream.set_lazy().unwrap();
    let indices: Vec<f64> = all_names(&stream).iter().map(|name| name[9..16].parse().unwrap()).collect();
    // In a uniform permutation the mean distance is a third of the length, and almost no neighbours stay together.
    let distance = indices.iter().enumerate().map(|(at, index)| (at as f64 - index).abs()).sum::<f64>() / 5000.0;
    assert!((1500.0..1833.0).contains(&distance), "{distance}");
    let neighbours = indices.windows(2).filter(|pair| pair[0] + 1.0 == pair[1]).count();
    assert!(neighbours < 12, "{neighbours} neighbours");
    let quarters = indices.chunks(1250).map(|quarter| quarter.iter().sum::<f64>() / 1250.0);
    for mean in quarters {
        assert!((2300.0..2700.0).contains(&mean), "{mean}");
    }
}
