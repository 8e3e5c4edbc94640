//! Why the service may have refused a request, and what the user can do: one line for each known cause
//! (<https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>).

use std::time::{Duration, SystemTime};

use http::header::{DATE, WWW_AUTHENTICATE};
use http::{HeaderMap, Uri};

use super::ids::is_tenant;
use super::sas::expiry;

/// The service refuses signatures whose date differs from its own clock by more than this.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// What a request was signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    SasInUrl,
    Sas,
    SharedKey,
    Token,
    Anonymous,
    /// With nothing: no credential was configured, and a token is never sent over plain http.
    NothingOverHttp,
}

/// The facts about a request that explain a refusal.
#[derive(Clone, Debug)]
pub(crate) struct AuthHints {
    signed: Signed,
    /// The `se=` parameter of the request's SAS, and no other part of the SAS.
    expiry: Option<String>,
}

impl AuthHints {
    pub(crate) fn new(uri: &Uri, signed: Signed) -> Self {
        let query = uri.query().unwrap_or_default();
        let expiry = query.split('&').find(|pair| pair.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("se=")));
        Self { signed, expiry: expiry.map(str::to_owned) }
    }

    /// Whether the request was signed with a token.
    pub(crate) fn has_token(&self) -> bool {
        self.signed == Signed::Token
    }

    /// Whether the request had no credential at all.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.signed, Signed::Anonymous | Signed::NothingOverHttp)
    }

    /// The hint for a response with this status, code and detail; "" for none.
    pub(crate) fn hint(&self, http_status: u16, code: &str, detail: &str, headers: &HeaderMap) -> String {
        let now = SystemTime::now();
        if let Some((at, Err(_))) = self.expiry.as_deref().and_then(|query| expiry(query, now)) {
            return format!("the SAS expired at {at}: get a new one");
        }
        match code {
            "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions" if self.signed == Signed::Token => {
                "the identity lacks a data role: being Owner or Contributor is not enough; give it Storage Blob Data \
                 Reader or Contributor on the account or container, and wait up to ten minutes"
            }
            "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions" => {
                "the SAS does not permit this: look at its permissions (sp=)"
            }
            "AuthorizationServiceMismatch" => "the SAS is not for blobs: it needs the service b (ss=b)",
            "AuthorizationResourceTypeMismatch" => "the SAS is not for this kind of resource: it needs srt=sco",
            "AuthorizationProtocolMismatch" => "the SAS is for https only",
            "AuthorizationSourceIPMismatch" => "the SAS is for other IP addresses (sip=)",
            "ResourceNotFound" if self.signed == Signed::Anonymous => {
                "no credential was given, and without one the service shows only what is public, so it may exist: \
                 give a credential, or put a SAS into the URL"
            }
            "ResourceNotFound" if self.signed == Signed::NothingOverHttp => {
                "no credential was sent (none is configured, and a token is never sent over http), and without one the \
                 service shows only what is public, so it may exist: put a SAS into the URL, set a SAS or an \
                 account key, or use https"
            }
            "AuthorizationFailure" if !self.is_anonymous() => {
                "the account's firewall, or its private endpoint, does not let this machine in: add its network or \
                 address to the account's networking rules, or come through the private endpoint"
            }
            "KeyBasedAuthenticationNotPermitted" => {
                "the account allows no keys, and no SAS signed with one: use an Entra identity (az login, a managed \
                 identity, a service principal) or a user delegation SAS"
            }
            "PublicAccessNotPermitted" => {
                "the account allows no public access, so a credential is needed: a SAS in the URL, or one on the client"
            }
            _ if (401..=403).contains(&http_status) => {
                return self.by_credential(http_status, code, detail, headers, now);
            }
            _ => "",
        }
        .to_owned()
    }

    fn by_credential(&self, status: u16, code: &str, detail: &str, headers: &HeaderMap, now: SystemTime) -> String {
        if self.signed == Signed::Token
            && (detail.contains("Issuer") || detail.contains("issuer") || detail.contains("tenant"))
        {
            return wrong_tenant(headers);
        }
        if let Some(skew) = skew(headers, now).filter(|skew| *skew > MAX_SKEW) {
            return format!(
                "this machine's clock is {} minutes off the service's, which refuses signatures made with it: set it",
                skew.as_secs() / 60
            );
        }
        match self.signed {
            Signed::Token if status == 401 => {
                format!("the token was not accepted: {}", wrong_tenant(headers))
            }
            Signed::Token => "check the identity's data role (Storage Blob Data Reader or Contributor; Owner is not \
                              enough) and the account's networking rules"
                .to_owned(),
            Signed::SasInUrl | Signed::Sas if code == "AuthenticationFailed" => {
                "the SAS does not fit: it was cut or changed, is not valid yet, or its key was rotated".to_owned()
            }
            Signed::SasInUrl | Signed::Sas => {
                "check the SAS token's permissions, services, resource types and expiry".to_owned()
            }
            Signed::SharedKey => "check the account name and key, and that the account allows key access".to_owned(),
            Signed::Anonymous => "the client is anonymous, which works for public containers only".to_owned(),
            Signed::NothingOverHttp => "no credential was sent: none is configured, and a token is never sent over \
                                        http; put a SAS into the URL, set a SAS or an account key, or use https"
                .to_owned(),
        }
    }
}

fn wrong_tenant(headers: &HeaderMap) -> String {
    match challenged_tenant(headers) {
        Some(tenant) => format!(
            "the account belongs to the tenant {tenant}: log in there (az login --tenant), or set AZURE_TENANT_ID"
        ),
        None => "it may be of another tenant than the account's: log in there (az login --tenant), or set \
                 AZURE_TENANT_ID"
            .to_owned(),
    }
}

/// The tenant that a 401 response names: `Bearer
/// authorization_uri=https://login.microsoftonline.com/TENANT/oauth2/authorize …`.
pub(super) fn challenged_tenant(headers: &HeaderMap) -> Option<&str> {
    let challenge = headers.get(WWW_AUTHENTICATE)?.to_str().ok()?;
    let tenant = challenge.split("authorization_uri=").nth(1)?.split('/').nth(3)?;
    Some(tenant).filter(|tenant| is_tenant(tenant))
}

/// The difference between this machine's clock and the service's.
fn skew(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(theirs.duration_since(now).unwrap_or_else(|earlier| earlier.duration()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(signed: Signed, query: &str, status: u16, code: &str, detail: &str, headers: &HeaderMap) -> String {
        let uri = format!("https://acc.blob.core.windows.net/c/b?{query}").parse().unwrap();
        AuthHints::new(&uri, signed).hint(status, code, detail, headers)
    }

    #[test]
    fn each_known_cause_has_a_hint() {
        let none = HeaderMap::new();
        let mut late = HeaderMap::new();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        late.insert(DATE, httpdate::fmt_http_date(hour_ago).parse().unwrap());
        let mut challenge = HeaderMap::new();
        let bearer = "Bearer authorization_uri=https://login.microsoftonline.com/1234-tenant/oauth2/authorize resource_id=https://storage.azure.com";
        challenge.insert(WWW_AUTHENTICATE, bearer.parse().unwrap());
        let cases: [(Signed, &str, u16, &str, &str, &HeaderMap, &str); 16] = [
            (Signed::Token, "", 403, "AuthorizationPermissionMismatch", "", &none, "Owner"),
            (Signed::Sas, "", 403, "AuthorizationPermissionMismatch", "", &none, "sp="),
            (Signed::Token, "", 403, "AuthorizationFailure", "", &none, "firewall"),
            (Signed::SharedKey, "", 403, "KeyBasedAuthenticationNotPermitted", "", &none, "allows no keys"),
            (Signed::Anonymous, "", 409, "PublicAccessNotPermitted", "", &none, "no public access"),
            (
                Signed::Token,
                "",
                401,
                "InvalidAuthenticationInfo",
                "Issuer validation failed",
                &challenge,
                "1234-tenant",
            ),
            (Signed::Token, "", 401, "InvalidAuthenticationInfo", "", &none, "tenant"),
            (Signed::SharedKey, "", 403, "AuthenticationFailed", "Request date header too old", &late, "60 minutes"),
            (
                Signed::SasInUrl,
                "se=2020-01-01T00:00:00Z&sig=x",
                403,
                "AuthenticationFailed",
                "",
                &none,
                "expired at 2020-01-01",
            ),
            (Signed::SasInUrl, "se=2099-01-01&sig=x", 403, "AuthenticationFailed", "", &none, "does not fit"),
            (Signed::Anonymous, "", 401, "NoAuthenticationInformation", "", &none, "anonymous"),
            (Signed::NothingOverHttp, "", 403, "", "", &none, "never sent over http"),
            (Signed::Token, "", 409, "LeaseIdMissing", "", &none, ""),
            (Signed::Anonymous, "", 404, "ResourceNotFound", "", &none, "no credential was given"),
            (Signed::NothingOverHttp, "", 404, "ResourceNotFound", "", &none, "no credential was sent"),
            (Signed::Sas, "", 404, "ResourceNotFound", "", &none, ""),
        ];
        for (signed, query, status, code, detail, headers, expected) in cases {
            let hint = hint(signed, query, status, code, detail, headers);
            assert!(hint.contains(expected) && (hint.is_empty() == expected.is_empty()), "{code}: {hint}");
            assert!(!hint.contains('\n'));
        }
    }
}
