# Where the Python environment with PyPI's torch is. scripts/setup.sh makes it for `make test-torch2`, and the gates use
# it. It takes 4.2 GB, so it is in a cache, where a fresh clone finds it.

torch2_version=$(sed -n 's/^torch==//p' scripts/torch2-requirements.txt)
readonly torch2_version
# shellcheck disable=SC2034 # used by the scripts that read this
readonly torch2_home=${AZTORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aztorch}/torch-$torch2_version
