"""The exceptions: their types, what they tell, pickling, with and without azure-core."""

import io
import pickle

import pytest
from fault_server import Reply

import aztorch
from aztorch import exceptions
from aztorch.exceptions import FatalBlobIOWriteError
from aztorch.io import BlobIO

NAMES = [name for name in dir(exceptions) if name.endswith("Error")]


def read_missing(blobs):
    with pytest.raises(exceptions.BlobNotFoundError) as caught, BlobIO(blobs.url("missing"), "rb") as f:
        f.read()
    return caught.value


def test_names_of_azstoragetorch():
    for name in ("AZStorageTorchError", "FatalBlobIOWriteError", "ClientRequestIdMismatchError"):
        assert issubclass(getattr(exceptions, name), Exception)
    assert issubclass(FatalBlobIOWriteError, exceptions.AZStorageTorchError)
    with pytest.raises(AttributeError, match="NoSuchError"):
        exceptions.NoSuchError  # noqa: B018


def test_a_service_error_has_the_types_of_azure_core_and_of_python(blobs):
    azure = pytest.importorskip("azure.core.exceptions")
    error = read_missing(blobs)
    for kind in (azure.ResourceNotFoundError, azure.HttpResponseError, azure.AzureError, FileNotFoundError, OSError):
        assert isinstance(error, kind)
    assert isinstance(error, (exceptions.StorageError, exceptions.AZStorageTorchError))
    assert (error.status_code, error.error_code, error.retryable) == (404, "BlobNotFound", False)
    assert error.message == str(error)
    assert blobs.url("missing", sas=False) in str(error)
    assert "sig=" not in str(error)


def test_the_types_by_status(server):
    azure = pytest.importorskip("azure.core.exceptions")
    url = server.put("blob", b"x")
    cases = [
        (404, "ContainerNotFound", "BlobNotFoundError", azure.ResourceNotFoundError, FileNotFoundError),
        (412, "ConditionNotMet", "BlobModifiedError", azure.ResourceModifiedError, exceptions.StorageError),
        (403, "AuthenticationFailed", "AuthenticationError", azure.ClientAuthenticationError, PermissionError),
        (401, "NoAuthenticationInformation", "AuthenticationError", azure.ClientAuthenticationError, PermissionError),
        (403, "AuthorizationFailure", "PermissionDeniedError", azure.HttpResponseError, PermissionError),
        (400, "InvalidUri", "RequestRejectedError", azure.HttpResponseError, exceptions.StorageError),
    ]
    for status, code, name, of_azure, of_python in cases:
        server.fail("read", Reply(status, code), times=5)
        with BlobIO(url, "rb", if_match=None) as f, pytest.raises(exceptions.StorageError) as caught:
            f.read()
        server.heal()
        assert type(caught.value) is getattr(exceptions, name)
        assert isinstance(caught.value, of_azure)
        assert isinstance(caught.value, of_python)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_made_and_pickled(name):
    kind = getattr(exceptions, name)
    assert kind.__doc__
    assert getattr(exceptions, name) is kind
    error = kind("what happened")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert "what happened" in str(error)


def test_pickling_keeps_what_an_error_tells(blobs):
    error = read_missing(blobs)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert (copy.status_code, copy.error_code, copy.request_id) == (404, "BlobNotFound", error.request_id)


def test_pickling_inside_of_an_except_block(blobs):
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        error = read_missing(blobs)
        copy = pickle.loads(pickle.dumps(error))
    assert copy.status_code == 404


def test_pickling_of_a_write_error(server):
    server.fail("put,block,commit", Reply(403, "AuthorizationFailure"), times=100)
    with pytest.raises(FatalBlobIOWriteError) as caught, BlobIO(server.url("blob"), "wb") as f:
        f.write(b"x")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is FatalBlobIOWriteError
    assert str(copy) == str(caught.value)
    assert str(copy).count("Fatal error occurred") == 1


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_worker_of_torch_passes_them_on(blobs, server, kind):
    from torch._utils import ExceptionWrapper

    if kind == "read":
        error = read_missing(blobs)
    else:
        server.fail("put,block,commit", Reply(403, "AuthorizationFailure"), times=100)
        with pytest.raises(FatalBlobIOWriteError) as caught, BlobIO(server.url("blob"), "wb") as f:
            f.write(b"x")
        error = caught.value
    try:
        raise error
    except exceptions.AZStorageTorchError:
        wrapper = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker process 0")))
    with pytest.raises(type(error), match="in DataLoader worker process 0") as caught:
        wrapper.reraise()
    assert str(error).splitlines()[-1] in str(caught.value)


def test_arguments_are_the_types_of_python(blobs):
    for kind, call in [
        (ValueError, lambda: BlobIO("nonsense", "rb")),
        (ValueError, lambda: BlobIO(blobs.url(), "r")),
        (TypeError, lambda: BlobIO(blobs.url(), "rb", credential="text")),
        (TypeError, lambda: BlobIO(blobs.url(), "rb", progress=5)),
        (io.UnsupportedOperation, lambda: BlobIO(blobs.url(), "rb").write(b"")),
    ]:
        with pytest.raises(kind) as caught:
            call()
        assert not isinstance(caught.value, exceptions.AZStorageTorchError)


def test_without_azure_core(run_python, blobs):
    program = """
    import sys

    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "azure":
                raise ImportError(f"hidden: {name}")

    sys.meta_path.insert(0, Hide())
    import pickle
    import aztorch
    from aztorch import exceptions
    try:
        aztorch.BlobIO(sys.argv[1], "rb").read()
    except FileNotFoundError as error:
        assert type(error) is exceptions.BlobNotFoundError, type(error)
        assert type(pickle.loads(pickle.dumps(error))) is exceptions.BlobNotFoundError
        assert not any("azure" in kind.__module__ for kind in type(error).__mro__)
        assert error.status_code == 404
    else:
        raise AssertionError
    with aztorch.BlobIO(sys.argv[2], "wb") as f:
        f.write(b"written")
    assert not [name for name in sys.modules if name.partition(".")[0] == "azure"]
    """
    run_python(program, blobs.url("missing"), blobs.url())
    assert blobs.get() == b"written"


def test_importing_is_light(run_python):
    program = """
    import sys
    import aztorch, aztorch.io, aztorch.exceptions
    heavy = {"azure", "torch", "numpy", "tqdm", "requests"} & {name.partition(".")[0] for name in sys.modules}
    assert not heavy, heavy
    """
    run_python(program)


def test_two_threads_get_the_same_type(run_python):
    program = """
    import sys, threading
    sys.setswitchinterval(1e-6)
    from aztorch import exceptions
    names = [name for name in dir(exceptions) if name.endswith("Error")]
    found = [[], []]
    barrier = threading.Barrier(2)

    def look(kinds):
        barrier.wait()
        kinds.extend(getattr(exceptions, name) for name in names)

    threads = [threading.Thread(target=look, args=(kinds,)) for kinds in found]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found[0] == found[1]
    assert found[0] == [getattr(exceptions, name) for name in names]
    """
    for _ in range(2):
        run_python(program)


def test_version():
    assert aztorch.__version__.count(".") == 2
