//! Cursors of a container that has grown or shrunk since.

use std::collections::BTreeSet;

use crate::stream_cursors::{SHUFFLES, Streams, numbered, take};
use crate::streams::all;

/// Shards that have got differently far, the cursors that they left, and what had come by then.
pub fn interrupt(streams: &Streams, progress: &[usize]) -> (Vec<String>, Vec<String>) {
    let mut seen = Vec::new();
    let cursors = progress.iter().enumerate().map(|(index, count)| {
        let stream = streams.shard(index, progress.len());
        seen.extend(take(&stream, *count));
        stream.cursor(None).unwrap()
    });
    let cursors = cursors.collect();
    (cursors, seen)
}

/// Resumes all shards, and counts how often each name came in all.
pub fn go_on(
    streams: &Streams,
    cursors: &[String],
    mut seen: Vec<String>,
) -> std::collections::BTreeMap<String, usize> {
    for (index, cursor) in cursors.iter().enumerate() {
        let stream = streams.shard(index, cursors.len());
        stream.resume(cursor).unwrap();
        while let Some(sample) = stream.next().unwrap() {
            seen.push(sample.name().to_owned());
        }
    }
    let mut counts = std::collections::BTreeMap::new();
    seen.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
    counts
}

/// Interrupts shards that have come so far, lets the container grow, and goes on.
#[track_caller]
fn grow_and_go_on(shuffle: Option<(usize, u64)>, page_size: usize, progress: &[usize]) {
    let streams = Streams::new(numbered(0..90), page_size, shuffle);
    // Before all of them, between them, and behind.
    let new = (0..90).step_by(4).map(|index| format!("blob-{index:04}+new")).chain(["a".into(), "z".into()]);
    add_and_go_on(&streams, new, progress);
}

#[track_caller]
fn add_and_go_on(streams: &Streams, new: impl IntoIterator<Item = String>, progress: &[usize]) {
    let old: BTreeSet<_> = all(&streams.one()).into_iter().collect();
    let (cursors, seen) = interrupt(streams, progress);
    new.into_iter().for_each(|name| drop(streams.server.put(&name, b"new".to_vec())));
    let counts = go_on(streams, &cursors, seen);
    let what = format!("{:?}, pages of {}, {progress:?}", streams.shuffle, streams.page_size);
    for name in &old {
        assert_eq!(counts.get(name), Some(&1), "{what}: {name}");
    }
    // A new one may come in this epoch or in the next, and in this one once.
    assert!(counts.values().all(|count| *count == 1), "{what}");
}

/// Folders, and files whose names begin as those of the folders do.
pub fn in_folders() -> Vec<String> {
    let folders = ["a", "a b", "a-b", "a.b", "ab"];
    folders
        .iter()
        .flat_map(|folder| [(*folder).to_owned() + ".txt", format!("{folder}/1"), format!("{folder}/sub/2")])
        .collect()
}

#[test]
fn both_orders_of_the_service_can_be_resumed_in() {
    for slash_first in [false, true] {
        for shuffle in [None, Some((4, 1))] {
            for page_size in [1, 4, 5000] {
                for progress in 0..=15 {
                    let streams = Streams::new(in_folders(), page_size, shuffle);
                    if slash_first {
                        streams.server.order_slash_first();
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
                add_and_go_on(&Streams::new(numbered(0..90), page_size, shuffle), [], &progress);
            }
        }
    }
}

#[test]
fn what_was_deleted_meanwhile_does_not_disturb_the_others() {
    let old = numbered(0..90);
    let deleted: Vec<_> = old.iter().step_by(5).cloned().collect();
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30, 5000] {
            for progress in [&[1][..], &[45], &[46], &[89], &[90]] {
                let streams = Streams::new(old.clone(), page_size, shuffle);
                let (cursors, seen) = interrupt(&streams, progress);
                deleted.iter().for_each(|name| streams.server.delete(name));
                let counts = go_on(&streams, &cursors, seen);
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
        let streams = Streams::new(numbered(0..20), 7, shuffle);
        let stream = streams.one();
        assert_eq!(take(&stream, 20).len(), 20);
        let mut cursor = stream.cursor(None).unwrap();
        for name in numbered(15..20).iter().rev() {
            streams.server.delete(name);
            let resumed = streams.one();
            resumed.resume(&cursor).unwrap();
            assert!(resumed.next().unwrap().is_none(), "{shuffle:?}: given out again");
            cursor = resumed.cursor(None).unwrap();
        }
    }
}
