//! Iterable datasets: listed while they are read, fetched ahead, given out once each.

use std::sync::{Arc, Mutex, MutexGuard};

use once_cell::sync::OnceCell;
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::dataset::entries::Entries;
use crate::dataset::sample::Sample;
use crate::dataset::{Dataset, entries_of_urls, listing};
use crate::error::{Error, Result, Status};
use crate::service::client_core::ClientCore;
use crate::service::list_blobs::Listing;
use crate::stream::cursor::{Cursor, Which, digest};
use crate::stream::shuffle::{HISTORY, Shuffle, ShuffleBuffer};
use crate::sys::blocking::check_may_block;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

pub(crate) mod cursor;
mod pages;
mod pipeline;
mod search;
mod shuffle;
mod source;

use pipeline::{Running, State};
use source::{Feed, Shard};

/// One shard of a sequence of samples, shared by all threads that take from it. Shard `i` of `n` gives out entries
/// `i`, `i + n`, `i + 2n` … of the listing, read ahead of the caller within the memory limit.
pub struct Stream {
    core: ClientCore,
    names: Names,
    shard: Shard,
    fingerprint: OnceCell<u64>,
    settings: Mutex<Settings>,
    running: PerProcess<Arc<Running>>,
}

/// Where the names come from.
enum Names {
    Table(Arc<Entries>),
    Listed(Listing),
}

/// What a forked child begins with.
#[derive(Clone, Default)]
struct Settings {
    shuffle: Option<Shuffle>,
    lazy: bool,
    started: bool,
    epoch: u64,
    cursor: Option<Cursor>,
}

impl Stream {
    /// The blobs of a container whose names begin with `prefix`. Sends nothing yet.
    pub fn list(
        client: &Client,
        container_url: &str,
        prefix: Option<&str>,
        shard_index: usize,
        shard_count: usize,
    ) -> Result<Self> {
        let listing = listing(client.core(), container_url, prefix)?;
        Self::new(client.core(), Names::Listed(listing), shard_index, shard_count)
    }

    /// The blobs of these URLs, in this order.
    pub fn from_urls(
        client: &Client,
        urls: &[impl AsRef<str>],
        shard_index: usize,
        shard_count: usize,
    ) -> Result<Self> {
        let entries = entries_of_urls(client.core(), urls)?;
        Self::new(client.core(), Names::Table(Arc::new(entries)), shard_index, shard_count)
    }

    /// The entries of a dataset, in its order.
    pub fn from_dataset(dataset: &Dataset, shard_index: usize, shard_count: usize) -> Result<Self> {
        Self::new(dataset.core(), Names::Table(dataset.entries().clone()), shard_index, shard_count)
    }

    fn new(core: &ClientCore, names: Names, index: usize, count: usize) -> Result<Self> {
        if index >= count {
            return Err(Error::invalid(format!("shard_index is {index}; of {count} shards it must be less than that")));
        }
        Ok(Self {
            core: core.child(),
            names,
            shard: Shard { index, count },
            fingerprint: OnceCell::new(),
            settings: Mutex::default(),
            running: PerProcess::new(),
        })
    }

    /// Shuffles through a buffer of so many names, after sharding; each epoch has an order of its own. Before the
    /// first [`next`](Self::next) only.
    pub fn set_shuffle(&self, buffer_names: usize, seed: u64) -> Result<()> {
        if buffer_names == 0 {
            return Err(Error::invalid("the shuffle's buffer must hold at least 1 name"));
        }
        self.unstarted("shuffled")?.shuffle = Some(Shuffle { buffer: buffer_names, seed });
        Ok(())
    }

    /// Gives out samples without their bytes. Before the first [`next`](Self::next) only.
    pub fn set_lazy(&self) -> Result<()> {
        self.unstarted("made lazy")?.lazy = true;
        Ok(())
    }

    fn unstarted(&self, what: &str) -> Result<MutexGuard<'_, Settings>> {
        let settings = self.settings();
        match settings.started {
            false => Ok(settings),
            true => Err(Error::unsupported(format!("a stream cannot be {what} once it has begun or was resumed"))),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// The next sample, `None` at the end. Each goes to one caller. One that failed for good is an error once and then
    /// passed; one that failed for now is tried again by the next call.
    pub fn next(&self) -> Result<Option<Sample>> {
        check_may_block()?;
        self.begin()?.next(&self.core.call()?)
    }

    /// Begins the next epoch.
    pub fn reset(&self) -> Result<()> {
        let mut settings = self.settings();
        settings.epoch += 1;
        settings.cursor = None;
        self.restart(&settings)
    }

    /// Where the stream is behind position `after`, or behind the last sample that was given out: one line of text for
    /// [`resume`](Self::resume).
    pub fn cursor(&self, after: Option<u64>) -> Result<String> {
        let running = self.begin()?;
        // Before the state: `restart` takes them in this order, too.
        let Settings { shuffle, epoch, cursor: resumed, .. } = self.settings().clone();
        let which = self.which(shuffle)?;
        let state = running.lock();
        let position = match after {
            None => state.given,
            Some(after) => after.checked_add(1).filter(|&position| position <= state.given).ok_or_else(|| {
                let message = format!("position {after} was not given out yet; the next one is {}", state.given);
                Error::new(Status::OutOfRange, message)
            })?,
        };
        let too_old = || {
            let message = format!("position {position} is too long ago; cursors go back {} positions", HISTORY);
            Error::new(Status::OutOfRange, message)
        };
        if let Some(resumed) = resumed.filter(|_| state.feed.is_resuming()) {
            return if position == resumed.position { Ok(resumed.to_text()) } else { Err(too_old()) };
        }
        let rest = state.sequence.rest_at(position).ok_or_else(too_old)?;
        let (place, slots, queue) = state.feed.tell(&rest, self.shard)?;
        let retry = state.retry.range(..position).map(|(&position, item)| Ok((position, state.feed.key(item)?)));
        let retry = retry.collect::<Result<_>>()?;
        Ok(Cursor { which, epoch, position, place, slots, queue, retry }.to_text())
    }

    /// Goes on where a cursor of the same listing, shard and shuffle was taken, in this process or another one. When all
    /// names around its place were deleted, what was given out of its page comes once more, and nothing is lost.
    pub fn resume(&self, cursor: &str) -> Result<()> {
        let cursor = Cursor::parse(cursor)?;
        let mut settings = self.settings();
        self.which(settings.shuffle)?.check(&cursor.which)?;
        (settings.started, settings.epoch) = (true, cursor.epoch);
        settings.cursor = Some(cursor);
        self.restart(&settings)
    }

    /// Ends what is running, and refuses what comes later, with `Status::Cancelled`, for good. Returns at once; from any
    /// thread.
    pub fn cancel(&self) {
        self.core.cancel();
    }

    fn which(&self, shuffle: Option<Shuffle>) -> Result<Which> {
        let listing = *self.fingerprint.get_or_try_init(|| self.names.fingerprint())?;
        Ok(Which { listing, shard_index: self.shard.index, shard_count: self.shard.count, shuffle })
    }

    fn begin(&self) -> Result<&Arc<Running>> {
        self.running.get_or_try_init(|| {
            let mut settings = self.settings();
            settings.started = true;
            let listing = match &self.names {
                Names::Table(_) => None,
                Names::Listed(listing) => Some(listing.clone()),
            };
            Running::new(&self.core, self.shard, listing, self.names.state(&settings, 0))
        })
    }

    fn restart(&self, settings: &Settings) -> Result<()> {
        // Without one the settings are all that there is.
        if let Some(running) = self.running.get() {
            let mut state = running.lock();
            *state = self.names.state(settings, state.generation + 1);
            running.changed.notify_all();
        }
        Ok(())
    }
}

impl Names {
    /// A number for what is listed, so that a cursor is not used with something else.
    fn fingerprint(&self) -> Result<u64> {
        match self {
            Self::Listed(Listing { container, prefix }) => {
                Ok(digest(format!("{}\n{prefix}", container.target.display()).as_bytes()))
            }
            Self::Table(entries) => {
                let mut all = Sha256::new();
                for index in 0..entries.len() {
                    let entry = entries.entry(index)?;
                    all.update(entry.url());
                    let place = entry.offset().map(|offset| (entry.name(), offset, entry.size()));
                    all.update(format!("\n{place:?}\n"));
                }
                Ok(digest(&all.finalize()))
            }
        }
    }

    fn state(&self, settings: &Settings, generation: u64) -> State {
        let mut feed = match self {
            Self::Table(entries) => Feed::of_table(entries),
            Self::Listed(_) => Feed::of_listing(),
        };
        let mut sequence = ShuffleBuffer::new(settings.shuffle, settings.epoch);
        let cursor = settings.cursor.as_ref();
        let retry = cursor.map(|cursor| feed.resume(cursor, &mut sequence)).unwrap_or_default();
        let position = cursor.map_or(0, |cursor| cursor.position);
        State::new(generation, settings.lazy, sequence, feed, retry, position)
    }
}
