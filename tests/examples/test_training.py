"""Runs train_map, train_iterable and train_tar, and counts in the server's log what they fetched."""

import os
import pathlib
import pty
import subprocess
import tempfile
import unittest
from collections import Counter

import support
from support import CONTAINER, ServerLog, image_names, losses, run

COUNT = 100
NAMES = image_names(COUNT)
OPTIONS = ("--batch", 8, "--workers", 3, "--seed", 5)


def setUpModule():
    global directory
    temporary = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(temporary.cleanup)
    directory = pathlib.Path(temporary.name)
    run("train_map", "fill", CONTAINER, "--count", COUNT)
    run("train_map", "fill", "--local", directory / "images", "--count", COUNT)


class Map(unittest.TestCase):
    def test_losses_equal_those_of_files_and_each_blob_is_fetched_once_per_epoch(self):
        server = ServerLog()
        over_blobs = run("train_map", "train", CONTAINER, "--epochs", 4, *OPTIONS)
        self.assertEqual(Counter(server.fetched("images/")), Counter(NAMES * 4))
        self.assertEqual(server.count("GET", "comp=list"), 1)

        over_files = run("train_map", "train", "--local", directory / "images", "--epochs", 4, *OPTIONS)
        self.assertEqual(len(losses(over_files)), 4)
        self.assertEqual(losses(over_blobs), losses(over_files))
        self.assertLess(losses(over_blobs)[-1], losses(over_blobs)[0] / 2, "the network has not learned")

        other_seed = run("train_map", "train", "--local", directory / "images", "--epochs", 4, *OPTIONS, "--seed", 6)
        self.assertNotEqual(losses(other_seed), losses(over_files), "the losses do not depend on the order")

    def test_a_terminal_shows_a_progress_bar(self):
        terminal, child_end = pty.openpty()
        arguments = ("train_map", "train", "--local", directory / "images", "--epochs", 1, *OPTIONS)
        process = support.start(*arguments, stdout=subprocess.PIPE, stderr=child_end)
        os.close(child_end)
        drawn = b""
        try:
            while part := os.read(terminal, 4096):
                drawn += part
        except OSError:  # the end of a pseudoterminal
            pass
        os.close(terminal)
        status, output, _ = support.wait_for_end(process)
        self.assertEqual(status, 0)
        self.assertRegex(drawn.decode(), r"\[#*\.*\] step \d+ of 13  loss \d")
        self.assertEqual(len(losses(output)), 1)

    def test_an_empty_listing_and_a_misspelt_option_are_errors(self):
        for arguments, status, message in [
            (("train", CONTAINER, "--prefix", "nothing/"), 1, "there are no samples"),
            (("train", CONTAINER, "--epoch", 1), 2, "no option is called --epoch"),
            (("train", support.blob_url("missing").replace("/missing", "-missing")), 1, "NOT_FOUND|ContainerNotFound"),
        ]:
            process = support.start("train_map", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            actual, _, errors = support.wait_for_end(process)
            self.assertEqual(actual, status, errors)
            self.assertRegex(errors, message)

    def test_remove_deletes_the_blobs_of_fill_only(self):
        run("train_map", "fill", CONTAINER, "--prefix", "brief/", "--count", 3)
        support.put("other", b"stays")
        server = ServerLog()
        run("train_map", "remove", CONTAINER, "--prefix", "brief/")
        self.assertEqual(server.count("DELETE", "brief/"), 3)
        self.assertEqual(server.count("DELETE", ""), 3)
        self.assertEqual(support.get("other"), b"stays")


class Iterable(unittest.TestCase):
    def consumed(self, log):
        """The names that the steps consumed, in their order, for each epoch."""
        epochs = {}
        for line in log.read_text().splitlines():
            epoch, *names = line.split()
            epochs.setdefault(int(epoch), []).extend(name.removeprefix("images/") for name in names)
        return epochs

    def test_each_epoch_has_each_blob_once_in_another_order(self):
        log = directory / "whole.log"
        server = ServerLog()
        output = run("train_iterable", CONTAINER, "--run", "whole", "--epochs", 2, "--log", log, *OPTIONS)
        self.assertEqual(Counter(server.fetched("images/")), Counter(NAMES * 2))
        self.assertEqual(len(losses(output)), 2)
        first, second = self.consumed(log).values()
        self.assertEqual(sorted(first), NAMES)
        self.assertEqual(sorted(second), NAMES)
        self.assertNotEqual(first, NAMES)
        self.assertNotEqual(first, second)

    def test_after_a_kill_it_resumes_with_the_blobs_that_were_not_consumed(self):
        arguments = ("train_iterable", CONTAINER, "--run", "killed", "--save-every", 2, *OPTIONS)
        log = directory / "killed.log"
        log.touch()
        killed = support.start(*arguments, "--log", log, "--pace", 100, stdout=subprocess.DEVNULL)
        # In the second epoch, so that the position is more than a count of names.
        support.wait_until(lambda: len(log.read_text().splitlines()) >= 13 + 7, killed)
        killed.kill()
        self.assertEqual(killed.wait(), -9)
        before = self.consumed(log)
        self.assertEqual(sorted(before[0]), NAMES)

        server = ServerLog()
        log = directory / "resumed.log"
        output = run(*arguments, "--log", log, "--epochs", 3)
        self.assertRegex(output, r"\Aresumed in epoch 1 after \d+ samples\n")
        saved = int(output.split()[5])
        self.assertTrue(0 < saved < COUNT, output)
        after = self.consumed(log)
        kept = before[1][:saved]
        self.assertEqual(sorted(kept + after[1]), NAMES, "the names of the interrupted epoch")
        self.assertEqual(sorted(after[2]), NAMES)
        # The server's log agrees. A batch that overtook another one was consumed beyond the position of the cursor, and
        # may be fetched again to be skipped.
        fetched = Counter(server.fetched("images/"))
        fetched.subtract(NAMES)  # the last epoch
        again = {name for name, times in fetched.items() if times > 0} - set(after[1])
        self.assertEqual({name for name, times in fetched.items() if times != 0} - again, set(after[1]))
        self.assertLessEqual(max(fetched.values()), 1)
        self.assertLessEqual(len(again), 3 * 8, "more than the workers could have overtaken")
        self.assertLessEqual(again, set(kept))


class Tar(unittest.TestCase):
    def test_losses_equal_those_of_files_and_the_second_training_loads_the_manifest(self):
        shards = []
        for number, names in enumerate([NAMES[:30], NAMES[30:31], NAMES[31:]]):
            shard = directory / f"shard-{number}.tar"
            subprocess.run(["tar", "--create", "--file", shard, "-C", directory / "images", *names], check=True)
            shards.append(shard)
        server = ServerLog()
        run("train_tar", "upload", CONTAINER, *shards)
        self.assertEqual(server.count("PUT", "shards/"), 3)

        first = run("train_tar", "train", CONTAINER, "--epochs", 2, *OPTIONS)
        over_files = run("train_map", "train", "--local", directory / "images", "--epochs", 2, *OPTIONS)
        self.assertEqual(len(losses(over_files)), 2)
        self.assertEqual(losses(first), losses(over_files))

        server = ServerLog()
        second = run("train_tar", "train", CONTAINER, "--epochs", 2, *OPTIONS)
        self.assertEqual(losses(second), losses(over_files))
        fetched = Counter(server.fetched("shards/"))
        self.assertEqual(fetched.pop("manifest"), 1)
        self.assertEqual(sum(fetched.values()), 2 * COUNT, "one GET for each member")
        self.assertEqual(server.count("GET", "comp=list"), 0)


if __name__ == "__main__":
    unittest.main()
