# The gate of the Debian packages. scripts/gates.sh reads this file.

readonly deb_packages=(libaztorch0 libaztorch-dev aztorch-doctor)
readonly apt_options=(-o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root)

# What is installed of aztorch on this machine, by packages or by hand.
machine_files() {
    find /etc /usr/bin /usr/include /usr/lib /usr/local /usr/share /var/lib/dpkg -xdev -path '*aztorch*' | sort
}

purge_packages() {
    apt-get purge -y "${apt_options[@]}" "${deb_packages[@]}"
}

# Lets lintian judge the packages of target/dist, and installs them on this machine by README's line. Programs are built
# and run with what was installed only. At the end the packages are removed, also after a failure.
gate_deb() {
    local folder=$work/deb multiarch before
    ((EUID == 0)) || fail 'installing packages needs root: sudo scripts/gates.sh deb, or run it as root in a container'
    [[ -e $dist/SHA256SUMS ]] || fail 'target/dist is not complete: run the gate dist first, or make dist'
    multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
    before=$(machine_files)
    [[ -z $before ]] || fail "aztorch is on this machine already, and this gate would overwrite it. \
If it is from packages: apt-get purge ${deb_packages[*]}. Found:
$before"

    rm -rf "$folder"
    mkdir -p "$folder"
    lintian --allow-root --fail-on error,warning "$dist"/*.deb

    export DEBIAN_FRONTEND=noninteractive
    trap purge_packages EXIT
    # These options would only make the line longer.
    printf '%s\n' 'APT::Get::Assume-Yes "true";' 'DPkg::Lock::Timeout "120";' 'Dpkg::Use-Pty "0";' \
        'APT::Sandbox::User "root";' >"$folder/apt.conf"
    APT_CONFIG=$folder/apt.conf bash -euxc "$(block README.md sh 4 | grep '^apt-get ')"
    apt-get install -y --no-install-recommends "${apt_options[@]}" "$dist"/aztorch-doctor_*.deb
    build_with_packages "$folder" "$multiarch"
    with_server scripts/gates.sh run_deb
    trap - EXIT
    purge_packages
    [[ -z $(machine_files) ]] || fail "this is left after the packages were removed: $(machine_files)"
}

# Neither the compiler nor CMake gets a path here, so they find what the packages have installed.
build_with_packages() { # FOLDER MULTIARCH
    local flags package
    for package in "${deb_packages[@]}"; do
        gzip --test "/usr/share/doc/$package/THIRD-PARTY-LICENSES.txt.gz" || fail "$package lacks the licences of crates"
    done
    flags=$(pkg-config --cflags --libs aztorch)
    [[ $flags =~ ^\ *-laztorch\ *$ ]] || fail "pkg-config names more than the library: $flags"
    [[ $(pkg-config --variable=libdir aztorch) == "/usr/lib/$2" ]] || fail 'pkg-config has another libdir'
    [[ $(pkg-config --modversion aztorch) == "$(scripts/version.sh)" ]] || fail 'pkg-config has another version'
    # shellcheck disable=SC2086
    gcc -std=c11 cpp-examples/checkpoint_c.c -o "$1/by_pkg_config" $flags
    ldd "$1/by_pkg_config" | grep -F "libaztorch.so.0 => /lib/$2/libaztorch.so.0" || fail 'another library is loaded'

    mkdir "$1/project"
    cp cpp-examples/checkpoint_c.c "$1/project"
    cat >"$1/project/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.18)
project(deb LANGUAGES C)
find_package(aztorch CONFIG REQUIRED)
add_executable(by_cmake checkpoint_c.c)
target_link_libraries(by_cmake aztorch::aztorch)
add_executable(by_cmake_static checkpoint_c.c)
target_link_libraries(by_cmake_static aztorch::static)
EOF
    cmake -S "$1/project" -B "$1/project/build"
    cmake --build "$1/project/build"
}

gate_run_deb() {
    local folder=$work/deb program
    for program in by_pkg_config project/build/by_cmake project/build/by_cmake_static; do
        echo "== $program"
        "$folder/$program" "$(blob_url "$(basename "$program")")"
    done
    /usr/bin/aztorch-doctor "$AZTORCH_TEST_CONTAINER_URL"
}
