//! Faults by chance that is the same each time: whether a request meets one follows from a seed, from what it asks for and
//! from how often that was asked for, not from the order in which requests arrive.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use super::{Fault, Request};

/// A hook for [`FaultServer::on_request`](super::FaultServer::on_request) by which a `share` of requests fails. `fault`
/// gets a number from 0 to 1 to choose by. The seed shows in the output of a test that fails.
pub fn by_chance(
    seed: u64,
    share: f64,
    fault: impl Fn(&Request, f64) -> Fault + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static {
    println!("faults by chance: seed {seed}, share {share}");
    let asked = Mutex::new(HashMap::<_, u64>::new());
    move |request| {
        let what = (request.verb().to_owned(), request.path.clone(), request.range());
        let mut asked = asked.lock().expect("no hook panics");
        let times = asked.entry(what.clone()).or_default();
        *times += 1;
        let mut hash = DefaultHasher::new();
        (seed, what, *times).hash(&mut hash);
        let mut random = fastrand::Rng::with_seed(hash.finish());
        (random.f64() < share).then(|| fault(request, random.f64()))
    }
}
