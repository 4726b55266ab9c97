"""Bundles: what is written is what is read, and nothing that can't be trusted is read."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from apical.sw import bundle
from apical.sw.bundle import BundleError
from apical.sw.network import Network, NetworkError


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the parsed network.yaml and write it back."""
    document = yaml.safe_load((folder / "network.yaml").read_text(encoding="utf-8"))
    change(document)
    (folder / "network.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def replace_weights(folder: Path, array: np.ndarray, *, honest: bool = True) -> None:
    """Overwrite the first projection's array; `honest`: state its shape, type and hash too."""
    np.save(folder / "arrays" / "projection0.weights.npy", array)
    if honest:
        digest = hashlib.sha256(f"{array.dtype.name}{array.shape}".encode() + array.tobytes()).hexdigest()

        def change(document: dict[str, Any]) -> None:
            document["projections"][0]["weights"] |= {
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "sha256": digest,
            }

        edit(folder, change)


def refused(folder: Path, message: str, kind: type[ValueError] = BundleError) -> None:
    with pytest.raises(kind, match=message):
        bundle.load(folder)


def test_a_saved_network_loads_equal(lif: Network, tmp_path: Path) -> None:
    identity = bundle.save(lif, tmp_path / "net", {"seed": 3, "accuracy": 0.5})
    again = bundle.load(tmp_path / "net")
    assert bundle.identity(again) == identity == bundle.identity(lif)
    assert [np.array_equal(a.weights, b.weights) for a, b in zip(lif.projections, again.projections, strict=True)]
    assert again.populations[0].law == lif.populations[0].law
    assert bundle.load_recipe(tmp_path / "net") == {"seed": 3, "accuracy": 0.5}


def test_two_saves_write_the_same_bytes(two_point: Network, tmp_path: Path) -> None:
    for name in ("a", "b"):
        bundle.save(two_point, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_changed_weight_changes_the_identity(lif: Network, tmp_path: Path) -> None:
    weights = lif.projections[0].weights.copy()
    weights[0, 0] += 1 if weights[0, 0] < 100 else -1
    other = replace(lif, projections=(replace(lif.projections[0], weights=weights), lif.projections[1]))
    assert bundle.identity(other) != bundle.identity(lif)


def test_awkward_names_come_back(awkward: Network, tmp_path: Path) -> None:
    bundle.save(awkward, tmp_path / "net")
    again = bundle.load(tmp_path / "net")
    assert [n.name for n in again.populations] == [n.name for n in awkward.populations]
    assert all(re.fullmatch(r"[a-z0-9_.]+", f.name) for f in (tmp_path / "net" / "arrays").iterdir())


def test_a_missing_array_is_named(lif_bundle: Path) -> None:
    (lif_bundle / "arrays" / "projection0.weights.npy").unlink()
    refused(lif_bundle, r"^projection 'in-hidden', weights: array file arrays/projection0.weights.npy is missing$")


def test_an_extra_array_is_named(lif_bundle: Path) -> None:
    np.save(lif_bundle / "arrays" / "more.npy", np.zeros(2))
    refused(lif_bundle, r"^arrays/more.npy: an extra file that network.yaml doesn't name$")


def test_a_wrong_shape_is_named(lif_bundle: Path) -> None:
    replace_weights(lif_bundle, np.zeros((5, 7), np.int8), honest=False)
    refused(lif_bundle, r"in-hidden', weights: expected int8 of shape \[5, 6\], got int8 of shape \[5, 7\]$")


def test_a_shape_that_does_not_fit_the_graph_is_named(lif_bundle: Path) -> None:
    replace_weights(lif_bundle, np.zeros((5, 7), np.int8))
    refused(lif_bundle, r"^projection 'in-hidden': expected weights of shape \(5, 6\), got \(5, 7\)$", NetworkError)


def test_nan_is_refused(lif_bundle: Path) -> None:
    replace_weights(lif_bundle, np.full((5, 6), np.nan), honest=False)
    refused(lif_bundle, r"^projection 'in-hidden', weights: expected integers \(int8\), got float64 with NaN$")


def test_an_out_of_range_weight_is_named(lif_bundle: Path) -> None:
    weights = np.zeros((5, 6), np.int16)
    weights[2, 4] = 128
    replace_weights(lif_bundle, weights)
    refused(
        lif_bundle,
        r"^projection 'in-hidden': expected weights of 8 bits, -128 to 127, got 128 at target 2, source 4$",
        NetworkError,
    )


def test_a_flipped_bit_is_found(lif_bundle: Path) -> None:
    file = lif_bundle / "arrays" / "projection1.weights.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused(lif_bundle, r"^projection 'hidden-out', weights: .* doesn't have the SHA-256 that network.yaml states$")


def test_a_header_that_claims_a_huge_array_is_refused_unread(lif_bundle: Path) -> None:
    file = lif_bundle / "arrays" / "projection0.weights.npy"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"(5, 6), }" + b" " * 9, b"(5, 6000000000), }", 1))
    refused(lif_bundle, r"in-hidden', weights: expected int8 of shape \[5, 6\], got int8 of shape \[5, 6000")


def test_an_unknown_law_is_refused(lif_bundle: Path) -> None:
    edit(lif_bundle, lambda d: d["populations"][0].update(law="hodgkin_huxley"))
    refused(lif_bundle, r"^population 'hidden': unknown law 'hodgkin_huxley'; known: .*lif.*two_point$")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("compare", "eq", r"law lif: option compare: expected one of \('gt', 'ge'\), got 'eq'"),
        ("state_bits", 99, "law lif: option state_bits: expected 2 to 32, got 99"),
        ("state_bits", True, "law lif: option state_bits: expected int, got True"),
        ("speed", 1, "law lif: unknown option 'speed'; known: compare, count_bits, .*, shift, state_bits"),
    ],
)
def test_a_bad_law_option_is_refused(lif_bundle: Path, option: str, value: object, message: str) -> None:
    edit(lif_bundle, lambda d: d["populations"][0]["options"].update({option: value}))
    refused(lif_bundle, f"^population 'hidden': {message}$")


@pytest.mark.parametrize("version", [3, "1", 1.0, True, None])
def test_an_unknown_version_is_refused(lif_bundle: Path, version: object) -> None:
    edit(lif_bundle, lambda d: d.update(apical_bundle=version))
    refused(lif_bundle, rf"^network.yaml: expected apical_bundle: 1 or 2, got {re.escape(repr(version))}$")


def test_a_yaml_bomb_is_refused(lif_bundle: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    (lif_bundle / "network.yaml").write_text(bomb)
    refused(lif_bundle, "^network.yaml: expected no YAML aliases, got one$")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#" * ((1 << 20) + 1), "^network.yaml: expected at most 1048576 bytes, got 1048577$"),
        ("[" * 50_000, "^network.yaml: not YAML"),
        ("size: " + "9" * 5000, "^network.yaml: not YAML"),
        ("a: 2001-99-99", "^network.yaml: not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "^network.yaml: not YAML: could not determine a constructor"),
        ("a: 1\na: 2", "^network.yaml: expected distinct text keys, got 'a'$"),
        ("? [1, 2]\n: 3", "^network.yaml: expected distinct text keys, got"),
        ("- 1", "^network.yaml: expected a mapping, got list$"),
        ("", "^network.yaml: expected a mapping, got NoneType$"),
        ("a: {", "^network.yaml: not YAML"),
    ],
    ids=["large", "deep", "digits", "date", "object", "repeated", "sequence-key", "list", "empty", "broken"],
)
def test_a_hostile_document_is_refused(lif_bundle: Path, text: str, message: str) -> None:
    (lif_bundle / "network.yaml").write_text(text)
    refused(lif_bundle, message)


def test_a_document_that_is_not_text_is_refused(lif_bundle: Path) -> None:
    (lif_bundle / "network.yaml").write_bytes(b"\xff\xfe\x00")
    refused(lif_bundle, "^network.yaml: can't be read: .*utf-8")


def test_a_pipe_in_place_of_the_document_is_refused(lif_bundle: Path) -> None:
    (lif_bundle / "network.yaml").unlink()
    os.mkfifo(lif_bundle / "network.yaml")
    refused(lif_bundle, "^network.yaml: expected a plain file$")


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd.npy", "a/../../b.npy", "..npy", "C:\\x.npy"])
def test_a_path_that_climbs_out_is_refused(lif_bundle: Path, name: str) -> None:
    np.save(lif_bundle / "secret.npy", np.zeros((5, 6), np.int8))
    edit(lif_bundle, lambda d: d["projections"][0]["weights"].update(file=name))
    refused(lif_bundle, r"^network.yaml: projections.0.weights.file: String should match pattern")


def test_a_symbolic_link_that_leads_out_is_refused(lif_bundle: Path, tmp_path: Path) -> None:
    file = lif_bundle / "arrays" / "projection0.weights.npy"
    file.rename(tmp_path / "outside.npy")
    file.symlink_to(tmp_path / "outside.npy")
    refused(lif_bundle, r"^projection 'in-hidden', weights: array file arrays/projection0.weights.npy is missing$")


def test_a_linked_array_folder_is_refused(lif_bundle: Path, tmp_path: Path) -> None:
    (lif_bundle / "arrays").rename(tmp_path / "outside")
    (lif_bundle / "arrays").symlink_to(tmp_path / "outside", target_is_directory=True)
    refused(lif_bundle, "^arrays: expected a folder of the bundle, got a link$")


class Poison:
    """Unpickling it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("poisoned",)


@pytest.mark.parametrize("kind", ["object array", "plain pickle"])
def test_a_pickle_is_never_read(lif_bundle: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = lif_bundle / "arrays" / "projection0.weights.npy"
    if kind == "object array":
        np.save(file, np.array([[Poison()]], dtype=object), allow_pickle=True)
    else:
        file.write_bytes(pickle.dumps(Poison()))
    refused(lif_bundle, r"^projection 'in-hidden', weights: ")
    assert not (tmp_path / "poisoned").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(extra=1), "network.yaml: extra: Extra inputs are not permitted"),
        (lambda d: d.pop("outputs"), "network.yaml: outputs: Field required"),
        (lambda d: d["inputs"][0].update(size="6"), "network.yaml: inputs.0.size: Input should be a valid integer"),
        (lambda d: d["inputs"][0].update(bits=99), "network.yaml: inputs: format: expected 1 to 48 bits, got 99"),
        (lambda d: d["projections"][0].update(pattern="conv9"), "network.yaml: projections.0.pattern: "),
        (lambda d: d["encoding"].update(gain=float("nan")), "network.yaml: encoding.gain"),
    ],
    ids=["extra", "missing", "type", "bits", "pattern", "nan"],
)
def test_a_document_out_of_schema_is_refused(
    lif_bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(lif_bundle, change)
    refused(lif_bundle, "^" + message)


def test_a_folder_without_a_document_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, r"expected a bundle directory with network.yaml, found none$")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_bundle(lif: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        bundle.save(lif, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_older_bundle(
    lif: Network, two_point: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = bundle.save(lif, tmp_path / "net")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        bundle.save(two_point, tmp_path / "net")
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    assert bundle.identity(bundle.load(tmp_path / "net")) == identity


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        bundle.write_file(tmp_path / "out.npz", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_replaces_an_older_one(lif: Network, two_point: Network, tmp_path: Path) -> None:
    bundle.save(lif, tmp_path / "net")
    identity = bundle.save(two_point, tmp_path / "net")
    assert bundle.identity(bundle.load(tmp_path / "net")) == identity
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_a_folder_of_other_things_is_never_replaced(lif: Network, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(BundleError, match=r"home: expected a new folder .*, found 'letters.txt'"):
        bundle.save(lif, tmp_path / "home")
    assert (tmp_path / "home" / "letters.txt").read_text() == "dear"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("text", ["../../etc/passwd", "$(reboot)", "", "...", "ß" * 99])
def test_a_safe_file_name_is_safe(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}", bundle.safe_file_name(text))
