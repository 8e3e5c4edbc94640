# The gate of the programs in README.md and docs/. scripts/gates.sh reads this file.

# Each block of code in README.md and docs/*.md: file, language, number, and how it is checked.
#   program   compiled and run
#   torch     compiled, all of them as one file, since LibTorch's headers take most of the time
#   project   the CMakeLists.txt of that file
#   lines     lines of a longer program: parsed
#   install   a way of installing: the gates install and subproject run it
readonly blocks='README.md cmake 1 install
README.md cmake 2 install
README.md cpp 1 torch
docs/c-api.md c 1 program
docs/c-api.md python 1 program
docs/cpp.md cmake 1 project
docs/cpp.md cpp 1 torch
docs/cpp.md cpp 2 torch
docs/cpp.md cpp 3 torch
docs/cpp.md cpp 4 program
docs/cpp.md python 1 lines
docs/cpp.md python 2 lines
docs/datasets.md cpp 1 torch
docs/datasets.md cpp 2 torch'

# All blocks except those of shell and of plain text: file, language, number. The Python of README.md and
# docs/python*.md is for the package: tests/python_package/test_docs.py runs it.
found_blocks() {
    awk 'FNR == 1 { split("", count); inside = 0 }
        /^ *```/ {
            language = $0
            sub(/^ *```/, "", language)
            of_package = language == "python" && FILENAME ~ /^(README|docs\/python[^\/]*)\.md$/
            if (!inside && language != "" && language !~ /^(sh|text)$/ && !of_package)
                print FILENAME, language, ++count[language]
            inside = !inside
        }' README.md docs/*.md
}

block() { # FILE LANGUAGE NUMBER
    awk -v opening="\`\`\`$2" -v wanted="$3" '
        { line = $0; sub(/^ */, "", line) }
        line == "```" { inside = 0 }
        inside
        line == opening { inside = ++count == wanted }' "$1"
}

# Compiles each block as it is printed, and runs the programs.
gate_readme() {
    local folder=$work/readme file language number how name
    local link=(-L"$shipped/lib" -laztorch -Wl,-rpath,"$shipped/lib")
    diff --label 'blocks that this gate knows' --label 'blocks in the files' -u \
        <(cut -d' ' -f1-3 <<<"$blocks" | sort) <(found_blocks | sort) || fail 'scripts/gates/readme.sh does not know these blocks'
    rm -rf "$folder"
    mkdir -p "$folder/torch"
    while read -r file language number how; do
        name=$folder/$(basename "$file" .md)-$number
        echo "== $file: $language $number, $how"
        block "$file" "$language" "$number" >"$name.$language"
        case "$language $how" in
        'c program') gcc "${c_flags[@]}" "$name.c" -o "$name" "${link[@]}" ;;
        'cpp program') g++ "${cpp_flags[@]}" "$name.cpp" -o "$name" "${link[@]}" ;;
        'cpp torch') sed 's|"https://ACCOUNT[^"]*"|std::getenv("README_URL")|' "$name.cpp" >>"$folder/torch/main.cpp" ;;
        'cmake project') cp "$name.cmake" "$folder/torch/CMakeLists.txt" ;;
        'python program') mv "$name.python" "$name.py" ;;
        'cmake install') ;; # run by the gates install and subproject
        'python lines') "$python" -c 'import ast, sys; ast.parse(sys.stdin.read())' <"$name.python" ;;
        *) fail "$file: $language cannot be checked as $how" ;;
        esac
    done <<<"$blocks"
    cmake -S "$folder/torch" -B "$folder/torch/build" -Daztorch_DIR="$shipped/lib/cmake/aztorch"
    cmake --build "$folder/torch/build"
    with_server scripts/gates.sh run_readme
}

says() { # TEXT COMMAND…
    local said
    said=$("${@:2}") || fail "$2: exit status $?"
    [[ $said == "$1" ]] || fail "$2: '$said' instead of '$1'"
}

gate_run_readme() {
    export AZURE_STORAGE_CONNECTION_STRING=$AZTORCH_TEST_CONNECTION_STRING
    export LD_LIBRARY_PATH=$shipped/lib
    cd "$work/readme" || exit
    says '' env "README_URL=$(blob_url readme.pt)" torch/build/trainer
    says '12 bytes: hello, blob' ./c-api-1 "$(blob_url readme-c)"
    says "b'hello, blob'" "$python" c-api-1.py "$(blob_url readme-python)"
    says $'image,label\n1.png,cat' ./cpp-4 "$(blob_url readme-labels)" "$(blob_url readme-model)"
}
