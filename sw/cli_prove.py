"""`apical prove`: the formal proofs of the stream units."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError, JsonOption, Reply


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: apical prove fork")(prove)


def prove(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One proof; otherwise all.")] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Also plant each known fault and see it found.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove what the stream units keep: no event lost, doubled or moved across a tick's end; no standstill.

    Exit status 1 where something doesn't hold (or a planted fault isn't found). Needs bitwuzla, of the dev extra.
    """
    from apical.sim import formal
    from apical.sim.formal_proofs import PROOFS

    if name is not None and name not in PROOFS:
        raise CliError(f"NAME {name!r}: expected one of {', '.join(PROOFS)}")
    chosen = [p for p in PROOFS.values() if name in (None, p.name)]
    answer, lines, holds = {}, [], True
    with Reply(as_json) as reply:
        for number, proof in enumerate(chosen):
            with common.progress(proof.name) as update:
                outcome = formal.prove(proof)
                found = [formal.refuted(proof, *m) for m in proof.mutants] if mutants else []
                update(number + 1, len(chosen))
            holds = holds and outcome.holds and all(found)
            answer[proof.name] = asdict(outcome) | ({"faults": len(found), "found": sum(found)} if mutants else {})
            what = "proven" if outcome.holds else "NOT PROVEN"
            said = f"; {sum(found)} of {len(found)} planted faults found" if mutants else ""
            lines.append(f"{what}  {proof.name}: {proof.method}, {proof.depth} cycles, {outcome.seconds:.1f} s{said}")
        reply.finish({"holds": holds, "proofs": answer}, "\n".join(lines), holds=holds)
