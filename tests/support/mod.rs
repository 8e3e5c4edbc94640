//! What the integration tests stand on: a real Azurite, a loopback server whose every answer can be broken,
//! a plain HTTP client for what the library must not do itself, and blobs whose bytes follow from their offset.

pub mod azurite;
pub mod child;
pub mod client;
pub mod content;
pub mod deployed;
pub mod error;
pub mod fault;
pub mod http;
pub mod identity;
pub mod percent;
pub mod proxy;
pub mod secure;
pub mod sockets;
pub mod watchdog;
