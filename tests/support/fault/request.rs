//! The requests that a fault server has received, and how they followed each other.

use std::time::Instant;

use super::http::{self, Headers};

/// A request that the server has received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub version: String,
    pub headers: Headers,
    pub body_length: u64,
    /// The number of this request among all requests to this server, from 0.
    pub index: usize,
    pub arrived: Instant,
    /// The time just before the first byte of its response was sent.
    pub answered: Option<Instant>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }

    /// The value of a query parameter, still escaped.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// `list`, `put-block`, `put-block-list`, `get-block-list`, or the method.
    pub fn verb(&self) -> &str {
        match self.query("comp") {
            Some("list") if self.method == "GET" => "list",
            Some("block") if self.method == "PUT" => "put-block",
            Some("blocklist") if self.method == "PUT" => "put-block-list",
            Some("blocklist") => "get-block-list",
            _ => &self.method,
        }
    }

    /// The first and the last requested byte; the last is `u64::MAX` if the range is open.
    pub fn range(&self) -> Option<(u64, u64)> {
        let range = self.header("x-ms-range").or_else(|| self.header("range"))?;
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, if last.is_empty() { u64::MAX } else { last.parse().ok()? }))
    }
}

/// The length of the longest sequence of these requests in which each was sent after the response to the one before.
/// This is the number of round trips that a caller waited for, and does not depend on the speed of the machine.
pub fn longest_chain(requests: &[Request]) -> usize {
    let mut times: Vec<_> = requests.iter().filter_map(|request| Some((request.answered?, request.arrived))).collect();
    times.sort();
    let mut last: Option<Instant> = None;
    let mut length = 0;
    // Taking the earliest end first gives the longest sequence.
    for (answered, arrived) in times {
        if last.is_none_or(|last| arrived >= last) {
            last = Some(answered);
            length += 1;
        }
    }
    length
}
