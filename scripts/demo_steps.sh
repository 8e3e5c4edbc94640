#!/usr/bin/env bash
# Steps 2 to 6 of the demo. scripts/demo.sh starts it and sets the programs and the server.
# Requests are counted in the server's log. With a real account there is no log, and no counts are shown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly checkpoint=$AZTORCH_EXAMPLES/checkpoint
readonly train_map=$AZTORCH_EXAMPLES/train_map
readonly container=${AZTORCH_URL:-$AZTORCH_TEST_CONTAINER_URL}
readonly server_log=${AZTORCH_TEST_LOG:-}
readonly python=/usr/bin/python3
# Names that only this run uses, so that nothing else in a user's container changes.
prefix=aztorch-demo-$(date -u +%Y%m%dT%H%M%S)-$$
readonly prefix
readonly work=target/demo

blob_url() { # NAME
    local query=
    [[ $container == *\?* ]] && query="?${container#*\?}"
    local path=${container%%\?*}
    echo "${path%/}/$prefix-$1$query"
}

model=$(blob_url resnet18.pt)
state_dict=$(blob_url state_dict.pt)
images=$prefix-images/
filled=
saver=

clean_up() {
    [[ -z $saver ]] || kill -KILL "$saver" 2>/dev/null || true
    if [[ -n ${AZTORCH_URL:-} ]]; then
        {
            "$python" -B scripts/demo_blob.py delete "$model" "$state_dict" &&
                { [[ -z $filled ]] || "$train_map" remove "$container" --prefix "$images"; }
        } || echo "blobs named $prefix-* may be left in the container" >&2
    fi
}
trap clean_up EXIT

fail() {
    echo "      $*" >&2
    exit 1
}

# --- the server's log -------------------------------------------------------------------------------------------

mark=0
log_lines() { wc -l <"$server_log"; }
set_mark() { [[ -z $server_log ]] || mark=$(log_lines); }

# The server logs a request just after it has sent the answer.
log_settled() {
    local before=-1 now
    now=$(log_lines)
    while ((now != before)); do
        sleep 0.2
        before=$now
        now=$(log_lines)
    done
}

count() { # METHOD [REST-OF-URL]: requests on this run's blobs since the mark
    tail -n "+$((mark + 1))" "$server_log" | grep -cE "\"$1 [^ ]*/$prefix-[^ ]*${2:-} HTTP" || true
}

counted() { # METHOD: "8 GETs"
    if [[ -z $server_log ]]; then
        echo "(no count of $1s: a real account has no log)"
        return
    fi
    log_settled
    echo "$(count "$1") $1s"
}

# --- the steps --------------------------------------------------------------------------------------------------

# load_model: sets $figures, "46.9 MB  0.22 s", $reads, "460", and $verdict, "122/122 tensors bit-equal"
load_model() {
    local line pattern='^(.*[^ ]) +([0-9]+) reads by torch +([0-9]+/[0-9]+ tensors bit-equal)$'
    line=$("$checkpoint" load "$model") || fail "the model does not load: ${line:-}"
    [[ $line =~ $pattern ]] || fail "no comparison in: $line"
    figures=${BASH_REMATCH[1]} reads=${BASH_REMATCH[2]} verdict=${BASH_REMATCH[3]}
}

echo '[2/6] torch::save of a ResNet18 (usually 1 s)'
set_mark
figures=$("$checkpoint" save "$model")
requests=$(counted PUT)
echo "      $figures   $requests"

echo '[3/6] torch::load (usually 1 s)'
set_mark
load_model
requests=$(counted GET)
echo "      $figures   $requests for the $reads reads that torch made   $verdict"

echo '[4/6] kill -9 in the middle of the next save (usually 6 s)'
set_mark
# Another seed: if the killed save were visible, the loaded bits would differ.
exec 3< <(exec "$checkpoint" save-slowly "$model" --seed 19)
saver=$!
line=
until [[ $line == sending ]]; do
    IFS= read -r line <&3 || fail 'the save ended before it was under way'
done
kill -KILL "$saver"
status=0
{ wait "$saver" || status=$?; } 2>/dev/null
saver=
exec 3<&-
((status == 128 + 9)) || fail "the save was not killed: it had ended with status $status"
if [[ -n $server_log ]]; then
    log_settled
    blocks=$(count PUT 'comp=block(&[^ ]*)?')
    ((blocks > 0)) || fail 'the server had received no block of the save'
    (($(count PUT 'comp=blocklist[^ ]*') == 0)) || fail 'the killed save had published'
    echo "      killed with $blocks blocks on the server, and no commit"
fi
load_model
echo "      the old checkpoint still loads: $verdict"

echo '[5/6] Python reads a state_dict that C++ wrote (usually 5 s)'
"$checkpoint" save-state-dict "$state_dict" >/dev/null
"$python" -B scripts/demo_read.py "$state_dict" "$work/state_dict.pt" | sed 's/^/      /'

echo '[6/6] train a small net on images in the container, then on the same as files (usually 5 s)'
readonly count=192 epochs=5
filled=yes
rm -rf "$work/images"
"$train_map" fill "$container" --prefix "$images" --count $count
"$train_map" fill --local "$work/images" --count $count
set_mark
over_blobs=$("$train_map" train "$container" --prefix "$images" --epochs $epochs) || fail 'no training from blobs'
requests=$(counted GET)
over_files=$("$train_map" train --local "$work/images" --epochs $epochs) || fail 'no training over files'
sed 's/^/      /' <<<"$over_blobs"
[[ $over_blobs == "$over_files" ]] || fail "over the files the losses differ: $over_files"
echo "      $count images, $epochs epochs   $requests   over the files: the same losses, bit for bit"

echo "Your account:  AZTORCH_URL='https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS' make demo"
echo 'Your program:  cpp-examples/checkpoint.cpp, cpp-examples/train_map.cpp'
