//! The operations of the Blob service other than reads and listings: writing, publishing, deleting, creating
//! containers.
//!
//! Requests that carry a blob's bytes are built here, so that the bytes are sent without a copy. Requests and answers
//! with an XML document are left to the SDK, which sends them over our connections (`service/sdk`).
//!
//! A write whose answer was lost may have been carried out. Where it can, a write therefore leaves something that it
//! recognises (an id in the metadata, its block ids), and looks for that before it reports an error.

use std::collections::HashMap;
use std::future::Future;

use azure_core::http::headers::{ETAG as SDK_ETAG, HeaderName as SdkName, Headers};
use azure_core::http::{Etag, RequestContent};
use azure_storage_blob::models::{
    BlobClientGetPropertiesOptions, BlobContainerClientCreateOptions, BlockBlobClientCommitBlockListOptions,
    BlockListType, BlockLookupList,
};
use azure_storage_blob::{
    BlobClient, BlobClientOptions, BlobContainerClient, BlobContainerClientOptions, BlockBlobClient,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::retry::{Attempt, Attempts, retry};
use crate::error::{Error, Result, Status};
use crate::http::Request;
use crate::service::blob_service::ServiceResponse;
use crate::service::checksum::UploadResponse;
use crate::service::client_core::Call;
use crate::service::headers::{SERVICE_VERSION, X_MS_BLOB_TYPE};
use crate::service::sdk::SdkTransport;
use crate::url::Target;

/// The metadata with the id of the write that made a container, or a blob that was written in one request under a
/// condition.
const WRITE_ID: &str = "aztorch_write";
const WRITE_ID_HEADER: &str = "x-ms-meta-aztorch_write";
const X_MS_META_WRITE_ID: HeaderName = HeaderName::from_static(WRITE_ID_HEADER);

/// The condition under which the service publishes a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteCondition {
    /// No condition: an existing blob is replaced.
    None,
    /// The blob does not exist.
    Absent,
    /// The blob has this ETag.
    Matches(String),
}

/// Uploads one block. `id` is the block's id before base64. The block is no part of the blob before [`commit`].
pub(crate) async fn put_block(call: &Call, target: &Target, id: &str, body: &Bytes) -> Result<()> {
    let id = utf8_percent_encode(&STANDARD.encode(id), NON_ALPHANUMERIC).to_string();
    let uri = target.uri(&format!("comp=block&blockid={id}"))?;
    let put = |attempt| {
        let mut request = Request::new(Method::PUT, uri.clone());
        request.body = body.clone();
        async move {
            let mut response = send_checked(call, request, &attempt).await?.success().await?;
            response.bytes(MAX_BODY).await.map(drop)
        }
    };
    retry(&call.limits, put).await.map_err(explain_block_id_length)?;
    call.has_moved(body.len() as u64);
    Ok(())
}

/// Uploads bytes with their checksum, again with another checksum if the service does not support the first one.
async fn send_checked(call: &Call, request: Request, attempt: &Attempt) -> Result<ServiceResponse> {
    let checksums = call.service.checksums();
    loop {
        let mut request = request.clone();
        let sent = checksums.add_to_upload(&mut request)?;
        let response = call.service.send(request, attempt).await?;
        let checked = sent.map_or(Ok(UploadResponse::Accepted), |sent| checksums.check_upload(&sent, &response))?;
        match checked {
            UploadResponse::Accepted => return Ok(response),
            UploadResponse::Unsupported => response.discard().await,
        }
    }
}

/// Adds a hint to the error of a block whose id is not as long as the ids of earlier blocks, which another program may
/// have left behind (<https://learn.microsoft.com/rest/api/storageservices/put-block>).
fn explain_block_id_length(error: Error) -> Error {
    match error.service_code() {
        "InvalidBlobOrBlock" => error.hint(
            "uncommitted blocks with ids of another length lie under this name, left by another program; the service \
             drops them after a week, so write under another name meanwhile",
        ),
        _ => error,
    }
}

/// The longest body of an answer to a write that is read, in bytes. The service sends headers only.
const MAX_BODY: usize = 64 << 10;

/// Writes a whole blob in one request; returns its ETag. `block_id` (before base64) is for the case that the blob must
/// be written as a block instead.
pub(crate) async fn put_blob(
    call: &Call,
    target: &Target,
    condition: &WriteCondition,
    body: Bytes,
    block_id: &str,
) -> Result<String> {
    let write_id = new_write_id();
    let (result, outcome) = retry_write(call, |attempt| {
        let (write_id, body) = (&write_id, body.clone());
        async move {
            let mut request = Request::new(Method::PUT, target.uri("")?).header(X_MS_BLOB_TYPE, "BlockBlob")?;
            request = match condition {
                WriteCondition::None => request,
                WriteCondition::Absent => request.header(IF_NONE_MATCH, "*")?.header(X_MS_META_WRITE_ID, write_id)?,
                WriteCondition::Matches(etag) => {
                    request.header(IF_MATCH, etag)?.header(X_MS_META_WRITE_ID, write_id)?
                }
            };
            request.body = body;
            let sent = send_checked(call, request, &attempt).await;
            let mut response = sent.map_err(|error| explain_mismatch(error, condition))?.success().await?;
            let etag = response.header(&ETAG).to_owned();
            response.bytes(MAX_BODY).await?;
            Ok(etag)
        }
    })
    .await;
    let error = match result {
        Ok(etag) => return Ok(etag),
        Err(error) => error,
    };
    if outcome.can_be_checked(call)
        && error.status() != Status::Corrupt
        && *condition != WriteCondition::None
        && let Ok(headers) = properties(call, target).await
        && has_write_id(&headers, &write_id)
    {
        // An unconfirmed try has written the blob, and a later try has failed because of that.
        return Ok(etag(&headers));
    }
    // With a credential that may not read, this check fails, and the error stays.
    if error.status() == Status::AlreadyExists
        && *condition == WriteCondition::Absent
        && let Ok(false) = exists(call, target).await
    {
        return put_as_block(call, target, condition, body, block_id).await;
    }
    Err(outcome.explain(error, UNKNOWN_BLOB))
}

/// Completes the error of a blob that the service has published with other bytes than were sent. Without a condition a
/// retry replaces it. Under a condition a retry would find that blob and report the wrong error, so there is none.
fn explain_mismatch(error: Error, condition: &WriteCondition) -> Error {
    match error.status() {
        Status::Corrupt if *condition == WriteCondition::None => error.hint("the blob was published with them"),
        Status::Corrupt => error.hint("the blob was published with them").no_more_retries(),
        _ => error,
    }
}

fn new_write_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Whether a blob or container with these properties was made by the write with this id. Equal bytes would prove
/// nothing: another program may write the same ones.
fn has_write_id(headers: &Headers, write_id: &str) -> bool {
    headers.get_optional_str(&SdkName::from_static(WRITE_ID_HEADER)) == Some(write_id)
}

/// Writes a blob as one block, under a condition that Azurite refuses for a blob in one request: it takes blocks that
/// were uploaded and never committed for a blob, unlike the service. It accepts the commit.
async fn put_as_block(
    call: &Call,
    target: &Target,
    condition: &WriteCondition,
    body: Bytes,
    block_id: &str,
) -> Result<String> {
    let mut ids = Vec::new();
    // A block cannot be empty, but a list of no blocks can be committed.
    if !body.is_empty() {
        put_block(call, target, block_id, &body).await?;
        ids.push(block_id.to_owned());
    }
    commit(call, target, condition, &ids).await
}

/// Publishes the uploaded blocks as the blob; returns its ETag.
pub(crate) async fn commit(call: &Call, target: &Target, condition: &WriteCondition, ids: &[String]) -> Result<String> {
    let blocks =
        BlockLookupList { latest: Some(ids.iter().map(|id| id.clone().into_bytes()).collect()), ..Default::default() };
    let content: RequestContent<_, _> = blocks.try_into()?;
    let (result, outcome) = retry_write(call, |attempt| {
        let content = content.clone();
        async move {
            let client = block_blob_client(call, target, attempt)?;
            let (if_match, if_none_match) = match condition {
                WriteCondition::None => (None, None),
                WriteCondition::Absent => (None, Some(Etag::from("*"))),
                WriteCondition::Matches(etag) => (Some(Etag::from(etag.clone())), None),
            };
            let options = BlockBlobClientCommitBlockListOptions { if_match, if_none_match, ..Default::default() };
            let response = client.commit_block_list(content, Some(options)).await?;
            Ok(etag(response.headers()))
        }
    })
    .await;
    let error = match result {
        Ok(etag) => return Ok(etag),
        Err(error) => error,
    };
    if outcome.can_be_checked(call)
        && let Some(etag) = committed_etag(call, target, ids).await
    {
        // An unconfirmed try has published the blob, and a later try has failed because of that.
        return Ok(etag);
    }
    Err(explain_discarded_blocks(outcome.explain(error, UNKNOWN_BLOB)))
}

/// Changes the error of a commit whose blocks are gone: the commit of another writer discards all uncommitted blocks.
fn explain_discarded_blocks(error: Error) -> Error {
    match error.service_code() {
        "InvalidBlockList" => error
            .with_status(Status::Modified)
            .hint("another writer published this blob meanwhile, which discarded the blocks staged here"),
        _ => error,
    }
}

/// The ETag of the blob if it was committed from the blocks `ids`. An empty list proves nothing, because any blob that
/// was written in one request has no blocks.
async fn committed_etag(call: &Call, target: &Target, ids: &[String]) -> Option<String> {
    let listed = retry(&call.limits, |attempt| async {
        let client = block_blob_client(call, target, attempt)?;
        let response = client.get_block_list(BlockListType::Committed, None).await?;
        let etag = etag(response.headers());
        Ok((response.into_model()?.committed_blocks.unwrap_or_default(), etag))
    });
    let (blocks, etag) = listed.await.ok()?;
    let is_ours = !ids.is_empty()
        && blocks.len() == ids.len()
        && blocks.iter().zip(ids).all(|(block, id)| block.name.as_deref() == Some(id.as_bytes()));
    is_ours.then_some(etag)
}

/// Runs the tries of a write; returns its result, and whether an unconfirmed try may have been carried out.
async fn retry_write<T, F>(call: &Call, operation: impl FnMut(Attempt) -> F) -> (Result<T>, WriteOutcome)
where
    F: Future<Output = Result<T>>,
{
    let mut attempts = Attempts::new(&call.limits);
    let result = attempts.run(operation).await;
    let outcome = if attempts.in_doubt() { WriteOutcome::Unknown } else { WriteOutcome::Known };
    (result, outcome)
}

/// What is known of the tries of a write that the service did not confirm.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteOutcome {
    /// None of them was carried out.
    Known,
    /// One may have been carried out: its answer was lost or came too late, or was an error that leaves this open.
    Unknown,
}

impl WriteOutcome {
    fn is_unknown(self) -> bool {
        self == Self::Unknown
    }

    /// Whether the result of the write can be checked: the outcome is unknown, and the call has not ended.
    fn can_be_checked(self, call: &Call) -> bool {
        self.is_unknown() && call.limits.check().is_ok()
    }

    /// Adds `unknown` to the error of a write with an unknown outcome.
    fn explain(self, error: Error, unknown: &str) -> Error {
        if self.is_unknown() { error.hint(unknown) } else { error }
    }
}

const UNKNOWN: &str = "the service may have carried out a try that it did not confirm, so the outcome is unknown";
const UNKNOWN_BLOB: &str = "the service may have carried out a try that it did not confirm, so the outcome is unknown: \
                            the blob is wholly old or wholly new";

/// Whether the blob exists.
pub(crate) async fn exists(call: &Call, target: &Target) -> Result<bool> {
    match properties(call, target).await {
        Ok(_) => Ok(true),
        // A missing container is probably the caller's mistake, so it is an error.
        Err(error) if error.status() == Status::NotFound && error.service_code() != "ContainerNotFound" => Ok(false),
        Err(error) => Err(error),
    }
}

/// The headers of the blob's properties.
async fn properties(call: &Call, target: &Target) -> Result<Headers> {
    retry(&call.limits, |attempt| async {
        let client = blob_client(call, target, attempt)?;
        let options = BlobClientGetPropertiesOptions::default();
        Ok(client.get_properties(Some(options)).await?.headers().clone())
    })
    .await
}

/// Deletes the blob.
pub(crate) async fn delete(call: &Call, target: &Target) -> Result<()> {
    let delete = |attempt| async {
        let client = blob_client(call, target, attempt)?;
        Ok(client.delete(None).await.map(drop)?)
    };
    let (result, outcome) = retry_write(call, delete).await;
    match result {
        // The blob is gone. An unconfirmed try may have deleted it.
        Err(error)
            if error.status() == Status::NotFound && error.service_code() == "BlobNotFound" && outcome.is_unknown() =>
        {
            Ok(())
        }
        result => result.map_err(|error| outcome.explain(error, UNKNOWN)),
    }
}

/// Creates the container.
pub(crate) async fn create_container(call: &Call, target: &Target) -> Result<()> {
    let write_id = new_write_id();
    let (result, outcome) = retry_write(call, |attempt| async {
        let client = container_client(call, target, attempt)?;
        let metadata = Some(HashMap::from([(WRITE_ID.to_owned(), write_id.clone())]));
        let options = BlobContainerClientCreateOptions { metadata, ..Default::default() };
        Ok(client.create(Some(options)).await.map(drop)?)
    })
    .await;
    let Err(error) = result else { return Ok(()) };
    if outcome.can_be_checked(call) {
        let probe = |attempt| async {
            let client = container_client(call, target, attempt)?;
            Ok(client.get_properties(None).await?.headers().clone())
        };
        if retry(&call.limits, probe).await.is_ok_and(|headers| has_write_id(&headers, &write_id)) {
            return Ok(());
        }
    }
    Err(outcome.explain(error, UNKNOWN))
}

fn container_client(call: &Call, target: &Target, attempt: Attempt) -> Result<BlobContainerClient> {
    let options = BlobContainerClientOptions {
        client_options: SdkTransport::client_options(call.service.clone(), attempt),
        version: SERVICE_VERSION.to_owned(),
    };
    Ok(BlobContainerClient::new(target.url()?, None, Some(options))?)
}

fn blob_client(call: &Call, target: &Target, attempt: Attempt) -> Result<BlobClient> {
    let options = BlobClientOptions {
        client_options: SdkTransport::client_options(call.service.clone(), attempt),
        version: SERVICE_VERSION.to_owned(),
    };
    Ok(BlobClient::new(target.url()?, None, Some(options))?)
}

fn block_blob_client(call: &Call, target: &Target, attempt: Attempt) -> Result<BlockBlobClient> {
    Ok(blob_client(call, target, attempt)?.block_blob_client())
}

fn etag(headers: &Headers) -> String {
    headers.get_optional_str(&SDK_ETAG).unwrap_or_default().to_owned()
}
