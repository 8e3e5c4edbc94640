//! What the environment has for storage, in the `az` CLI's variables, and its place between what was set and the chain.

use aztorch::{Client, Result, Status, WriteMode};

use crate::support::azurite::{ACCOUNT, ACCOUNT_KEY, account_sas};
use crate::support::child::{self, test_path};
use crate::support::client::{read_blob, write_blob};
use crate::support::deployed::{HOUR, in_child, new_container, options};
use crate::support::error::{FAKE_SIGNATURE, expect_error};
use crate::support::fault::FaultServer;
use crate::support::identity::{IdentityServer, managed};
use crate::support::secure::secure;

/// Base64 of a key that opens nothing.
const WRONG_KEY: &str = "aHVudGVyMiBodW50ZXIyIGh1bnRlcjI=";
const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT_NAME: &str = "AZURE_STORAGE_ACCOUNT";
const KEY: &str = "AZURE_STORAGE_KEY";
const SAS: &str = "AZURE_STORAGE_SAS_TOKEN";
const EXPECTED: &str = "AZTORCH_TEST_EXPECTED";

/// Runs `test` in a process with these variables, on a machine that has an identity; how often that was asked.
#[track_caller]
fn asked_with(test: &str, expected: &str, variables: &[(&str, &str)]) -> usize {
    let server = IdentityServer::start(|_, _| managed("environment", HOUR));
    let endpoint = format!("http://{}/msi/token", server.authority());
    let mut all = vec![("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "header"), (EXPECTED, expected)];
    all.extend(variables);
    in_child(test, &all);
    server.requests().len()
}

/// Whether the child's `client` is let in as its parent expects.
#[track_caller]
fn assert_expected(client: &Client, url: &str) {
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

/// The service says 403; an Azurite that takes tokens thinks that a wrong key's signature is one, and says 400.
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
fn each_variable_opens_the_account_and_the_first_of_them_counts() {
    let path = test_path(each_variable_opens_the_account_and_the_first_of_them_counts);
    if let Some(url) = child::argument() {
        assert_expected(&Client::new(&options(|_| Ok(()))).unwrap(), &url);
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
        let asked = asked_with(path, expected, variables);
        assert_eq!(asked, 0, "with {variables:?} the chain was asked for a token");
    }
}

#[test]
fn what_was_set_comes_before_the_environment() {
    let path = test_path(what_was_set_comes_before_the_environment);
    if let Some(url) = child::argument() {
        let key = if std::env::var(EXPECTED).unwrap() == "opens" { ACCOUNT_KEY } else { WRONG_KEY };
        let by_key = Client::new(&options(|options| options.set_account_key(ACCOUNT, key))).unwrap();
        assert_expected(&by_key, &url);
        return;
    }
    for (expected, in_environment) in [("opens", WRONG_KEY), ("denied", ACCOUNT_KEY)] {
        let variables = [(CONNECTION_STRING, connection_string(in_environment))];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(asked_with(path, expected, &variables), 0);
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
    assert_eq!(asked_with(path, "", &[(ACCOUNT_NAME, "account"), (KEY, WRONG_KEY)]), 0);
}

#[test]
fn a_variable_that_cannot_be_read_is_named_where_it_is_needed() {
    let path = test_path(a_variable_that_cannot_be_read_is_named_where_it_is_needed);
    if let Some(url) = child::argument() {
        let client = Client::new(&options(|_| Ok(()))).unwrap();
        let blob = format!("{}/blob", new_container(&url));
        write_blob(&client, &format!("{blob}?{}", account_sas("rwdlacup")), WriteMode::Create, b"some bytes").unwrap();
        let error = expect_error(read_blob(&client, &blob), Status::InvalidArgument);
        assert!(error.message().contains(CONNECTION_STRING), "{error}");
        return;
    }
    assert_eq!(asked_with(path, "", &[(CONNECTION_STRING, "AccountName=acc;AccountKey=hunter2!")]), 0);
}

#[test]
fn the_chain_comes_last_and_where_the_environment_is_for_another_account() {
    let path = test_path(the_chain_comes_last_and_where_the_environment_is_for_another_account);
    if let Some(url) = child::argument() {
        assert_expected(&Client::new(&options(|_| Ok(()))).unwrap(), &url);
        return;
    }
    for variables in [&[][..], &[(ACCOUNT_NAME, "other"), (KEY, WRONG_KEY)], &[(ACCOUNT_NAME, ACCOUNT)]] {
        assert_eq!(asked_with(path, "opens", variables), 1, "{variables:?}");
    }
}
