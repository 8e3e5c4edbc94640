//! A container's blobs, page by page. A page's document is parsed while it arrives, and only what a dataset
//! needs of it is kept.

use std::collections::VecDeque;

use bytes::BytesMut;
use http::Method;
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::core::retry::retry;
use crate::dataset::entries::{Entries, New, Source};
use crate::error::{Error, Result, Status};
use crate::http::{Request, Response};
use crate::service::client_core::Call;
use crate::service::xml;
use crate::url::Container;

/// The service's own limit (<https://learn.microsoft.com/rest/api/storageservices/list-blobs>).
const MAX_RESULTS: usize = 5000;
/// A page of 5,000 blobs with long names and much metadata has some 50 MB (8 KiB of metadata each).
const MAX_PAGE: u64 = 256 << 20;
/// What stands between two ends of a blob's element, at most: its name, properties and metadata.
const MAX_ELEMENT: usize = 1 << 20;
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A container's blobs, all or those of a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) container: Container,
    pub(crate) prefix: String,
}

/// So many names on either side tell a place in a listing, if one of them is still there.
pub(crate) const NEARBY: usize = 16;

/// A part of the blobs of a container.
#[derive(Debug)]
pub(crate) struct Page {
    /// Those that `keep` took.
    pub(crate) entries: Entries,
    /// How many there were, taken or not.
    pub(crate) count: u64,
    /// The last of them, taken or not, [`NEARBY`] at most.
    pub(crate) last_names: VecDeque<String>,
    /// Where the next page begins; `None` after the last.
    pub(crate) next: Option<String>,
}

impl Listing {
    /// Asks for one page. `keep` is asked about each of its blobs, 0, 1, 2 …, whether to keep it. Stubs of
    /// directories are no blobs.
    pub(crate) async fn page(&self, call: &Call, marker: &str, keep: impl Fn(u64) -> bool) -> Result<Page> {
        let mut query = format!("restype=container&comp=list&include=metadata&maxresults={MAX_RESULTS}");
        for (name, value) in [("prefix", self.prefix.as_str()), ("marker", marker)] {
            if !value.is_empty() {
                query.push_str(&format!("&{name}={}", utf8_percent_encode(value, QUERY)));
            }
        }
        let uri = self.container.target.uri(&query)?;
        let (uri, keep) = (&uri, &keep);
        retry(&call.limits, |attempt| async move {
            let response = call.service.send(Request::new(Method::GET, uri.clone()), &attempt).await?;
            let response = response.success().await?;
            self.receive(response, keep).await
        })
        .await
        .map_err(|error| error.context(format!("cannot list {}", self.container.target.display())))
    }

    async fn receive(&self, mut response: Response, keep: &impl Fn(u64) -> bool) -> Result<Page> {
        let mut document = BytesMut::with_capacity(64 << 10);
        let mut parser = PageParser::new(self.container.clone())?;
        let mut received = 0;
        loop {
            let count = response.receive(&mut document, MAX_PAGE - received).await?;
            received += count as u64;
            parser.take(&mut document, count == 0, keep)?;
            if count == 0 {
                return parser.finish();
            }
            document.reserve(64 << 10);
        }
    }
}

const BLOB_END: &[u8] = b"</Blob>";
/// A page nests six elements at most.
const MAX_DEPTH: usize = 64;

/// What an element is, which its place in the document decides: metadata has any name for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Results,
    NextMarker,
    Blobs,
    Blob,
    Name,
    Properties,
    Size,
    Etag,
    ResourceType,
    Metadata,
    IsFolder,
    Other,
}

impl Element {
    fn new(parent: Option<Self>, name: &[u8]) -> Self {
        match (parent, name) {
            (None, b"EnumerationResults") => Self::Results,
            (Some(Self::Results), b"NextMarker") => Self::NextMarker,
            (Some(Self::Results), b"Blobs") => Self::Blobs,
            (Some(Self::Blobs), b"Blob") => Self::Blob,
            (Some(Self::Blob), b"Name") => Self::Name,
            (Some(Self::Blob), b"Properties") => Self::Properties,
            (Some(Self::Properties), b"Content-Length") => Self::Size,
            (Some(Self::Properties), b"Etag") => Self::Etag,
            (Some(Self::Properties), b"ResourceType") => Self::ResourceType,
            (Some(Self::Blob), b"Metadata") => Self::Metadata,
            (Some(Self::Metadata), key) if key.eq_ignore_ascii_case(b"hdi_isfolder") => Self::IsFolder,
            _ => Self::Other,
        }
    }

    fn has_text(self) -> bool {
        match self {
            Self::NextMarker | Self::Name | Self::Size | Self::Etag | Self::ResourceType | Self::IsFolder => true,
            Self::Results | Self::Blobs | Self::Blob | Self::Properties | Self::Metadata | Self::Other => false,
        }
    }
}

/// Reads a page in pieces, each of which ends behind a whole element.
struct PageParser {
    page: Page,
    /// The elements that have begun and not ended, the outermost first.
    path: Vec<Element>,
    /// The text of the innermost element, if it [has one](Element::has_text).
    text: String,
    name_is_encoded: bool,
    name: String,
    size: Option<u64>,
    etag: String,
    is_directory: bool,
    ended: bool,
}

impl PageParser {
    fn new(container: Container) -> Result<Self> {
        let mut entries = Entries::default();
        entries.add_source(Source::of_blobs(container))?;
        Ok(Self {
            page: Page { entries, count: 0, last_names: VecDeque::new(), next: None },
            path: Vec::new(),
            text: String::new(),
            name_is_encoded: false,
            name: String::new(),
            size: None,
            etag: String::new(),
            is_directory: false,
            ended: false,
        })
    }

    /// Reads and takes out of `document` what has arrived whole: all up to the end of an element, so that no event is
    /// cut in two, and at the end all there is.
    fn take(&mut self, document: &mut BytesMut, at_end: bool, keep: &impl Fn(u64) -> bool) -> Result<()> {
        let whole = match at_end {
            true => document.len(),
            false => memmem::rfind(document, BLOB_END).map_or(0, |at| at + BLOB_END.len()),
        };
        self.feed(&document.split_to(whole), keep)?;
        match document.len() > MAX_ELEMENT {
            true => Err(unreadable("an element has no end")),
            false => Ok(()),
        }
    }

    fn feed(&mut self, piece: &[u8], keep: &impl Fn(u64) -> bool) -> Result<()> {
        let mut reader = Reader::from_reader(piece);
        // A piece ends elements that an earlier one began.
        reader.config_mut().check_end_names = false;
        reader.config_mut().allow_unmatched_ends = true;
        loop {
            match reader.read_event().map_err(|error| unreadable(&error.to_string()))? {
                Event::Start(start) => self.start(&start)?,
                Event::End(_) => self.end(keep)?,
                Event::Eof => return Ok(()),
                event if self.path.last().is_some_and(|element| element.has_text()) => {
                    xml::push_text(&event, &mut self.text).map_err(|why| unreadable(&why))?;
                }
                _ => {}
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<()> {
        if self.path.len() == MAX_DEPTH {
            return Err(unreadable("its elements are nested too deep"));
        }
        let element = Element::new(self.path.last().copied(), start.local_name().as_ref());
        self.path.push(element);
        self.text.clear();
        match element {
            Element::Blob => {
                self.size = None;
                self.etag.clear();
                self.name.clear();
                self.is_directory = false;
            }
            Element::Name => {
                // Names that XML cannot hold come percent-encoded.
                let encoded = start.try_get_attribute("Encoded").ok().flatten();
                self.name_is_encoded = encoded.is_some_and(|attribute| attribute.value.eq_ignore_ascii_case(b"true"));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, keep: &impl Fn(u64) -> bool) -> Result<()> {
        match self.path.pop().ok_or_else(|| unreadable("an element ends that did not begin"))? {
            Element::Name if self.name_is_encoded => {
                let decoded = percent_decode_str(&self.text).decode_utf8();
                self.name.push_str(&decoded.map_err(|_| unreadable("an encoded name is not UTF-8"))?);
            }
            Element::Name => std::mem::swap(&mut self.name, &mut self.text),
            Element::Size => {
                self.size = Some(self.text.parse().map_err(|_| unreadable("a Content-Length is no number"))?);
            }
            Element::Etag => self.etag.push_str(self.text.trim_matches('"')),
            Element::ResourceType => self.is_directory |= self.text == "directory",
            Element::IsFolder => self.is_directory |= self.text.eq_ignore_ascii_case("true"),
            Element::NextMarker => {
                self.page.next = Some(std::mem::take(&mut self.text)).filter(|text| !text.is_empty());
            }
            Element::Blob => self.take_blob(keep)?,
            Element::Results => self.ended = true,
            Element::Blobs | Element::Properties | Element::Metadata | Element::Other => {}
        }
        Ok(())
    }

    fn take_blob(&mut self, keep: &impl Fn(u64) -> bool) -> Result<()> {
        if self.name.is_empty() {
            return Err(unreadable("a blob has no name"));
        }
        if self.is_directory {
            return Ok(());
        }
        if keep(self.page.count) {
            self.page.entries.push(0, New { name: &self.name, size: self.size, etag: &self.etag, offset: None })?;
        }
        self.page.count += 1;
        // The oldest one's memory is used for the next name.
        let last = &mut self.page.last_names;
        let free = if last.len() == NEARBY { last.pop_front() } else { None };
        last.push_back(std::mem::replace(&mut self.name, free.unwrap_or_default()));
        Ok(())
    }

    fn finish(self) -> Result<Page> {
        if !self.ended {
            return Err(unreadable("it ends in the middle"));
        }
        Ok(self.page)
    }
}

/// A document that broke on its way may come whole the next time.
fn unreadable(why: &str) -> Error {
    Error::new(Status::Corrupt, format!("the service's list of blobs cannot be read: {why}")).retryable(None)
}

/// Reads a page that arrives in pieces of `length` bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_page(container: Container, document: &[u8], length: usize) -> Result<Page> {
    let mut parser = PageParser::new(container)?;
    let mut waiting = BytesMut::new();
    for piece in document.chunks(length) {
        waiting.extend_from_slice(piece);
        parser.take(&mut waiting, false, &|_| true)?;
    }
    parser.take(&mut waiting, true, &|_| true)?;
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::parse_container;

    const DOCUMENT: &str = r#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a/" ContainerName="con"><Prefix>a&amp;b</Prefix><Blobs><Blob><Name>a&amp;b &lt;&#x41;&gt;</Name><Properties><Creation-Time>Tue, 24 Nov 2026 00:00:00 GMT</Creation-Time><Etag>0x8DC1</Etag><Content-Length>12</Content-Length><Content-Type>x</Content-Type><Content-MD5 /><BlobType>BlockBlob</BlobType></Properties><Metadata><Name>not this</Name><Etag>nor this</Etag></Metadata><OrMetadata /></Blob><Blob><Name Encoded="true">b%EF%BF%BE%25</Name><Properties><Content-Length>0</Content-Length></Properties></Blob><Blob><Name>dir</Name><Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob><Blob><Name>stub</Name><Properties><Content-Length>0</Content-Length></Properties><Metadata><Hdi_IsFolder>true</Hdi_IsFolder></Metadata></Blob><Blob><Name>file</Name><Properties><Content-Length>3</Content-Length><ResourceType>file</ResourceType></Properties><Metadata><hdi_isfolder>false</hdi_isfolder></Metadata></Blob></Blobs><NextMarker>2!8!x--</NextMarker></EnumerationResults>"#;

    fn parse(document: &str) -> Result<Page> {
        let container = parse_container("https://a.blob.core.windows.net/con", None).unwrap();
        read_page(container, document.as_bytes(), 100)
    }

    #[test]
    fn a_page_is_read_and_stubs_are_left_out() {
        let page = parse(DOCUMENT).unwrap();
        let entries: Vec<_> = (0..page.entries.len()).map(|index| page.entries.entry(index).unwrap()).collect();
        let names: Vec<_> = entries.iter().map(|entry| entry.name()).collect();
        assert_eq!(names, ["a&b <A>", "b\u{fffe}%", "file"]);
        assert_eq!(entries.iter().map(|entry| entry.size()).collect::<Vec<_>>(), [Some(12), Some(0), Some(3)]);
        assert_eq!((entries[0].etag().as_str(), entries[1].etag().as_str()), ("0x8DC1", ""));
        assert_eq!((page.count, page.next.as_deref()), (3, Some("2!8!x--")));
        assert_eq!(page.last_names, ["a&b <A>", "b\u{fffe}%", "file"]);
    }

    fn names(page: &Page) -> Vec<&str> {
        (0..page.entries.len()).map(|index| page.entries.entry(index).unwrap().name()).collect()
    }

    #[test]
    fn metadata_with_the_names_of_elements_is_metadata() {
        for key in ["Metadata", "OrMetadata", "Tags", "Properties", "Blob", "Blobs", "Name", "EnumerationResults"] {
            for element in ["Metadata", "OrMetadata", "Tags", "Properties"] {
                let document = format!(
                    "<EnumerationResults><Blobs><Blob><Name>right</Name><Properties><Content-Length>1</Content-Length>\
                     <Etag>0x1</Etag></Properties><{element}><{key}>v</{key}><Name>wrong</Name><{key} />\
                     <Properties><Content-Length>2</Content-Length></Properties><NextMarker>no</NextMarker>\
                     <{key}><Etag>0x2</Etag><Name>wrong</Name></{key}></{element}></Blob><Blob><Name>next</Name>\
                     </Blob></Blobs><{key}><Name>wrong</Name></{key}><NextMarker>2!</NextMarker></EnumerationResults>"
                );
                let page = parse(&document).unwrap_or_else(|error| panic!("{element}, {key}: {error}"));
                assert_eq!(names(&page), ["right", "next"], "{element}, {key}");
                let blob = page.entries.entry(0).unwrap();
                assert_eq!((blob.size(), blob.etag().as_str()), (Some(1), "0x1"), "{element}, {key}");
                assert_eq!((page.count, page.next.as_deref()), (2, Some("2!")), "{element}, {key}");
            }
        }
    }

    #[test]
    fn the_last_page_has_no_marker_and_half_a_page_is_none() {
        assert_eq!(parse(&DOCUMENT.replace("2!8!x--", "")).unwrap().next, None);
        assert_eq!(parse(&DOCUMENT.replace("<NextMarker>2!8!x--</NextMarker>", "<NextMarker />")).unwrap().next, None);
        for cut in (1..DOCUMENT.len()).filter(|&cut| DOCUMENT.is_char_boundary(cut)) {
            let error = parse(&DOCUMENT[..cut]).unwrap_err();
            assert!(error.may_be_retried(), "{cut}: {error}");
        }
        let deep = "<a>".repeat(1 << 20);
        for hostile in [
            "",
            "<html>busy</html>",
            "</EnumerationResults>",
            "<Blobs><EnumerationResults></EnumerationResults></Blobs>",
            "<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>",
            "<EnumerationResults></a></EnumerationResults>",
            &deep,
        ] {
            assert!(parse(hostile).is_err(), "{hostile}");
        }
    }
}
