"""Runs the ranks of cpp-examples/aks/job.yaml: its command, options and variables, with another host for rank 0."""

import pathlib
import re
import socket
import subprocess
import unittest

import support
import yaml
from support import CONTAINER, run

MANIFEST = pathlib.Path(__file__).resolve().parents[2] / "cpp-examples/aks/job.yaml"
JOB = next(item for item in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")) if item["kind"] == "Job")
(TRAIN,) = JOB["spec"]["template"]["spec"]["containers"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Pods:
    """A process for each pod of the Job."""

    def __init__(self, *options):
        program, *arguments = TRAIN["command"] + TRAIN["args"]
        arguments = [CONTAINER if argument == "${CONTAINER_URL}" else argument for argument in arguments]
        port = free_port()
        self.processes = []
        for index in range(JOB["spec"]["completions"]):
            environment = {variable["name"]: variable.get("value") for variable in TRAIN["env"]}
            environment.update(RANK=str(index), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            self.processes.append(support.start(program, *arguments, *options, environment=environment, **pipes))

    def wait_for_end(self):
        """The exit status of each pod, and their outputs."""
        results = [support.wait_for_end(process) for process in self.processes]
        return [status for status, _, _ in results], [output + errors for _, output, errors in results]

    def kill(self):
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                process.communicate()


class Aks(unittest.TestCase):
    def pods(self, *options):
        pods = Pods(*options)
        self.addCleanup(pods.kill)
        return pods

    def test_when_a_pod_is_killed_all_fail_and_the_next_pods_continue(self):
        run("train_map", "fill", CONTAINER, "--count", 400)
        pods = self.pods("--pace", 50)
        support.wait_until(lambda: support.exists("aks.checkpoint"), *pods.processes)
        pods.processes[2].kill()
        statuses, outputs = pods.wait_for_end()
        self.assertEqual(statuses[2], -9)
        # 2 would end the whole Job.
        self.assertEqual({*statuses[:2], *statuses[3:]}, {1}, outputs)

        statuses, outputs = self.pods().wait_for_end()
        self.assertEqual(set(statuses), {0}, outputs)
        self.assertRegex(outputs[0], r"(?m)^resumed in epoch \d+ at sample \d+$")
        epochs = TRAIN["args"][TRAIN["args"].index("--epochs") + 1]
        last = re.findall(r"(?m)^epoch (\d+)", outputs[0])[-1]
        self.assertEqual(int(last), int(epochs) - 1, outputs[0])

    def test_a_wrong_option_ends_with_the_status_that_ends_the_job(self):
        (rule,) = [rule for rule in JOB["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        statuses, outputs = self.pods("--epoch", "1").wait_for_end()
        self.assertEqual(set(statuses), set(rule["onExitCodes"]["values"]), outputs)


if __name__ == "__main__":
    unittest.main()
