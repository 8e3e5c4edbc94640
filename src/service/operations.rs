//! The service's operations other than ranged reads. Blocks go straight to the transport, from the
//! caller's memory where it lends it; everything that carries a document is the SDK's.

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

/// Metadata of a container, and of a blob that was written in one request under a condition: a name of its own for each
/// write.
const MARK: &str = "aztorch_write";
const MARK_HEADER: &str = "x-ms-meta-aztorch_write";
const X_MS_META_MARK: HeaderName = HeaderName::from_static(MARK_HEADER);

/// What must hold of the blob for a write to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Whatever is there is replaced.
    None,
    /// Nothing is there yet.
    Absent,
    /// This version is there.
    Matches(String),
}

/// Stages one block. `id` is the block's id before base64.
pub(crate) async fn put_block(call: &Call, target: &Target, id: &str, body: &Bytes) -> Result<()> {
    let id = utf8_percent_encode(&STANDARD.encode(id), NON_ALPHANUMERIC).to_string();
    let uri = target.uri(&format!("comp=block&blockid={id}"))?;
    let put = |attempt| {
        let mut request = Request::new(Method::PUT, uri.clone());
        request.body = body.clone();
        async move {
            let mut response = send_checked(call, request, &attempt).await?.success().await?;
            response.bytes(MAX_ANSWER).await.map(drop)
        }
    };
    retry(&call.limits, put).await.map_err(foreign_blocks)?;
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

/// The service wants block ids of one length, also those that another program left behind
/// (<https://learn.microsoft.com/rest/api/storageservices/put-block>).
fn foreign_blocks(error: Error) -> Error {
    match error.service_code() {
        "InvalidBlobOrBlock" => error.hint(
            "uncommitted blocks with ids of another length lie under this name, left by another program; the service \
             drops them after a week, so write under another name meanwhile",
        ),
        _ => error,
    }
}

/// An answer to a write has headers only.
const MAX_ANSWER: usize = 64 << 10;

/// Writes a whole small blob in one request; returns its ETag. Needs `block_id` (before base64) only where the blob must
/// be written as a block after all.
pub(crate) async fn put_blob(
    call: &Call,
    target: &Target,
    condition: &Condition,
    body: Bytes,
    block_id: &str,
) -> Result<String> {
    let mark = new_mark();
    let (result, doubt) = retry_write(call, |attempt| {
        let (mark, body) = (&mark, body.clone());
        async move {
            let mut request = Request::new(Method::PUT, target.uri("")?).header(X_MS_BLOB_TYPE, "BlockBlob")?;
            request = match condition {
                Condition::None => request,
                Condition::Absent => request.header(IF_NONE_MATCH, "*")?.header(X_MS_META_MARK, mark)?,
                Condition::Matches(etag) => request.header(IF_MATCH, etag)?.header(X_MS_META_MARK, mark)?,
            };
            request.body = body;
            let answer = send_checked(call, request, &attempt).await.map_err(|error| disputed(error, condition));
            let mut response = answer?.success().await?;
            let etag = response.header(&ETAG).to_owned();
            response.bytes(MAX_ANSWER).await?;
            Ok(etag)
        }
    })
    .await;
    let error = match result {
        Ok(etag) => return Ok(etag),
        Err(error) => error,
    };
    if doubt.may_be_cleared(call)
        && error.status() != Status::Corrupt
        && *condition != Condition::None
        && let Ok(headers) = properties(call, target).await
        && is_marked(&headers, &mark)
    {
        // A try that was not confirmed did it; the error is about what came after.
        return Ok(etag(&headers));
    }
    // Where nobody may look, the service's word stands.
    if error.status() == Status::AlreadyExists
        && *condition == Condition::Absent
        && let Ok(false) = exists(call, target).await
    {
        return put_over_leftovers(call, target, condition, body, block_id).await;
    }
    Err(doubt.explain(error, UNKNOWN_BLOB))
}

/// The service has published the blob and disagrees on its bytes. Another try replaces it; under a condition it would meet
/// this one's result, and take that for what was to be written.
fn disputed(error: Error, condition: &Condition) -> Error {
    match error.status() {
        Status::Corrupt if *condition == Condition::None => error.hint("the blob was published with them"),
        Status::Corrupt => error.hint("the blob was published with them").last_word(),
        _ => error,
    }
}

fn new_mark() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Whether what has these headers was written with this mark. Its bytes would not do: whoever else creates it may write
/// the same.
fn is_marked(headers: &Headers, mark: &str) -> bool {
    headers.get_optional_str(&SdkName::from_static(MARK_HEADER)) == Some(mark)
}

/// Azurite takes blocks that were staged and never committed for a blob, where the service itself does not.
/// A commit is judged rightly by both.
async fn put_over_leftovers(
    call: &Call,
    target: &Target,
    condition: &Condition,
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

/// Publishes the staged blocks as the blob; gives its ETag.
pub(crate) async fn commit(call: &Call, target: &Target, condition: &Condition, ids: &[String]) -> Result<String> {
    let blocks =
        BlockLookupList { latest: Some(ids.iter().map(|id| id.clone().into_bytes()).collect()), ..Default::default() };
    let content: RequestContent<_, _> = blocks.try_into()?;
    let (result, doubt) = retry_write(call, |attempt| {
        let content = content.clone();
        async move {
            let client = block_blob_client(call, target, attempt)?;
            let (if_match, if_none_match) = match condition {
                Condition::None => (None, None),
                Condition::Absent => (None, Some(Etag::from("*"))),
                Condition::Matches(etag) => (Some(Etag::from(etag.clone())), None),
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
    if doubt.may_be_cleared(call)
        && let Some(etag) = committed(call, target, ids).await
    {
        // A try that was not confirmed did it, and the next one met its result.
        return Ok(etag);
    }
    Err(lost_blocks(doubt.explain(error, UNKNOWN_BLOB)))
}

/// Someone else's commit discards the blocks that were staged before it.
fn lost_blocks(error: Error) -> Error {
    match error.service_code() {
        "InvalidBlockList" => error
            .with_status(Status::Modified)
            .hint("another writer published this blob meanwhile, which discarded the blocks staged here"),
        _ => error,
    }
}

/// The ETag of the blob that is there, if it was committed from these blocks. No blocks say nothing: any blob that was
/// written in one request has none.
async fn committed(call: &Call, target: &Target, ids: &[String]) -> Option<String> {
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

/// The tries of a write; beside the result, whether one may have been carried out that was not confirmed.
async fn retry_write<T, F>(call: &Call, operation: impl FnMut(Attempt) -> F) -> (Result<T>, Doubt)
where
    F: Future<Output = Result<T>>,
{
    let mut attempts = Attempts::new(&call.limits);
    let result = attempts.run(operation).await;
    (result, Doubt(attempts.in_doubt()))
}

/// Whether the service may have carried out a try of a write that it did not confirm: the answer was lost or not waited
/// for, or was an error that leaves it open.
struct Doubt(bool);

impl Doubt {
    fn exists(&self) -> bool {
        self.0
    }

    /// Whether looking may help: not when the call is over.
    fn may_be_cleared(&self, call: &Call) -> bool {
        self.exists() && call.limits.check().is_ok()
    }

    /// An error that says what may have happened as well.
    fn explain(&self, error: Error, unknown: &str) -> Error {
        if self.exists() { error.hint(unknown) } else { error }
    }
}

const UNKNOWN: &str = "the service may have carried out a try that it did not confirm, so the outcome is unknown";
const UNKNOWN_BLOB: &str = "the service may have carried out a try that it did not confirm, so the outcome is unknown: the \
                            blob is wholly old or wholly new";

pub(crate) async fn exists(call: &Call, target: &Target) -> Result<bool> {
    match exists_etag(call, target).await {
        Ok(_) => Ok(true),
        // A missing container is the caller's mistake, and a question about a blob in it has no answer.
        Err(error) if error.status() == Status::NotFound && error.service_code() != "ContainerNotFound" => Ok(false),
        Err(error) => Err(error),
    }
}

async fn exists_etag(call: &Call, target: &Target) -> Result<String> {
    properties(call, target).await.map(|headers| etag(&headers))
}

async fn properties(call: &Call, target: &Target) -> Result<Headers> {
    retry(&call.limits, |attempt| async {
        let client = blob_client(call, target, attempt)?;
        let options = BlobClientGetPropertiesOptions::default();
        Ok(client.get_properties(Some(options)).await?.headers().clone())
    })
    .await
}

pub(crate) async fn delete(call: &Call, target: &Target) -> Result<()> {
    let delete = |attempt| async {
        let client = blob_client(call, target, attempt)?;
        Ok(client.delete(None).await.map(drop)?)
    };
    let (result, doubt) = retry_write(call, delete).await;
    match result {
        // It is gone, which was the wish; whether by a try that was not confirmed, nobody can say.
        Err(error)
            if error.status() == Status::NotFound && error.service_code() == "BlobNotFound" && doubt.exists() =>
        {
            Ok(())
        }
        result => result.map_err(|error| doubt.explain(error, UNKNOWN)),
    }
}

pub(crate) async fn create_container(call: &Call, target: &Target) -> Result<()> {
    let mark = new_mark();
    let (result, doubt) = retry_write(call, |attempt| async {
        let client = container_client(call, target, attempt)?;
        let metadata = Some(HashMap::from([(MARK.to_owned(), mark.clone())]));
        let options = BlobContainerClientCreateOptions { metadata, ..Default::default() };
        Ok(client.create(Some(options)).await.map(drop)?)
    })
    .await;
    let Err(error) = result else { return Ok(()) };
    if doubt.may_be_cleared(call) {
        let probe = |attempt| async {
            let client = container_client(call, target, attempt)?;
            Ok(client.get_properties(None).await?.headers().clone())
        };
        if retry(&call.limits, probe).await.is_ok_and(|headers| is_marked(&headers, &mark)) {
            return Ok(());
        }
    }
    Err(doubt.explain(error, UNKNOWN))
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
