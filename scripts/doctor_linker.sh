#!/usr/bin/env bash
# The linker of aztorch-doctor. It also keeps the program's code as one object file, aztorch-doctor.o, so that
# scripts/stage.sh can link it against an older glibc without another minute of compiling.
set -euo pipefail

inputs=() output=
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
    -o) ((++i)) && output=${!i} ;;
    *.o | *.rlib | *.a) inputs+=("${!i}") ;;
    esac
done
"${LD:-ld}" -r --gc-sections --entry=main --force-group-allocation -o "${output%/deps/*}/aztorch-doctor.o" \
    --start-group "${inputs[@]}" --end-group
exec "${CC:-cc}" "$@"
