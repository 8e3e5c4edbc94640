"""Runs train_distributed on several ranks, kills and resumes it, and counts in the server's log what it fetched."""

import collections
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from collections import Counter

import support
from support import CONTAINER, ServerLog, image_names, losses, run

COUNT = 100
NAMES = image_names(COUNT)

Step = collections.namedtuple("Step", "epoch position loss names")


def setUpModule():
    global directory
    temporary = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(temporary.cleanup)
    directory = pathlib.Path(temporary.name)
    run("train_map", "fill", CONTAINER, "--count", COUNT)
    run("train_map", "fill", "--local", directory / "images", "--count", COUNT)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """The ranks of one training. Each logs the names that its steps consumed."""

    started = []

    def __init__(self, size, *arguments, ranks=None):
        self.size = size
        self.log = pathlib.Path(tempfile.mkdtemp(dir=directory)) / "log"
        self._arguments = ("train_distributed", *arguments, "--log", self.log)
        self._port = str(free_port())
        self.processes = []
        for rank in range(size) if ranks is None else ranks:
            self.start(rank)

    def start(self, rank):
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": self._port,
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.processes.append(support.start(*self._arguments, environment=environment, **pipes))
        World.started.append(self.processes[-1])

    def wait_for_end(self):
        """Waits for all ranks and returns the output of rank 0. Raises when one fails."""
        results = [support.wait_for_end(process) for process in self.processes]
        for rank, (status, output, errors) in enumerate(results):
            if status != 0:
                raise AssertionError(f"rank {rank} ended with exit status {status}: {output}{errors}")
        return results[0][1]

    def kill(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()
            if process.returncode != -9:
                raise AssertionError(f"a rank ended before the kill, with exit status {process.returncode}")

    def steps(self, rank):
        """The steps that a rank logged. The kill may cut the last line short, which is then left out."""
        path = pathlib.Path(f"{self.log}.{rank}")
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        steps = []
        for line in lines:
            if line.endswith("\n"):
                epoch, position, loss, *names = line.split()
                names = [name.rpartition("/")[2] for name in names]
                steps.append(Step(int(epoch), int(position), float.fromhex(loss), names))
        return steps

    def consumed(self, epoch, first=0, last=COUNT):
        """The names that all ranks consumed in the steps that end at the positions first + 1 … last."""
        return [
            name
            for rank in range(self.size)
            for step in self.steps(rank)
            if step.epoch == epoch and first < step.position <= last
            for name in step.names
        ]

    def names(self, rank):
        return {(step.epoch, step.position): step.names for step in self.steps(rank)}

    def losses(self):
        """The loss of each step, with all its bits, by epoch and position."""
        return {(step.epoch, step.position): step.loss for step in self.steps(0)}


def over_files(size, *arguments):
    """Trains on files. Returns the world and its output."""
    world = World(size, "--local", directory / "images", *arguments)
    return world, world.wait_for_end()


def train_in_python(steps, seed):
    """The same training in PyTorch, in one process. Returns the loss of each step, summed over its samples."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 8),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    sums = []
    for names in steps:
        files = [(directory / "images" / name).read_bytes() for name in names]
        pixels = torch.stack([torch.tensor(list(file[1:])).reshape(3, 16, 16) for file in files]) / 127.5 - 1
        loss = nn.functional.cross_entropy(net(pixels), torch.tensor([file[0] for file in files]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums.append(loss.item() * len(names))
    return sums


def copy_run(name, copy):
    for end in (".manifest", ".checkpoint"):
        support.put(copy + end, support.get(name + end))


class Distributed(unittest.TestCase):
    def tearDown(self):
        # Processes that a failed test has left.
        for process in World.started:
            if process.returncode is None:
                process.kill()
                process.communicate()
        World.started.clear()

    def assert_epochs(self, fetched, epochs):
        """Each sample is fetched exactly once in each epoch. Epochs do not overlap, because the ranks step together."""
        self.assertEqual(len(fetched), COUNT * epochs)
        for epoch in range(epochs):
            self.assertEqual(sorted(fetched[COUNT * epoch : COUNT * (epoch + 1)]), NAMES, f"epoch {epoch}")

    def test_any_number_of_ranks_trains_on_each_sample_once_per_epoch_with_the_losses_of_files(self):
        # With 11 samples for each of 3 ranks, the last step has one sample, and two ranks have none.
        arguments = ("--epochs", 2, "--batch", 11)
        for size in (1, 2, 3):
            with self.subTest(ranks=size):
                server = ServerLog()
                world = World(size, CONTAINER, "--run", f"whole-{size}", *arguments)
                output = world.wait_for_end()
                self.assert_epochs(server.fetched("images/"), 2)
                self.assertEqual(server.count("GET", "comp=list"), 1, "only one rank lists")
                for epoch in (0, 1):
                    self.assertEqual(sorted(world.consumed(epoch)), NAMES)

                files, files_output = over_files(size, *arguments)
                self.assertEqual(world.losses(), files.losses())
                self.assertEqual(len(losses(output)), 2)
                self.assertEqual(losses(output), losses(files_output))
        self.assertEqual([step.names for step in world.steps(2) if step.position == COUNT], [[], []])

    def test_all_ranks_together_train_like_one_process(self):
        world, _ = over_files(3, "--epochs", 3, "--batch", 11, "--seed", 4)
        steps = {
            (epoch, position): [name for rank in range(3) for name in world.names(rank)[epoch, position]]
            for epoch, position in world.losses()
        }
        self.assertEqual({len(names) for names in steps.values()}, {33, 1})
        expected = train_in_python(steps.values(), seed=4)
        # The numbers differ only by the order of the sums.
        for (step, loss), one in zip(world.losses().items(), expected):
            self.assertAlmostEqual(loss / one, 1, delta=1e-5, msg=step)

    def test_blobs_may_be_added_and_deleted_while_the_ranks_start(self):
        run("train_map", "fill", CONTAINER, "--prefix", "churn/", "--count", COUNT)
        first_blobs = [f"x-{number}" for number in range(6)]
        for name in first_blobs:
            support.put(f"churn/{name}", support.get("images/000000.img"))
        stop = threading.Event()

        def add_and_delete():
            image, number = support.get("images/000001.img"), 0
            while not stop.is_set():
                support.put(f"churn/y-{number}", image)
                if number >= 2:
                    support.delete(f"churn/y-{number - 2}")
                number += 1

        server = ServerLog()
        churn = threading.Thread(target=add_and_delete)
        churn.start()
        try:
            arguments = (CONTAINER, "--run", "churn", "--prefix", "churn/", "--epochs", 1, "--batch", 5)
            # After rank 0 has listed and before the other ranks start, blobs are deleted and added.
            world = World(3, *arguments, ranks=[0])
            support.wait_until(lambda: support.exists("churn.manifest"), *world.processes)
            deleted = first_blobs[::2]
            for name in deleted:
                support.delete(f"churn/{name}")
            for number in range(5):
                support.put(f"churn/z-{number}", support.get("images/000002.img"))
            world.start(1)
            world.start(2)
            world.wait_for_end()
        finally:
            stop.set()
            churn.join()

        # The first and the last line of a manifest describe no entry.
        _, *entries, _ = map(json.loads, support.get("churn.manifest").splitlines())
        listed = [name.removeprefix("churn/") for _, name, *_ in entries]
        self.assertLessEqual(set(NAMES + first_blobs), set(listed))
        fetched = server.fetched("churn/")
        self.assertEqual(max(Counter(fetched).values()), 1, "a sample was fetched twice")
        may_be_deleted = set(deleted) | {name for name in listed if name.startswith("y-")}
        self.assertLessEqual(set(listed) - may_be_deleted, set(fetched))
        self.assertLessEqual(set(fetched), set(listed) - set(deleted))
        self.assertEqual(sorted(world.consumed(0, last=len(listed))), sorted(fetched))

    def start_and_kill(self, size, name):
        """Starts a training and kills it in the middle of its first epoch, after some checkpoints."""
        arguments = (CONTAINER, "--run", name, "--batch", 4, "--save-every", 2, "--epochs", 2, "--pace", 200)
        world = World(size, *arguments)
        support.wait_until(lambda: len(world.steps(0)) >= 7, *world.processes)
        world.kill()
        return world

    def resume(self, killed, size, name):
        server = ServerLog()
        world = World(size, CONTAINER, "--run", name, "--batch", 4, "--epochs", 2)
        output = world.wait_for_end()
        found = re.match(r"resumed in epoch 0 at sample (\d+)\n", output)
        self.assertIsNotNone(found, output)
        saved = int(found[1])
        self.assertTrue(0 < saved < COUNT, output)
        # The samples that were consumed after the last checkpoint must be consumed again.
        kept = killed.consumed(0, last=saved)
        self.assertEqual(len(kept), saved)
        self.assertGreater(len(killed.consumed(0)), saved, "nothing was consumed between the checkpoint and the kill")

        fetched = server.fetched("images/")
        self.assert_epochs(kept + fetched, 2)
        self.assertEqual(sorted(world.consumed(0)), sorted(fetched[: COUNT - saved]))
        self.assertEqual(server.count("GET", "comp=list"), 0, "a resumed run uses the first listing")
        return saved, world, output

    def test_after_a_kill_it_resumes_on_the_same_number_of_ranks_and_on_fewer(self):
        killed = self.start_and_kill(3, "killed")
        copy_run("killed", "fewer")
        saved, world, output = self.resume(killed, 3, "killed")
        # The losses are those of a training without a kill.
        files, files_output = over_files(3, "--batch", 4, "--epochs", 2)
        before = {step: loss for step, loss in killed.losses().items() if step[1] <= saved}
        self.assertEqual({**before, **world.losses()}, files.losses())
        self.assertEqual(losses(output), losses(files_output))

        self.resume(killed, 2, "fewer")

    def test_after_a_kill_it_resumes_on_more_ranks(self):
        self.resume(self.start_and_kill(2, "more"), 3, "more")

    def test_when_one_rank_is_killed_the_others_end(self):
        world = World(3, CONTAINER, "--run", "dies", "--batch", 4, "--epochs", 9, "--pace", 100)
        support.wait_until(lambda: len(world.steps(0)) >= 2, *world.processes)
        world.processes[1].kill()
        for rank in (0, 2):
            status, _, errors = support.wait_for_end(world.processes[rank])
            self.assertEqual(status, 1, errors)
            self.assertRegex(errors, r"\Atrain_distributed: ")
        world.processes[1].communicate()

    def test_torchrun_starts_the_training(self):
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        # Debian 12's torchrun fails on its own default of 0 for these two options, because Python 3.11 does not
        # iterate over flags of value 0. With them, each line of the output begins with the rank.
        command = [*torchrun, "--redirects", "1", "--tee", "1", "--log_dir", directory / "torchrun"]
        command += ["--no_python", "--nnodes", "1", "--nproc_per_node", "2"]
        # Without "--", today's torchrun takes --run, an option of the program, for one of its own.
        program = ["--", support.EXAMPLES / "train_distributed", CONTAINER, "--batch", "11"]
        _, expected = over_files(2, "--batch", 11)
        self.assertEqual(len(losses(expected)), 2)
        # torchrun serves the store, or rank 0 does.
        for options in (["--standalone"], ["--master_port", str(free_port())]):
            with self.subTest(options=options):
                name = f"torchrun{len(options)}"
                done = subprocess.run(
                    [*command, *options, *program, "--run", name],
                    env=os.environ,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    timeout=support.TIMEOUT_S,
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                output = re.sub(r"^\[default\d\]:", "", done.stdout, flags=re.MULTILINE)
                self.assertEqual(losses(output), losses(expected))


if __name__ == "__main__":
    unittest.main()
