//! A listing of 50,000 blobs in pages of 5,000, with all properties that the service sends.

use std::fmt::Write as _;
use std::sync::OnceLock;

pub const BLOBS: usize = 50_000;
const PER_PAGE: usize = 5000;

/// The page that a request asks for: the marker in its head is the number of the page.
pub fn page(head: &str) -> &'static str {
    static PAGES: OnceLock<Vec<String>> = OnceLock::new();
    let pages = PAGES.get_or_init(|| (0..BLOBS / PER_PAGE).map(make_page).collect());
    let marker = head.split("&marker=").nth(1).and_then(|rest| rest.split(['&', ' ']).next());
    &pages[marker.map_or(0, |number| number.parse().unwrap())]
}

fn make_page(number: usize) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://127.0.0.1/\" ContainerName=\"container\"><MaxResults>5000</MaxResults><Blobs>",
    );
    for blob in number * PER_PAGE..(number + 1) * PER_PAGE {
        write!(
            text,
            "<Blob><Name>train/class-{:03}/image-{blob:08}.jpg</Name><Properties><Creation-Time>Tue, 24 Nov 2026 12:00:00 GMT</Creation-Time><Last-Modified>Tue, 24 Nov 2026 12:00:00 GMT</Last-Modified><Etag>0x8DE2B4F{blob:08X}</Etag><Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type><Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5>rL0Y20zC+Fzt72VPzMSk2A==</Content-MD5><Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>",
            blob % 1000,
            100_000 + blob
        )
        .unwrap();
    }
    let next = number + 1;
    let marker = if next * PER_PAGE < BLOBS { next.to_string() } else { String::new() };
    write!(text, "</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>").unwrap();
    text
}
