"""One rank of a distributed job that saves and loads checkpoints. test_checkpoint_ranks.py runs two with torchrun.

checkpoint_ranks.py RUN_URL TASK
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from aztorch.checkpoint import BlobStorageReader, BlobStorageWriter

SHAPES = {"rows": (6, 5), "columns": (4, 10), "whole": (3, 3), "large": (2048, 600)}
PLACEMENTS = {"rows": Shard(0), "columns": Shard(1), "whole": Replicate(), "large": Shard(0)}


def expected(name: str, generation: int = 1) -> torch.Tensor:
    """Return the whole tensor that a checkpoint has."""
    shape = SHAPES[name]
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) * generation


def whole_state(generation: int = 1) -> dict[str, object]:
    return {**{name: expected(name, generation) for name in SHAPES}, "step": generation}


def sharded_state(generation: int = 1) -> dict[str, object]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state: dict[str, object] = {
        name: distribute_tensor(expected(name, generation), mesh, [PLACEMENTS[name]]) for name in SHAPES
    }
    state["step"] = generation
    return state


def check_sharded(url: str, generation: int = 1) -> None:
    state = sharded_state(0)
    dcp.load(state, storage_reader=BlobStorageReader(url))
    for name in SHAPES:
        tensor = state[name]
        assert isinstance(tensor, DTensor)
        assert torch.equal(tensor.full_tensor(), expected(name, generation)), name
    assert state["step"] == generation


def reshard(at: str) -> None:
    # The test has saved this one in one process.
    check_sharded(at.format("one"))
    dcp.save(sharded_state(), storage_writer=BlobStorageWriter(at.format("two")))
    check_sharded(at.format("two"))


def fsdp(at: str) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        return model, torch.optim.Adam(model.parameters(), lr=0.1)

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = make()
    train(model, optimizer)
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, storage_writer=BlobStorageWriter(at.format("fsdp")))
    train(model, optimizer)

    other, other_optimizer = make()
    weights, moments = get_state_dict(other, other_optimizer)
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, storage_reader=BlobStorageReader(at.format("fsdp")))
    set_state_dict(other, other_optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    # The loaded one goes on like the saved one.
    train(other, other_optimizer)
    for one, two in zip(model.parameters(), other.parameters()):
        assert torch.equal(one.full_tensor(), two.full_tensor())


def asynchronous(at: str) -> None:
    for kind in AsyncCheckpointerType:
        writer = BlobStorageWriter(at.format(kind.value))
        saved = dcp.async_save(sharded_state(3), storage_writer=writer, async_checkpointer_type=kind)
        saved.result()
        check_sharded(at.format(kind.value), 3)


class _FailingPlanner(dcp.DefaultSavePlanner):
    def resolve_data(self, item):
        if dist.get_rank() == 1:
            raise OSError("this rank fails")
        return super().resolve_data(item)


def failing(at: str) -> None:
    with pytest.raises(dcp.CheckpointException, match="this rank fails") as caught:
        dcp.save(sharded_state(), storage_writer=BlobStorageWriter(at.format("failing")), planner=_FailingPlanner())
    assert list(caught.value.failures) == [1]


class _HangingPlanner(dcp.DefaultSavePlanner):
    """Rank 1 stops in the middle of its data, and tells its process ID."""

    _calls = 0

    def resolve_data(self, item):
        self._calls += 1
        if dist.get_rank() == 1 and self._calls == 2:
            Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
            time.sleep(600)
        return super().resolve_data(item)


def hanging(at: str) -> None:
    dcp.save(sharded_state(2), storage_writer=BlobStorageWriter(at.format("two")), planner=_HangingPlanner())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    for task in sys.argv[2:]:
        globals()[task](sys.argv[1])
        dist.barrier()
        if dist.get_rank() == 0:
            print(f"done: {task}", flush=True)
    dist.destroy_process_group()
