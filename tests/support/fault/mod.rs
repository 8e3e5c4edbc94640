//! A blob service on the loopback interface. By default its responses are correct; a test can give each request a
//! fault, and can look at every request afterwards.

use super::content::Content;
use super::{http, percent};

pub use checksums::ChecksumSupport;
pub use kinds::{DeadConnection, Fault};
pub use quota::{Count, Quota};
pub use random::by_chance;
pub use request::{Request, longest_chain};
pub use server::FaultServer;
pub use store::{GeneratedBlobs, Kind, Order};

mod checksums;
mod connection;
mod corrupt;
mod kinds;
mod listing;
mod quota;
mod random;
mod request;
mod server;
mod service;
mod socket;
mod state;
mod store;

/// The path of the container that always exists.
const CONTAINER: &str = "/account/container";
