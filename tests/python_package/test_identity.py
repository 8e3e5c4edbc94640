"""Credentials of azure-identity, and the default credential of the library, against a managed identity's endpoint."""

import pytest
from tokens import IdentityEndpoint

from aztorch.io import BlobIO

pytestmark = pytest.mark.tls


@pytest.fixture
def endpoint():
    made = IdentityEndpoint()
    yield made
    made.close()


def test_the_default_credential(run_python, blobs, endpoint):
    program = """
    import sys, aztorch
    with aztorch.BlobIO(sys.argv[1], "wb") as f:
        f.write(b"content")
    for _ in range(3):
        assert aztorch.BlobIO(sys.argv[1], "rb").read() == b"content"
    assert aztorch.stats()["token_requests"] == 1, aztorch.stats()
    """
    run_python(program, blobs.url(sas=False), **endpoint.environment)
    assert blobs.get() == b"content"
    assert len(endpoint.requests) == 1


def test_credentials_of_azure_identity(blobs, endpoint, monkeypatch):
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    for kind in (DefaultAzureCredential, ManagedIdentityCredential):
        credential = kind()
        with BlobIO(blobs.url(sas=False), "wb", credential=credential) as f:
            f.write(b"content")
        with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
            assert f.read() == b"content"
    assert len(endpoint.requests) == 2


def test_a_failing_credential_of_azure_identity(blobs):
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ChainedTokenCredential, CredentialUnavailableError

    class Unavailable:
        def get_token(self, *_scopes, **_options):
            raise CredentialUnavailableError(message="nothing here")

    credential = ChainedTokenCredential(Unavailable())
    with (
        BlobIO(blobs.url(sas=False), "rb", credential=credential) as f,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        f.read()
    assert isinstance(caught.value.__cause__, ClientAuthenticationError)
