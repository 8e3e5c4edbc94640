"""Credentials of BlobIO: SAS, anonymous, token objects, and objects that are none."""

import concurrent.futures
import io
import threading
import time
import traceback
import warnings

import pytest
from tokens import SIGNATURE, AccessToken, Tokens, make_token

from aztorch import exceptions
from aztorch.exceptions import AuthenticationError, FatalBlobIOWriteError
from aztorch.io import BlobIO

SCOPE = ("https://storage.azure.com/.default",)


class Sas:
    def __init__(self, signature) -> None:
        self.signature = signature


class Raising:
    """A credential that fails, and whose message has no secret."""

    def __init__(self, error) -> None:
        self.error = error

    def get_token(self, *_scopes, **_options):
        secret = make_token()  # in the frame, not in the message
        if secret:
            raise self.error


class Giving:
    """A credential that gives anything."""

    def __init__(self, given) -> None:
        self.given = given

    def get_token(self, *_scopes, **_options):
        return self.given


@pytest.mark.parametrize(
    "credential",
    [None, False, Sas("sas"), Sas("sv=1&sig=wrong"), Tokens(), Raising(AssertionError())],
    ids=["None", "False", "bad", "wrong", "token", "raising"],
)
def test_a_sas_in_the_url_wins(blobs, credential):
    with BlobIO(blobs.url(), "wb", credential=credential) as f:
        f.write(b"content")
    with BlobIO(blobs.url(), "rb", credential=credential) as f:
        assert f.read() == b"content"


@pytest.mark.parametrize("lead", ["", "?"])
def test_sas_credential(blobs, lead):
    credential = Sas(lead + blobs.sas)
    with BlobIO(blobs.url(sas=False), "wb", credential=credential) as f:
        f.write(b"content")
    with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
        assert f.read() == b"content"


def test_sas_credential_of_azure_core(blobs):
    credentials = pytest.importorskip("azure.core.credentials")
    credential = credentials.AzureSasCredential(blobs.sas)
    blobs.put("blob", b"content")
    with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
        assert f.read() == b"content"
    # A renewed SAS counts for the next file.
    credential.update("sv=2021-12-02&sig=d3Jvbmc%3D")
    with (
        BlobIO(blobs.url(sas=False), "rb", credential=credential) as f,
        pytest.raises(exceptions.StorageError) as caught,
    ):
        f.read()
    assert "d3Jvbmc" not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    credential.update(blobs.sas)
    with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
        assert f.read() == b"content"


def test_a_malformed_sas_credential(blobs):
    with BlobIO(blobs.url(sas=False), "rb", credential=Sas("sas")) as f, pytest.raises(ValueError, match="SAS"):
        f.read()
    with pytest.raises(FatalBlobIOWriteError, match="SAS"), BlobIO(blobs.url(sas=False), "wb", credential=Sas("sas")):
        pass


def test_anonymous_access_is_refused(blobs):
    blobs.put("blob", b"content")
    with BlobIO(blobs.url(sas=False), "rb", credential=False) as f, pytest.raises(PermissionError):
        f.read()
    f = BlobIO(blobs.url("other", sas=False), "wb", credential=False)
    f.write(b"x")
    with pytest.raises(FatalBlobIOWriteError) as caught:
        f.close()
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize("sas", [True, False])
@pytest.mark.parametrize("mode", ["rb", "wb"])
@pytest.mark.parametrize(
    "credential",
    [True, 0, 1, "", "text", b"bytes", {}, object(), Tokens, Sas(None)],
    ids=lambda value: type(value).__name__,
)
def test_other_credentials_are_type_errors(blobs, credential, mode, sas):
    with pytest.raises(TypeError, match="Unsupported credential"):
        BlobIO(blobs.url(sas=sas), mode, credential=credential)


def test_key_credentials_are_type_errors(blobs):
    credentials = pytest.importorskip("azure.core.credentials")
    for credential in (credentials.AzureNamedKeyCredential("a", "b"), credentials.AzureKeyCredential("key")):
        with pytest.raises(TypeError, match="Unsupported credential"):
            BlobIO(blobs.url(), "rb", credential=credential)


def test_the_mode_is_checked_first_and_the_url_last():
    with pytest.raises(ValueError, match="Unsupported mode"):
        BlobIO(5, "bad", credential="text")
    with pytest.raises(TypeError, match="Unsupported credential"):
        BlobIO(5, "rb", credential="text")


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_tokens_are_never_sent_over_http(server, mode):
    credential = Tokens()
    with pytest.raises(ValueError, match="HTTPS"):
        BlobIO(server.url("blob", ""), mode, credential=credential)
    assert credential.calls == []
    assert server.requests == []


def test_the_environment_is_asked(run_python, blobs):
    blobs.put("blob", b"content")
    program = """
    import sys, aztorch
    print(aztorch.BlobIO(sys.argv[1], "rb").read().decode())
    """
    account = {"AZURE_STORAGE_ACCOUNT": "devstoreaccount1"}
    said = run_python(program, blobs.url(sas=False), AZURE_STORAGE_SAS_TOKEN=blobs.sas, **account)
    assert said == "content\n"


@pytest.mark.tls
class TestTokens:
    def test_a_token_object(self, blobs):
        credential = Tokens()
        with BlobIO(blobs.url(sas=False), "wb", credential=credential) as f:
            f.write(b"content")
        with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
            assert f.read() == b"content"
        assert [scopes for scopes, _ in credential.calls] == [SCOPE]

    def test_one_token_serves_many_files_and_threads(self, blobs):
        blobs.put("blob", b"content")
        credential = Tokens()

        def read(_number):
            with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
                return f.read()

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, range(40))) == {b"content"}
        assert len(credential.calls) == 1

    def test_a_token_that_expires_is_renewed(self, blobs):
        blobs.put("blob", b"content")
        credential = Tokens(seconds=1)
        for _ in range(2):
            with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
                assert f.read() == b"content"
            time.sleep(1.1)
        assert len(credential.calls) > 1

    @pytest.mark.parametrize("error", [RuntimeError("no token today"), KeyError("x"), OSError(5, "I/O"), SystemExit(3)])
    def test_the_error_of_a_credential_is_the_cause(self, blobs, error):
        with BlobIO(blobs.url(sas=False), "rb", credential=Raising(error)) as f:
            for call in (f.read, f.readline, lambda: f.seek(0)):
                with pytest.raises(AuthenticationError) as caught:
                    call()
                assert caught.value.__cause__ is error
                assert type(error).__name__ in str(caught.value)
                text = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
                assert SIGNATURE not in text

    def test_the_error_of_a_credential_of_a_writer(self, blobs):
        error = RuntimeError("no token today")
        with (
            pytest.raises(FatalBlobIOWriteError) as caught,
            BlobIO(blobs.url(sas=False), "wb", credential=Raising(error)) as f,
        ):
            f.write(b"x")
        assert isinstance(caught.value.__cause__, AuthenticationError)
        assert caught.value.__cause__.__cause__ is error
        assert "no token today" in str(caught.value)

    def test_a_credential_may_recover(self, blobs):
        blobs.put("blob", b"content")
        credential = Tokens()
        working, credential.get_token = credential.get_token, Raising(RuntimeError("not yet")).get_token
        with BlobIO(blobs.url(sas=False), "rb", credential=credential) as f:
            with pytest.raises(AuthenticationError):
                f.read()
            credential.get_token = working
            assert f.read() == b"content"

    @pytest.mark.parametrize(
        "given",
        [
            None,
            "text",
            object(),
            AccessToken(None, 9999999999),
            AccessToken("", 9999999999),
            AccessToken(b"bytes", 9999999999),
            AccessToken("line\r\nInjected: header", 9999999999),
            AccessToken("sürprise", 9999999999),
            AccessToken("token", "soon"),
            AccessToken("token", None),
            AccessToken("token", True),
            AccessToken("token", float("nan")),
            AccessToken("token", 10**30),
        ],
        ids=repr,
    )
    def test_nonsense_is_an_error_with_a_cause(self, blobs, given):
        with (
            BlobIO(blobs.url(sas=False), "rb", credential=Giving(given)) as f,
            pytest.raises(exceptions.StorageError) as caught,
        ):
            f.read()
        assert isinstance(caught.value, AuthenticationError)
        if not (isinstance(given, AccessToken) and given.token == "token" and given.expires_on == 10**30):
            assert isinstance(caught.value.__cause__, (TypeError, ValueError, AttributeError, OverflowError))

    def test_a_refused_token_is_not_shown(self, blobs):
        wrong = AccessToken("wrong.token.secretsecret", 9999999999)
        with (
            BlobIO(blobs.url(sas=False), "rb", credential=Giving(wrong)) as f,
            pytest.raises(PermissionError) as caught,
        ):
            f.read()
        assert "secretsecret" not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))

    def test_asynchronous_credentials_are_named(self, blobs):
        class Asynchronous:
            async def get_token(self, *_scopes, **_options):
                return AccessToken("token", 9999999999)

        with warnings.catch_warnings(), BlobIO(blobs.url(sas=False), "rb", credential=Asynchronous()) as f:
            # That of a coroutine that was never awaited.
            warnings.simplefilter("error")
            with pytest.raises(AuthenticationError, match="asynchronous"):
                f.read()

    def test_a_slow_credential_does_not_hold_the_gil(self, blobs):
        blobs.put("blob", b"content")
        told = threading.Event()

        class Slow(Tokens):
            def get_token(self, *scopes, **options):
                assert told.wait(30)
                return super().get_token(*scopes, **options)

        threading.Timer(0.05, told.set).start()
        with BlobIO(blobs.url(sas=False), "rb", credential=Slow()) as f:
            assert f.read() == b"content"

    def test_a_credential_that_reads_blobs_itself_is_an_error(self, blobs):
        class Nested(Tokens):
            def get_token(self, *scopes, **options):
                BlobIO(blobs.url(), "rb").read()
                return super().get_token(*scopes, **options)

        blobs.put("blob", b"content")
        with BlobIO(blobs.url(sas=False), "rb", credential=Nested()) as f, pytest.raises(AuthenticationError) as caught:
            f.read()
        assert isinstance(caught.value.__cause__, io.UnsupportedOperation)
