//! Iterable datasets: listed while they are read, fetched ahead, given out once each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use once_cell::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::bring::bring;
use crate::client::Client;
use crate::cursor::{Cursor, Which, digest};
use crate::dataset::{Dataset, entries_of_urls, listing};
use crate::entries::Entries;
use crate::error::{Error, Result, Status};
use crate::listing::{Listing, Page};
use crate::order::{HISTORY, Next, Sequence, Shuffle};
use crate::runtime::{block_on, check_may_block, spawn};
use crate::sample::{Item, Pending, Sample, UsualSize};
use crate::session::{Call, Session};
use crate::sys::block::Filled;
use crate::sys::process::PerProcess;

mod feed;

use feed::{Feed, Shard, Wish};

/// How many samples are fetched ahead at first; each one given out doubles it.
const FIRST_AHEAD: usize = 8;
const MOST_AHEAD: usize = 128;
/// With fewer names than this at hand, the next page is asked for.
const FEW_NAMES: usize = 2500;

/// One shard of a sequence of samples, shared by all threads that take from it. Shard `i` of `n` gives out entries
/// `i`, `i + n`, `i + 2n` … of the listing, read ahead of the caller within the memory limit.
pub struct Stream {
    session: Session,
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

struct Running {
    session: Session,
    shard: Shard,
    /// The listing, for what is not a table.
    listing: Option<Listing>,
    usual: UsualSize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How often everything was begun anew.
    generation: u64,
    lazy: bool,
    sequence: Sequence<Item>,
    feed: Feed,
    /// What will be given out next, in order.
    planned: VecDeque<Planned>,
    /// What was given out and failed for now, by position.
    retry: BTreeMap<u64, Item>,
    /// The next position to be given out.
    given: u64,
    ahead: usize,
    page: Option<AbortHandle>,
    /// Why the last page did not come, for the next caller.
    trouble: Option<Error>,
}

struct Planned {
    position: u64,
    item: Item,
    size: u64,
    pending: Option<Pending>,
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
        let listing = listing(client.session(), container_url, prefix)?;
        Self::new(client.session(), Names::Listed(listing), shard_index, shard_count)
    }

    /// The blobs of these URLs, in this order.
    pub fn from_urls(
        client: &Client,
        urls: &[impl AsRef<str>],
        shard_index: usize,
        shard_count: usize,
    ) -> Result<Self> {
        let entries = entries_of_urls(client.session(), urls)?;
        Self::new(client.session(), Names::Table(Arc::new(entries)), shard_index, shard_count)
    }

    /// The entries of a dataset, in its order.
    pub fn from_dataset(dataset: &Dataset, shard_index: usize, shard_count: usize) -> Result<Self> {
        Self::new(dataset.session(), Names::Table(dataset.entries().clone()), shard_index, shard_count)
    }

    fn new(session: &Session, names: Names, index: usize, count: usize) -> Result<Self> {
        if index >= count {
            return Err(Error::invalid(format!("shard_index is {index}; of {count} shards it must be less than that")));
        }
        Ok(Self {
            session: session.clone(),
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
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sample, `None` at the end. Each goes to one caller. One that failed for good is an error once and then
    /// passed; one that failed for now is tried again by the next call.
    pub fn next(&self) -> Result<Option<Sample>> {
        check_may_block()?;
        let call = self.session.call()?;
        let running = self.begin()?;
        let mut state = running.lock();
        loop {
            if let Some((position, item)) = state.retry.pop_first() {
                let planned = Planned { position, item, size: 0, pending: None };
                return running.give(state, planned, &call).map(Some);
            }
            running.plan(&mut state, &call)?;
            if let Some(planned) = state.planned.pop_front() {
                state.given = planned.position + 1;
                state.ahead = (state.ahead * 2).min(MOST_AHEAD);
                running.plan(&mut state, &call)?;
                return running.give(state, planned, &call).map(Some);
            }
            if let Some(trouble) = state.trouble.take() {
                return Err(trouble);
            }
            if state.page.is_none() {
                return Ok(None);
            }
            state = running.wait(state, &call)?;
        }
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
        let (listed, slots, queue) = state.feed.tell(&rest, self.shard)?;
        let retry = state.retry.range(..position).map(|(&position, item)| Ok((position, state.feed.key(item)?)));
        let retry = retry.collect::<Result<_>>()?;
        Ok(Cursor { which, epoch, position, listed, slots, queue, retry }.to_text())
    }

    /// Goes on where a cursor of the same listing, shard and shuffle was taken, in this process or another one.
    pub fn resume(&self, cursor: &str) -> Result<()> {
        let cursor = Cursor::parse(cursor)?;
        let mut settings = self.settings();
        self.which(settings.shuffle)?.check(&cursor.which)?;
        (settings.started, settings.epoch) = (true, cursor.epoch);
        settings.cursor = Some(cursor);
        self.restart(&settings)
    }

    fn which(&self, shuffle: Option<Shuffle>) -> Result<Which> {
        let listing = *self.fingerprint.get_or_try_init(|| self.names.fingerprint())?;
        Ok(Which { listing, shard_index: self.shard.index, shard_count: self.shard.count, shuffle })
    }

    fn begin(&self) -> Result<&Arc<Running>> {
        self.running.get_or_try_init(|| {
            let mut settings = self.settings();
            settings.started = true;
            Ok(Arc::new(Running {
                session: self.session.clone(),
                shard: self.shard,
                listing: match &self.names {
                    Names::Table(_) => None,
                    Names::Listed(listing) => Some(listing.clone()),
                },
                usual: UsualSize::default(),
                state: Mutex::new(self.names.state(&settings, 0)),
                changed: Condvar::new(),
            }))
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
                let mut all = sha2::Sha256::default();
                for index in 0..entries.len() {
                    let entry = entries.entry(index)?;
                    sha2::Digest::update(&mut all, entry.url());
                    let place = entry.offset().map(|offset| (entry.name(), offset, entry.size()));
                    sha2::Digest::update(&mut all, format!("\n{place:?}\n"));
                }
                Ok(digest(&sha2::Digest::finalize(all)))
            }
        }
    }

    fn state(&self, settings: &Settings, generation: u64) -> State {
        let mut feed = match self {
            Self::Table(entries) => Feed::of_table(entries),
            Self::Listed(_) => Feed::of_listing(),
        };
        let mut sequence = Sequence::new(settings.shuffle, settings.epoch);
        let cursor = settings.cursor.as_ref();
        let retry = cursor.map(|cursor| feed.resume(cursor, &mut sequence)).unwrap_or_default();
        State {
            generation,
            lazy: settings.lazy,
            sequence,
            feed,
            planned: VecDeque::new(),
            retry: retry.into_iter().collect(),
            given: cursor.map_or(0, |cursor| cursor.position),
            ahead: FIRST_AHEAD,
            page: None,
            trouble: None,
        }
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what is given out next, and begins to fetch it, as far as the memory limit allows.
    fn plan(self: &Arc<Self>, state: &mut State, call: &Call) -> Result<()> {
        let most = self.session.budget().limit() / 2;
        let mut bytes: u64 = state.planned.iter().map(|planned| planned.size).sum();
        while state.planned.len() < state.ahead && (bytes < most || state.planned.is_empty()) {
            if state.feed.is_resuming() {
                break;
            }
            match state.sequence.next() {
                Next::Item(position, item) => {
                    let size = if state.lazy { 0 } else { self.usual.likely(&item) };
                    let memory = if state.lazy { None } else { self.session.budget().try_reserve(size) };
                    let short = memory.is_none() && !state.lazy;
                    let pending = memory.map(|memory| Pending::start(call, &item, memory, ())).transpose()?;
                    bytes += size;
                    state.planned.push_back(Planned { position, item, size, pending });
                    if short {
                        break;
                    }
                }
                Next::NeedsMore if state.feed.feed_table(self.shard, &mut state.sequence) => {}
                Next::NeedsMore | Next::End => break,
            }
        }
        if state.page.is_none() && state.trouble.is_none() && state.sequence.queued() < FEW_NAMES {
            self.ask_for_page(state, call)?;
        }
        Ok(())
    }

    fn ask_for_page(self: &Arc<Self>, state: &mut State, call: &Call) -> Result<()> {
        let (Some(wish), Some(listing)) = (state.feed.wish(), self.listing.clone()) else { return Ok(()) };
        let (call, generation, shard, running) =
            (call.in_background(), state.generation, self.shard, Arc::downgrade(self));
        state.page = Some(spawn(async move {
            let Wish { marker, .. } = &wish;
            let page = listing.page(&call, marker, |number| wish.keep(shard, number)).await;
            take_page(&running, generation, &listing, page);
        })?);
        Ok(())
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, call: &Call) -> Result<MutexGuard<'a, State>> {
        let Some(deadline) = call.limits.deadline else {
            return Ok(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(call.limits.deadline_passed());
        }
        Ok(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Gives a sample to the caller, once it is there.
    fn give(&self, state: MutexGuard<'_, State>, planned: Planned, call: &Call) -> Result<Sample> {
        let (generation, lazy) = (state.generation, state.lazy);
        drop(state);
        let Planned { position, item, pending, .. } = planned;
        if lazy {
            return Ok(Sample::new(&self.session, item, position, None));
        }
        match self.bytes(&item, pending, call) {
            Ok(bytes) => {
                self.usual.saw(bytes.len());
                Ok(Sample::new(&self.session, item, position, Some(bytes)))
            }
            Err(error) => {
                let mut state = self.lock();
                if failed_for_now(&error) && state.generation == generation {
                    state.retry.insert(position, item);
                }
                Err(error)
            }
        }
    }

    fn bytes(&self, item: &Item, pending: Option<Pending>, call: &Call) -> Result<Filled> {
        if let Some(bytes) = pending.map(|pending| pending.wait(call)).transpose()?.flatten() {
            return Ok(bytes);
        }
        let entry = item.entry()?;
        let (call, target, part) = (call.clone(), Arc::new(entry.target()), entry.part());
        block_on(async move { bring(&call, &target, &part, None).await.map(|(bytes, _)| bytes) })
    }
}

fn failed_for_now(error: &Error) -> bool {
    error.is_retryable() || matches!(error.status(), Status::Timeout | Status::Cancelled)
}

/// What a page's request ends with.
fn take_page(running: &Weak<Running>, generation: u64, listing: &Listing, page: Result<Page>) {
    let Some(running) = running.upgrade() else { return };
    let mut guard = running.lock();
    let state = &mut *guard;
    if state.generation == generation {
        state.page = None;
        let fed = page.and_then(|page| state.feed.feed_page(listing, page, running.shard, &mut state.sequence));
        match fed {
            Ok(retry) => state.retry.extend(retry),
            Err(error) => state.trouble = Some(error),
        }
        running.changed.notify_all();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(page) = &self.page {
            page.abort();
        }
    }
}
