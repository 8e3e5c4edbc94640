"""Prints a header as Doxygen can read it: doxygen_filter.py FILE

Doxygen ignores comments that begin with `//`. So this writes `///` in their place

- in the comment at the top of a file, which describes the file;
- in all comments of the C header. The lines `// ---- Title ----` become groups of functions.

Constants that comments name become links. No line moves, so that Doxygen's warnings name the line of the header.
"""

import re
import sys
from pathlib import Path

SECTION = re.compile(r"// ---- (.+?) -+$")
CODE_OR_CONSTANT = re.compile(r"`[^`]*`|(?<![\w#])AZT_\w*[A-Z0-9]\b(?!\*)")


def describe_file(lines):
    """The comment at the top ends before the first line that is no comment, which is empty or `#pragma once`."""
    end = next(number for number, line in enumerate(lines) if not line.startswith("//"))
    return ["/" + line for line in lines[:end]] + ["/// @file"] + lines[end + 1 :] if end > 0 else lines


def make_groups(lines):
    """A section's title is followed by an empty line. The last section ends before the end of `extern "C"`."""
    end = len(lines) - 2 - lines[::-1].index("#ifdef __cplusplus")
    close = ""
    for number, line in enumerate(lines):
        if title := SECTION.match(line):
            yield f"{close}/** @defgroup {title[1].lower().replace(' ', '_')} {title[1]} */"
            close = "/** @} */ "
        elif number > 0 and SECTION.match(lines[number - 1]):
            yield "/** @{ */"
        elif number == end:
            yield close
        else:
            yield re.sub(r"^( *)//(?!/)", r"\1///", line)


def link_constants(line):
    code, mark, comment = line.partition("///")
    if comment.startswith("     "):  # an example
        return line
    return code + mark + CODE_OR_CONSTANT.sub(lambda found: found[0] if found[0][0] == "`" else "#" + found[0], comment)


def main():
    path = Path(sys.argv[1])
    lines = describe_file(path.read_text(encoding="utf-8").splitlines())
    if path.suffix == ".h":
        lines = make_groups(lines)
    print("\n".join(map(link_constants, lines)))


if __name__ == "__main__":
    main()
