//! URLs of blobs and containers: parsing, translation of other schemes, and reasons for refusals.

mod account;
mod names;
mod parse;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use account::{account_in, host, is_azure_blob};
pub(crate) use parse::{
    Endpoint, parse_blob, parse_blob_parts, parse_container, parse_container_and_blob, parse_written_container,
};
pub(crate) use target::{Container, Target, has_signature};
