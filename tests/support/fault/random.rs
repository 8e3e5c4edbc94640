//! Random faults that repeat exactly: whether a request gets one follows from a seed, from the request itself and from
//! how often it was sent before, not from the order in which requests arrive.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use super::{Fault, Request};

/// A hook for [`FaultServer::on_request`](super::FaultServer::on_request) that makes a `share` of the requests fail.
/// `fault` chooses the fault by a random number from 0 to 1. The seed is in the output of a test that fails.
pub fn by_chance(
    seed: u64,
    share: f64,
    fault: impl Fn(&Request, f64) -> Fault + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static {
    println!("random faults: seed {seed}, share {share}");
    let counts = Mutex::new(HashMap::<_, u64>::new());
    move |request| {
        let key = (request.verb().to_owned(), request.path.clone(), request.range());
        let mut counts = counts.lock().expect("no hook panics");
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        let mut hash = DefaultHasher::new();
        (seed, key, *count).hash(&mut hash);
        let mut random = fastrand::Rng::with_seed(hash.finish());
        (random.f64() < share).then(|| fault(request, random.f64()))
    }
}
