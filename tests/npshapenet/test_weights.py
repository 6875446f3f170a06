"""The weights file: what is written is what is read, and nothing else is accepted."""

from __future__ import annotations

import dataclasses
import json
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npshapenet import weights as weights_file_format
from npshapenet.layers import Dense
from npshapenet.network import Network
from npshapenet.shape import ShapeModel
from npshapenet.weights import Normalisation, WeightsError, read, write

REMOVED = object()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.npz"


@pytest.fixture(scope="module")
def members(weights_file):
    """The arrays of a good file."""
    with np.load(weights_file, allow_pickle=False) as file:
        return dict(file)


def with_meta(members, **changes):
    meta = json.loads(members["meta"].tobytes())
    for key, value in changes.items():
        if value is REMOVED:
            del meta[key]
        else:
            meta[key] = value
    return {**members, "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_round_trip(storage, weights, path):
    weights = dataclasses.replace(weights, storage=storage, provenance={"Datensätze": ["å", 1]})
    write(path, weights)
    again = read(str(path))
    for name in ("network", "normalisation", "crop_factor", "markup", "provenance", "storage"):
        assert getattr(again, name) == getattr(weights, name)
    np.testing.assert_array_equal(again.shape_model.mean, weights.shape_model.mean)
    np.testing.assert_array_equal(again.shape_model.components, weights.shape_model.components)
    assert list(again.tensors) == list(weights.network.tensor_shapes())
    for name, tensor in weights.tensors.items():
        # The fixture's tensors are such that float16 holds them.
        np.testing.assert_array_equal(again.tensors[name], tensor)
        assert again.tensors[name].dtype == np.float32
        assert again.tensors[name].flags.aligned


def test_float16_rounds_weights_and_nothing_else(weights, path):
    tensors = {name: tensor + np.float32(1e-5) for name, tensor in weights.tensors.items()}
    write(path, dataclasses.replace(weights, tensors=tensors, storage="float16"))
    for name, tensor in read(path).tensors.items():
        rounded = tensors[name].astype(np.float16) if name.endswith(".weight") else tensors[name]
        np.testing.assert_array_equal(tensor, rounded)
    with np.load(path, allow_pickle=False) as file:
        assert file["stem.weight"].dtype == np.float16
        assert file["stem.bias"].dtype == file["shape.mean"].dtype == np.float32


def test_the_same_weights_give_the_same_bytes(weights, weights_file, path):
    write(path, weights)
    assert path.read_bytes() == weights_file.read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_writes(save, members, weights, path):
    save(path, **members)
    for name, tensor in read(path).tensors.items():
        np.testing.assert_array_equal(tensor, weights.tensors[name])


def test_write_is_atomic(weights, path, monkeypatch):
    write(path, weights)
    before = path.read_bytes()
    too_large = {**weights.tensors, "stem.weight": weights.tensors["stem.weight"] + np.float32(1e5)}
    with pytest.raises(WeightsError, match=r"weights.npz: stem.weight has numbers too large"):
        write(path, dataclasses.replace(weights, tensors=too_large))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(path, weights)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["weights.npz"]


def test_write_into_no_folder(weights, tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none" / "weights.npz", weights)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_written_files_can_be_read_by_others(weights, path):
    mask = os.umask(0o022)
    try:
        write(path, weights)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_provenance_that_is_no_json(weights, path):
    for provenance in ({"figure": np.float32(4)}, {"figure": float("nan")}):
        with pytest.raises(WeightsError, match="can't be written as JSON"):
            write(path, dataclasses.replace(weights, provenance=provenance))
    assert not path.exists()


# Weights that don't fit


def changed_tensor(weights, name, change):
    return {**weights.tensors, name: change(weights.tensors[name])}


def without(weights, name):
    return {key: value for key, value in weights.tensors.items() if key != name}


def limited(weights, low, high):
    """The weights with one lowest and one highest value for all parameters."""
    model, count = weights.shape_model, len(weights.shape_model.components) + 4
    limits = np.repeat(np.array([[low], [high]], np.float32), count, axis=1)
    return ShapeModel(model.mean, model.components, limits)


def other_points(weights, landmarks):
    model = weights.shape_model
    return ShapeModel(model.mean[:landmarks], model.components[:, :landmarks])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda w: {"tensors": without(w, "stem.bias")}, "stem.bias is missing"),
        (lambda w: {"tensors": {**w.tensors, "b.c": w.shape_model.mean}}, "'b.c' belongs to no"),
        (lambda w: {"tensors": changed_tensor(w, "stem.weight", lambda t: t[1:])}, "stem.weight"),
        (lambda w: {"tensors": changed_tensor(w, "stem.bias", np.float64)}, "float64"),
        (lambda w: {"tensors": changed_tensor(w, "stem.bias", list)}, "must be float32"),
        (lambda w: {"tensors": changed_tensor(w, "stem.bias", lambda t: t * np.nan)}, "NaN"),
        (lambda w: {"tensors": changed_tensor(w, "stem.bias", lambda t: t / 0)}, "infinite"),
        (
            lambda w: {"shape_model": ShapeModel(w.shape_model.mean, w.shape_model.components[2:])},
            "gives 10 numbers; .* 4 components needs 8, or with a quality 9",
        ),
        (
            lambda w: {"shape_model": ShapeModel(w.shape_model.mean[1:], w.shape_model.components)},
            r"shape.components must be float32 \(6, 67, 2\)",
        ),
        (
            lambda w: {"shape_model": ShapeModel(w.shape_model.mean.T, w.shape_model.components)},
            "shape.mean",
        ),
        (
            lambda w: {"shape_model": ShapeModel(np.float32(1) * np.ones(()), np.ones(()))},
            "shape.mean",
        ),
        (lambda w: {"shape_model": limited(w, 1, 0)}, "limits has a least value above"),
        (lambda w: {"shape_model": limited(w, np.nan, 0)}, "shape.limits has NaN"),
        (lambda w: {"shape_model": other_points(w, 9)}, "markup 'ibug68' for .* 9 points"),
        (lambda w: {"shape_model": other_points(w, 9), "markup": "points68"}, "9 points"),
        (lambda w: {"markup": "mine"}, "markup 'mine'"),
        (lambda w: {"normalisation": Normalisation(float("nan"), 0)}, "no normalisation"),
        (lambda w: {"normalisation": Normalisation(0, 0)}, "no normalisation"),
        (lambda w: {"normalisation": Normalisation(1, 10**400)}, "no normalisation"),
        (lambda w: {"crop_factor": float("nan")}, "crop_factor must be"),
        (lambda w: {"crop_factor": 100}, "crop_factor must be"),
        (lambda w: {"storage": "int8"}, "storage must be"),
        (lambda w: {"network": Network((2, 9, 9), (Dense("a", "input", 10),))}, "one gray square"),
        (lambda w: {"network": Network((1, 9, 8), (Dense("a", "input", 10),))}, "one gray square"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_weights_are_checked_when_made(changes, message, weights):
    with pytest.raises(WeightsError, match=message):
        dataclasses.replace(weights, **changes(weights))


def test_limits_and_quality_come_back(weights, path):
    shape_model = limited(weights, -3, 3)
    components = shape_model.components[:-1]
    bound = ShapeModel(shape_model.mean, components, shape_model.limits[:, :-1])
    assert not weights.has_quality
    write(path, dataclasses.replace(weights, shape_model=bound))
    stored = read(path)
    assert stored.has_quality
    np.testing.assert_array_equal(stored.shape_model.limits, bound.limits, strict=True)


def test_other_markups(weights, path):
    for landmarks in (9, 68):
        other = dataclasses.replace(
            weights, shape_model=other_points(weights, landmarks), markup=f"points{landmarks}"
        )
        write(path, other)
        assert read(path).landmark_count == landmarks


# Files that aren't as they must be


def test_no_weights_files(path, members, tmp_path):
    path.write_bytes(b"not a zip")
    with pytest.raises(WeightsError, match=r"weights.npz: not an .npz file"):
        read(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(WeightsError, match=r"weights.npz: not a weights file: .* no member meta"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("stem.bias", REMOVED, "stem.bias is missing"),
        ("shape.mean", REMOVED, "shape.mean is missing"),
        ("extra.weight", lambda _: np.zeros(3, np.float32), "'extra.weight' belongs to no layer"),
        ("stem.weight", lambda a: a.astype(np.float64), "stem.weight: its dtype is <f8"),
        ("stem.weight", lambda a: a.astype(">f4"), "stem.weight: its dtype is >f4"),
        ("stem.weight", lambda a: a[..., :2], "stem.weight must be float32"),
        ("stem.weight", lambda a: a.ravel(), "stem.weight must be float32"),
        ("stem.weight", lambda a: np.tile(a, 9), "stem.weight: declares"),
        ("stem.weight", lambda a: a * np.float16(np.nan), "stem.weight has NaN"),
        ("stem.weight", np.asfortranarray, "stem.weight: its header"),
        ("head.bias", lambda a: a / np.float32(0), "head.bias has NaN or infinite"),
        ("shape.mean", lambda a: a[1:], "shape.components"),
        ("shape.mean", lambda a: a[0, 0].reshape(()), "shape.mean"),
        ("shape.mean", lambda _: np.zeros((9000, 2), np.float32), "shape.mean: declares"),
        ("shape.components", lambda a: a[2:], "gives 10 numbers"),
        ("meta", lambda a: a.astype(np.float32), "meta: its dtype is <f4"),
        ("meta", lambda a: a[:-1], "meta is not JSON"),
        ("meta", lambda a: np.append(a, np.uint8(255)), "meta is not JSON"),
        ("meta", lambda _: np.frombuffer(b"[" * 100_000, np.uint8), "meta is not JSON"),
        ("meta", lambda _: np.frombuffer(b"9" * 100_000, np.uint8), "meta is not JSON"),
        ("meta", lambda _: np.frombuffer(b'{"format": NaN}', np.uint8), "NaN is no JSON"),
        ("meta", lambda _: np.frombuffer(b"[1, 2]", np.uint8), "meta doesn't say so"),
        ("meta", lambda _: np.zeros(2 << 20, np.uint8), "meta: declares"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_member(name, change, message, members, path):
    changed = {key: value for key, value in members.items() if key != name}
    if change is not REMOVED:
        changed[name] = change(members.get(name))
    np.savez(path, **changed)
    with pytest.raises(WeightsError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_pickles_are_not_opened(members, path, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(path, **{**members, "stem.bias": np.array([Trap()], object)})
    with pytest.raises(WeightsError, match=r"stem.bias: its dtype is \|O"):
        read(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "meta doesn't say so"),
        ({"version": 2}, "version 2, this program reads 1: install a newer one"),
        ({"version": 0}, "unknown version 0"),
        ({"version": "1"}, "unknown version '1'"),
        ({"version": True}, "unknown version True"),
        ({"version": REMOVED}, "unknown version None"),
        ({"network": REMOVED}, "meta: network is missing"),
        ({"network": {}}, "the layer graph must be"),
        ({"normalisation": REMOVED}, "meta: normalisation is missing"),
        ({"normalisation": {"scale": 1}}, "meta: normalisation"),
        ({"normalisation": {"scale": 1, "offset": "0"}}, "meta: normalisation"),
        ({"normalisation": {"scale": 1, "offset": 1e300}}, "no normalisation"),
        ({"crop_factor": "1.5"}, "meta: crop_factor"),
        ({"crop_factor": 10**400}, "crop_factor must be"),
        ({"crop_factor": True}, "meta: crop_factor"),
        ({"markup": 68}, "meta: markup"),
        ({"provenance": []}, "meta: provenance"),
        ({"storage": REMOVED}, "meta: storage is missing"),
        ({"storage": "pickle"}, "storage must be"),
    ],
)
def test_bad_meta(changes, message, members, path):
    np.savez(path, **with_meta(members, **changes))
    with pytest.raises(WeightsError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 300


def test_unknown_layer_type(members, path):
    network = json.loads(members["meta"].tobytes())["network"]
    network["layers"][3]["type"] = "Attention"
    np.savez(path, **with_meta(members, network=network))
    with pytest.raises(WeightsError, match="'project' has the unknown type 'Attention'"):
        read(path)


def test_a_graph_that_asks_for_too_much(members, path):
    """Sizes within all other limits, a file of some KB, and half a terabyte of weights."""
    layers = [{"type": "Dense", "name": f"d{i}", "input": "input" if i == 0 else f"d{i - 1}",
               "out_features": 1 << 14} for i in range(500)]  # fmt: skip
    tensors = {
        f"{layer['name']}.{tensor}": np.zeros(1, np.float32)
        for layer in layers
        for tensor in ("weight", "bias")
    }
    shape = {name: members[name] for name in ("shape.mean", "shape.components")}
    graph = {"input_shape": [1, 33, 33], "layers": layers}
    changed = with_meta({"meta": members["meta"], **shape, **tensors}, network=graph)
    np.savez(path, **changed)
    tracemalloc.start()
    with pytest.raises(
        WeightsError, match=r"multiply-adds are too many|more than 33554432 weights"
    ):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20
    assert weights_file_format.NUMBERS_MAX == 33554432


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_one_error(data, weights_file, path):
    content = bytearray(weights_file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    message = f"{path}: "
    try:
        read(path)
    except WeightsError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
