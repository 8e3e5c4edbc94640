#!/usr/bin/python3
"""Measures loads of torch files, and beside each one parallel read of the same blob.

    benches/torch_load.py [--requests] [KIND...]

It shows that a load sends few requests and fetches no byte twice; that on a slow network it takes little longer than one
parallel read of the whole blob; and that large tensors load at the speed of that read, without a second copy in memory.
KIND is load, load_state_dict, jit_load (a ResNet18 of 46.9 MB each) or tensors (4 x 1 GiB, which need 4.3 GB of disk and
8 GB of memory). Default: all of them. --requests lists the requests of one load instead. Compare the ratios: absolute
times depend on the machine.

Needs Debian's libtorch-dev, python3-torch and g++. Writes its files to target/torch_load.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUTPUT = TARGET / "torch_load"
PROGRAM = OUTPUT / "torch_load"

FILES = {
    "load": OUTPUT / "resnet18.pt",
    "load_state_dict": OUTPUT / "resnet18_python.pt",
    "jit_load": OUTPUT / "resnet18_script.pt",
    "tensors": OUTPUT / "tensors.pt",
}
RUNS = {"load": 11, "load_state_dict": 11, "jit_load": 11, "tensors": 5}
NETWORKS = {
    # The latency of a request in ms, and the bytes per second of a connection.
    "slow network (20 ms, 60 MB/s per connection)": (20, 60_000_000),
    "loopback": (0, 0),
}


def build():
    """Builds the library, torch_load and the server. Returns the path of the server's program."""
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    libraries = TARGET / "release"
    sources = [ROOT / "benches/torch_load.cpp", ROOT / "cpp-examples/resnet18.hpp", *ROOT.glob("include/**/*.h*")]
    if not PROGRAM.exists() or any(source.stat().st_mtime > PROGRAM.stat().st_mtime for source in sources):
        print("building torch_load ...", flush=True)
        command = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", sources[0], "-o", PROGRAM]
        command += [f"-I{ROOT}/include", f"-I{ROOT}/cpp-examples", "-isystem/usr/include/torch/csrc/api/include"]
        command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-laztorch", "-ltorch", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True)
    command = ["cargo", "bench", "--bench", "blobs", "--no-run", "--message-format=json-render-diagnostics"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in messages.splitlines()]
    return next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "blobs")


def write(kind):
    """Writes the file that this kind of load reads, unless it exists."""
    file = FILES[kind]
    if file.exists():
        return
    unfinished = file.with_suffix(".unfinished")
    if kind in ("load", "tensors"):
        subprocess.run([PROGRAM, "write", "resnet18" if kind == "load" else "tensors", unfinished], check=True)
    else:
        write("load")
        module = torch.jit.load(str(FILES["load"]))  # torch::save writes a TorchScript module without code
        if kind == "load_state_dict":
            torch.save(module.state_dict(), unfinished)
        else:
            torch.jit.save(module, str(unfinished))
    unfinished.rename(file)


@contextlib.contextmanager
def serve(server, file, network):
    """Runs the server with this file, and yields the blob's URL."""
    settings = "{} {} {}".format(*network, file)
    process = subprocess.Popen(
        [server],
        env={**os.environ, "AZTORCH_BENCH_SERVE": settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/account/container/{file.name}"
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", action="store_true", help="list the requests of one load")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(FILES))
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(FILES):
        parser.error(f"unknown: {', '.join(unknown)}")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    server = build()
    for name, network in NETWORKS.items():
        print(name, flush=True)
        for kind in arguments.kinds or FILES:
            if kind == "tensors" and network != NETWORKS["loopback"]:
                print("tensors: only on the loopback interface, where a second copy would cost time", flush=True)
                continue
            write(kind)
            with serve(server, FILES[kind], network) as url:
                if arguments.requests:
                    subprocess.run([PROGRAM, "requests", kind, url], check=True)
                else:
                    subprocess.run([PROGRAM, "measure", kind, url, str(RUNS[kind])], check=True)


if __name__ == "__main__":
    main()
