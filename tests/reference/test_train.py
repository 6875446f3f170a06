"""python -m reference.train: repeatable, resumable, clear about what it can't do."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="training is PyTorch's")

import torch

import npshapenet
from reference import run_folder
from reference import train as command
from reference.checkpoint import load
from reference.data.crop import Geometry
from reference.data.dataset import write_faces
from reference.training import Trainer

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(npshapenet.__file__).resolve().parent
FAST = ROOT / "reference" / "recipes" / "fast.toml"
RUN_FILES = [
    "best.pt",
    "curves.png",
    "last.pt",
    "log.csv",
    "modes.png",
    "preview.png",
    "settings.json",
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Sums in one order, and no threads that wait for each other on a busy machine."""
    before = torch.get_num_threads()
    monkeypatch.setattr(command, "_use_cores", lambda device, workers: torch.set_num_threads(1))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def faces_file(make_faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "made.npz"
    write_faces(path, make_faces(30))
    return path


@pytest.fixture
def recipe_file(small_recipe_text, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(small_recipe_text)
    return path


@pytest.fixture
def train(faces_file, recipe_file, tmp_path):
    """``train("run", "--epochs", 2)`` → the exit status of a run into that folder."""

    def run(folder, *options, recipe=recipe_file, data=faces_file):
        arguments = ["--recipe", recipe, "--data", data, "--out", tmp_path / folder, "--workers", 0]
        return command.main([str(argument) for argument in (*arguments, *options)])

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs that draw nothing: drawing takes longer than their training."""
    for name in ("write_curves", "write_modes", "write_preview"):
        monkeypatch.setattr(run_folder, name, lambda *arguments: None)


def assert_same_weights(one, other):
    for part in ("model", "averaged"):
        ours, theirs = getattr(load(one), part), getattr(load(other), part)
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), f"{part} {key}"


class TestRun:
    def test_leaves_settings_log_pictures_and_checkpoints(self, train, tmp_path, capsys):
        assert train("run") == 0
        folder = tmp_path / "run"
        assert sorted(os.listdir(folder)) == RUN_FILES
        rows = list(csv.DictReader((folder / "log.csv").open()))
        assert [row["epoch"] for row in rows] == ["1", "2", "3"]
        last, best = load(folder / "last.pt"), load(folder / "best.pt")
        assert last.step == 9
        errors = [float(row["held_out_nme_percent"]) for row in rows]
        assert best.best_percent == last.best_percent == pytest.approx(min(errors), rel=1e-5)
        assert best.log[-1]["held_out_nme_percent"] == best.best_percent
        assert "held-out NME" in capsys.readouterr().out

    @pytest.mark.usefixtures("no_pictures")
    def test_two_runs_of_one_seed_are_the_same(self, train, tmp_path):
        assert train("one") == train("two") == 0
        logs = [(tmp_path / name / "log.csv").read_bytes() for name in ("one", "two")]
        assert logs[0] == logs[1]
        assert_same_weights(tmp_path / "one" / "last.pt", tmp_path / "two" / "last.pt")

    @pytest.mark.usefixtures("no_pictures")
    def test_progress_shows_loss_and_time_left(self, train, capsys):
        assert train("run") == 0
        bar = capsys.readouterr().err
        assert "loss " in bar
        assert "9/9 [" in bar

    @pytest.mark.usefixtures("no_pictures")
    def test_epochs_and_weights_come_from_the_command(self, train, faces_file, tmp_path):
        assert train("run", "--epochs", 1, data=f"{faces_file}:0.5") == 0
        checkpoint = load(tmp_path / "run" / "last.pt")
        assert checkpoint.recipe.training.epochs == 1
        assert checkpoint.data == ({"name": "made", "faces": 30, "weight": 0.5},)

    @pytest.mark.usefixtures("no_pictures")
    def test_shape_model_can_be_that_of_a_weights_file(self, train, weights_file, tmp_path):
        assert train("run", "--epochs", 1, "--shape-model", weights_file) == 0
        expected = npshapenet.load(weights_file, backend="numpy").weights.shape_model
        ours = load(tmp_path / "run" / "last.pt").shape_model
        np.testing.assert_array_equal(ours["components"], expected.components)
        np.testing.assert_array_equal(ours["mean"], expected.mean)
        # Scores as they are by their making; the transform about that of the faces.
        np.testing.assert_array_equal(ours["parameter_scales"][:6], 1)
        np.testing.assert_array_equal(ours["parameter_offsets"][:6], 0)


def interrupt_at(monkeypatch, step, how):
    """Let the run be interrupted in a step, by ``how()``."""
    train_step = Trainer._train_step

    def interrupted(self, images, landmarks):
        if self.step == step:
            how()
        return train_step(self, images, landmarks)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("no_pictures")
class TestResume:
    @pytest.mark.parametrize("step", [1, 4, 5])
    def test_after_ctrl_c_gives_what_an_uninterrupted_run_gives(
        self, train, tmp_path, monkeypatch, capsys, step
    ):
        assert train("whole") == 0
        with monkeypatch.context() as patch:
            interrupt_at(patch, step, press_ctrl_c)
            assert train("stopped") == 130
        assert f"interrupted at step {step + 1}; --resume" in capsys.readouterr().out
        assert load(tmp_path / "stopped" / "last.pt").step == step + 1
        assert train("stopped", "--resume") == 0
        assert_same_weights(tmp_path / "whole" / "last.pt", tmp_path / "stopped" / "last.pt")
        assert_same_weights(tmp_path / "whole" / "best.pt", tmp_path / "stopped" / "best.pt")
        logs = [(tmp_path / name / "log.csv").read_bytes() for name in ("whole", "stopped")]
        assert logs[0] == logs[1]
        assert not [name for name in os.listdir(tmp_path / "stopped") if name.endswith(".tmp")]

    def test_ctrl_c_twice_ends_at_once(self, train, tmp_path, monkeypatch, capsys):
        def twice():
            press_ctrl_c()
            press_ctrl_c()

        with monkeypatch.context() as patch:
            interrupt_at(patch, 4, twice)
            assert train("run") == 130
        assert capsys.readouterr().err.endswith("broken off\n")
        # What was saved last is whole, and the run goes on from there.
        assert load(tmp_path / "run" / "last.pt").step == 3
        assert train("run", "--resume") == 0
        # Ctrl-C does again what it did before.
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    @pytest.mark.parametrize("file", ["best.pt", "last.pt"])
    def test_killed_while_saving_goes_on_from_the_checkpoint_before(
        self, train, tmp_path, monkeypatch, file
    ):
        class Killed(BaseException):
            pass

        save = command.save

        def killed(path, checkpoint):
            if checkpoint.step == 6 and path.name == file:
                raise Killed
            save(path, checkpoint)

        assert train("whole") == 0
        # The second validation is better than the first: both files are written.
        assert load(tmp_path / "whole" / "best.pt").step >= 6
        with monkeypatch.context() as patch:
            patch.setattr(command, "save", killed)
            with pytest.raises(Killed):
                train("run")
        assert load(tmp_path / "run" / "last.pt").step == 3
        assert train("run", "--resume") == 0
        assert_same_weights(tmp_path / "whole" / "last.pt", tmp_path / "run" / "last.pt")
        assert_same_weights(tmp_path / "whole" / "best.pt", tmp_path / "run" / "best.pt")

    def test_a_finished_run_stays_as_it_is(self, train, tmp_path):
        assert train("run") == 0
        before = (tmp_path / "run" / "last.pt").read_bytes()
        assert train("run", "--resume") == 0
        assert (tmp_path / "run" / "last.pt").read_bytes() == before

    def test_a_run_is_never_overwritten(self, train, tmp_path, capsys):
        assert train("run", "--epochs", 1) == 0
        before = (tmp_path / "run" / "last.pt").read_bytes()
        assert train("run", "--epochs", 1) == 1
        assert "holds a run; give --resume or another folder" in capsys.readouterr().err
        assert (tmp_path / "run" / "last.pt").read_bytes() == before

    def test_other_settings_are_refused(self, train, recipe_file, capsys):
        assert train("run", "--epochs", 1) == 0
        recipe_file.write_text(recipe_file.read_text().replace("seed = 7", "seed = 8"))
        assert train("run", "--epochs", 1, "--resume") == 1
        assert "was trained with other settings" in capsys.readouterr().err

    def test_other_data_are_refused(self, train, make_faces, tmp_path, capsys):
        assert train("run", "--epochs", 1) == 0
        write_faces(tmp_path / "other.npz", make_faces(31))
        assert train("run", "--epochs", 1, "--resume", data=tmp_path / "other.npz") == 1
        assert "was trained on other data: made (30 faces):1.0" in capsys.readouterr().err

    def test_nothing_to_resume_is_said(self, train, tmp_path, capsys):
        assert train("run", "--resume") == 1
        assert "last.pt isn't there: nothing to go on with" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def start(arguments):
    """The command in a process, and a process group, of its own."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "reference.train", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no {path.name}: {process.communicate()}")
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="signals to a process group are POSIX's")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_process_stopped_in_the_midst_leaves_no_half_file(faces_file, recipe_file, tmp_path, end):
    """Ctrl-C reaches the workers too; --resume goes on either way."""
    folder = tmp_path / "run"
    options = ["--recipe", recipe_file, "--data", faces_file, "--out", folder, "--epochs", 4000]
    process = start([*options, "--workers", 1])
    wait_for(folder / "log.csv", process)
    os.killpg(process.pid, end)
    out, err = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume goes on from there" in out
        assert "Traceback" not in err
        assert sorted(os.listdir(folder)) == RUN_FILES
    checkpoint = load(folder / "last.pt")
    assert checkpoint.step > 0
    load(folder / "best.pt")
    whole = [name for name in os.listdir(folder) if not name.endswith(".tmp")]
    for name in whole:
        if name.endswith(".png"):
            Image.open(folder / name).load()


@pytest.mark.usefixtures("no_pictures")
class TestOverfit:
    def test_a_demo_photo_fits_to_under_half_a_percent(self, tmp_path, capsys):
        """One face must fit: with the recipe and the shape model of the bundled model."""
        from reference import prepare

        bundled, labels = PACKAGE / "models" / "fast.npz", PACKAGE / "demo" / "labels.xml"
        faces = tmp_path / "demo.npz"
        assert prepare.main([str(labels), "--out", str(faces)]) == 0
        options = ("--recipe", FAST, "--data", faces, "--shape-model", bundled)
        settings = ("--overfit", 1, "--epochs", 300, "--workers", 0, "--device", "cpu")
        folder = tmp_path / "run"
        assert command.main([str(o) for o in (*options, *settings, "--out", folder)]) == 0
        checkpoint = load(folder / "best.pt")
        assert checkpoint.best_percent < 0.5
        assert (
            float(list(csv.DictReader((folder / "log.csv").open()))[-1]["held_out_nme_percent"])
            < 0.5
        )

    def test_faces_fit_with_a_shape_model_of_their_own(self, train, tmp_path):
        assert train("run", "--overfit", 2) == 0
        checkpoint = load(tmp_path / "run" / "last.pt")
        assert checkpoint.best_percent < 0.5
        assert checkpoint.data[0]["faces"] == 2
        assert train("run", "--overfit", 2, "--resume") == 0

    def test_too_few_steps_are_a_failure_that_says_how_far_it_came(self, train, capsys):
        assert train("run", "--overfit", 1, "--epochs", 2) == 1
        assert "only, not under 0.5 %" in capsys.readouterr().err

    @pytest.mark.parametrize("count", [0, 31, -1])
    def test_faces_that_are_not_there_are_refused(self, train, count, capsys):
        assert train("run", "--overfit", count) == 1
        assert "--overfit takes 1 to 30 faces" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
class TestRefused:
    """One line on stderr that says what is wrong, exit status 1, no run folder."""

    @pytest.fixture
    def refused(self, train, tmp_path, capsys):
        def check(message, *options, **arguments):
            assert train("run", *options, **arguments) == 1
            err = capsys.readouterr().err
            assert err.startswith("reference.train: ")
            assert err.count("\n") == 1
            assert message in err
            assert not (tmp_path / "run").exists()

        return check

    def test_recipes(self, refused, recipe_file, tmp_path):
        refused("not a recipe", recipe=tmp_path / "none.toml")
        text = recipe_file.read_text()
        for change, message in (
            (("epochs", "epoch"), "not epoch"),
            (('"separable"', '"separated"'), "not 'separated'"),
            (("components = 4", "components = 400"), "[shape_model] components must be 1 to"),
            (("components = 4", "components = 4\nalignment = 'affine'"), "not 'affine'"),
            (("hard_swish", "gelu"), "not 'gelu'"),
        ):
            recipe_file.write_text(text.replace(*change))
            refused(message)

    def test_faces_files(self, refused, faces_file, tmp_path):
        refused("no such file", data=tmp_path / "none.npz")
        (tmp_path / "text.npz").write_text("hello")
        refused("not a faces file", data=tmp_path / "text.npz")
        for weight in ("0", "-1", "nan", "much", ""):
            refused("the weight must be a number above 0", data=f"{faces_file}:{weight}")

    def test_faces_cut_for_another_network(self, refused, make_faces, tmp_path):
        """Their crops would be taken for larger ones, and the crop factor be wrong."""
        write_faces(tmp_path / "large.npz", make_faces(5, Geometry(side_px=40, margin_px=10)))
        refused("--side 32 cuts for it", data=tmp_path / "large.npz")

    def test_faces_cut_in_different_ways(self, refused, make_faces, tmp_path):
        write_faces(tmp_path / "wide.npz", make_faces(5, Geometry(side_px=32, margin_px=10)))
        one, other = tmp_path / "one.npz", tmp_path / "wide.npz"
        write_faces(one, make_faces(5))
        refused("wide is cut otherwise than one", "--data", one, other)

    def test_shape_models(self, refused, tmp_path):
        np.save(tmp_path / "array.npy", np.zeros(3))
        np.savez(tmp_path / "other.npz", a=1)
        np.savez(
            tmp_path / "nine.npz",
            **{"shape.mean": np.zeros((9, 2)), "shape.components": np.zeros((3, 9, 2))},
        )
        (tmp_path / "cut.npz").write_bytes((tmp_path / "nine.npz").read_bytes()[:200])
        for name in ("none.npz", "array.npy", "other.npz", "cut.npz"):
            refused("no weights file with a shape model", "--shape-model", tmp_path / name)
        refused("not one of 68 points", "--shape-model", tmp_path / "nine.npz")

    def test_devices(self, refused):
        refused("--device tpu: there is no such device", "--device", "tpu")
        if not torch.cuda.is_available():
            refused("--device cuda: there is no such device", "--device", "cuda")

    def test_a_loss_that_is_no_number(self, train, monkeypatch, capsys):
        def diverged(self, images, landmarks):
            raise FloatingPointError("the loss is nan at step 3")

        monkeypatch.setattr(Trainer, "_train_step", diverged)
        assert train("run") == 1
        assert "reference.train: the loss is nan at step 3" in capsys.readouterr().err

    def test_a_folder_that_is_a_file(self, train, tmp_path, capsys):
        (tmp_path / "run").write_text("mine")
        assert train("run") == 1
        assert "reference.train: " in capsys.readouterr().err
        assert (tmp_path / "run").read_text() == "mine"

    @pytest.mark.parametrize(
        "options", [("--epochs", "0"), ("--epochs", "-3"), ("--workers", "-1"), ("--foo",)]
    )
    def test_arguments(self, train, options, capsys):
        with pytest.raises(SystemExit) as caught:
            train("run", *options)
        assert caught.value.code == 2
        assert options[0] in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    assert "example: python -m reference.train" in capsys.readouterr().out
