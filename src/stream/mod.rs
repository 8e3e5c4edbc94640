//! Iterable datasets: entries are listed while the stream is read, and loaded ahead. Each is given out once.

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
use crate::stream::cursor::{Cursor, SequenceId, digest};
use crate::stream::pipeline::{EpochState, Pipeline};
use crate::stream::shard::Shard;
use crate::stream::shuffle::{HISTORY, Shuffle, ShuffleBuffer};
use crate::stream::source::NameReader;
use crate::sys::blocking::check_may_block;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

pub(crate) mod cursor;
pub(crate) mod listed;
mod pages;
mod pipeline;
mod search;
pub(crate) mod shard;
mod shuffle;
mod source;

/// One shard of a sequence of samples. Shard `i` of `n` has the entries `i`, `i + n`, `i + 2n` … of the listing.
/// Entries are loaded ahead of the caller, within the memory limit. Several threads may take samples from one stream.
pub struct Stream {
    core: ClientCore,
    names: NameSource,
    shard: Shard,
    fingerprint: OnceCell<u64>,
    settings: Mutex<Settings>,
    pipeline: PerProcess<Arc<Pipeline>>,
}

/// Where the names of the entries come from.
enum NameSource {
    Table(Arc<Entries>),
    Listed(Listing),
}

/// The caller's settings. A forked child begins with them, at the beginning of the epoch or at the cursor.
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
        Self::new(client.core(), NameSource::Listed(listing), shard_index, shard_count)
    }

    /// The blobs of these URLs, in this order.
    pub fn from_urls(
        client: &Client,
        urls: &[impl AsRef<str>],
        shard_index: usize,
        shard_count: usize,
    ) -> Result<Self> {
        let entries = entries_of_urls(client.core(), urls)?;
        Self::new(client.core(), NameSource::Table(Arc::new(entries)), shard_index, shard_count)
    }

    /// The entries of a dataset, in its order.
    pub fn from_dataset(dataset: &Dataset, shard_index: usize, shard_count: usize) -> Result<Self> {
        Self::new(dataset.core(), NameSource::Table(dataset.entries().clone()), shard_index, shard_count)
    }

    fn new(core: &ClientCore, names: NameSource, index: usize, count: usize) -> Result<Self> {
        if index >= count {
            return Err(Error::invalid(format!("shard_index is {index}; of {count} shards it must be less than that")));
        }
        Ok(Self {
            core: core.child(),
            names,
            shard: Shard { index, count },
            fingerprint: OnceCell::new(),
            settings: Mutex::default(),
            pipeline: PerProcess::new(),
        })
    }

    /// Shuffles the shard's entries through a buffer of `buffer_names` names. Each epoch has an order of its own.
    /// Allowed before the first [`next`](Self::next) only.
    pub fn set_shuffle(&self, buffer_names: usize, seed: u64) -> Result<()> {
        if buffer_names == 0 {
            return Err(Error::invalid("the shuffle's buffer must hold at least 1 name"));
        }
        self.unstarted("shuffled")?.shuffle = Some(Shuffle { buffer: buffer_names, seed });
        Ok(())
    }

    /// Makes the stream give out samples without their bytes. Allowed before the first [`next`](Self::next) only.
    pub fn set_lazy(&self) -> Result<()> {
        self.unstarted("made lazy")?.lazy = true;
        Ok(())
    }

    /// The settings, if the stream has not begun; otherwise an error, which names the refused operation `what`.
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

    /// The next sample, or `None` at the end. Each sample goes to one caller. If a sample cannot be loaded, the call
    /// fails; a later call tries it again if the error may be temporary, and otherwise skips it.
    pub fn next(&self) -> Result<Option<Sample>> {
        check_may_block()?;
        self.begin()?.next(&self.core.call()?)
    }

    /// Ends this epoch and begins the next one.
    pub fn reset(&self) -> Result<()> {
        let mut settings = self.settings();
        settings.epoch += 1;
        settings.cursor = None;
        self.restart(&settings)
    }

    /// Returns the place after position `after`, or after the last sample that was given out, as one line of text for
    /// [`resume`](Self::resume).
    pub fn cursor(&self, after: Option<u64>) -> Result<String> {
        let pipeline = self.begin()?;
        // Lock the settings before the state, as `restart` does.
        let Settings { shuffle, epoch, cursor: resumed, .. } = self.settings().clone();
        let id = self.id(shuffle)?;
        let state = pipeline.lock();
        let position = match after {
            None => state.next_position,
            Some(after) => {
                after.checked_add(1).filter(|&position| position <= state.next_position).ok_or_else(|| {
                    let message =
                        format!("position {after} was not given out yet; the next one is {}", state.next_position);
                    Error::new(Status::OutOfRange, message)
                })?
            }
        };
        let too_old = || {
            let message = format!("position {position} is too long ago; cursors go back {} positions", HISTORY);
            Error::new(Status::OutOfRange, message)
        };
        if let Some(resumed) = resumed.filter(|_| state.names.is_resuming()) {
            return if position == resumed.position { Ok(resumed.to_text()) } else { Err(too_old()) };
        }
        let remaining = state.sequence.remaining_at(position).ok_or_else(too_old)?;
        let (place, slots, queue) = state.names.place_of(&remaining, self.shard)?;
        let retry = state.retry.range(..position).map(|(&position, item)| Ok((position, state.names.key(item)?)));
        let retry = retry.collect::<Result<_>>()?;
        Ok(Cursor { id, epoch, position, place, slots, queue, retry }.to_text())
    }

    /// Continues at a cursor of the same listing, shard and shuffle, taken in this process or another one. If all names
    /// next to the cursor's place were deleted, samples of its page are repeated, and none is lost.
    pub fn resume(&self, cursor: &str) -> Result<()> {
        let cursor = Cursor::parse(cursor)?;
        let mut settings = self.settings();
        self.id(settings.shuffle)?.check(&cursor.id)?;
        (settings.started, settings.epoch) = (true, cursor.epoch);
        settings.cursor = Some(cursor);
        self.restart(&settings)
    }

    /// Ends all calls of this stream with `Status::Cancelled`, now and in future. Returns at once. Callable from any
    /// thread.
    pub fn cancel(&self) {
        self.core.cancel();
    }

    fn id(&self, shuffle: Option<Shuffle>) -> Result<SequenceId> {
        let listing = *self.fingerprint.get_or_try_init(|| self.names.fingerprint())?;
        Ok(SequenceId { listing, shard_index: self.shard.index, shard_count: self.shard.count, shuffle })
    }

    /// The pipeline; the first call starts the epoch.
    fn begin(&self) -> Result<&Arc<Pipeline>> {
        self.pipeline.get_or_try_init(|| {
            let mut settings = self.settings();
            settings.started = true;
            let listing = match &self.names {
                NameSource::Table(_) => None,
                NameSource::Listed(listing) => Some(listing.clone()),
            };
            Pipeline::new(&self.core, self.shard, listing, self.names.state(&settings))
        })
    }

    fn restart(&self, settings: &Settings) -> Result<()> {
        // A pipeline that is created later begins with the settings.
        if let Some(pipeline) = self.pipeline.get() {
            pipeline.restart(self.names.state(settings));
        }
        Ok(())
    }
}

impl NameSource {
    /// A digest of the stream's source. A cursor with another digest is refused.
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

    /// The state at the beginning of an epoch, or at the cursor.
    fn state(&self, settings: &Settings) -> EpochState {
        let mut names = match self {
            Self::Table(entries) => NameReader::of_table(entries),
            Self::Listed(_) => NameReader::of_listing(),
        };
        let mut sequence = ShuffleBuffer::new(settings.shuffle, settings.epoch);
        let cursor = settings.cursor.as_ref();
        let retry = cursor.map(|cursor| names.resume(cursor, &mut sequence)).unwrap_or_default();
        let position = cursor.map_or(0, |cursor| cursor.position);
        EpochState::new(settings.lazy, sequence, names, retry, position)
    }
}
