"""Reads the files that torch_test saved, as a Python user would: python3 read_state_dict.py OUTPUT_DIRECTORY"""

import pathlib
import sys

import torch

sys.dont_write_bytecode = True  # no __pycache__ beside the fixtures
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures"))
from make_fixtures import Net, fill  # noqa: E402


def load_both_ways(path):
    unrestricted = torch.load(path, weights_only=False)
    restricted = torch.load(path, weights_only=True)
    assert list(unrestricted) == list(restricted), path
    for name, value in unrestricted.items():
        assert torch.equal(value, restricted[name]), (path, name)
    return restricted


def check_net(path):
    expected = Net()
    fill(expected.state_dict())
    net = Net()
    state = load_both_ways(path)
    result = net.load_state_dict(state)
    assert not result.missing_keys and not result.unexpected_keys, result
    assert list(state) == list(expected.state_dict()), list(state)
    for name, value in expected.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    # Weights that are tied in C++ are stored once and stay tied.
    tied, weight = state["tied.weight"], state["block.0.weight"]
    assert tied.data_ptr() == weight.data_ptr(), "the tied weights do not share their memory"


def check_kinds(path):
    state = load_both_ways(path)
    base = torch.arange(12.0).reshape(3, 4)
    expected = {
        "bfloat16": torch.arange(6).to(torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "base": base,
        "transposed": base.t(),
        "column": base[:, 2],
        "conjugate": torch.tensor([1 - 1j]),
    }
    assert state.keys() == expected.keys(), state.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype and torch.equal(state[name], value), name


def main(directory):
    directory = pathlib.Path(directory)
    check_net(directory / "net.pt")
    check_kinds(directory / "kinds.pt")
    print(f"torch {torch.__version__} read the files of save_state_dict")


if __name__ == "__main__":
    main(sys.argv[1])
