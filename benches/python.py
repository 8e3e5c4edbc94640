#!/usr/bin/env python3
"""Measures the Python package beside other clients of Azure Blob Storage, and beside the C API of the same library.

    benches/python.py [--quick] [--rounds N] [--clients A,B] [--only WORK,WORK] [--json FILE]

Each measurement is a process of its own, against a server on the loopback interface that costs less than every client
(benches/python_server.c). The clients take turns: a round measures each of them once, in another order each time. Wall
time and CPU time (user and system, with child processes) cover the work with opening and closing, not imports and not
the making of data. Medians are printed as Markdown, with the spread of the wall time on request (--spread). Compare
the ratios: absolute times depend on the machine. A client that has no such function, or is not installed, has a dash.

benches/python_clients.py has the clients, and benches/python_work.py the work. It needs gcc, torch, and the package aztorch
(installed, or PYTHONPATH=python after python/hatch_build.py has run); benches/python_peers.txt names the other clients.
Writes to target/python_bench: a program and a file of 500 MB.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

from python_clients import CLIENTS, MIB, CApi, Sockets
from python_work import (
    BY_NAME,
    QUICK,
    WRITES,
    Import,
    Places,
    Sizes,
    Small,
    SmallLoop,
    cpu_seconds,
    make_state,
    peak_memory,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "python_bench"
STATE = OUTPUT / "state.pt"


class Server:
    """The server's process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [OUTPUT / "server", STATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline())

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counters(self):
        """Return the numbers of requests, of bytes received and of bytes sent."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"GET /account/counters HTTP/1.1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\n") or answer.endswith(b"\r\n"):
                answer += connection.recv(4096)
        return [int(number) for number in answer.rpartition(b"\r\n\r\n")[2].split()]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def prepare(sizes, quick) -> None:
    """Build the server, and make the file that `load` reads."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    program, source = OUTPUT / "server", ROOT / "benches/python_server.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-pthread", source, "-o", program], check=True)
    if not STATE.exists() or not 0.9 < STATE.stat().st_size / (sizes.tensors * sizes.tensor_size) < 1.1:
        unfinished = STATE.with_suffix(".unfinished")
        # In a process of its own, since this one stays small.
        subprocess.run([sys.executable, __file__, "--make-state", unfinished] + ["--quick"] * quick, check=True)
        unfinished.rename(STATE)


def measure_here(work_name, client_name, port, quick) -> None:
    """Do one piece of work in this process, and print what it took."""
    sizes = Sizes(quick)
    places = Places(port, sizes)
    client = CLIENTS[client_name](places)
    work = BY_NAME[work_name](sizes)
    if work.uses_torch:
        client.prepare_datasets()
    measured = work.measure(client, places)
    result = {"wall": measured.wall, "cpu": measured.cpu, "faults": measured.faults, "peak": peak_memory()}
    print(json.dumps(result), flush=True)
    # Other clients' threads may still run.
    os._exit(0)


def measure_in_process(work, client_name, server, sizes, quick):
    """Do one piece of work in a new process. Return what it took, or None if it failed."""
    if work is Import:
        return measure_import(CLIENTS[client_name].package)
    command = [sys.executable, __file__, "--measure", work.name, client_name, str(server.port)]
    cpu, before = server.cpu(), server.counters()
    try:
        done = subprocess.run(command + ["--quick"] * quick, capture_output=True, text=True, timeout=100, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = error.stderr if isinstance(error.stderr, str) else ""
        print(f"{work.name} of {client_name} failed: {(output.strip().splitlines() or [error])[-1]}", file=sys.stderr)
        return None
    after = server.counters()
    result = json.loads(done.stdout.splitlines()[-1])
    names = ("requests", "received", "sent")
    result.update(zip(names, (b - a for a, b in zip(before, after))), server_cpu=server.cpu() - cpu)
    expected = {
        "write": sizes.bulk * WRITES,
        "write-calls": sizes.bulk * WRITES,
        "save": sizes.tensors * sizes.tensor_size,
    }
    if result["received"] < expected.get(work.name, 0):
        raise AssertionError(f"{work.name} of {client_name}: the server got {result['received']} bytes")
    return result


def measure_import(package):
    """Return the times of importing a package, without those of Python itself."""

    def run(code):
        began, cpu = time.perf_counter(), cpu_seconds()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began, cpu_seconds() - cpu

    run(f"import {package}")
    pairs = [(run(f"import {package}"), run("pass")) for _ in range(7)]
    wall, cpu = (statistics.median((a[i] - b[i]) * 1e3 for a, b in pairs) for i in range(2))
    return {"wall": wall, "cpu": cpu, "faults": 0, "peak": 0, "server_cpu": 0.0, "requests": 0}


def installed(client):
    """Return whether a client's package can be imported."""
    try:
        return importlib.util.find_spec(client.package) is not None
    except ModuleNotFoundError:
        return False


def applies(work, client):
    """Return whether a client has the functions for a piece of work."""
    if work is Import:
        return client not in (CApi, Sockets)
    return any(hasattr(client, need) for need in work.needs)


def run(arguments):
    """Measure everything, and return the results: (work, client) to a list."""
    quick = arguments.quick
    sizes = Sizes(quick)
    prepare(sizes, quick)
    names = arguments.clients.split(",") if arguments.clients else list(CLIENTS)
    for name in [name for name in names if not installed(CLIENTS[name])]:
        print(f"skipped: {name}, which is not installed", file=sys.stderr)
        names.remove(name)
    only = arguments.only.split(",") if arguments.only else QUICK if quick else list(BY_NAME)
    results = {}
    server = Server()
    try:
        for number in range(arguments.rounds):
            for work in (BY_NAME[name] for name in only):
                turns = [name for name in names if applies(work, CLIENTS[name])]
                turns = turns[number % len(turns) :] + turns[: number % len(turns)] if turns else []
                for name in turns:
                    if results.get((work.name, name)) == []:
                        continue  # it failed in an earlier round
                    result = measure_in_process(work, name, server, sizes, quick)
                    taken = results.setdefault((work.name, name), [])
                    if result is not None:
                        result["load"] = os.getloadavg()[0]
                        taken.append(result)
                        report(work, name, number, result)
    except KeyboardInterrupt:
        print("interrupted: the tables show what there is", file=sys.stderr)
    finally:
        server.close()
    return names, only, results


def report(work, name, number, result) -> None:
    line = f"{number + 1} {work.name:12} {name:20} wall {result['wall']:8.3f} cpu {result['cpu']:8.3f} {work.scale:3}"
    line += f" server {result['server_cpu']:6.2f} peak {result['peak'] / MIB:7.0f} MiB faults {result['faults']:8}"
    print(f"{line} requests {result['requests']:6} load {result['load']:.1f}", file=sys.stderr, flush=True)


def median(results, field):
    return statistics.median(result[field] for result in results)


def number_text(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def version_of(name):
    """Return the version of a client's distribution; of ours, that of the library."""
    if name == "aztorch":
        import aztorch

        return aztorch.__version__
    return importlib.metadata.version(name)


def print_tables(names, only, results, spread, quick) -> None:
    """Print Markdown: what each client takes, and ours beside the reference and the C API."""

    def cell(work, name):
        taken = results.get((work.name, name))
        if not taken:
            return "–" if taken is None else "failed"
        wall, cpu = median(taken, "wall"), median(taken, "cpu")
        text = f"{number_text(wall)} / {number_text(cpu)}"
        if spread:
            walls = [result["wall"] for result in taken]
            text += f" ({number_text(min(walls))}–{number_text(max(walls))})"
        return text

    works = [BY_NAME[name] for name in only]
    shown = [name for name in names if name not in ("c", "sockets")]
    versions = ", ".join(f"{name} {version_of(name)}" for name in names if name not in ("c", "sockets"))
    loads = [result["load"] for taken in results.values() for result in taken]
    print(
        f"{os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f}; Python {sys.version.split()[0]}; {versions}"
    )
    if quick:
        print("Short run: the sizes are a tenth to an eighth of what the rows say.")
    print("\nwall / CPU in seconds, but in µs and ms where it says so\n")
    print("| work | " + " | ".join(CLIENTS[name].title for name in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for work in works:
        title = work.title + (f" ({work.scale})" if work.scale != "s" else "")
        print(f"| {title} | " + " | ".join(cell(work, name) for name in shown) + " |")

    def ratio(work, name, field):
        ours, theirs = results.get((work.name, "aztorch")), results.get((work.name, name))
        if not ours or not theirs:
            return "–"
        return f"{median(ours, field) / median(theirs, field):.2f}"

    print("\naztorch ÷ others, wall / CPU\n")
    others = [name for name in names if name != "aztorch"]
    print("| work | " + " | ".join(CLIENTS[name].title for name in others) + " |")
    print("|---" * (len(others) + 1) + "|")
    for work in works:
        cells = [f"{ratio(work, name, 'wall')} / {ratio(work, name, 'cpu')}" for name in others]
        print(f"| {work.title} | " + " | ".join("–" if text.startswith("–") else text for text in cells) + " |")
    print("\npeak memory, MiB\n")
    print("| work | " + " | ".join(CLIENTS[name].title for name in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for work in works:
        if work is Import:
            continue
        cells = [results.get((work.name, name)) for name in shown]
        print(f"| {work.title} | " + " | ".join(f"{median(c, 'peak') / MIB:.0f}" if c else "–" for c in cells) + " |")
    print()
    for work in (Small, SmallLoop):
        small, floor = results.get((work.name, "aztorch")), results.get((work.name, "c"))
        if small and floor:
            print(
                f"{work.title}: Python takes {median(small, 'cpu') - median(floor, 'cpu'):.1f} µs of CPU beyond the C API"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and the main rows, one round")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (5; 1 with --quick)")
    parser.add_argument("--clients", help=f"some of {','.join(CLIENTS)}")
    parser.add_argument("--only", help=f"some of {','.join(BY_NAME)}")
    parser.add_argument("--spread", action="store_true", help="print the least and the most wall time, too")
    parser.add_argument("--json", help="write each measurement to this file")
    parser.add_argument("--measure", nargs=3, metavar=("WORK", "CLIENT", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--make-state", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make_state:
        import torch

        torch.save(make_state(Sizes(arguments.quick)), arguments.make_state)
        return
    if arguments.measure:
        work, client, port = arguments.measure
        measure_here(work, client, int(port), arguments.quick)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    names, only, results = run(arguments)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({" ".join(key): value for key, value in results.items()}))
    print_tables(names, only, results, arguments.spread, arguments.quick)


if __name__ == "__main__":
    main()
