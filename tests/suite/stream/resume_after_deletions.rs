//! Cursors whose neighbours in the listing were deleted, for every order in which a service may list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::fault::{Fault, Order};
use crate::support::streams::{ListedStreams, all_names, names_in_folders, numbered_names, take_names};

/// Byte order, the order of a hierarchical namespace, the reverse byte order, and one that does not follow from the
/// names.
const ORDERS: [Order; 4] = [
    |name| name.as_bytes().to_vec(),
    |name| name.replace('/', "\0").into_bytes(),
    |name| name.bytes().map(|byte| !byte).collect(),
    |name| {
        let hash = name.bytes().fold(17_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        hash.to_be_bytes().to_vec()
    },
];

fn streams(names: &[String], page_size: usize, shuffle: Option<(usize, u64)>, order: Order) -> ListedStreams {
    let streams = ListedStreams::new(names.iter().cloned(), page_size, shuffle);
    streams.server.order_listing_by(order);
    streams
}

/// All names, in listing order.
fn listed(streams: &ListedStreams) -> Vec<String> {
    let unshuffled = aztorch::Stream::list(&crate::support::client::client(), &streams.url, None, 0, 1).unwrap();
    unshuffled.set_lazy().unwrap();
    all_names(&unshuffled)
}

/// Interrupts shards, deletes and adds blobs, and resumes; returns how often each old, not deleted name was returned.
fn change_and_resume(
    streams: &ListedStreams,
    progress: &[usize],
    deleted: &[String],
    added: &[String],
) -> BTreeMap<String, usize> {
    let old = listed(streams);
    let (cursors, seen) = streams.interrupt_shards(progress);
    deleted.iter().for_each(|name| streams.server.delete(name));
    added.iter().for_each(|name| drop(streams.server.put(name, b"new".to_vec())));
    let counts = streams.resume_shards(&cursors, seen);
    let left = old.into_iter().filter(|name| !deleted.contains(name));
    left.map(|name| (counts.get(&name).copied().unwrap_or(0), name)).map(|(count, name)| (name, count)).collect()
}

/// The names that were not returned exactly once.
fn wrong_counts(counts: &BTreeMap<String, usize>) -> Vec<(&String, &usize)> {
    counts.iter().filter(|(_, count)| **count != 1).collect()
}

#[test]
fn the_rest_of_a_folder_is_returned_after_the_cursors_blob_was_deleted() {
    for order in ORDERS {
        let names = ["test/1", "train.txt", "train/1", "train/2", "train/3", "val/1"].map(str::to_owned);
        for progress in 0..=names.len() {
            let streams = streams(&names, 5000, None, order);
            let deleted = &listed(&streams)[progress.min(5)..][..1];
            let counts = change_and_resume(&streams, &[progress], deleted, &[]);
            assert!(wrong_counts(&counts).is_empty(), "{deleted:?} deleted at {progress}: {:?}", wrong_counts(&counts));
        }
    }
}

#[test]
fn with_several_deleted_names_around_the_cursor_nothing_is_lost_or_repeated() {
    let mut names = names_in_folders();
    names.extend(["train.txt", "train-1", "train/1", "train/2", "Train/3", "train0"].map(str::to_owned));
    for order in ORDERS {
        for (shuffle, ahead) in [(None, 0), (Some((4, 1)), 3)] {
            for page_size in [1, 4, 5000] {
                for progress in 0..=names.len() {
                    for width in [1, 4] {
                        let streams = streams(&names, page_size, shuffle, order);
                        let listed = listed(&streams);
                        let position = (progress + ahead).min(listed.len());
                        let around = position.saturating_sub(width)..(position + width).min(listed.len());
                        // Some new names are listed where names were deleted.
                        let added = ["train/", "a.b", "b"].map(str::to_owned);
                        let counts = change_and_resume(&streams, &[progress], &listed[around], &added);
                        let what = format!("{shuffle:?}, pages of {page_size}, {progress}, {width}");
                        assert!(wrong_counts(&counts).is_empty(), "{what}: {:?}", wrong_counts(&counts));
                    }
                }
            }
        }
    }
}

#[test]
fn with_deleted_names_around_the_page_end_shards_lose_and_repeat_nothing() {
    for order in ORDERS {
        for shuffle in [None, Some((1, 3)), Some((5, 4))] {
            for deleted in [29..30, 14..40, 0..60, 30..90] {
                let streams = streams(&numbered_names(0..90), 30, shuffle, order);
                let listed = listed(&streams);
                // All shards can list the first page only.
                streams.server.on_request(|request| {
                    let is_next = request.verb() == "list" && request.query("marker").is_some();
                    is_next.then(|| Fault::status(403, "AuthorizationFailure"))
                });
                let (cursors, seen) = streams.interrupt_shards(&[5, 1, 3]);
                streams.server.on_request(|_| None);
                listed[deleted.clone()].iter().for_each(|name| streams.server.delete(name));
                let counts = streams.resume_shards(&cursors, seen);
                for (index, name) in listed.iter().enumerate().filter(|(index, _)| !deleted.contains(index)) {
                    assert_eq!(counts.get(name), Some(&1), "{shuffle:?}, {deleted:?}: {index}");
                }
            }
        }
    }
}

#[test]
fn consumed_blobs_may_be_deleted() {
    for order in ORDERS {
        for (shuffle, progress) in [(None, &[150][..]), (Some((20, 1)), &[150]), (None, &[40, 40, 40])] {
            let streams = streams(&numbered_names(0..300), 60, shuffle, order);
            let listed = listed(&streams);
            let (cursors, seen) = streams.interrupt_shards(progress);
            seen.iter().for_each(|name| streams.server.delete(name));
            let counts = streams.resume_shards(&cursors, seen);
            assert!(listed.iter().all(|name| counts.get(name) == Some(&1)), "{shuffle:?}, {progress:?}: {counts:?}");
        }
    }
}

#[test]
fn if_all_names_around_the_cursor_are_deleted_at_most_a_page_is_repeated() {
    for order in ORDERS {
        for shuffle in [None, Some((10, 1))] {
            for progress in [130, 150, 185] {
                let streams = streams(&numbered_names(0..300), 100, shuffle, order);
                let listed = listed(&streams);
                let counts = change_and_resume(&streams, &[progress], &listed[120..220], &[]);
                let (first, last): (BTreeSet<_>, BTreeSet<_>) =
                    (listed[..100].iter().collect(), listed[220..].iter().collect());
                let what = format!("{shuffle:?}, {progress}");
                for (name, count) in &counts {
                    assert!(*count > 0, "{what}: {name} is lost");
                    let is_elsewhere = first.contains(name) || last.contains(name);
                    assert!(*count == 1 || (*count == 2 && !is_elsewhere), "{what}: {name} was returned {count} times");
                }
            }
        }
    }
}

#[test]
fn the_search_for_a_deleted_blob_is_bounded() {
    let names: Vec<_> = (0..30_000).map(|index| format!("blob-{index:05}")).collect();
    for shuffle in [None, Some((10, 1))] {
        let streams = ListedStreams::new(names.iter().cloned(), 1000, shuffle);
        let stream = streams.unsharded();
        let seen = take_names(&stream, 1000);
        let cursor = stream.cursor(None).unwrap();
        drop(stream);
        names[1000..1015].iter().for_each(|name| streams.server.delete(name));
        // At most a page and 10,000 names are searched, and one more page is prefetched.
        let pages = AtomicUsize::new(0);
        streams.server.on_request(move |request| {
            if request.query("marker").is_none() {
                pages.store(0, Ordering::Relaxed);
            }
            let is_late = request.verb() == "list" && pages.fetch_add(1, Ordering::Relaxed) > 14;
            is_late.then(|| Fault::status(403, "AuthorizationFailure"))
        });
        let resumed = streams.unsharded();
        resumed.resume(&cursor).unwrap();
        let next = resumed.next().unwrap().unwrap();
        assert_eq!(next.position(), 1000, "{shuffle:?}");
        assert!(!seen.contains(&next.name().to_owned()));
    }
}
