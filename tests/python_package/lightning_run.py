"""Trains with Lightning, saves to blobs, and goes on from there. test_lightning.py runs it.

lightning_run.py FOLDER_URL PACKAGE…
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import aztorch
from aztorch.checkpoint._folder import Folder

# Before Lightning, as the order of imports usually is.
from aztorch.lightning import BlobCheckpointIO

warnings.simplefilter("ignore")


def run(package: str, url: str, directory: str) -> None:
    L = importlib.import_module(package)  # noqa: N806

    class Model(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
            loss = self.layer(batch[0]).pow(2).mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 0.1)

    def train(epochs: int, start: str | None = None, *callbacks: Any) -> tuple[Any, Any]:
        model = Model()
        trainer = L.Trainer(
            default_root_dir=directory,
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            plugins=[BlobCheckpointIO(directory, url)],
        )
        trainer.fit(model, DataLoader(TensorDataset(torch.ones(4, 4)), batch_size=2), ckpt_path=start)
        assert trainer.global_step == epochs * 2
        return trainer, model

    saving = L.callbacks.ModelCheckpoint(
        dirpath=directory, filename="{epoch}", monitor="epoch", mode="max", save_top_k=2, save_last=True
    )
    trainer, whole = train(4, None, saving)
    # ModelCheckpoint has deleted the others.
    assert set(Folder(url, None).names()) == {"epoch=2.ckpt", "epoch=3.ckpt", "last.ckpt"}
    assert os.listdir(directory) == []
    trainer.save_checkpoint(at(url, "manual.ckpt"))

    # It goes on with the state of the optimizer.
    resumed = [train(6, start)[1] for start in (f"{directory}/last.ckpt", at(url, "manual.ckpt"))]
    assert torch.equal(resumed[0].layer.weight, resumed[1].layer.weight)
    assert not torch.equal(resumed[0].layer.weight, whole.layer.weight)
    partly = train(4, f"{directory}/epoch=2.ckpt")[1]
    assert torch.equal(partly.layer.weight, whole.layer.weight)

    with aztorch.open(at(url, "manual.ckpt"), "rb") as blob:
        loaded = Model.load_from_checkpoint(blob)
    assert torch.equal(loaded.layer.weight, whole.layer.weight)
    with aztorch.open(at(url, "last.ckpt"), "rb") as blob:
        assert url.partition("sig=")[2].encode() not in blob.read()


def at(url: str, name: str) -> str:
    path, _, query = url.partition("?")
    return f"{path}/{name}?{query}"


if __name__ == "__main__":
    for name in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as temporary:
            run(name, at(sys.argv[1], name), temporary)
        print(f"done: {name}")
