//! Cursors of a container to which blobs were added, or from which blobs were deleted.

use std::collections::BTreeSet;

use crate::support::streams::{ListedStreams, SHUFFLES, all_names, names_in_folders, numbered_names, take_names};

/// Interrupts shards after this progress, adds blobs throughout the listing, and resumes.
#[track_caller]
fn grow_and_resume(shuffle: Option<(usize, u64)>, page_size: usize, progress: &[usize]) {
    let streams = ListedStreams::new(numbered_names(0..90), page_size, shuffle);
    // Before all old names, between them, and after them.
    let new = (0..90).step_by(4).map(|index| format!("blob-{index:04}+new")).chain(["a".into(), "z".into()]);
    add_and_resume(&streams, new, progress);
}

/// Interrupts shards after this progress, adds blobs, and resumes. Asserts that each old blob is returned once.
#[track_caller]
fn add_and_resume(streams: &ListedStreams, new: impl IntoIterator<Item = String>, progress: &[usize]) {
    let old: BTreeSet<_> = all_names(&streams.unsharded()).into_iter().collect();
    let (cursors, seen) = streams.interrupt_shards(progress);
    new.into_iter().for_each(|name| drop(streams.server.put(&name, b"new".to_vec())));
    let counts = streams.resume_shards(&cursors, seen);
    let what = format!("{:?}, pages of {}, {progress:?}", streams.shuffle, streams.page_size);
    for name in &old {
        assert_eq!(counts.get(name), Some(&1), "{what}: {name}");
    }
    // A new blob may be returned in this epoch, but once only.
    assert!(counts.values().all(|count| *count == 1), "{what}");
}

#[test]
fn both_listing_orders_of_the_service_can_be_resumed() {
    for slash_first in [false, true] {
        for shuffle in [None, Some((4, 1))] {
            for page_size in [1, 4, 5000] {
                for progress in 0..=15 {
                    let streams = ListedStreams::new(names_in_folders(), page_size, shuffle);
                    if slash_first {
                        streams.server.list_like_hierarchical_namespace();
                    }
                    let new = ["a/0", "a/1 new", "a/sub", "a b/sub/", "a-", "a+", "a.b/sub/3", "A", "z"];
                    add_and_resume(&streams, new.map(str::to_owned), &[progress]);
                }
            }
        }
    }
}

#[test]
fn after_additions_each_old_blob_is_returned_once() {
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30, 5000] {
            for progress in [0, 1, 44, 45, 89, 90] {
                grow_and_resume(shuffle, page_size, &[progress]);
            }
        }
    }
}

#[test]
fn after_additions_shards_return_each_old_blob_once() {
    for shuffle in SHUFFLES {
        for progress in [[5, 5, 5], [29, 1, 12], [1, 30, 15]] {
            grow_and_resume(shuffle, 5000, &progress);
        }
    }
}

/// Each shard has listed as far as it needs. If the container grows they need a shared manifest, so here it does not
/// grow.
#[test]
fn shards_on_different_pages_can_be_resumed() {
    for shuffle in SHUFFLES {
        for page_size in [1, 7, 30] {
            for progress in [[5, 5, 5], [29, 1, 12], [1, 30, 15], [0, 30, 15]] {
                add_and_resume(&ListedStreams::new(numbered_names(0..90), page_size, shuffle), [], &progress);
            }
        }
    }
}

#[test]
fn after_deletions_each_remaining_blob_is_returned_once() {
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
fn a_stream_at_its_end_stays_there_after_deletions() {
    for shuffle in SHUFFLES {
        let streams = ListedStreams::new(numbered_names(0..20), 7, shuffle);
        let stream = streams.unsharded();
        assert_eq!(take_names(&stream, 20).len(), 20);
        let mut cursor = stream.cursor(None).unwrap();
        for name in numbered_names(15..20).iter().rev() {
            streams.server.delete(name);
            let resumed = streams.unsharded();
            resumed.resume(&cursor).unwrap();
            assert!(resumed.next().unwrap().is_none(), "{shuffle:?}: a sample was returned again");
            cursor = resumed.cursor(None).unwrap();
        }
    }
}
