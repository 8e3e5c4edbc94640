//! List Blobs like the service: pages of at most 5,000 entries, opaque markers, and XML with all the elements that a
//! client does not need.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Request;
use super::percent::{percent_decode, percent_encode};
use super::store::{Blob, Kind, Refusal, Store};

const MAX_RESULTS: usize = 5000;
/// Metadata keys that are also names of the document's elements.
const METADATA: &str = "<Metadata><Metadata>1</Metadata><OrMetadata>2</OrMetadata><Tags>3</Tags><Blob>4</Blob>\
                        <Properties>5</Properties><Name>not the blob's</Name><Etag>nor this</Etag></Metadata>";
const DATE: &str = "Mon, 27 Jan 2020 10:12:31 GMT";

/// The contents of a page, copied from the store; [`Page::xml`] does not need the store.
pub struct Page {
    endpoint: String,
    container: String,
    /// The response repeats them.
    parameters: [(&'static str, String); 3],
    with_metadata: bool,
    blobs: Vec<(String, Blob)>,
    next: Option<String>,
}

/// The requested page, of at most `limit` entries.
pub fn page(store: &Store, request: &Request, limit: usize) -> Result<Page, Refusal> {
    let parameter = |name| request.query(name).map(decode_query).unwrap_or_default();
    let (prefix, marker, max_results) = (parameter("prefix"), parameter("marker"), parameter("maxresults"));
    let results = match max_results.as_str() {
        "" => MAX_RESULTS,
        text => text.parse().ok().filter(|results| *results > 0).ok_or((400, "OutOfRangeQueryParameterValue"))?,
    };
    if request.query("delimiter").is_some() {
        // A listing that ignores the delimiter would be wrong.
        return Err((400, "UnsupportedQueryParameter"));
    }
    let first = match marker.as_str() {
        "" => prefix.clone(),
        _ => read_marker(&marker).ok_or((400, "InvalidQueryParameterValue"))?,
    };
    let path = request.path.trim_end_matches('/');
    let mut blobs = store
        .list(path, &first)
        .ok_or((404, "ContainerNotFound"))?
        .take_while(|(name, _)| name.starts_with(&prefix))
        .peekable();
    let (account, container) = path.rsplit_once('/').unwrap_or_default();
    Ok(Page {
        endpoint: format!("http://{}{account}/", request.header("host").unwrap_or_default()),
        container: container.to_owned(),
        with_metadata: parameter("include").split(',').any(|included| included == "metadata"),
        blobs: blobs.by_ref().take(results.min(MAX_RESULTS).min(limit)).collect(),
        next: blobs.next().map(|(name, _)| name),
        parameters: [("Prefix", prefix), ("Marker", marker), ("MaxResults", max_results)],
    })
}

impl Page {
    pub fn xml(&self) -> Vec<u8> {
        let Page { endpoint, container, .. } = self;
        // The service begins with a byte order mark.
        let mut xml = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <EnumerationResults ServiceEndpoint=\"{endpoint}\" ContainerName=\"{container}\">"
        );
        for (tag, value) in self.parameters.iter().filter(|(_, value)| !value.is_empty()) {
            xml += &format!("<{tag}>{}</{tag}>", escape(value));
        }
        xml += "<Blobs>";
        for (name, blob) in &self.blobs {
            write_blob(&mut xml, name, blob, self.with_metadata);
        }
        xml += "</Blobs>";
        match &self.next {
            Some(next) => xml += &format!("<NextMarker>{}</NextMarker>", escape(&write_marker(next))),
            None => xml += "<NextMarker />",
        }
        xml += "</EnumerationResults>";
        xml.into_bytes()
    }
}

fn write_blob(xml: &mut String, name: &str, blob: &Blob, with_metadata: bool) {
    let name = if name.chars().all(is_xml_character) {
        format!("<Name>{}</Name>", escape(name))
    } else {
        format!("<Name Encoded=\"true\">{}</Name>", percent_encode(name))
    };
    let etag = blob.etag.trim_matches('"');
    let resource_type = if blob.kind == Kind::Directory { "<ResourceType>directory</ResourceType>" } else { "" };
    let size = blob.body.size();
    *xml += &format!(
        "<Blob>{name}<Properties><Creation-Time>{DATE}</Creation-Time><Last-Modified>{DATE}</Last-Modified>\
         <Etag>{etag}</Etag>{resource_type}<Content-Length>{size}</Content-Length>\
         <Content-Type>application/octet-stream</Content-Type><Content-Encoding /><Content-Language />\
         <Content-CRC64 /><Content-MD5>sQqNsWTgdUEFt6mb5y4/5Q==</Content-MD5><Cache-Control />\
         <Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>\
         <AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus>\
         <LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties>"
    );
    match blob.kind {
        _ if !with_metadata => {}
        Kind::Stub(key) => *xml += &format!("<Metadata><{key}>true</{key}></Metadata>"),
        _ => *xml += METADATA,
    }
    *xml += "<OrMetadata /></Blob>";
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// XML 1.0 cannot represent other characters, not even escaped.
fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Decodes a query value, in which a plus is a space.
fn decode_query(value: &str) -> String {
    percent_decode(&value.replace('+', " "))
}

/// A marker in base64, whose `+`, `/` and `=` a client must escape in a URL.
fn write_marker(next: &str) -> String {
    let position = BASE64.encode(format!("{:06}!{next}!000028!9999-12-31T23:59:59.9999999Z!", next.len()));
    format!("2!{}!{position}", position.len())
}

/// The name at which the page of this marker begins.
fn read_marker(marker: &str) -> Option<String> {
    let position = marker.strip_prefix("2!")?.split_once('!')?.1;
    let position = String::from_utf8(BASE64.decode(position).ok()?).ok()?;
    let (length, rest) = position.split_once('!')?;
    rest.get(..length.parse().ok()?).map(str::to_owned)
}
