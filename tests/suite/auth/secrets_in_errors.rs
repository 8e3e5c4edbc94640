//! A secret that is passed as another argument by mistake does not appear in the error of any setter or call.

use std::path::Path;

use aztorch::{Client, ClientOptions, Dataset, Result, Status, Stream, WriteMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::support::child::{self, test_path};
use crate::support::client::client_with;
use crate::support::deployed::in_child;
use crate::support::fault::FaultServer;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const APP: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

/// A text that a program could pass by mistake, and the secret in it.
#[derive(Clone)]
struct Planted {
    text: String,
    secret: String,
}

/// Secrets in all forms that Azure issues.
fn planted() -> Vec<Planted> {
    let key = |seed: u8| BASE64.encode((0..64).map(|i: u8| i.wrapping_mul(37).wrapping_add(seed)).collect::<Vec<_>>());
    let mut all = Vec::new();
    let mut plant = |text: String, secret: &str| all.push(Planted { text, secret: secret.to_owned() });
    for seed in [1, 62, 200] {
        let key = key(seed);
        plant(key.clone(), &key);
        plant(format!("AccountKey={key}"), &key);
        plant(format!("AccountKey:{key}"), &key);
        plant(format!("DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={key}"), &key);
        plant(format!("DefaultEndpointsProtocol={key};AccountName=acc;AccountKey=a2V5"), &key);
        plant(format!("AccountName={key};AccountKey=acc"), &key);
        plant(format!("BlobEndpoint={key};AccountName=acc;AccountKey=a2V5"), &key);
        plant(format!("https://{key}.blob.core.windows.net/container/blob"), &key);
        plant(format!("https://{key}@acc.blob.core.windows.net/container/blob"), &key);
        plant(format!("abfss://{key}@acc.dfs.core.windows.net/blob"), &key);
        plant(format!("https://acc.blob.core.windows.net/{key}"), &key);
    }
    let signature = "Zx3Q%2Bk8vW2mN7pLr5tYb9uHs1cJd4fGe6aXiOzKqTwE%3D";
    let sas = format!("sv=2022-11-02&ss=b&srt=sco&sp=rwdl&se=2030-01-01T00:00:00Z&sig={signature}");
    for text in [
        sas.clone(),
        format!("?{sas}"),
        format!("https://acc.blob.core.windows.net/container?{sas}"),
        format!("https://acc.blob.core.windows.net/container/blob&{sas}"),
        format!("https://acc.blob.core.windows.net/container%3F{}", sas.replace('&', "%26").replace('=', "%3D")),
        format!("BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature={sas} "),
    ] {
        plant(text, signature);
    }
    for secret in ["Abc8Q~d0EfGh1IjKl2MnOp3QrStUv4WxYz5aBcDe", "k3-Vd9.Xq_R7tB1mZ-8wLp2.Ns4Yc6Hj_0Gf5Ae"] {
        plant(secret.to_owned(), secret);
        plant(format!("{secret}.onmicrosoft.com"), secret);
        plant(format!("https://{secret}.blob.core.windows.net/container/blob"), secret);
    }
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJzdG9yYWdlIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";
    plant(token.to_owned(), token);
    plant(format!("Bearer {token}"), token);
    for password in ["Pa5sW0rd-of-The.Proxy", "Pa5s/W0rd/of/The@Proxy"] {
        plant(format!("http://user:{password}@proxy.example:8080"), password);
        plant(format!("https://user:{password}@proxy.example:8080"), password);
        plant(format!("socks5://user:{password}@proxy.example:8080"), password);
    }
    let pem = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    plant(format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"), pem);
    plant(format!("-----BEGIN PRIVATE KEY----- {pem}"), pem);
    all
}

/// Asserts that no eight consecutive characters of the secret are in the text. Ignores case, because URLs show hosts in
/// lower case.
#[track_caller]
fn assert_hidden(argument: &str, planted: &Planted, text: &str) {
    let (text, secret) = (text.to_lowercase(), planted.secret.to_lowercase());
    for piece in secret.as_bytes().windows(8) {
        let piece = std::str::from_utf8(piece).unwrap();
        assert!(!text.contains(piece), "{argument} with {:?} shows {piece:?}: {text}", planted.text);
    }
}

type Setter = Box<dyn Fn(&mut ClientOptions, &str) -> Result<()>>;

/// Every setter of a text, with one entry per argument.
fn setters() -> Vec<(&'static str, Setter)> {
    fn setter(set: impl Fn(&mut ClientOptions, &str) -> Result<()> + 'static) -> Setter {
        Box::new(set)
    }
    vec![
        ("sas_token", setter(|options, text| options.set_sas_token(text))),
        ("account", setter(|options, text| options.set_account_key(text, "a2V5"))),
        ("key", setter(|options, text| options.set_account_key("acc", text))),
        ("connection_string", setter(|options, text| options.set_connection_string(text))),
        ("tenant_id", setter(|options, text| options.set_client_secret(text, APP, "secret"))),
        ("client_id", setter(|options, text| options.set_client_secret(TENANT, text, "secret"))),
        ("secret", setter(|options, text| options.set_client_secret(TENANT, APP, text))),
        ("managed client_id", setter(|options, text| options.set_managed_identity(Some(text)))),
        ("proxy", setter(|options, text| options.set_proxy(text))),
        ("ca_file", setter(|options, text| options.set_ca_file(Path::new(text)))),
        ("user_agent", setter(|options, text| options.set_user_agent(text))),
    ]
}

#[test]
fn setter_errors_do_not_show_misplaced_secrets() {
    for planted in planted() {
        for (name, set) in setters() {
            let mut options = ClientOptions::new();
            if let Err(error) = set(&mut options, &planted.text) {
                assert_hidden(name, &planted, &format!("{error:?}"));
            }
            if name != "user_agent" {
                assert_hidden(name, &planted, &format!("{options:?}"));
            }
        }
    }
}

/// Values that a setter accepts are used by calls. Nothing listens at this address, so each call fails.
#[test]
fn errors_of_calls_do_not_show_misplaced_secrets_in_options() {
    if child::argument().is_none() {
        in_child(
            test_path(errors_of_calls_do_not_show_misplaced_secrets_in_options),
            &[("AZURE_AUTHORITY_HOST", "127.0.0.1:9")],
        );
        return;
    }
    for planted in planted() {
        for (name, set) in setters() {
            let mut options = ClientOptions::new();
            options.set_max_retries(0).unwrap();
            if set(&mut options, &planted.text).is_err() {
                continue;
            }
            let client = Client::new(&options).unwrap();
            for url in ["https://127.0.0.1:9/acc/container/blob", "http://127.0.0.1:9/acc/container/blob"] {
                let error = client.open(url).map(drop).expect_err("nothing listens there");
                assert_hidden(name, &planted, &format!("{error:?}"));
            }
        }
    }
}

#[test]
fn errors_of_calls_do_not_show_misplaced_secrets_in_arguments() {
    let server = FaultServer::start();
    server.put("blob", b"some bytes".to_vec());
    let client = client_with(|options| {
        options.set_max_retries(0)?;
        options.set_anonymous()
    });
    let container = server.container_url();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let stream = Stream::list(&client, &container, None, 0, 1).unwrap();
    let writer = client.writer(&server.url("other"), WriteMode::Replace).unwrap();
    for planted in planted() {
        let text = planted.text.as_str();
        // Looking up a host that does not exist would take too long.
        let is_url = text.contains("://acc.blob.core.windows.net/");
        let outcomes: Vec<(&str, Result<()>)> = vec![
            ("url", if is_url { Ok(()) } else { client.open(text).map(drop) }),
            ("list", if is_url { Ok(()) } else { Dataset::list(&client, text, None).map(drop) }),
            ("container", if is_url { Ok(()) } else { client.open_in(text, "blob").map(drop) }),
            // Errors show the name of a blob, without the signature of a SAS in it.
            ("name", if text.contains("sig") { client.open_in(&container, text).map(drop) } else { Ok(()) }),
            ("bad name", client.open_in(&container, &format!("{text}/../x")).map(drop)),
            ("url and path", client.upload(Path::new(text), text, WriteMode::Replace)),
            ("upload", client.upload(Path::new(text), &server.url("new"), WriteMode::Replace)),
            ("download", client.download(&server.url("blob"), &Path::new(text).join("absent"))),
            ("if_match", writer.set_if_match(text)),
            ("if_match with a quote", writer.set_if_match(&format!("{text}\"x"))),
            ("if_changed", client.open_if_changed(&server.url("blob"), &format!("{text} ")).map(drop)),
            ("cursor", stream.resume(text)),
        ];
        for (name, outcome) in outcomes {
            if let Err(error) = outcome {
                assert_hidden(name, &planted, &format!("{error:?}"));
            }
        }
    }
}

/// A writer sends nothing before it is closed, so these hosts are not looked up.
#[test]
fn abfs_and_wasb_urls_with_a_secret_as_host_are_refused() {
    let client = client_with(ClientOptions::set_anonymous);
    for secret in ["Zx3Qk8vW2mN7pLr5tYb9uHs1cJd4fGe6aXiOzKqTwE", "Abc8Q~d0EfGh1IjKl2MnOp3QrStUv4WxYz5aBcDe"] {
        let planted = Planted { text: secret.to_owned(), secret: secret.to_owned() };
        for scheme in ["abfs", "abfss", "wasb", "wasbs"] {
            for authority in [
                format!("container@{secret}"),
                format!("container@{secret}.dfs.core.windows.net"),
                format!("container@{secret}.blob.core.windows.net"),
                format!("{secret}@acc.dfs.core.windows.net"),
            ] {
                let opened = client.writer(&format!("{scheme}://{authority}/blob"), WriteMode::Replace);
                let error = opened.map(drop).expect_err(scheme);
                assert_eq!(error.status(), Status::InvalidArgument, "{error}");
                assert_hidden(scheme, &planted, &format!("{error:?}"));
            }
        }
    }
}

/// Puts each secret into each variable that a client reads.
#[test]
fn errors_do_not_show_misplaced_secrets_in_variables() {
    let path = test_path(errors_do_not_show_misplaced_secrets_in_variables);
    const AUTHORITY: (&str, &str) = ("AZURE_AUTHORITY_HOST", "127.0.0.1:9");
    const NO_IMDS: (&str, &str) = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
    if child::argument().is_some() {
        let mut options = ClientOptions::new();
        options.set_max_retries(0).unwrap();
        let client = Client::new(&options).unwrap();
        let number: usize = std::env::var("AZTORCH_TEST_PLANTED").unwrap().parse().unwrap();
        for url in ["https://127.0.0.1:9/acc/container/blob", "http://127.0.0.1:9/acc/container/blob"] {
            let error = client.open(url).map(drop).expect_err("nothing listens there");
            assert_hidden("a variable", &planted()[number], &format!("{error:?}"));
        }
        return;
    }
    for (number, planted) in planted().iter().enumerate() {
        // Each case needs a process; a selection with every form of secret is enough.
        if number % 4 != 0 && number < 33 {
            continue;
        }
        let (number, text) = (number.to_string(), planted.text.as_str());
        let given: Vec<Vec<(&str, &str)>> = vec![
            vec![("AZURE_STORAGE_CONNECTION_STRING", text)],
            vec![("AZURE_STORAGE_ACCOUNT", text), ("AZURE_STORAGE_KEY", "acc")],
            vec![("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", text)],
            vec![("AZURE_STORAGE_SAS_TOKEN", text)],
            vec![("AZURE_TOKEN_CREDENTIALS", text)],
            vec![("AZURE_TENANT_ID", text), ("AZURE_CLIENT_ID", APP), ("AZURE_CLIENT_SECRET", TENANT)],
            vec![("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", text), ("AZURE_CLIENT_SECRET", APP)],
            vec![("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", APP), ("AZURE_CLIENT_CERTIFICATE_PATH", text)],
            vec![("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", APP), ("AZURE_FEDERATED_TOKEN_FILE", text)],
            vec![("AZURE_TENANT_ID", text), ("AZURE_CLIENT_ID", APP), ("AZURE_FEDERATED_TOKEN_FILE", "/dev/null")],
            vec![
                ("AZURE_AUTHORITY_HOST", text),
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_CLIENT_ID", APP),
                ("AZURE_CLIENT_SECRET", "x"),
            ],
            vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", text)],
            vec![("IDENTITY_ENDPOINT", text), ("IDENTITY_HEADER", "x")],
            vec![("HTTPS_PROXY", text), ("HTTP_PROXY", text)],
        ];
        for variables in given {
            let mut all = vec![AUTHORITY, NO_IMDS, ("PATH", ""), ("AZTORCH_TEST_PLANTED", &number)];
            all.extend(variables);
            in_child(path, &all);
        }
    }
}

#[test]
fn errors_show_values_that_are_no_secrets() {
    let mut options = ClientOptions::new();
    let message = |outcome: Result<()>| outcome.unwrap_err().message().to_owned();
    let path = "/no/such/Folder_2024/Root-CA (new).pem";
    assert!(message(options.set_ca_file(Path::new(path))).contains(path));
    assert!(message(options.set_connection_string("AccountName=a;AcountKey=a2V5")).contains("AccountKey"));
    let client = client_with(ClientOptions::set_anonymous);
    for (url, shown) in [
        ("acc.blob.core.windows.net/container/blob", "acc.blob.core.windows.net/container/blob"),
        ("ftp://acc.example/container/blob", "ftp://acc.example/container/blob"),
        (
            "https://acc.blob.core.windows.net/Container/date=2024-01-01/Train_ILSVRC2012_val_00000293.JPEG",
            "00000293.JPEG",
        ),
    ] {
        let error = client.open(url).map(drop).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.message().contains(shown), "{error}");
    }
}
