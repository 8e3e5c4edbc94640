//! Cursors of a container that has grown or shrunk since.

use std::collections::BTreeSet;

use crate::support::streams::{ListedStreams, SHUFFLES, all_names, names_in_folders, numbered_names, take_names};

/// Interrupts shards that have come so far, lets the container grow, and goes on.
#[track_caller]
fn grow_and_go_on(shuffle: Option<(usize, u64)>, page_size: usize, progress: &[usize]) {
    let streams = ListedStreams::new(numbered_names(0..90), page_size, shuffle);
    // Before all of them, between them, and behind.
    let new = (0..90).step_by(4).map(|index| format!("blob-{index:04}+new")).chain(["a".into(), "z".into()]);
    add_and_go_on(&streams, new, progress);
}

#[track_caller]
fn add_and_go_on(streams: &ListedStreams, new: impl IntoIterator<Item = String>, progress: &[usize]) {
    let old: BTreeSet<_> = all_names(&streams.unsharded()).into_iter().collect();
    let (cursors, seen) = streams.interrupt_shards(progress);
    new.into_iter().for_each(|name| drop(streams.server.put(&name, b"new".to_vec())));
    let counts = streams.resume_shards(&cursors, seen);
    let what = format!("{:?}, pages of {}, {progress:?}", streams.shuffle, streams.page_size);
    for name in &old {
        assert_eq!(counts.get(name), Some(&1), "{what}: {name}");
    }
    // A new one may come in this epoch or in the next, and in this one once.
    assert!(counts.values().all(|count| *count == 1), "{what}");
}

#[test]
fn both_orders_of_the_service_can_be_resumed_in() {
    for slash_first in [false, true] {
        for shuffle in [None, Some((4, 1))] {
            for page_size in [1, 4, 5000] {
                for progress in 0..=15 {
                    let streams = ListedStreams::new(names_in_folders(), page_size, shuffle);
                    if slash_first {
                        streams.server.list_like_hierarchical_namespace();
                    }
                    let new = ["a/0", "a/1 new", "a/sub", "a b/sub/", "a-", "a+", "a.b/sub/3", "A", "z"];
                    add_and_go_on(&streams, new.map(str::to_owned), &[progress]);
                }
            }
        }
    }
}

#[test]
fn a_container_that_grew_neither_repeats_nor_loses_what_was_there() {
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30, 5000] {
            for progress in [0, 1, 44, 45, 89, 90] {
                grow_and_go_on(shuffle, page_size, &[progress]);
            }
        }
    }
}

#[test]
fn shards_of_a_container_that_grew_do_not_either() {
    for shuffle in SHUFFLES {
        for progress in [[5, 5, 5], [29, 1, 12], [1, 30, 15]] {
            grow_and_go_on(shuffle, 5000, &progress);
        }
    }
}

/// Each has listed as far as it needed, so that a container that grew would be counted otherwise by each: for that they
/// have to share a manifest. One that did not is gone on with from wherever each of them was.
#[test]
fn shards_on_different_pages_go_on_where_they_were() {
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30] {
            for progress in [[5, 5, 5], [29, 1, 12], [1, 30, 15], [0, 30, 15]] {
                add_and_go_on(&ListedStreams::new(numbered_names(0..90), page_size, shuffle), [], &progress);
            }
        }
    }
}

#[test]
fn what_was_deleted_meanwhile_does_not_disturb_the_others() {
    let old = numbered_names(0..90);
    let deleted: Vec<_> = old.iter().step_by(5).cloned().collect();
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30, 5000] {
            for progress in [&[1][..], &[45], &[46], &[89], &[90]] {
                let streams = ListedStreams::new(old.clone(), page_size, shuffle);
                let (cursors, seen) = streams.interrupt_shards(progress);
                deleted.iter().for_each(|name| streams.server.delete(name));
                let counts = streams.resume_shards(&cursors, seen);
                for name in old.iter().filter(|name| !deleted.contains(name)) {
                    assert_eq!(counts.get(name), Some(&1), "{shuffle:?}, pages of {page_size}, {progress:?}: {name}");
                }
                assert!(counts.values().all(|count| *count == 1));
            }
        }
    }
}

#[test]
fn a_stream_that_had_ended_stays_at_its_end_though_the_last_names_are_gone() {
    for shuffle in SHUFFLES {
        let streams = ListedStreams::new(numbered_names(0..20), 7, shuffle);
        let stream = streams.unsharded();
        assert_eq!(take_names(&stream, 20).len(), 20);
        let mut cursor = stream.cursor(None).unwrap();
        for name in numbered_names(15..20).iter().rev() {
            streams.server.delete(name);
            let resumed = streams.unsharded();
            resumed.resume(&cursor).unwrap();
            assert!(resumed.next().unwrap().is_none(), "{shuffle:?}: given out again");
            cursor = resumed.cursor(None).unwrap();
        }
    }
}
