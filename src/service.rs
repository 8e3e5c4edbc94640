//! The service's operations other than ranged reads. Blocks go straight to the transport, from the
//! caller's memory where it lends it; everything that carries a document is the SDK's.

use std::sync::atomic::{AtomicBool, Ordering};

use azure_core::http::headers::{ETAG as SDK_ETAG, HeaderName as SdkName, Headers};
use azure_core::http::{Etag, RequestContent};
use azure_storage_blob::models::{
    BlobClientGetPropertiesOptions, BlockBlobClientCommitBlockListOptions, BlockListType, BlockLookupList,
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

use crate::blocks::Plan;
use crate::error::{Error, Result, Status};
use crate::retry::retry;
use crate::session::Call;
use crate::transport::{Request, Response, SERVICE_VERSION, SdkTransport, X_MS_BLOB_TYPE};
use crate::url::Target;

/// Metadata of a blob that was written in one request under a condition: a name of its own for each write.
const MARK: &str = "x-ms-meta-aztorch_write";
const X_MS_META_MARK: HeaderName = HeaderName::from_static(MARK);

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
    retry(&call.limits, || async {
        let mut request = Request::new(Method::PUT, uri.clone());
        request.body = body.clone();
        let mut response = send_checked(call, request).await?.success().await?;
        response.bytes(MAX_ANSWER).await.map(drop)
    })
    .await
    .map_err(foreign_blocks)?;
    call.has_moved(body.len() as u64);
    Ok(())
}

/// Sends bytes of a blob with what vouches for them; once more if the service turns out not to compare that.
async fn send_checked(call: &Call, request: Request) -> Result<Response> {
    let checksums = call.transport.checksums();
    loop {
        let mut vouched_for = request.clone();
        let vouched = checksums.vouch(&mut vouched_for)?;
        let response = call.transport.send(vouched_for).await?;
        if checksums.confirm(&vouched, &response)? {
            return Ok(response);
        }
        response.discard().await;
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

/// Writes a whole small blob in one request; gives its ETag.
pub(crate) async fn put_blob(call: &Call, target: &Target, condition: &Condition, body: Bytes) -> Result<String> {
    let doubt = Doubt::default();
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let result = retry(&call.limits, || {
        let (doubt, mark) = (&doubt, &mark);
        let body = body.clone();
        async move {
            let mut request = Request::new(Method::PUT, target.uri("")?).header(X_MS_BLOB_TYPE, "BlockBlob")?;
            request = match condition {
                Condition::None => request,
                Condition::Absent => request.header(IF_NONE_MATCH, "*")?.header(X_MS_META_MARK, mark)?,
                Condition::Matches(etag) => request.header(IF_MATCH, etag)?.header(X_MS_META_MARK, mark)?,
            };
            request.body = body;
            let answer = send_checked(call, request).await.map_err(|error| disputed(error, condition));
            let mut response = doubt.watch(answer)?.success().await?;
            let etag = response.header(&ETAG).to_owned();
            response.bytes(MAX_ANSWER).await?;
            Ok(etag)
        }
    })
    .await;
    if result.as_ref().is_err_and(|error| error.status() != Status::Corrupt)
        && doubt.exists()
        && *condition != Condition::None
        && let Some(etag) = marked(call, target, &mark).await
    {
        // A try whose answer was lost did it; the error is about what came after.
        return Ok(etag);
    }
    match result {
        Err(refused) if refused.status() == Status::AlreadyExists && *condition == Condition::Absent => {
            if exists(call, target).await? {
                return doubt.settle(Err(refused));
            }
            put_over_leftovers(call, target, condition, body).await
        }
        result => doubt.settle(result),
    }
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

/// The ETag of the blob that is there, if it was written with this mark. Its bytes would not do: whoever else creates
/// it may write the same.
async fn marked(call: &Call, target: &Target, mark: &str) -> Option<String> {
    let headers = properties(call, target).await.ok()?;
    let found = headers.get_optional_str(&SdkName::from_static(MARK))?;
    (found == mark).then(|| etag(&headers))
}

/// Azurite takes blocks that were staged and never committed for a blob, where the service itself does not.
/// A commit is judged rightly by both.
async fn put_over_leftovers(call: &Call, target: &Target, condition: &Condition, body: Bytes) -> Result<String> {
    let mut ids = Vec::new();
    // A block cannot be empty, but a list of no blocks can be committed.
    if !body.is_empty() {
        let id = Plan::new(body.len() as u64).next_id()?;
        put_block(call, target, &id, &body).await?;
        ids.push(id);
    }
    commit(call, target, condition, &ids).await
}

/// Publishes the staged blocks as the blob; gives its ETag.
pub(crate) async fn commit(call: &Call, target: &Target, condition: &Condition, ids: &[String]) -> Result<String> {
    let client = block_blob_client(call, target)?;
    let blocks =
        BlockLookupList { latest: Some(ids.iter().map(|id| id.clone().into_bytes()).collect()), ..Default::default() };
    let content: RequestContent<_, _> = blocks.try_into()?;
    let doubt = Doubt::default();
    let result = retry(&call.limits, || {
        let (doubt, client, content) = (&doubt, &client, content.clone());
        async move {
            let (if_match, if_none_match) = match condition {
                Condition::None => (None, None),
                Condition::Absent => (None, Some(Etag::from("*"))),
                Condition::Matches(etag) => (Some(Etag::from(etag.clone())), None),
            };
            let options = BlockBlobClientCommitBlockListOptions { if_match, if_none_match, ..Default::default() };
            let answer = client.commit_block_list(content, Some(options)).await.map_err(Error::from);
            doubt.watch(answer).map(|response| etag(response.headers()))
        }
    })
    .await;
    match result {
        Err(refused) if doubt.exists() && is_committed(call, &client, ids).await => {
            // A try whose answer was lost did it, and the next one met its result.
            exists_etag(call, target).await.map_err(|_| doubt.explain(refused))
        }
        other => doubt.settle(other).map_err(lost_blocks),
    }
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

async fn is_committed(call: &Call, client: &BlockBlobClient, ids: &[String]) -> bool {
    let listed = retry(&call.limits, || async {
        Ok(client.get_block_list(BlockListType::Committed, None).await?.into_model()?)
    });
    let Ok(list) = listed.await else { return false };
    let committed = list.committed_blocks.unwrap_or_default();
    committed.len() == ids.len()
        && committed.iter().zip(ids).all(|(block, id)| block.name.as_deref() == Some(id.as_bytes()))
}

/// Whether an earlier try of a write may have been carried out though no answer came.
#[derive(Default)]
struct Doubt(AtomicBool);

impl Doubt {
    fn watch<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && error.outcome_unknown()
        {
            self.0.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn exists(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn explain(&self, error: Error) -> Error {
        error.hint(format!("{UNKNOWN}: the blob is wholly old or wholly new"))
    }

    fn settle<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if self.is_left(&error) => Err(self.explain(error)),
            result => result,
        }
    }

    /// Whether `error` says less than what may have happened.
    fn is_left(&self, error: &Error) -> bool {
        self.exists() || error.outcome_unknown()
    }
}

const UNKNOWN: &str = "an answer was lost or not waited for, so the outcome is unknown";

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
    let client = blob_client(call, target)?;
    retry(&call.limits, || async {
        let options = BlobClientGetPropertiesOptions::default();
        Ok(client.get_properties(Some(options)).await?.headers().clone())
    })
    .await
}

pub(crate) async fn delete(call: &Call, target: &Target) -> Result<()> {
    let client = blob_client(call, target)?;
    let doubt = Doubt::default();
    let result =
        retry(&call.limits, || async { doubt.watch(client.delete(None).await.map(drop).map_err(Error::from)) });
    match result.await {
        // It is gone, which was the wish; whether by a try whose answer was lost, nobody can say.
        Err(error)
            if error.status() == Status::NotFound && error.service_code() == "BlobNotFound" && doubt.exists() =>
        {
            Ok(())
        }
        Err(error) if doubt.is_left(&error) => Err(error.hint(UNKNOWN)),
        result => result,
    }
}

pub(crate) async fn create_container(call: &Call, target: &Target) -> Result<()> {
    let options = BlobContainerClientOptions {
        client_options: SdkTransport::client_options(call.transport.clone()),
        version: SERVICE_VERSION.to_owned(),
    };
    let client = BlobContainerClient::new(target.url()?, None, Some(options))?;
    let doubt = Doubt::default();
    let result =
        retry(&call.limits, || async { doubt.watch(client.create(None).await.map(drop).map_err(Error::from)) });
    match result.await {
        Err(error) if doubt.is_left(&error) => Err(error.hint(UNKNOWN)),
        result => result,
    }
}

fn blob_client(call: &Call, target: &Target) -> Result<BlobClient> {
    let options = BlobClientOptions {
        client_options: SdkTransport::client_options(call.transport.clone()),
        version: SERVICE_VERSION.to_owned(),
    };
    Ok(BlobClient::new(target.url()?, None, Some(options))?)
}

fn block_blob_client(call: &Call, target: &Target) -> Result<BlockBlobClient> {
    Ok(blob_client(call, target)?.block_blob_client())
}

fn etag(headers: &Headers) -> String {
    headers.get_optional_str(&SDK_ETAG).unwrap_or_default().to_owned()
}
