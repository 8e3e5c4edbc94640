//! Connections, proxies, TLS, retries, stalls; and the fault server itself.

mod connections;
mod fault_server;
mod fault_server_listing;
mod proxies;
mod random_faults;
mod retries;
mod stale_connections;
mod stalls;
mod tls;
