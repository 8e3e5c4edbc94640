#!/usr/bin/env bash
# Makes what a release ships, in target/dist/: the tarball, the Debian packages, the Python wheel, the SBOM, and SHA256SUMS
# of them. dist.sh --wheel: the wheel only, and SHA256SUMS.
#
# All of it is made from one tree, target/shipped, which scripts/stage.sh links against an old glibc. Times in the files
# are that of the commit, so that the same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
version=$(scripts/version.sh)
machine=$(uname -m)
readonly target version machine tree=$target/shipped dist=target/dist
readonly name=aztorch-$version-linux-$machine
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

tarball() {
    tar --create --directory "$target" --transform "s,^shipped,$name," --sort=name --format=gnu --owner=0 --group=0 \
        --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" shipped | gzip --no-name -9 >"$dist/$name.tar.gz"
}

# The crates that are inside of the library and of the doctor, with versions, checksums and licences: CycloneDX 1.5.
sbom() {
    scripts/sbom.sh >"$dist/$name.cdx.json"
}

scripts/stage.sh "$tree" --portable --doctor
rm -rf $dist
mkdir -p $dist
scripts/wheel.sh $dist
if [[ ${1:-} != --wheel ]]; then
    tarball
    scripts/deb.sh "$tree" $dist
    sbom
fi
(cd $dist && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
ls -l $dist
