//! The default chain, in the order of Microsoft's `DefaultAzureCredential`
//! (<https://learn.microsoft.com/azure/developer/python/sdk/authentication/credential-chains>).

use std::time::Duration;

use super::identity::{Asking, Member, variable};
use super::token::BearerToken;
use crate::error::{Error, Result, Status};

const SELECTION: &str = "AZURE_TOKEN_CREDENTIALS";
/// What Azure's machines set for a managed identity that is not the metadata service's.
pub(super) const IDENTITY_ENDPOINTS: [&str; 2] = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"];
/// A machine without a metadata service must not make its users wait.
const PROBE: Duration = Duration::from_secs(1);

const DEPLOYED: [Member; 3] = [Member::Environment, Member::WorkloadIdentity, Member::ManagedIdentity];
const DEVELOPER: [Member; 2] = [Member::AzureCli, Member::AzureDeveloperCli];

/// A token from `known`, the member that worked before, or else from the first that works now.
pub(super) async fn ask(asking: &Asking, known: Option<Member>) -> Result<(BearerToken, Option<Member>)> {
    if let Some(member) = known {
        let token = asking.member(member).await.map_err(|error| error.context(member.name()))?;
        return Ok((token, Some(member)));
    }
    let members = selection(variable(SELECTION).as_deref())?;
    let (mut reasons, mut may_help) = (Vec::new(), false);
    for &member in &members {
        match ask_first(asking, member, members.len() == 1).await {
            Ok(token) => return Ok((token, Some(member))),
            Err(error) => {
                tracing::info!(target: "aztorch::credential", "{member}: {error}");
                may_help |= error.is_retryable();
                reasons.push(format!("{member}: {error}"));
            }
        }
    }
    let error = Error::new(Status::Unauthenticated, format!("no credential was found. {}", reasons.join(". "))).hint(
        "log in with `az login`, put a SAS into the URL, or set a credential on the client (anonymous for a public \
         container)",
    );
    Err(if may_help { error.retryable(None) } else { error })
}

async fn ask_first(asking: &Asking, member: Member, chosen: bool) -> Result<BearerToken> {
    let on_metadata =
        member == Member::ManagedIdentity && IDENTITY_ENDPOINTS.iter().all(|&name| variable(name).is_none());
    // Who chose it alone knows that it is there, and wants it waited for.
    if on_metadata && !chosen {
        asking.http.probe_imds(PROBE).await?;
    }
    asking.member(member).await
}

/// What `AZURE_TOKEN_CREDENTIALS` leaves of the chain.
fn selection(value: Option<&str>) -> Result<Vec<Member>> {
    let all = DEPLOYED.into_iter().chain(DEVELOPER);
    let Some(value) = value.map(str::trim) else { return Ok(all.collect()) };
    if value.eq_ignore_ascii_case("prod") {
        return Ok(DEPLOYED.to_vec());
    }
    if value.eq_ignore_ascii_case("dev") {
        return Ok(DEVELOPER.to_vec());
    }
    let names: Vec<_> = all.clone().map(Member::name).collect();
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
    fn the_variable_narrows_the_chain() {
        use Member::*;
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
