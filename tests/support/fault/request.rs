//! What the server was asked, and how the requests followed each other.

use std::time::Instant;

use super::http::{self, Headers};

/// What a request asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub version: String,
    pub headers: Headers,
    pub body_length: u64,
    /// Of all requests to this server: 0, 1, 2 …
    pub index: usize,
    pub arrived: Instant,
    /// When the first byte of its answer was about to be sent.
    pub answered: Option<Instant>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }

    /// The value of a query parameter, as it was sent.
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

    /// First and last byte asked for; the last is `u64::MAX` when left open.
    pub fn range(&self) -> Option<(u64, u64)> {
        let range = self.header("x-ms-range").or_else(|| self.header("range"))?;
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, if last.is_empty() { u64::MAX } else { last.parse().ok()? }))
    }
}

/// How many of these requests at most were sent one after another, each after the answer to the one before: the number
/// of round trips that somebody waited for, whatever the machine's mood.
pub fn longest_chain(requests: &[Request]) -> usize {
    let mut times: Vec<_> = requests.iter().filter_map(|request| Some((request.answered?, request.arrived))).collect();
    times.sort();
    let mut last: Option<Instant> = None;
    let mut length = 0;
    // The earliest end leaves the most room for those that follow.
    for (answered, arrived) in times {
        if last.is_none_or(|last| arrived >= last) {
            last = Some(answered);
            length += 1;
        }
    }
    length
}
