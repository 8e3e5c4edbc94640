"""``aztorch.exists`` and ``aztorch.remove``."""

import pytest

import aztorch


def test_a_blob_exists_until_it_is_removed(blobs):
    url = blobs.url("a/b c.bin")
    assert not aztorch.exists(url)
    with aztorch.open(url, "wb") as file:
        file.write(b"content")
    assert aztorch.exists(url)
    aztorch.remove(url)
    assert not aztorch.exists(url)


def test_removing_a_missing_blob_is_an_error(blobs):
    with pytest.raises(FileNotFoundError):
        aztorch.remove(blobs.url("missing"))


@pytest.mark.parametrize("function", [aztorch.exists, aztorch.remove])
def test_arguments_are_checked(function):
    with pytest.raises(ValueError, match="http://"):
        function("http://")
    with pytest.raises(TypeError, match="Unsupported credential"):
        function("https://account.blob.core.windows.net/container/blob", credential="key")
