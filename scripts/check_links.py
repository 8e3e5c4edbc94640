"""Checks what the Markdown files of this repository refer to: check_links.py

- Each relative link leads to a file or folder, and each #anchor to a heading.
- Each file of this repository that is named in code (`src/lib.rs`, a command in a block of shell) exists.
- Each test that is named in a table with the columns "promise" and "test" exists.
- Each page under docs/ that a source file names exists.

Prints one line for each error. Links to other hosts are not followed.
"""

import functools
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".rs", ".sh", ".py", ".mjs", ".c", ".h", ".cpp", ".hpp", ".toml", ".txt"}
FILE_NAME = re.compile(r"[\w.-]+\.(?:rs|toml|sh|mjs|md|hpp|h|c|cpp|py|supp)")
FENCE = re.compile(r"^ *(`{3,})(\w*)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
# Code and links end within their paragraph, but may span several lines.
CODE = re.compile(r"(`+)((?:(?!\n *\n).)+?)\1", re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^()\s<>]+(?:\([^()]*\))?)>?(?:\s+\"[^\"]*\")?\)")
REFERENCE = re.compile(r"\]\[([^\]]+)\]")
DEFINITION = re.compile(r"^ *\[([^\]]+)\]: +(\S+)", re.MULTILINE)


@functools.cache
def files():
    """All files of the repository, as paths relative to its root."""
    found = set()
    for folder, folders, names in os.walk(ROOT):
        # Files under target/ are built, so their names cannot be checked.
        folders[:] = [
            name
            for name in folders
            if name in (".ci", ".github") or (name not in ("target", "node_modules") and not name.startswith("."))
        ]
        found.update(Path(folder, name).relative_to(ROOT) for name in names)
    return found


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def parts(path):
    """A Markdown file's text, with empty lines in place of its blocks of code, and its lines of shell with their numbers."""
    text, shell, fence, language = [], [], None, ""
    for number, line in enumerate(read(path).splitlines(), 1):
        mark = FENCE.match(line)
        is_text = fence is None and not mark
        text.append(line if is_text else "")
        if fence is None and mark:
            fence, language = mark[1], mark[2]
        elif fence is not None and line.strip() == fence:
            fence = None
        elif language == "sh" and not is_text:
            shell.append((number, line))
    return "\n".join(text), shell


@functools.cache
def anchors(path):
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(parts(path)[0]):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        unique, count = anchor, 1
        while unique in found:
            unique, count = f"{anchor}-{count}", count + 1
        found.add(unique)
    return found


def link_errors(path, target):
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return
    name, _, anchor = unquote(target).partition("#")
    there = Path(os.path.normpath(path.parent / name)) if name else path
    if there not in files() and not (ROOT / there).is_dir():
        yield f"the link {target} leads to no file"
    elif anchor and (there.suffix != ".md" or anchor not in anchors(there)):
        yield f"the link {target} leads to no heading"


def expanded(name):
    """A name with {a,b} in it, as several names."""
    choice = re.search(r"\{([^{}]*)\}", name)
    if not choice:
        return [name]
    return [one for part in choice[1].split(",") for one in expanded(name[: choice.start()] + part + name[choice.end() :])]


def exists(name):
    if "*" in name:
        return any(file.match(name) for file in files())
    return Path(name) in files() or (ROOT / name).is_dir()


def file_errors(code):
    """Names of this repository's files in a piece of code that do not exist."""
    top = {file.parts[0] for file in files() if len(file.parts) > 1}
    names = []
    for word in code.split():
        word = word.strip("\"'();,:").removeprefix("./")
        first, slash, _ = word.partition("/")
        if slash and first in top:
            names += expanded(word)
        elif slash and first == "aztorch":  # as in an #include, or in the Python package
            names += [name if exists(name) else "include/" + name.partition("/")[2] for name in expanded("python/" + word)]
    for name in names:
        # What is built is not there.
        if not exists(name) and "aztorch/_native" not in name:
            yield f"there is no {name}"


def name_errors(code):
    """The same for a file's name alone, without its folder."""
    if FILE_NAME.fullmatch(code) and not any(file.name == code for file in files()):
        yield f"no file is called {code}"


@functools.cache
def tests():
    """The names that a table of promises may use: modules and gates; functions and modules with what they are in."""
    modules, functions = set(re.findall(r"^gate (\w+)", read("scripts/test.sh"), re.MULTILINE)), set()
    for file in files():
        if file.suffix == ".rs" and file.parts[0] in ("tests", "src"):
            module = file.parent.name if file.stem == "mod" else file.stem
            functions.update((module, name) for name in re.findall(r"\bfn (\w+)", read(file)))
            functions.add((file.parent.name, file.stem))
            if file.parts[0] == "tests":
                modules.update((module, file.parent.name))
        elif file.match("tests/python_package/test_*.py"):
            modules.add(file.stem)
            functions.update((file.stem, name) for name in re.findall(r"^ *def (test_\w+)", read(file), re.MULTILINE))
    return modules, functions


def test_errors(code):
    modules, functions = tests()
    if re.fullmatch(r"\w+", code) and code not in modules:
        yield f"no test module and no gate is called {code}"
    elif re.fullmatch(r"\w+(::\w+)+", code) and tuple(code.split("::")[-2:]) not in functions:
        yield f"there is no test {code}"


def errors(path):
    """The errors of a Markdown file, each with its line's number."""
    text, shell = parts(path)
    for number, line in shell:
        yield from ((number, error) for error in file_errors(line.split(" #")[0]))

    at = lambda match: text.count("\n", 0, match.start()) + 1
    for code in CODE.finditer(text):
        yield from ((at(code), error) for error in [*file_errors(code[2]), *name_errors(code[2])])
    for target in [*LINK.finditer(text), *DEFINITION.finditer(text)]:
        yield from ((at(target), error) for error in link_errors(path, target[target.lastindex]))
    defined = {definition[1].lower() for definition in DEFINITION.finditer(text)}
    for reference in REFERENCE.finditer(CODE.sub(lambda code: "\n" * code[0].count("\n"), text)):
        if reference[1].lower() not in defined:
            yield at(reference), f"[{reference[1]}] is not defined"

    in_promises = False
    for number, line in enumerate(text.split("\n"), 1):
        in_promises = line.startswith("|") and (in_promises or line.startswith("| promise | test |"))
        if in_promises:
            column = line.rstrip(" |").rpartition(" | ")[2]
            yield from ((number, error) for code in CODE.findall(column) for error in test_errors(code[1]))


def errors_of_source(path):
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        for name in re.findall(r"\bdocs/[\w./-]+\.md\b", line):
            if Path(name) not in files():
                yield number, f"there is no {name}"


def main():
    papers = sorted(path for path in files() if path.suffix == ".md")
    sources = sorted(path for path in files() if path.suffix in SOURCES or path.name == "Makefile")
    found = [f"{path}:{number}: {error}" for path in papers for number, error in sorted(errors(path))]
    found += [f"{path}:{number}: {error}" for path in sources for number, error in errors_of_source(path)]
    if not any(anchors(path) for path in papers):
        found.append("no Markdown file with a heading was found: is this the repository?")
    print("\n".join(found) or f"{len(papers)} Markdown files: all links, files and tests that they name exist")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
