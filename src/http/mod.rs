//! One HTTP exchange over our own connections: sends a request, and receives the head of its response and then the
//! body.
//!
//! The task that sends a request owns the connection and polls it. Dropping the request (because of a deadline or a
//! cancellation) therefore closes the connection and releases the caller's memory at once. This module does not depend
//! on credentials or on Blob Storage: its callers sign the requests and read the error responses.

pub(crate) mod azure_types;
mod body_tracker;
mod connection;
mod counting_socket;
mod dead_connection;
mod network;
mod pool;
mod request;
mod response;
mod simple_client;
mod stall;
mod throttle;
mod transport;

pub(crate) use network::{Network, Proxies, check_user_agent_suffix, read_ca_file};
pub(crate) use request::{Request, origin};
pub(crate) use response::{Response, X_MS_ERROR_CODE};
pub(crate) use simple_client::{SimpleClient, SimpleResponse};
pub(crate) use transport::{Config, Transport};
