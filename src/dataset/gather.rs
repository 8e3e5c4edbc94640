//! Several operations of one call at a time, and their results.

use std::future::Future;
use std::sync::{Arc, Mutex};

use crate::core::limits::Limits;
use crate::core::parallel::Transfers;
use crate::error::{Error, Result};
use crate::sys::lock::lock;

/// Operations under way whose results are collected. Dropping it ends them.
#[must_use]
pub(crate) struct Gather<T> {
    /// `None` when there is nothing to do.
    transfers: Option<Transfers>,
    results: Arc<Mutex<Vec<Option<T>>>>,
}

impl<T: Send + 'static> Gather<T> {
    /// Starts operations in order, at most `at_once` together. The first failure ends the others. None starts
    /// when one of them is an error.
    pub(crate) fn start<F>(operations: impl Iterator<Item = Result<F>>, at_once: usize) -> Result<Self>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let results = Arc::new(Mutex::new(Vec::new()));
        let mut parts = Vec::new();
        for (number, operation) in operations.enumerate() {
            let (operation, results) = (operation?, results.clone());
            // On the heap one by one: many futures in a row would be one large allocation, fresh from the kernel each
            // time.
            parts.push(Box::pin(async move {
                let result = operation.await?;
                lock(&results)[number] = Some(result);
                Ok(())
            }));
        }
        lock(&results).resize_with(parts.len(), || None);
        let transfers = if parts.is_empty() { None } else { Some(Transfers::start(parts, at_once)?) };
        Ok(Self { transfers, results })
    }

    /// Waits for all operations, which are those of a call with these limits. Returns their results in the order of the
    /// operations, or the first error.
    pub(crate) fn wait(self, limits: &Limits) -> Result<Vec<T>> {
        self.transfers.map_or(Ok(()), |transfers| transfers.wait(limits))?;
        let results = std::mem::take(&mut *lock(&self.results));
        let results: Option<Vec<_>> = results.into_iter().collect();
        results.ok_or_else(|| Error::internal("an operation ended without a result"))
    }
}
