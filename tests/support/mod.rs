//! The shared parts of the integration tests: a real Azurite, a loopback server that can break any response, a plain
//! HTTP client, and blobs whose bytes are computed from their offset.

pub mod azurite;
pub mod child;
pub mod client;
pub mod content;
pub mod deployed;
pub mod error;
pub mod fault;
pub mod http;
pub mod identity;
pub mod interrupt;
pub mod percent;
pub mod proxy;
pub mod secure;
pub mod sockets;
pub mod streams;
pub mod tar;
pub mod tokens;
pub mod watchdog;
