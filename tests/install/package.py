"""Uses an installed Python package, in an environment that has neither torch nor numpy: package.py VERSION FOLDER

FOLDER has the package. Writes the names of the functions that the package declares to the standard output.
"""

import os
import sys
import threading

before = len(os.listdir("/proc/self/task"))
import aztorch  # noqa: E402

assert aztorch.__version__ == sys.argv[1], aztorch.__version__
heavy = {name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "azure", "cffi", "tqdm", "lightning"}
assert not heavy, f"import aztorch imports {heavy}"
assert len(os.listdir("/proc/self/task")) == before == threading.active_count() == 1, "import aztorch starts a thread"
home = os.path.dirname(aztorch.__file__)
assert home == os.path.join(sys.argv[2], "aztorch"), home
with open("/proc/self/maps") as maps:
    mapped = {line.split()[-1] for line in maps if "libaztorch" in line}
assert mapped == {os.path.join(home, "_native", "libaztorch.so")}, mapped
assert os.path.exists(os.path.join(home, "py.typed"))

try:
    import aztorch.datasets
except ModuleNotFoundError as error:
    assert error.name == "torch", error
else:
    raise AssertionError("there is a torch here")

url, _, sas = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
with aztorch.open(f"{url}/package?{sas}", "wb") as blob:
    blob.write(b"from an installed package")
with aztorch.BlobIO(f"{url}/package?{sas}", "rb") as blob:
    assert blob.read() == b"from an installed package"

from aztorch._library import lib  # noqa: E402

for name in sorted(dir(lib)):
    function = getattr(lib, name)  # fails if the library does not have it
    if name.startswith("azt_"):
        print(name)
