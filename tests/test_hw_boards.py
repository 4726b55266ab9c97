"""Board tables: those that ship, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from apical.hw import boards

BOARDS = Path(__file__).parent.parent / "boards"


def test_every_shipped_board_is_read_and_names_its_sources() -> None:
    names = boards.names()
    assert {"ulx3s", "ulx3s-12f", "ecpix5-85", "colorlight-i5", "orangecrab", "icebreaker"} <= set(names)
    assert set(ULTRASCALE) <= set(names)
    for name in names:
        assert boards.load(name).source


# Vivado's part; LUT, flip-flops, DSP, RAMB36, URAM288 of DS891, DS890, DS889 and DS987; processing system.
ULTRASCALE = {
    "zcu104": ("xczu7ev-ffvc1156-2-e", (230_400, 460_800, 1_728, 312, 96), True),
    "zcu102": ("xczu9eg-ffvb1156-2-e", (274_080, 548_160, 2_520, 912, 0), True),
    "kv260": ("xck26-sfvc784-2LV-c", (117_120, 234_240, 1_248, 144, 64), True),
    "ultra96-v2": ("xczu3eg-sbva484-1-i", (70_560, 141_120, 360, 216, 0), True),
    "kcu116": ("xcku5p-ffvb676-2-e", (216_960, 433_920, 1_824, 480, 64), False),
    "vcu118": ("xcvu9p-flga2104-2L-e", (1_182_240, 2_364_480, 6_840, 2_160, 960), False),
    "rfsoc4x2": ("xczu48dr-ffvg1517-2-e", (425_280, 850_560, 4_272, 1_080, 80), True),
}


@pytest.mark.parametrize("name", sorted(ULTRASCALE))
def test_an_ultrascale_board_s_part_and_capacity_are_the_data_sheet_s(name: str) -> None:
    board, (part, counts, processor) = boards.load(name), ULTRASCALE[name]
    c = board.capacity
    assert (board.part, board.processor) == (part, processor)
    assert (c.lut, c.ff, c.dsp, c.bram, c.uram) == counts
    assert c.ff == 2 * c.lut  # eight LUTs and sixteen flip-flops a slice (UG574)
    assert board.design_mhz is not None and board.design_mhz >= 100
    assert board.processor or (board.clock is not None and board.clock.negative is not None)


def test_ulx3s_pins_are_those_of_its_constraints_file() -> None:
    board = boards.load("ulx3s")
    assert board.clock is not None and board.uart is not None
    assert (board.clock.pin.ball, board.clock.frequency_mhz) == ("G2", 25.0)
    assert (board.uart.transmit.ball, board.uart.receive.ball) == ("L4", "M1")
    assert [p.ball for p in board.leds] == ["B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3"]


def test_an_unknown_board_is_told_the_known_ones() -> None:
    with pytest.raises(boards.BoardError, match=r"^board 'arty': expected one of colorlight-i5, .*ulx3s.*, or a path"):
        boards.load("arty")


@pytest.mark.parametrize("name", ["../ulx3s", "", "ulx3s\n"])
def test_a_board_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(boards.BoardError, match=r"^board "):
        boards.load(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, r"^mine\.yaml: colour: Extra inputs are not permitted"),
        ({"device": None}, r"^mine\.yaml: device: Input should be a valid string, got 'None'$"),
        ({"speed_grade": 6}, r"^mine\.yaml: speed_grade: Input should be a valid string"),
        ({"clock": {"pin": {"ball": 'G2"; x'}, "frequency_mhz": 25.0}}, r"^mine\.yaml: clock\.pin\.ball: "),
        ({"leds": [{"ball": "G2"}]}, r"^mine\.yaml: table: .*ball G2 is used twice"),
        ({"uart": None}, r"^mine\.yaml: table: .*an ecp5 board needs clock and uart"),
        ({"source": []}, r"^mine\.yaml: table: .*at least one source"),
        ({"name": "other"}, r"^mine\.yaml: name: expected 'mine' as the file's name says, got 'other'"),
        ({"board": 2}, r"^mine\.yaml: board: Input should be 1"),
        ({"part": "xcku5p-ffvb676-2-e"}, r"^mine\.yaml: table: .*are for xcup boards, not ecp5"),
        ({"flow": "xcup"}, r"^mine\.yaml: table: .*an xcup board needs part and design_mhz"),
        (
            {"flow": "xcup", "part": "xcku5p-ffvb676-2-e", "design_mhz": 200.0},
            r"^mine\.yaml: table: .*part: expected lfe5u-85f-cabga3816-… as device, package and speed grade say",
        ),
    ],
)
def test_a_wrong_table_names_file_and_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    table = yaml.safe_load((BOARDS / "ulx3s.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**table, "name": "mine", **change}))
    with pytest.raises(boards.BoardError, match=message):
        boards.read(path)


def test_a_table_with_yaml_aliases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text("a: &a [1, 1]\nb: [*a, *a]\n")
    with pytest.raises(boards.BoardError, match="expected no YAML aliases, got one"):
        boards.read(path)


def test_ones_own_board_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((BOARDS / "ulx3s.yaml").read_text().replace("name: ulx3s", "name: mine"))
    assert boards.load(str(path)).device == "LFE5U-85F"
