//! The log: what `tracing` events of this library and of Azure's SDK become for a caller's callback.
//!
//! Programs in Rust have a subscriber of their own and need none of this.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::{Error, Result};
use crate::redact::redact;
use crate::sys::blocking::without_blocking;
use crate::sys::process::PerProcess;

/// The numbers are the C ABI's `AZT_LOG_LEVEL_*`; 0 is off.
pub(crate) type LogLevel = i32;
const TRACE: LogLevel = 5;

/// Called with level, target and message.
pub(crate) type Sink = dyn Fn(LogLevel, &str, &str) + Send + Sync;

type Slot = RwLock<Option<Arc<Sink>>>;

/// A forked child inherits the callback, but not a lock that was held at the fork.
static SINK: PerProcess<Slot> = PerProcess::for_static();
static LEVEL: AtomicI32 = AtomicI32::new(0);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Sends events of `level` and above to what `sink` makes; `None` ends that, once no call of the old one is running. What
/// belongs to a sink stays its caller's unless this succeeds, so that it is made last of all.
pub(crate) fn set_callback(level: LogLevel, sink: Option<impl FnOnce() -> Arc<Sink>>) -> Result<()> {
    if INSIDE.get() {
        return Err(Error::unsupported("the log callback cannot be changed from inside itself"));
    }
    if !(0..=TRACE).contains(&level) {
        return Err(Error::invalid(format!("the log level {level} is none of the AZT_LOG_LEVEL_* constants")));
    }
    if sink.is_some() {
        install()?;
    }
    let (slot, level) = (slot()?, if sink.is_some() { level } else { 0 });
    let sink = sink.map(|make| make());
    // Waits for the calls that are running.
    let old = std::mem::replace(&mut *slot.write().unwrap_or_else(PoisonError::into_inner), sink);
    LEVEL.store(level, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
    drop(old);
    Ok(())
}

/// Makes us the process's subscriber. Without a lock, which a forked child might inherit locked.
fn install() -> Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    let is_ours =
        || INSTALLED.load(Ordering::Acquire) || tracing::dispatcher::get_default(|current| current.is::<ToCallback>());
    if !is_ours() && tracing::subscriber::set_global_default(ToCallback).is_err() && !is_ours() {
        return Err(Error::unsupported("this program has a tracing subscriber of its own; the log goes there"));
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

fn slot() -> Result<&'static Slot> {
    SINK.get_or_inherit(|parent| {
        let inherited = parent.and_then(|parent| parent.try_read().ok().and_then(|sink| sink.clone()));
        Ok(RwLock::new(inherited))
    })
}

fn number(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => TRACE,
    }
}

struct ToCallback;

impl Subscriber for ToCallback {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = ["aztorch", "azure_identity", "azure_core"].iter().any(|known| metadata.target().starts_with(known));
        ours && metadata.is_event() && number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let Ok(slot) = slot() else { return };
        // What the callback itself provokes is not logged: it would go round for ever.
        if INSIDE.replace(true) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let message = redact(&text.0).replace(['\n', '\r'], " ");
        let metadata = event.metadata();
        if let Some(sink) = slot.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            without_blocking(|| sink(number(metadata.level()), metadata.target(), &message));
        }
        INSIDE.set(false);
    }

    // Spans carry no text of ours.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message, and behind it the fields of whoever has some.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
