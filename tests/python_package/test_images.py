"""PIL on blobs."""

import pytest
from PIL import Image

from aztorch.io import BlobIO


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_images(blobs, kind):
    image = Image.linear_gradient("L").convert("RGB" if kind != "GIF" else "P")
    with BlobIO(blobs.url(), "wb") as f:
        image.save(f, kind)
    with BlobIO(blobs.url(), "rb") as f:
        loaded = Image.open(f)
        loaded.load()
    assert (loaded.size, loaded.format) == (image.size, kind)
    if kind in ("PNG", "BMP"):
        assert loaded.convert("RGB").tobytes() == image.tobytes()


def test_a_blob_that_is_no_image(blobs):
    with BlobIO(blobs.put("blob", b"no image"), "rb") as f, pytest.raises(OSError, match="identify"):
        Image.open(f)
