//! The default chain of credentials, in the order of Microsoft's `DefaultAzureCredential`
//! (<https://learn.microsoft.com/azure/developer/python/sdk/authentication/credential-chains>).

use std::time::Duration;

use super::bearer_token::BearerToken;
use super::ids::variable;
use super::token_request::{ChainMember, IDENTITY_ENDPOINTS, TokenRequest};
use crate::error::{Error, Result, Status};

const SELECTION: &str = "AZURE_TOKEN_CREDENTIALS";
/// How long to wait for the metadata service. It is short, because most machines without one do not answer at all.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

const DEPLOYED: [ChainMember; 3] =
    [ChainMember::Environment, ChainMember::WorkloadIdentity, ChainMember::ManagedIdentity];
const DEVELOPER: [ChainMember; 2] = [ChainMember::AzureCli, ChainMember::AzureDeveloperCli];

/// Asks for a token from `known`, the member that gave the last one, or else from the first member that works. Returns
/// the member too.
pub(super) async fn request_token(
    request: &TokenRequest,
    known: Option<ChainMember>,
) -> Result<(BearerToken, Option<ChainMember>)> {
    if let Some(member) = known {
        let token = request.chain_member(member).await.map_err(|error| error.context(member.name()))?;
        return Ok((token, Some(member)));
    }
    let members = selection(variable(SELECTION).as_deref())?;
    let (mut reasons, mut is_retryable) = (Vec::new(), false);
    for &member in &members {
        match try_member(request, member, members.len() == 1).await {
            Ok(token) => return Ok((token, Some(member))),
            Err(error) => {
                tracing::info!(target: "aztorch::credential", "{member}: {error}");
                is_retryable |= error.is_retryable();
                reasons.push(format!("{member}: {error}"));
            }
        }
    }
    let error = Error::new(Status::Unauthenticated, format!("no credential was found. {}", reasons.join(". "))).hint(
        "log in with `az login`, put a SAS into the URL, or set a credential on the client (anonymous for a public \
         container)",
    );
    Err(if is_retryable { error.retryable(None) } else { error })
}

/// Asks one member. `is_only`: the user has chosen only this member.
async fn try_member(request: &TokenRequest, member: ChainMember, is_only: bool) -> Result<BearerToken> {
    let uses_imds =
        member == ChainMember::ManagedIdentity && IDENTITY_ENDPOINTS.iter().all(|&name| variable(name).is_none());
    // A metadata service that the user has chosen may take longer to answer.
    if uses_imds && !is_only {
        request.http.probe_imds(PROBE_TIMEOUT).await?;
    }
    request.chain_member(member).await
}

/// The members that `AZURE_TOKEN_CREDENTIALS` selects; all without it.
fn selection(value: Option<&str>) -> Result<Vec<ChainMember>> {
    let all = DEPLOYED.into_iter().chain(DEVELOPER);
    let Some(value) = value.map(str::trim) else { return Ok(all.collect()) };
    if value.eq_ignore_ascii_case("prod") {
        return Ok(DEPLOYED.to_vec());
    }
    if value.eq_ignore_ascii_case("dev") {
        return Ok(DEVELOPER.to_vec());
    }
    let names: Vec<_> = all.clone().map(ChainMember::name).collect();
    all.filter(|member| member.name().eq_ignore_ascii_case(value)).map(|member| Ok(vec![member])).next().unwrap_or_else(
        || {
            Err(Error::new(
                Status::Unauthenticated,
                format!("{SELECTION} has an unknown value; here it can be prod, dev or one of {}", names.join(", ")),
            ))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_selects_members_of_the_chain() {
        use ChainMember::*;
        let all = [Environment, WorkloadIdentity, ManagedIdentity, AzureCli, AzureDeveloperCli];
        assert_eq!(selection(None).unwrap(), all);
        assert_eq!(selection(Some("prod")).unwrap(), [Environment, WorkloadIdentity, ManagedIdentity]);
        assert_eq!(selection(Some("Dev")).unwrap(), [AzureCli, AzureDeveloperCli]);
        for member in all {
            assert_eq!(selection(Some(&member.name().to_lowercase())).unwrap(), [member]);
        }
        let error = selection(Some("VisualStudioCodeCredential")).unwrap_err();
        assert!(error.message().contains("AzureCliCredential"), "{error}");
    }
}
