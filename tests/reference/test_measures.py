"""What reference.evaluate measures beside the errors: from systems to tables, JSON and plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npshapenet.model import Model
from npshapenet.weights import write
from reference.evaluation import evaluate
from reference.measures import Asked, Backgrounds, measure, measure_backgrounds
from reference.soundness import Examined
from reference.systems import ModelSystem

command = pytest.importorskip("reference.evaluate", reason="needs matplotlib", exc_type=ImportError)

LIMITS = [[-1, 0.5, -0.5, -0.2, -0.2], [1, 1.2, 0.5, 0.2, 0.2]]


def run(*arguments: object) -> int:
    return command.main([str(argument) for argument in arguments])


@pytest.fixture
def model_file(tmp_path: Path, constant_weights: Any) -> Path:
    """A model that expects an error of 4 % everywhere, of which one parameter is clipped."""
    path = tmp_path / "model.npz"
    write(path, constant_weights([0, 1, 0.6, 0, 0, np.log(4)], LIMITS))
    return path


def test_the_floor_is_that_of_the_shape_model(labelled_photos: Any, constant_weights: Any) -> None:
    system = ModelSystem("m", Model(constant_weights([0, 1, 0, 0, 0]), "numpy"))
    evaluation = evaluate([system], labelled_photos.labels, "set")
    measures = measure([system], evaluation, Asked())
    # The photos show the mean face itself.
    assert measures.floors_percent["m"] == pytest.approx(0, abs=0.01)
    # A component that moves all points alike can't follow a nose that moves alone: what is left
    # is what the best similarity leaves.
    truth = evaluation.results["m"].truth
    truth[:, 30] += [0, 0.5 * labelled_photos.eye_distance_px]
    x, y = labelled_photos.truth.T
    turns = np.block([[np.c_[x, -y]], [np.c_[y, x]]])
    basis = np.c_[turns, np.repeat(np.eye(2), 68, axis=0)]
    target = truth[0].T.ravel()
    closest = basis @ np.linalg.lstsq(basis, target)[0]
    left_px = np.hypot(*(closest - target).reshape(2, 68)).mean()
    measures = measure([system], evaluation, Asked())
    expected = 100 * left_px / labelled_photos.eye_distance_px
    assert measures.floors_percent["m"] == pytest.approx(expected, rel=1e-3)
    assert expected > 0.5


def test_nothing_is_measured_that_is_not_asked_for(
    labelled_photos: Any, constant_weights: Any
) -> None:
    system = ModelSystem("m", Model(constant_weights([0, 1, 0, 0, 0]), "numpy"))
    evaluation = evaluate([system], labelled_photos.labels, "set")
    assert list(measure([system], evaluation, Asked()).to_json("m")) == [
        "openings",
        "truncation_floor_percent",
    ]


def test_backgrounds_are_of_each_family(labelled_photos: Any, constant_weights: Any) -> None:
    system = ModelSystem("m", Model(constant_weights([0, 1, 0, 0, 0, 1]), "numpy"))
    labels = [labelled_photos.labels] * 2
    found = measure_backgrounds([system], labels, ("flat", "photo", "text"), 5)
    counts = {family: figures.shapes for family, figures in found.soundness("m").items()}
    assert counts == {"flat": 5, "text": 5, "photo": 10}


def test_separation_counts_what_training_never_saw() -> None:
    families = ["noise", "noise", "text", "stripes"]
    quality = np.array([1.0, 9.0, 9.0, 3.0])
    found = Backgrounds(families, {"m": Examined(np.zeros((4, 68, 2)), quality=quality)})
    separation = found.separation("m", np.array([2.0, 4.0]))
    assert separation == {
        "never seen in training": 0.75, "noise": 0.5, "text": 1.0, "stripes": 0.5
    }  # fmt: skip


def test_all_is_printed_written_and_drawn(
    labelled_photos: Any,
    model_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_picture: Callable[[Path], bool],
) -> None:
    out = tmp_path / "out"
    asked = ("--framing", "--steadiness", "--soundness", "--per-family", 3)
    families = ("--families", "flat", "stripes", "text", "photo")
    name = command.set_names([labelled_photos.labels])[0]
    mark = ("--mark", f"{name}:published:3.67:0.2")
    labels = ("--labels", labelled_photos.labels, "--backend", "numpy", "--out", out)
    assert run(model_file, *labels, *asked, *families, *mark) == 0
    printed = capsys.readouterr().out
    values = json.loads((out / "metrics.json").read_text())
    of_system = values["sets"][0]["systems"]["model.npz:numpy"]
    assert of_system["soundness"]["clipped_parameters"]["angle"] == 12
    assert of_system["soundness"]["not_finite"] == 0
    assert of_system["quality"]["expected_nme_percent"] == pytest.approx([4] * 10)
    assert of_system["quality"]["rank_correlation"] is None
    assert of_system["steadiness"]["moved_interocular_percent"]["photo_noise_2_of_255"] == 0
    moved = of_system["steadiness"]["moved_interocular_percent"]["photo_shifted_1_px"]
    assert moved == pytest.approx(100 / labelled_photos.eye_distance_px, rel=1e-3)
    assert f"{moved:.2f}" in printed
    assert len(of_system["framing"]["axes"]) == 4
    backgrounds = values["crops_without_a_face"]["model.npz:numpy"]
    assert backgrounds["separation_from_faces_auc"]["never seen in training"] == 0.5
    assert set(backgrounds["soundness"]) == {"flat", "stripes", "text", "photo"}
    for text in ("rise %", "photo shift", "quality against", "area under", "floor", "clipped"):
        assert text in printed
    drawn = {path.name.split("-")[0] for path in out.glob("*.png") if is_picture(path)}
    assert drawn == {"curves", "regions", "framing", "quality", "worst"}


def test_the_same_seed_prints_the_same(
    labelled_photos: Any, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for seed in (0, 0):
        labels = ("--labels", labelled_photos.labels, "--backend", "numpy", "--seed", seed)
        assert run(model_file, *labels, "--framing") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--framing", "--turn", 10), "go without"),
        (("--soundness", "--per-family", 0), "accepted: 1"),
        (("--mark", "nowhere:PFLD:3.67"), "no set is named nowhere"),
        (("--mark", "PFLD:3.67"), "accepted: SET:NAME:NME"),
        (("--mark", "set:PFLD:three"), "accepted: SET:NAME:NME"),
        (("--families", "faces"), "invalid choice"),
    ],
)
def test_wrong_command_lines_are_refused(
    labelled_photos: Any,
    model_file: Path,
    options: tuple[object, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(model_file, "--labels", labelled_photos.labels, *options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
