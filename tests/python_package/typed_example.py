"""A program of a user, which mypy --strict checks. It is never run."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch.utils.data import DataLoader
from typing_extensions import assert_type

import aztorch
from aztorch.datasets import Blob, BlobDataset, IterableBlobDataset
from aztorch.exceptions import BlobNotFoundError, FatalBlobIOWriteError, StorageError

URL = "https://ACCOUNT.blob.core.windows.net/CONTAINER"


class Token:
    """What get_token() returns."""

    token = "secret"
    expires_on = 2_000_000_000


class Credential:
    """A credential of the user's own."""

    def get_token(self, *_scopes: str, **_kwargs: Any) -> Token:
        return Token()


def decode(blob: Blob) -> torch.Tensor:
    assert_type(blob.size, "int | None")
    with blob.reader() as file:
        assert_type(file, aztorch.BlobIO)
    return torch.frombuffer(blob.data, dtype=torch.float32)


def files() -> dict[str, torch.Tensor]:
    assert_type(aztorch.open(f"{URL}/text"), io.TextIOWrapper)
    assert_type(aztorch.open(f"{URL}/text", "rb", credential=False), aztorch.BlobIO)
    try:
        with aztorch.BlobIO(f"{URL}/model.pt", "rb", credential=Credential()) as file:
            assert_type(file.etag, "str | None")
            weights: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
        with aztorch.BlobIO(f"{URL}/copy.pt", "wb", if_match=file.etag, progress=True) as file:
            torch.save(weights, file)
    except (BlobNotFoundError, FatalBlobIOWriteError):
        return {}
    except StorageError as error:
        assert_type(error.status_code, "int | None")
        raise
    return weights


def datasets() -> None:
    plain = BlobDataset.from_container_url(URL, prefix="train/")
    assert_type(plain[0]["data"], bytes)
    decoded = BlobDataset.from_blob_urls([f"{URL}/a", f"{URL}/b"], transform=decode)
    assert_type(decoded, "BlobDataset[torch.Tensor]")
    stream = IterableBlobDataset.from_container_url(URL, transform=decode).shuffle(1000, seed=1)
    for sample in stream:
        assert_type(sample, torch.Tensor)
    for batch in DataLoader(decoded, batch_size=2):
        print(batch.shape, aztorch.stats()["requests"])
