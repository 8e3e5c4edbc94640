//! One entry's bytes on their way into memory: one GET for a small one, parallel ranges for a large one.

use std::ops::Range;
use std::sync::Arc;

use bytes::BufMut;

use crate::core::parallel::together;
use crate::dataset::entries::Part;
use crate::error::{Error, Result, Status};
use crate::memory::Reservation;
use crate::memory::buffer_pool::SampleMemory;
use crate::service::body_sink::{RangeBody, Sink};
use crate::service::client_core::Call;
use crate::service::ranged_get::{self, Only, Opened, Version, fetch, fetch_parts};
use crate::sys::block::{self, Block, Filled};
use crate::sys::caller_buffer::{Destination, Loan};
use crate::url::Target;

/// What one request brings at most; larger entries come as parallel ranges.
const ONE_REQUEST: u64 = 8 << 20;
/// How often a blob may be replaced while it is read before that is an error.
const MAX_VERSIONS: usize = 3;

/// Brings an entry into memory of its own. `memory` is what it was given of the budget, made to fit its size.
pub(crate) async fn load_entry(
    call: &Call,
    target: &Arc<Target>,
    part: &Part,
    mut memory: Option<Reservation>,
) -> Result<(Filled, Option<Reservation>)> {
    let mut block = None;
    let room = |length: u64| {
        if memory.as_mut().is_some_and(|memory| !memory.resize(length)) {
            return Err(Error::new(Status::OutOfMemory, "the memory limit leaves no room to read ahead"));
        }
        let (new, part) = Block::new(length, &SampleMemory)?;
        block = Some(new);
        Ok(Some(Place::own(part)))
    };
    bring_into(call, target, part, ONE_REQUEST, room).await?;
    let block = block.ok_or_else(|| Error::internal("an entry came without memory"))?;
    Ok((block.filled()?, memory))
}

/// Brings an entry into the caller's memory, if it fits there; gives its size in any case.
pub(crate) async fn load_entry_into(call: &Call, target: &Arc<Target>, part: &Part, loan: &mut Loan) -> Result<u64> {
    let capacity = loan.capacity() as u64;
    let first = match part.expected() {
        // It will hardly fit: a look is enough.
        Some(expected) if expected > capacity => 1,
        _ => capacity.clamp(1, ONE_REQUEST),
    };
    let room = |length: u64| {
        if length > capacity {
            return Ok(None);
        }
        let borrowed = loan.lend(length as usize);
        borrowed
            .map(|part| Some(Place::Borrowed(part)))
            .ok_or_else(|| Error::internal("a caller's memory is still lent"))
    };
    bring_into(call, target, part, first, room).await
}

/// `room` gives the place for all of the entry once its size is known, anew if the blob is replaced meanwhile; with
/// `None` nothing is brought.
async fn bring_into(
    call: &Call,
    target: &Arc<Target>,
    part: &Part,
    first: u64,
    mut room: impl FnMut(u64) -> Result<Option<Place>>,
) -> Result<u64> {
    let pinned = matches!(part, Part::Range { version: Some(_), .. });
    let mut versions = 1;
    loop {
        match bring_once(call, target, part, first, &mut room).await {
            Err(error) if error.status() == Status::Modified && !pinned && versions < MAX_VERSIONS => versions += 1,
            result => return result,
        }
    }
}

async fn bring_once(
    call: &Call,
    target: &Arc<Target>,
    part: &Part,
    first: u64,
    room: &mut impl FnMut(u64) -> Result<Option<Place>>,
) -> Result<u64> {
    if part.expected() == Some(0) && matches!(part, Part::Range { .. }) {
        room(0)?;
        return Ok(0);
    }
    let Opened { version, first, body } = open(call, target, part, first).await?;
    let whole = match part {
        Part::Whole { .. } => 0..version.size,
        Part::Range { range, .. } => range.clone(),
    };
    let length = whole.end - whole.start;
    let place = room(length).map_err(|error| error.context(target.display()))?;
    let Some(place) = place else {
        ranged_get::discard(call, body).await;
        return Ok(length);
    };
    transfer(call, target, &version, whole, first, body, place).await?;
    Ok(length)
}

/// The first look at an entry, and its first bytes.
async fn open(call: &Call, target: &Target, part: &Part, first: u64) -> Result<Opened> {
    match part {
        Part::Whole { expected: Some(0) } => match ranged_get::probe_empty(call, target).await? {
            Some(etag) => Ok(Opened::empty(etag)),
            None => ranged_get::open(call, target, 0..first, &Only::Any).await,
        },
        Part::Whole { .. } => ranged_get::open(call, target, 0..first, &Only::Any).await,
        Part::Range { range, version } => {
            let only = version.clone().map_or(Only::Any, Only::If);
            ranged_get::open_part(call, target, range, first, &only).await
        }
    }
}

async fn transfer(
    call: &Call,
    target: &Arc<Target>,
    version: &Version,
    whole: Range<u64>,
    first: Range<u64>,
    body: Option<RangeBody>,
    mut place: Place,
) -> Result<()> {
    if first.end >= whole.end {
        return fetch(call, target, version, whole, body, &mut place).await;
    }
    let version = Arc::new(version.clone());
    let mut sink = |part: &Range<u64>| place.split_to((part.end - part.start) as usize);
    let parts = fetch_parts(call, target, &version, whole, first, body, &mut sink);
    // Drop the empty remainder: while it lives, the loan counts as outstanding.
    drop(place);
    together(parts, call.connections()).await
}

/// Where an entry's bytes are to lie.
enum Place {
    Own { part: block::Part, left: usize },
    Borrowed(Destination),
}

impl Place {
    fn own(mut part: block::Part) -> Self {
        let left = part.destination().len();
        Self::Own { part, left }
    }

    fn split_to(&mut self, length: usize) -> Self {
        match self {
            Self::Own { part, left } => {
                let head = Self::own(part.split_to(length));
                *left = part.destination().len();
                head
            }
            Self::Borrowed(borrowed) => Self::Borrowed(borrowed.split_to(length)),
        }
    }

    fn destination(&mut self) -> &mut Destination {
        match self {
            Self::Own { part, .. } => part.destination(),
            Self::Borrowed(borrowed) => borrowed,
        }
    }
}

impl Sink for Place {
    fn room(&mut self) -> &mut (impl BufMut + Send) {
        self.destination()
    }

    fn received(&mut self) -> Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        self.destination().mark();
        if let Self::Own { part, left } = self {
            let now = part.destination().len();
            part.wrote(*left - now);
            *left = now;
        }
        Ok(())
    }

    fn reject(&mut self) {
        self.destination().rewind();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::retry::Attempt;
    use crate::http::Request;
    use crate::options::ClientOptions;
    use crate::service::client_core::ClientCore;
    use crate::url::parse_blob;

    /// Every step on a future's way to its task copies it, whether or not it ever has to wait.
    #[test]
    fn what_brings_a_small_entry_is_small_itself() {
        let call = ClientCore::new(&ClientOptions::new()).call().unwrap();
        let target = Arc::new(parse_blob("http://127.0.0.1/account/container/blob", None).unwrap());
        let part = Part::Whole { expected: None };
        let one = load_entry(&call, &target, &part, None);
        assert!(size_of_val(&one) < 4096, "{} bytes", size_of_val(&one));
        let attempt = Attempt::first();
        let request = call.service.send(Request::new(http::Method::GET, target.uri("").unwrap()), &attempt);
        assert!(size_of_val(&request) < 4096, "{} bytes", size_of_val(&request));
    }
}
