"""The bytes of safetensors on blobs."""

import safetensors.torch
import torch

from aztorch.io import BlobIO


def test_safetensors(blobs):
    state = {"a": torch.rand(100, 100), "b": torch.arange(5)}
    with BlobIO(blobs.url(), "wb") as f:
        f.write(safetensors.torch.save(state))
    with BlobIO(blobs.url(), "rb") as f:
        loaded = safetensors.torch.load(f.read())
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
