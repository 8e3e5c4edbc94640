"""Saves a model with torch.save to a blob of the test's container: save_state_dict.py FILE BLOB

The model is the ResNet18 whose state_dict is in FILE.
"""

import io
import pathlib
import sys

import torch

import abi

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
from demo_read import ResNet18  # noqa: E402


def main(path, name):
    model = ResNet18()
    model.load_state_dict(torch.load(path, weights_only=True))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    data = file.getvalue()
    blob = abi.opened(name, abi.WRITE)
    try:
        abi.write(blob, data, len(data))
        abi.close(blob)
    finally:
        abi.free(blob)
    print(f"torch {torch.__version__} saved {len(model.state_dict())} tensors in {len(data)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
