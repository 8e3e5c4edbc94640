# The Python environment with PyPI's torch, for `make test-torch2`. scripts/setup.sh makes it; it and the gates read this
# file. It is in a cache, since it takes 4.2 GB: a fresh clone uses the same.

torch2_version=$(sed -n 's/^torch==//p' scripts/torch2-requirements.txt)
readonly torch2_version
# shellcheck disable=SC2034 # used by the scripts that read this
readonly torch2_home=${AZTORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aztorch}/torch-$torch2_version
