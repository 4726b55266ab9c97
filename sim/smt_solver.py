"""Bitwuzla as the program that `yosys-smtbmc` talks to: the PyPI package has the library alone.

Commands come in on standard input, answers go out. Every check starts a fresh solver with what is asserted by then:
the library's parser can't take back a level of assertions between two texts.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Answer SMT-LIB commands until the input ends."""
    if "--help" in sys.argv:
        print("--lang")  # what smtbmc looks for, to tell a new Bitwuzla
        return
    import bitwuzla

    frames: list[list[str]] = [[]]
    parser, since = None, list[str]()  # of the latest check; what came after it
    for line in sys.stdin:
        command = line.strip()
        if command == "(exit)":
            return
        if command == "(push 1)":
            frames.append([])
        elif command == "(pop 1)":
            frames.pop()
        elif command == "(check-sat)":
            options = bitwuzla.Options()
            options.set(bitwuzla.Option.PRODUCE_MODELS, True)
            parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
            parser.parse("".join(text for frame in frames for text in frame) + line, False, False)
            since = []
        elif parser is not None and command.startswith("(get-value"):
            parser.parse("".join(since) + line, False, False)
            since = []
        else:
            frames[-1].append(line)
            if parser is not None:
                since.append(line)
        sys.stdout.flush()


def program(folder: Path) -> Path:
    """A program named `bitwuzla` in a folder, which runs `main` with this Python."""
    path = folder / "bitwuzla"
    path.write_text(f"#!{sys.executable}\nfrom apical.sim.smt_solver import main\n\nmain()\n", encoding="utf-8")
    path.chmod(0o755)
    return path
