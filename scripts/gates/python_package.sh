# The gates of the Python package. scripts/gates.sh reads this file.

# Where the tests of the package run: beside Debian's torch, or PyPI's.
if [[ $gate == *_torch2 ]]; then
    readonly package_env=target/python-env-torch2
else
    readonly package_env=target/python-env
fi
readonly package_tests=tests/python_package

# pip as users have it, without a network: the folder has what it would download.
offline_pip() { # VENV ARGUMENT…
    env PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/target/python-build" AZTORCH_TREE="$shipped" \
        /usr/bin/python3 -m pip --python "$1/bin/python" --quiet --no-input --disable-pip-version-check "${@:2}" \
        --root-user-action=ignore
}

install_package() { # VENV ARGUMENT-OF-PIP…
    "$python" -m venv --without-pip "$1"
    offline_pip "$1" install "${@:2}"
}

# `pip install ./python` in a copy of what a clone has. AZTORCH_TREE spares the gate a second build of the library: all the
# rest is what pip does for a user. The editable installation runs at the same time, since one must not disturb the other.
gate_python_package() {
    local folder=$work/$gate editable clone said
    clone=$folder/clone
    rm -rf "$folder"
    mkdir -p "$clone"
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read |
        tar --extract --directory "$clone"
    ln -s "$PWD/target" "$clone/target"
    install_package "$folder/editable" --editable "$clone/python" &
    editable=$!
    install_package "$folder/venv" "$clone/python"
    wait "$editable"
    "$clone/scripts/wheel.sh" "$folder"
    "$python" -m zipfile -e "$folder"/*.whl "$folder/wheel"
    # pip compiles the modules.
    diff -r --exclude=__pycache__ "$folder/wheel/aztorch" "$(echo "$folder"/venv/lib/python3*/site-packages)/aztorch" ||
        fail 'pip install ./python has installed another package than the wheel has'
    with_server scripts/gates.sh "run_$gate"

    ! said=$(cd "$clone/python" && AZTORCH_TREE=$shipped ../target/tools/bin/python -m hatchling build -t sdist 2>&1) ||
        fail 'a source distribution was made, from which nothing can be built'
    grep -q 'there is no source distribution of aztorch' <<<"$said" || fail "not said why: $said"
}

gate_run_python_package() {
    local folder=$work/python_package command
    uses_package "$folder/venv/bin/python" "$(echo "$folder"/venv/lib/python3*/site-packages)"
    uses_package "$folder/editable/bin/python" "$folder/clone/python"
    command=("$folder/venv/bin/python" -I -m aztorch)
    refuses 'usage: python -m aztorch' "${command[@]}"
    refuses 'usage: aztorch-doctor' "${command[@]}" doctor
    says "$(scripts/version.sh)" "${command[@]}" version
}

uses_package() { # PYTHON FOLDER
    local declared
    # -I: nothing of the checkout or of the user.
    declared=$("$1" -I tests/install/package.py "$(scripts/version.sh)" "$2")
    diff --label 'declared in the header' --label "declared in $2" -u <(declared_functions) <(echo "$declared") ||
        fail 'the package declares other functions than the header'
}

# The wheel in target/dist, also on machines that only build a release.
gate_wheel() {
    local wheel folder=$work/$gate said
    wheel=$(echo "$dist"/*.whl)
    rm -rf "$folder"
    target/tools/bin/python scripts/check_wheel.py "$wheel"
    said=$(target/tools/bin/auditwheel show "$wheel" 2>&1)
    echo "$said"
    grep -qE "consistent with the following *platform tag: *\"manylinux_2_([0-9]|1[0-9]|2[0-8])_$(uname -m)\"" \
        <<<"${said//$'\n'/ }" || fail 'auditwheel finds that the wheel needs a newer system than manylinux_2_28'
    install_package "$folder" "$wheel"
    with_server scripts/gates.sh "run_$gate"
}

gate_run_wheel() {
    local folder=$work/wheel site
    site=$(echo "$folder"/lib/python3*/site-packages)
    uses_package "$folder/bin/python" "$site"
    # The gates glibc, linkage and versions have checked these.
    cmp "$shipped/lib/libaztorch.so" "$site/aztorch/_native/libaztorch.so"
    cmp "$shipped/bin/aztorch-doctor" "$site/aztorch/_native/aztorch-doctor"
    "$folder/bin/python" -I -m aztorch doctor "$AZTORCH_TEST_CONTAINER_URL"
}

# Without torch here: what is of torch has no type then, so some of what --strict demands cannot be had. The gate
# python_types_torch2 checks it all.
gate_python_types() {
    local tools=target/tools/bin paths=(python/aztorch python/hatch_build.py "$package_tests")
    "$tools/ruff" check --config python/pyproject.toml --no-cache "${paths[@]}"
    "$tools/ruff" format --check --diff --config python/pyproject.toml --no-cache "${paths[@]}"
    # There is no other Python here to try. Annotations are not evaluated.
    "$tools/vermin" --target=3.9- --no-tips --violations python/aztorch python/hatch_build.py
    check_types "$tools/python" --ignore-missing-imports --allow-subclassing-any --allow-untyped-decorators \
        --no-warn-return-any --no-warn-unused-ignores
}

gate_python_types_torch2() { check_types $package_env/bin/python; }

check_types() { # PYTHON OPTION-OF-MYPY…
    MYPYPATH=python target/tools/bin/mypy --config-file python/pyproject.toml --cache-dir "$work/mypy" \
        --python-executable "$1" "${@:2}" python/aztorch $package_tests/typed_example.py
}

# Installs the wheel into a folder that only PYTHONPATH names, away from the sources, and prints the folder.
package_site() {
    local site=$work/$gate.site
    rm -rf "$site"
    scripts/wheel.sh "$site/wheel" >&2
    offline_pip target/tools install --no-deps --no-compile --target "$site/package" "$site"/wheel/*.whl >&2
    echo "$site/package"
}

# run_package_tests RUNNER ARGUMENT-OF-PYTEST…
# conftest.py leaves out, and prints, the files for torch 2 and those whose packages are missing. Debian's torch has no
# torchvision beside it here; nothing else may be missing.
run_package_tests() {
    local site report=$work/$gate.report allowed='^$'
    [[ $gate == *_torch2 ]] || allowed=': torchvision not installed'
    site=$(package_site)
    PYTHONPATH=$site "$1" $package_env/bin/python -m pytest -p no:cacheprovider -ra --strict-markers --durations=5 \
        "${@:2}" $package_tests | tee "$report"
    ! grep 'not collected: .* not installed' "$report" | grep -v "$allowed" ||
        fail 'packages for these tests are missing: scripts/python_env*.txt names those that are installed'
}

# Two files at a time, since many tests wait for most of their time.
gate_python_tests() { run_package_tests with_server -m 'not tls' --numprocesses 2 --dist loadfile; }
gate_python_tests_tls() { run_package_tests with_tls_server -m tls; }
gate_python_tests_torch2() { gate_python_tests; }
gate_python_tests_tls_torch2() { gate_python_tests_tls; }
