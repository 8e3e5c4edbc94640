//! A container's blobs, page by page. A page's document is parsed while it arrives, and only what a dataset
//! needs of it is kept.

use bytes::BytesMut;
use http::Method;
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use crate::entries::{Entries, New, Source};
use crate::error::{Error, Result, Status};
use crate::retry::retry;
use crate::session::Call;
use crate::transport::{Request, Response};
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

/// A part of the blobs of a container.
#[derive(Debug)]
pub(crate) struct Page {
    /// Those that `keep` took.
    pub(crate) entries: Entries,
    /// How many there were, taken or not.
    pub(crate) count: u64,
    pub(crate) last_name: Option<String>,
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
        retry(&call.limits, || async {
            let response = call.transport.send(Request::new(Method::GET, uri.clone())).await?;
            let response = response.success().await?;
            self.receive(response, &keep).await
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

/// Where in the document the parser is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Blob,
    Properties,
    Metadata,
}

/// What the text being read is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Other,
    Name,
    Size,
    Etag,
    ResourceType,
    IsFolder,
    NextMarker,
}

/// Reads a page in pieces, each of which ends behind a whole element.
struct PageParser {
    page: Page,
    place: Place,
    field: Field,
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
            page: Page { entries, count: 0, last_name: None, next: None },
            place: Place::Outside,
            field: Field::Other,
            text: String::new(),
            name_is_encoded: false,
            name: String::new(),
            size: None,
            etag: String::new(),
            is_directory: false,
            ended: false,
        })
    }

    /// Reads and takes out of `document` what has arrived whole: all up to the end of a blob's element, so that no
    /// event is cut in two, and at the end all there is.
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
                Event::Start(start) => self.start(&start),
                Event::End(end) => self.end(end.local_name().as_ref(), keep)?,
                Event::Text(text) if self.field != Field::Other => {
                    self.text.push_str(&text.decode().map_err(|error| unreadable(&error.to_string()))?);
                }
                Event::CData(text) if self.field != Field::Other => {
                    self.text.push_str(&text.decode().map_err(|error| unreadable(&error.to_string()))?);
                }
                Event::GeneralRef(reference) if self.field != Field::Other => {
                    let character = reference.resolve_char_ref().map_err(|error| unreadable(&error.to_string()))?;
                    let name = reference.decode().map_err(|error| unreadable(&error.to_string()))?;
                    match (character, resolve_predefined_entity(&name)) {
                        (Some(character), _) => self.text.push(character),
                        (None, Some(text)) => self.text.push_str(text),
                        (None, None) => return Err(unreadable("it has an unknown entity")),
                    }
                }
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) {
        let name = start.local_name();
        let name = name.as_ref();
        self.field = match (self.place, name) {
            (Place::Outside, b"Blob") => {
                self.place = Place::Blob;
                self.size = None;
                self.etag.clear();
                self.name.clear();
                self.is_directory = false;
                Field::Other
            }
            (Place::Outside, b"NextMarker") => Field::NextMarker,
            (Place::Blob, b"Name") => {
                // Names that XML cannot hold come percent-encoded.
                let encoded = start.try_get_attribute("Encoded").ok().flatten();
                self.name_is_encoded = encoded.is_some_and(|attribute| attribute.value.eq_ignore_ascii_case(b"true"));
                Field::Name
            }
            (Place::Blob, b"Properties") => {
                self.place = Place::Properties;
                Field::Other
            }
            // Their names are the user's: a key called "Name" is no blob's name.
            (Place::Blob, b"Metadata" | b"OrMetadata" | b"Tags") => {
                self.place = Place::Metadata;
                Field::Other
            }
            (Place::Properties, b"Content-Length") => Field::Size,
            (Place::Properties, b"Etag") => Field::Etag,
            (Place::Properties, b"ResourceType") => Field::ResourceType,
            (Place::Metadata, key) if key.eq_ignore_ascii_case(b"hdi_isfolder") => Field::IsFolder,
            _ => Field::Other,
        };
        self.text.clear();
    }

    fn end(&mut self, name: &[u8], keep: &impl Fn(u64) -> bool) -> Result<()> {
        match self.field {
            Field::Other => {}
            Field::Name if self.name_is_encoded => {
                let decoded = percent_decode_str(&self.text).decode_utf8();
                self.name.push_str(&decoded.map_err(|_| unreadable("an encoded name is not UTF-8"))?);
            }
            Field::Name => std::mem::swap(&mut self.name, &mut self.text),
            Field::Size => {
                self.size = Some(self.text.parse().map_err(|_| unreadable("a Content-Length is no number"))?);
            }
            Field::Etag => self.etag.push_str(self.text.trim_matches('"')),
            Field::ResourceType => self.is_directory |= self.text == "directory",
            Field::IsFolder => self.is_directory |= self.text.eq_ignore_ascii_case("true"),
            Field::NextMarker => self.page.next = Some(std::mem::take(&mut self.text)).filter(|text| !text.is_empty()),
        }
        self.field = Field::Other;
        match (self.place, name) {
            (Place::Blob, b"Blob") => {
                self.place = Place::Outside;
                self.take_blob(keep)?;
            }
            (Place::Properties, b"Properties") | (Place::Metadata, b"Metadata" | b"OrMetadata" | b"Tags") => {
                self.place = Place::Blob;
            }
            (Place::Outside, b"EnumerationResults") => self.ended = true,
            _ => {}
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
        let last = self.page.last_name.get_or_insert_default();
        std::mem::swap(last, &mut self.name);
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
        assert_eq!((page.count, page.next.as_deref(), page.last_name.as_deref()), (3, Some("2!8!x--"), Some("file")));
    }

    #[test]
    fn the_last_page_has_no_marker_and_half_a_page_is_none() {
        assert_eq!(parse(&DOCUMENT.replace("2!8!x--", "")).unwrap().next, None);
        assert_eq!(parse(&DOCUMENT.replace("<NextMarker>2!8!x--</NextMarker>", "<NextMarker />")).unwrap().next, None);
        for cut in (1..DOCUMENT.len()).filter(|&cut| DOCUMENT.is_char_boundary(cut)) {
            let error = parse(&DOCUMENT[..cut]).unwrap_err();
            assert!(error.may_be_retried(), "{cut}: {error}");
        }
        for hostile in
            ["", "<html>busy</html>", "<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>"]
        {
            assert!(parse(hostile).is_err(), "{hostile}");
        }
    }
}
