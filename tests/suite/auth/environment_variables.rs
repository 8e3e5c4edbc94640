//! Storage credentials in the environment variables of the `az` CLI. They are used if no credential is set, and come
//! before the credential chain.

use aztorch::{Client, Result, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, account_sas};
use crate::support::child::{self, test_path};
use crate::support::client::{read_blob, write_blob};
use crate::support::deployed::{HOUR, in_child, new_container, options};
use crate::support::error::{FAKE_SIGNATURE, expect_error};
use crate::support::fault::FaultServer;
use crate::support::identity::{IdentityServer, managed};
use crate::support::secure::secure;

/// A well-formed key that belongs to no account.
const WRONG_KEY: &str = "aHVudGVyMiBodW50ZXIyIGh1bnRlcjI=";
const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT_NAME: &str = "AZURE_STORAGE_ACCOUNT";
const KEY: &str = "AZURE_STORAGE_KEY";
const SAS: &str = "AZURE_STORAGE_SAS_TOKEN";
const EXPECTED: &str = "AZTORCH_TEST_EXPECTED";

/// Runs `test` in a process with these variables and with a managed identity; returns how many tokens were requested.
#[track_caller]
fn token_requests_with(test: &str, expected: &str, variables: &[(&str, &str)]) -> usize {
    let server = IdentityServer::start(|_, _| managed("environment", HOUR));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let mut all = vec![("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "header"), (EXPECTED, expected)];
    all.extend(variables);
    in_child(test, &all);
    server.requests().len()
}

/// Asserts in the child that `client` has access, or that it has none, as the parent expects.
#[track_caller]
fn assert_expected_access(client: &Client, url: &str) {
    let blob = format!("{}/blob", new_container(url));
    let written = write_blob(client, &blob, WriteMode::Create, b"some bytes");
    match std::env::var(EXPECTED).unwrap().as_str() {
        "opens" => {
            written.unwrap();
            assert_eq!(read_blob(client, &blob).unwrap(), b"some bytes");
        }
        "denied" => assert_wrong_key(written.map(drop)),
        other => panic!("{other}"),
    }
}

/// Asserts that a key was wrong. The service returns 403. An Azurite that accepts tokens takes the signature for a
/// token, and returns 400.
#[track_caller]
fn assert_wrong_key(result: Result<()>) {
    let error = expect_error(result, Status::Rejected);
    assert_eq!(error.service_code(), "InvalidAuthenticationInfo", "{error}");
}

fn connection_string(key: &str) -> String {
    let endpoint = &secure().azurite.url;
    format!("DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint}")
}

#[test]
fn each_variable_gives_access_and_the_first_one_is_used() {
    let path = test_path(each_variable_gives_access_and_the_first_one_is_used);
    if let Some(url) = child::argument() {
        assert_expected_access(&Client::new(&options(|_| Ok(()))).unwrap(), &url);
        return;
    }
    let (right, wrong) = (connection_string(ACCOUNT_KEY), connection_string(WRONG_KEY));
    let sas = account_sas("rwdlacup");
    let with_sas = format!("BlobEndpoint={};SharedAccessSignature={sas}", secure().azurite.url);
    let bad_sas = format!("sv=2021-12-02&ss=b&srt=sco&sp=rwdlacup&se=2099-01-01T00:00:00Z&sig={FAKE_SIGNATURE}");
    let cases: [(&str, &[(&str, &str)]); 9] = [
        ("opens", &[(CONNECTION_STRING, &right)]),
        ("opens", &[(CONNECTION_STRING, &with_sas)]),
        ("opens", &[(ACCOUNT_NAME, ACCOUNT), (KEY, ACCOUNT_KEY)]),
        ("opens", &[(ACCOUNT_NAME, ACCOUNT), (SAS, &sas)]),
        ("opens", &[(SAS, &format!("?{sas}"))]),
        ("opens", &[(CONNECTION_STRING, &right), (ACCOUNT_NAME, ACCOUNT), (KEY, WRONG_KEY), (SAS, &bad_sas)]),
        ("denied", &[(CONNECTION_STRING, &wrong), (ACCOUNT_NAME, ACCOUNT), (KEY, ACCOUNT_KEY), (SAS, &sas)]),
        ("opens", &[(ACCOUNT_NAME, ACCOUNT), (KEY, ACCOUNT_KEY), (SAS, &bad_sas)]),
        ("denied", &[(ACCOUNT_NAME, ACCOUNT), (KEY, WRONG_KEY), (SAS, &sas)]),
    ];
    for (expected, variables) in cases {
        let token_requests = token_requests_with(path, expected, variables);
        assert_eq!(token_requests, 0, "with {variables:?} a token was requested");
    }
}

#[test]
fn a_set_credential_comes_before_the_environment() {
    let path = test_path(a_set_credential_comes_before_the_environment);
    if let Some(url) = child::argument() {
        let key = if std::env::var(EXPECTED).unwrap() == "opens" { ACCOUNT_KEY } else { WRONG_KEY };
        let by_key = Client::new(&options(|options| options.set_account_key(ACCOUNT, key))).unwrap();
        assert_expected_access(&by_key, &url);
        return;
    }
    for (expected, in_environment) in [("opens", WRONG_KEY), ("denied", ACCOUNT_KEY)] {
        let variables = [(CONNECTION_STRING, connection_string(in_environment))];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(token_requests_with(path, expected, &variables), 0);
    }
}

#[test]
fn a_sas_in_the_url_comes_before_the_environment() {
    let path = test_path(a_sas_in_the_url_comes_before_the_environment);
    if child::argument().is_some() {
        let server = FaultServer::start();
        server.put("blob", b"some bytes".to_vec());
        let (client, url) = (Client::new(&options(|_| Ok(()))).unwrap(), server.url("blob"));
        read_blob(&client, &url).unwrap();
        read_blob(&client, url.split('?').next().unwrap()).unwrap();
        let sent = server.requests();
        assert_eq!((sent.len(), sent[0].header("authorization")), (2, None));
        assert!(sent[1].header("authorization").unwrap().starts_with("SharedKey account:"));
        return;
    }
    assert_eq!(token_requests_with(path, "", &[(ACCOUNT_NAME, "account"), (KEY, WRONG_KEY)]), 0);
}

#[test]
fn a_malformed_variable_is_named_by_the_call_that_needs_it() {
    let path = test_path(a_malformed_variable_is_named_by_the_call_that_needs_it);
    if let Some(url) = child::argument() {
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let blob = format!("{}/blob", new_container(&url));
        write_blob(&client, &format!("{blob}?{}", account_sas("rwdlacup")), WriteMode::Create, b"some bytes").unwrap();
        let error = expect_error(read_blob(&client, &blob), Status::InvalidArgument);
        assert!(error.message().contains(CONNECTION_STRING), "{error}");
        return;
    }
    assert_eq!(token_requests_with(path, "", &[(CONNECTION_STRING, "AccountName=acc;AccountKey=hunter2!")]), 0);
}

#[test]
fn the_chain_is_used_without_variables_or_for_another_account() {
    let path = test_path(the_chain_is_used_without_variables_or_for_another_account);
    if let Some(url) = child::argument() {
        assert_expected_access(&Client::new(&options(|_| Ok(()))).unwrap(), &url);
        return;
    }
    for variables in [&[][..], &[(ACCOUNT_NAME, "other"), (KEY, WRONG_KEY)], &[(ACCOUNT_NAME, ACCOUNT)]] {
        assert_eq!(token_requests_with(path, "opens", variables), 1, "{variables:?}");
    }
}
