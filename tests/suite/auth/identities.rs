//! Each kind of identity end to end: a token is requested as on Azure, and a blob is written and read with it over
//! https.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aztorch::{Client, Status, WriteMode};

use crate::support::azurite::account_sas;
use crate::support::child::{self, test_path};
use crate::support::client::write_blob;
use crate::support::deployed::{HOUR, NO_IMDS, fake_program, in_child, options, round_trip, scratch_path};
use crate::support::error::expect_error;
use crate::support::identity::{IdentityServer, TokenRequest, entra, imds, managed};
use crate::support::proxy::Proxy;
use crate::support::secure::{CLOUDS, token};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const APP: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

#[test]
fn a_user_assigned_identity_of_app_service_gets_a_token() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start(|_, _| managed("app-service", HOUR));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let variables =
        [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "planted-header"), ("AZURE_CLIENT_ID", APP)];
    in_child(test_path(a_user_assigned_identity_of_app_service_gets_a_token), &variables);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].header("x-identity-header"), Some("planted-header"));
    assert!(requests[0].target.contains("resource=https%3A%2F%2Fstorage.azure.com"), "{requests:?}");
    assert!(requests[0].target.contains(&format!("client_id={APP}")), "{requests:?}");
}

#[test]
fn the_chain_finds_the_identity_of_a_virtual_machine() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start(|_, request| imds(request, "vm"));
    let host = format!("http://{}", server.authority());
    in_child(
        test_path(the_chain_finds_the_identity_of_a_virtual_machine),
        &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)],
    );
    let requests = server.requests();
    // The chain sends a probe without the header, and one request for a token.
    assert_eq!(requests.iter().filter(|request| request.header("metadata").is_some()).count(), 1, "{requests:?}");
    assert!(
        requests.iter().all(|request| request.target.starts_with("/metadata/identity/oauth2/token")),
        "{requests:?}"
    );
}

#[test]
fn a_managed_identity_that_was_set_gets_a_token() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_managed_identity(Some(APP))));
        return;
    }
    let server = IdentityServer::start(|_, request| imds(request, "set-by-hand"));
    let host = format!("http://{}", server.authority());
    in_child(test_path(a_managed_identity_that_was_set_gets_a_token), &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    assert_eq!(server.requests().len(), 1);
    assert!(server.requests()[0].target.contains(&format!("client_id={APP}")));
}

/// The URL of a token authority of the tests.
fn authority(server: &IdentityServer) -> String {
    format!("https://{}", server.authority())
}

#[track_caller]
fn assert_form(request: &TokenRequest, fields: &[&str]) {
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", format!("/{TENANT}/oauth2/v2.0/token").as_str())
    );
    for field in fields {
        assert!(request.body.split('&').any(|pair| pair == *field), "{field} is not in {}", request.body);
    }
}

#[test]
fn a_service_principal_in_the_environment_gets_a_token() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("secret", HOUR));
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_CLIENT_SECRET", "planted hunter2".into()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child(test_path(a_service_principal_in_the_environment_gets_a_token), &variables);
    let id = format!("client_id={APP}");
    assert_eq!(server.requests().len(), 1);
    let scope = "scope=https%3A%2F%2Fstorage.azure.com%2F.default";
    assert_form(&server.requests()[0], &[&id, "client_secret=planted+hunter2", scope]);
}

#[test]
fn a_service_principal_that_was_set_gets_a_token() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_client_secret(TENANT, APP, "planted hunter2")));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("by-hand", HOUR));
    in_child(
        test_path(a_service_principal_that_was_set_gets_a_token),
        &[("AZURE_AUTHORITY_HOST", &authority(&server))],
    );
    assert_form(&server.requests()[0], &["client_secret=planted+hunter2"]);
}

#[test]
fn a_service_principal_with_a_certificate_gets_a_token() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("certificate", HOUR));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let path = scratch_path("principal.pem");
    fs::write(&path, format!("{}{}", key.serialize_pem(), made.pem())).unwrap();
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_CLIENT_CERTIFICATE_PATH", path.to_str().unwrap().to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child(test_path(a_service_principal_with_a_certificate_gets_a_token), &variables);
    let request = &server.requests()[0];
    assert_form(request, &["grant_type=client_credentials"]);
    let assertion = request.body.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key_raw());
    public.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    let claims = String::from_utf8(BASE64.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert!(claims.contains(&format!("{}/{TENANT}/oauth2/v2.0/token", authority(&server))), "{claims}");
}

#[test]
fn a_workload_identity_reads_its_file_again() {
    if let Some(url) = child::argument() {
        let path = PathBuf::from(std::env::var("AZURE_FEDERATED_TOKEN_FILE").unwrap());
        let options = options(|_| Ok(()));
        let container = round_trip(&url, &options);
        fs::write(&path, "the second federated token").unwrap();
        let client = Client::new(&options).unwrap();
        // The first token is valid for two seconds.
        thread::sleep(Duration::from_millis(2100));
        write_blob(&client, &format!("{container}/more"), WriteMode::Create, b"more").unwrap();
        return;
    }
    let server = IdentityServer::start_tls(|_, _| entra("workload", Duration::from_secs(2)));
    let path = scratch_path("federated");
    fs::write(&path, "the first federated token").unwrap();
    let variables = [
        ("AZURE_AUTHORITY_HOST", authority(&server)),
        ("AZURE_TENANT_ID", TENANT.into()),
        ("AZURE_CLIENT_ID", APP.into()),
        ("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap().to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child(test_path(a_workload_identity_reads_its_file_again), &variables);
    let requests = server.requests();
    assert_form(&requests[0], &["client_assertion=the+first+federated+token"]);
    assert_form(requests.last().unwrap(), &["client_assertion=the+second+federated+token"]);
}

fn unix_time(later: Duration) -> u64 {
    (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + later).as_secs()
}

#[test]
fn the_chain_uses_the_azure_cli_last() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|_| Ok(())));
        return;
    }
    let (token, until) = (token("az", HOUR), unix_time(HOUR));
    let (directory, calls) = fake_program(
        "az",
        &format!(
            r#"echo '{{"accessToken":"{token}","expiresOn":"2099-01-01 00:00:00.000000","expires_on":{until},"subscription":"s","tenant":"t","tokenType":"Bearer"}}'"#
        ),
    );
    let path = format!("{}:/usr/bin:/bin", directory.display());
    in_child(test_path(the_chain_uses_the_azure_cli_last), &[("PATH", &path), NO_IMDS]);
    let calls = fs::read_to_string(calls).unwrap();
    assert_eq!(calls, "account get-access-token -o json --scope https://storage.azure.com/.default\n");
}

#[test]
fn the_azure_developer_cli_is_used_if_selected() {
    if let Some(url) = child::argument() {
        round_trip(&url, &options(|options| options.set_default_credential()));
        return;
    }
    let token = token("azd", HOUR);
    let (directory, calls) =
        fake_program("azd", &format!(r#"echo '{{"token":"{token}","expiresOn":"2099-01-01T00:00:00Z"}}'"#));
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let chosen = ("AZURE_TOKEN_CREDENTIALS", "AzureDeveloperCliCredential");
    in_child(test_path(the_azure_developer_cli_is_used_if_selected), &[("PATH", &path), chosen]);
    assert!(fs::read_to_string(calls).unwrap().starts_with("auth token -o json"));
}

#[test]
fn if_no_credential_of_the_chain_works_the_error_lists_the_reasons() {
    if let Some(url) = child::argument() {
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let error = expect_error(client.open(&format!("{url}/container/blob")), Status::Unauthenticated);
        for part in [
            "EnvironmentCredential: not configured: AZURE_TENANT_ID",
            "WorkloadIdentityCredential: not configured",
            "ManagedIdentityCredential: no instance metadata service",
            "AzureCliCredential: ",
            "Please run 'az login'",
            "AzureDeveloperCliCredential: ",
            "azd not found on PATH",
        ] {
            assert!(error.message().contains(part), "'{part}' is not in {error}");
        }
        // A SAS in the URL does not need the chain.
        let missing = client.open(&format!("{url}/container/blob?{}", account_sas("rwdlacup")));
        expect_error(missing, Status::NotFound);
        return;
    }
    let (directory, _) =
        fake_program("az", "echo \"ERROR: Please run 'az login' to setup account. Bearer hunter2\" >&2; exit 1");
    let path = format!("{}:/usr/bin:/bin", directory.display());
    in_child(test_path(if_no_credential_of_the_chain_works_the_error_lists_the_reasons), &[("PATH", &path), NO_IMDS]);
}

/// On some machines the network drops requests to the address of the metadata service.
#[test]
fn a_silent_metadata_service_delays_the_chain_by_a_second() {
    if let Some(url) = child::argument() {
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let began = Instant::now();
        let error = expect_error(client.exists(&format!("{url}/container/blob")), Status::Unauthenticated);
        assert!(error.message().contains("no answer within 1s"), "{error}");
        // The limit is a second, plus two for a busy machine; a token request may take thirty.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", silent.local_addr().unwrap());
    let accepted = thread::spawn(move || silent.accept().unwrap());
    // `az` and `azd` are not on this path.
    let variables = [("PATH", "/nowhere"), ("AZURE_POD_IDENTITY_AUTHORITY_HOST", host.as_str())];
    in_child(test_path(a_silent_metadata_service_delays_the_chain_by_a_second), &variables);
    let (mut connection, _) = accepted.join().unwrap();
    let mut request = String::new();
    connection.read_to_string(&mut request).unwrap();
    assert!(request.starts_with("GET /metadata/identity/oauth2/token"), "{request}");
}

/// A proxy leads all tunnels to one server, which has a certificate for all these names.
#[test]
fn each_cloud_has_its_own_authority() {
    if child::argument().is_some() {
        let proxy = std::env::var("AZTORCH_TEST_PROXY").unwrap();
        let options = options(|options| {
            options.set_proxy(&proxy)?;
            options.set_client_secret(TENANT, APP, "planted hunter2")
        });
        let client = Client::new(&options).unwrap();
        for (account, _) in CLOUDS {
            assert!(client.exists(&format!("https://{account}/container/blob")).unwrap());
        }
        return;
    }
    let server = IdentityServer::start_tls(|index, request| match request.method.as_str() {
        "POST" => entra(&index.to_string(), HOUR),
        _ => (200, String::new(), String::new()),
    });
    let proxy = Proxy::tunnelling_to(server.authority());
    let address = format!("http://{}", proxy.authority());
    in_child(test_path(each_cloud_has_its_own_authority), &[("AZTORCH_TEST_PROXY", &address)]);
    let hosts: Vec<_> = CLOUDS.iter().flat_map(|(account, authority)| [*authority, *account]).collect();
    let tunnels: Vec<_> = proxy.requests().into_iter().map(|(line, _)| line).collect();
    assert_eq!(tunnels, hosts.iter().map(|host| format!("CONNECT {host}:443 HTTP/1.1")).collect::<Vec<_>>());
    for (request, host) in server.requests().iter().zip(hosts) {
        assert_eq!(request.header("host"), Some(host));
        if request.method == "POST" {
            assert_form(request, &["scope=https%3A%2F%2Fstorage.azure.com%2F.default"]);
        }
    }
    // Each cloud gets a token of its own.
    let sent: Vec<_> =
        server.requests().iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert!(sent.len() == 3 && sent[0] != sent[1] && sent[1] != sent[2], "{sent:?}");
}
