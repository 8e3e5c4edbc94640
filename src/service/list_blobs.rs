//! Lists a container's blobs, page by page. A page is parsed while it arrives, and each blob goes to a [`BlobSink`],
//! which keeps the values that it needs.

use bytes::BytesMut;
use http::Method;
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::core::retry::retry;
use crate::error::{Error, Result, Status};
use crate::http::{Request, Response};
use crate::service::client_core::Call;
use crate::service::xml;
use crate::url::Container;

/// The service's limit of blobs on a page (<https://learn.microsoft.com/rest/api/storageservices/list-blobs>).
const MAX_RESULTS: usize = 5000;
/// A page of 5,000 blobs has some 50 MB if each has a long name and 8 KiB of metadata.
const MAX_PAGE: u64 = 256 << 20;
/// The most bytes of one blob's element: its name, properties and metadata.
const MAX_ELEMENT: usize = 1 << 20;
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The blobs of a container whose names begin with `prefix`. An empty prefix means all blobs.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) container: Container,
    pub(crate) prefix: String,
}

/// A blob as the listing shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedBlob<'a> {
    pub(crate) name: &'a str,
    /// In bytes.
    pub(crate) size: Option<u64>,
    /// Without quotes; "" when the listing gave none.
    pub(crate) etag: &'a str,
}

/// Takes the blobs of one page, in the order of the listing.
pub(crate) trait BlobSink: Send {
    /// Takes a blob. An error ends the listing.
    fn add(&mut self, blob: ListedBlob<'_>) -> Result<()>;
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page<S> {
    /// The sink that took the page's blobs.
    pub(crate) blobs: S,
    /// The marker of the next page; `None` after the last page.
    pub(crate) next: Option<String>,
}

impl Listing {
    /// Requests the page that begins at `marker`, the first page for "". Its blobs go to the sink that `new_sink`
    /// makes, once for each try. Placeholders of directories are left out.
    pub(crate) async fn page<S: BlobSink>(
        &self,
        call: &Call,
        marker: &str,
        new_sink: impl Fn() -> Result<S>,
    ) -> Result<Page<S>> {
        let mut query = format!("restype=container&comp=list&include=metadata&maxresults={MAX_RESULTS}");
        for (name, value) in [("prefix", self.prefix.as_str()), ("marker", marker)] {
            if !value.is_empty() {
                query.push_str(&format!("&{name}={}", utf8_percent_encode(value, QUERY)));
            }
        }
        let uri = self.container.target.uri(&query)?;
        let (uri, new_sink) = (&uri, &new_sink);
        retry(&call.limits, |attempt| async move {
            let response = call.service.send(Request::new(Method::GET, uri.clone()), &attempt).await?;
            let response = response.success().await?;
            receive(response, new_sink()?).await
        })
        .await
        .map_err(|error| error.context(format!("cannot list {}", self.container.target.display())))
    }
}

async fn receive<S: BlobSink>(mut response: Response, sink: S) -> Result<Page<S>> {
    let mut document = BytesMut::with_capacity(64 << 10);
    let mut parser = PageParser::new(sink);
    let mut received = 0;
    loop {
        let count = response.receive(&mut document, MAX_PAGE - received).await?;
        received += count as u64;
        parser.parse(&mut document, count == 0)?;
        if count == 0 {
            return parser.finish();
        }
        document.reserve(64 << 10);
    }
}

const BLOB_END: &[u8] = b"</Blob>";
/// The deepest nesting that is accepted. The service's pages nest six elements.
const MAX_DEPTH: usize = 64;

/// The meaning of an element. It depends on the parent, since a key of metadata may have any name.
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

/// Parses a page in pieces, each of which ends with a whole element.
struct PageParser<S> {
    page: Page<S>,
    /// The elements that have begun and not ended, the outermost first.
    path: Vec<Element>,
    /// The text of the innermost element, if its text [matters](Element::has_text).
    text: String,
    name_is_encoded: bool,
    name: String,
    size: Option<u64>,
    etag: String,
    is_directory: bool,
    ended: bool,
}

impl<S: BlobSink> PageParser<S> {
    fn new(sink: S) -> Self {
        Self {
            page: Page { blobs: sink, next: None },
            path: Vec::new(),
            text: String::new(),
            name_is_encoded: false,
            name: String::new(),
            size: None,
            etag: String::new(),
            is_directory: false,
            ended: false,
        }
    }

    /// Parses the whole elements at the beginning of `document`, and removes them from it. At the end of the page it
    /// parses all of `document`.
    fn parse(&mut self, document: &mut BytesMut, at_end: bool) -> Result<()> {
        let whole = match at_end {
            true => document.len(),
            false => memmem::rfind(document, BLOB_END).map_or(0, |at| at + BLOB_END.len()),
        };
        self.parse_piece(&document.split_to(whole))?;
        match document.len() > MAX_ELEMENT {
            true => Err(unreadable("an element has no end")),
            false => Ok(()),
        }
    }

    fn parse_piece(&mut self, piece: &[u8]) -> Result<()> {
        let mut reader = Reader::from_reader(piece);
        // A piece ends elements that began in an earlier piece.
        reader.config_mut().check_end_names = false;
        reader.config_mut().allow_unmatched_ends = true;
        loop {
            match reader.read_event().map_err(|error| unreadable(&error.to_string()))? {
                Event::Start(start) => self.start(&start)?,
                Event::End(_) => self.end()?,
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
                // The service percent-encodes names that XML cannot hold.
                let encoded = start.try_get_attribute("Encoded").ok().flatten();
                self.name_is_encoded = encoded.is_some_and(|attribute| attribute.value.eq_ignore_ascii_case(b"true"));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
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
            Element::Blob => self.push_blob()?,
            Element::Results => self.ended = true,
            Element::Blobs | Element::Properties | Element::Metadata | Element::Other => {}
        }
        Ok(())
    }

    fn push_blob(&mut self) -> Result<()> {
        if self.name.is_empty() {
            return Err(unreadable("a blob has no name"));
        }
        if self.is_directory {
            return Ok(());
        }
        self.page.blobs.add(ListedBlob { name: &self.name, size: self.size, etag: &self.etag })
    }

    fn finish(self) -> Result<Page<S>> {
        if !self.ended {
            return Err(unreadable("it ends in the middle"));
        }
        Ok(self.page)
    }
}

/// The error of a page that cannot be parsed. It is retried: the page may have been damaged on its way.
fn unreadable(why: &str) -> Error {
    Error::new(Status::Corrupt, format!("the service's list of blobs cannot be read: {why}")).retryable(None)
}

/// Parses a page that arrives in pieces of `length` bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_page<S: BlobSink>(sink: S, document: &[u8], length: usize) -> Result<Page<S>> {
    let mut parser = PageParser::new(sink);
    let mut arrived = BytesMut::new();
    for piece in document.chunks(length) {
        arrived.extend_from_slice(piece);
        parser.parse(&mut arrived, false)?;
    }
    parser.parse(&mut arrived, true)?;
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps all blobs: their names, sizes and ETags.
    type AllBlobs = Vec<(String, Option<u64>, String)>;

    impl BlobSink for AllBlobs {
        fn add(&mut self, blob: ListedBlob<'_>) -> Result<()> {
            self.push((blob.name.to_owned(), blob.size, blob.etag.to_owned()));
            Ok(())
        }
    }

    const DOCUMENT: &str = r#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a/" ContainerName="con"><Prefix>a&amp;b</Prefix><Blobs><Blob><Name>a&amp;b &lt;&#x41;&gt;</Name><Properties><Creation-Time>Tue, 24 Nov 2026 00:00:00 GMT</Creation-Time><Etag>0x8DC1</Etag><Content-Length>12</Content-Length><Content-Type>x</Content-Type><Content-MD5 /><BlobType>BlockBlob</BlobType></Properties><Metadata><Name>not this</Name><Etag>nor this</Etag></Metadata><OrMetadata /></Blob><Blob><Name Encoded="true">b%EF%BF%BE%25</Name><Properties><Content-Length>0</Content-Length></Properties></Blob><Blob><Name>dir</Name><Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob><Blob><Name>stub</Name><Properties><Content-Length>0</Content-Length></Properties><Metadata><Hdi_IsFolder>true</Hdi_IsFolder></Metadata></Blob><Blob><Name>file</Name><Properties><Content-Length>3</Content-Length><ResourceType>file</ResourceType></Properties><Metadata><hdi_isfolder>false</hdi_isfolder></Metadata></Blob></Blobs><NextMarker>2!8!x--</NextMarker></EnumerationResults>"#;

    fn parse(document: &str) -> Result<Page<AllBlobs>> {
        parse_page(AllBlobs::new(), document.as_bytes(), 100)
    }

    fn names(page: &Page<AllBlobs>) -> Vec<&str> {
        page.blobs.iter().map(|(name, ..)| name.as_str()).collect()
    }

    #[test]
    fn a_page_is_parsed_without_its_directories() {
        let page = parse(DOCUMENT).unwrap();
        assert_eq!(names(&page), ["a&b <A>", "b\u{fffe}%", "file"]);
        assert_eq!(page.blobs.iter().map(|(_, size, _)| *size).collect::<Vec<_>>(), [Some(12), Some(0), Some(3)]);
        assert_eq!((page.blobs[0].2.as_str(), page.blobs[1].2.as_str()), ("0x8DC1", ""));
        assert_eq!((page.blobs.len(), page.next.as_deref()), (3, Some("2!8!x--")));
    }

    #[test]
    fn metadata_with_the_names_of_elements_is_ignored() {
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
                let (_, size, etag) = &page.blobs[0];
                assert_eq!((*size, etag.as_str()), (Some(1), "0x1"), "{element}, {key}");
                assert_eq!((page.blobs.len(), page.next.as_deref()), (2, Some("2!")), "{element}, {key}");
            }
        }
    }

    #[test]
    fn the_last_page_has_no_marker_and_a_cut_page_is_an_error() {
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
