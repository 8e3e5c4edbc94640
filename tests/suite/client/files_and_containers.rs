//! Upload and download of files, existence, deletion, and creation of containers.

use std::fs;

use aztorch::{Status, WriteMode};

use crate::support::azurite::azurite;
use crate::support::client::{client, read_blob, write_blob};
use crate::support::content::{Content, assert_same};
use crate::support::error::expect_error;
use crate::support::fault::{Fault, FaultServer};

#[test]
fn files_are_uploaded_and_downloaded() {
    let container = azurite().container();
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for size in [0, 1, 5 << 20, (50 << 20) + 1] {
        let content = Content::new(61, size).all();
        fs::write(&source, &content).unwrap();
        client().upload(&source, &container.blob("blob"), WriteMode::Replace).unwrap();
        assert_same(&container.get("blob").unwrap(), &content);
        // From the second round on the download replaces a file.
        client().download(&container.blob("blob"), &target).unwrap();
        assert_same(&fs::read(&target).unwrap(), &content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
    }
}

#[test]
fn a_failed_download_leaves_no_file_and_keeps_the_old_one() {
    let container = azurite().container();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    expect_error(client().download(&container.blob("absent"), &target), Status::NotFound);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fs::write(&target, b"the old file").unwrap();
    expect_error(client().download(&container.blob("absent"), &target), Status::NotFound);
    let server = FaultServer::start();
    server.put_content("blob", Content::new(62, 40 << 20));
    server.on_request(|request| (request.range()?.0 > 0).then(|| Fault::status(403, "AuthorizationFailure")));
    expect_error(client().download(&server.url("blob"), &target), Status::PermissionDenied);
    assert_eq!(fs::read(&target).unwrap(), b"the old file");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_error_of_a_local_file_is_local_io_and_names_it() {
    let container = azurite().container();
    container.put("blob", b"some bytes");
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent/file");
    let error = expect_error(client().download(&container.blob("blob"), &absent), Status::LocalIo);
    assert!(error.message().contains("absent"), "{error}");
    let error = expect_error(client().upload(&absent, &container.blob("new"), WriteMode::Replace), Status::LocalIo);
    assert!(error.message().contains("absent/file"), "{error}");
    expect_error(client().upload(folder.path(), &container.blob("new"), WriteMode::Replace), Status::LocalIo);
    expect_error(client().download(&container.blob("blob"), folder.path()), Status::LocalIo);
    assert_eq!(container.get("new"), None);
}

#[test]
fn an_upload_with_create_does_not_replace() {
    let container = azurite().container();
    container.put("blob", b"the old one");
    let file = tempfile::NamedTempFile::new().unwrap();
    for size in [3, 20 << 20] {
        fs::write(file.path(), vec![1; size]).unwrap();
        expect_error(client().upload(file.path(), &container.blob("blob"), WriteMode::Create), Status::AlreadyExists);
    }
    assert_eq!(container.get("blob").unwrap(), b"the old one");
    client().upload(file.path(), &container.blob("new"), WriteMode::Create).unwrap();
    assert_eq!(container.get("new").unwrap().len(), 20 << 20);
}

#[test]
fn exists_is_false_after_delete() {
    let container = azurite().container();
    let (client, url) = (client(), container.blob("blob"));
    assert!(!client.exists(&url).unwrap());
    expect_error(client.delete(&url), Status::NotFound);
    container.put("blob", b"");
    assert!(client.exists(&url).unwrap());
    client.delete(&url).unwrap();
    assert!(!client.exists(&url).unwrap());
    assert_eq!(container.get("blob"), None);
}

#[test]
fn creating_an_existing_container_is_already_exists() {
    let container = azurite().container();
    let url = container.url().replace(&container.name, &format!("{}-new", container.name));
    let client = client();
    client.create_container(&url).unwrap();
    let error = expect_error(client.create_container(&url), Status::AlreadyExists);
    assert_eq!(error.service_code(), "ContainerAlreadyExists");
    let blob = url.replace("-new?", "-new/blob?");
    write_blob(&client, &blob, WriteMode::Create, b"in the new container").unwrap();
    assert_eq!(read_blob(&client, &blob).unwrap(), b"in the new container");
}
