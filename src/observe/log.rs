//! The log: passes the `tracing` events of this library and of Azure's SDK to a callback of the caller.
//!
//! Programs in Rust do not need this, because they can install a subscriber of their own.

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

/// A level of the C ABI's `AZT_LOG_LEVEL_*`; 0 is off.
pub(crate) type LogLevel = i32;
const TRACE: LogLevel = 5;

/// Called with level, target and message.
pub(crate) type LogCallback = dyn Fn(LogLevel, &str, &str) + Send + Sync;

type SharedCallback = RwLock<Option<Arc<LogCallback>>>;

/// A forked child inherits the callback, but no lock that was held at the fork.
static CALLBACK: PerProcess<SharedCallback> = PerProcess::for_static();
static LEVEL: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// Whether this thread is inside the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Passes events up to `level` to the callback that `make` returns. `None` removes the callback. Waits for running
/// calls of the old callback. `make` is called only if nothing else can fail, so that the caller keeps its data after
/// an error.
pub(crate) fn set_callback(level: LogLevel, make: Option<impl FnOnce() -> Arc<LogCallback>>) -> Result<()> {
    if INSIDE.get() {
        return Err(Error::unsupported("the log callback cannot be changed from inside itself"));
    }
    if !(0..=TRACE).contains(&level) {
        return Err(Error::invalid(format!("the log level {level} is not one of the AZT_LOG_LEVEL_* constants")));
    }
    if make.is_some() {
        install()?;
    }
    let (shared, level) = (shared_callback()?, if make.is_some() { level } else { 0 });
    let callback = make.map(|make| make());
    // Waits for running calls.
    let old = std::mem::replace(&mut *shared.write().unwrap_or_else(PoisonError::into_inner), callback);
    LEVEL.store(level, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
    drop(old);
    Ok(())
}

/// Installs the process's subscriber. It takes no lock, because a forked child could inherit it locked.
fn install() -> Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    let is_ours = || {
        INSTALLED.load(Ordering::Acquire)
            || tracing::dispatcher::get_default(|current| current.is::<CallbackSubscriber>())
    };
    if !is_ours() && tracing::subscriber::set_global_default(CallbackSubscriber).is_err() && !is_ours() {
        return Err(Error::unsupported("this program has a tracing subscriber of its own; the log goes there"));
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

fn shared_callback() -> Result<&'static SharedCallback> {
    CALLBACK.get_or_inherit(|parent| {
        let inherited = parent.and_then(|parent| parent.try_read().ok().and_then(|callback| callback.clone()));
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

struct CallbackSubscriber;

impl Subscriber for CallbackSubscriber {
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
        let Ok(shared) = shared_callback() else { return };
        // Events from inside the callback are dropped, because they would recurse without end.
        if INSIDE.replace(true) {
            return;
        }
        let mut text = MessageText::default();
        event.record(&mut text);
        let message = redact(&text.0).replace(['\n', '\r'], " ");
        let metadata = event.metadata();
        if let Some(callback) = shared.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            without_blocking(|| callback(number(metadata.level()), metadata.target(), &message));
        }
        INSIDE.set(false);
    }

    // Spans are not logged.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's message, followed by its other fields.
#[derive(Default)]
struct MessageText(String);

impl Visit for MessageText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
