"""The loss: its values by hand, its scale, its gradient where a point is met exactly."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="losses are PyTorch's")

import torch

from reference.losses import face_sizes, steady_loss, wing_loss

#: Bounds of 2 × 8: the face's size is 4.
TRUTH = torch.tensor([[[0.0, 0.0], [2.0, 8.0], [1.0, 3.0]]])


def moved(distance):
    """The truth with its first point this many face sizes to the right."""
    prediction = TRUTH.clone()
    prediction[0, 0, 0] += 4 * distance
    return prediction


def test_face_size_is_the_root_of_the_bounds_area():
    assert face_sizes(TRUTH).tolist() == [4.0]
    assert face_sizes(-3 * TRUTH + 5).tolist() == [12.0]


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (0.0, 0.0),
        (0.02, 0.1 * math.log(2)),
        (0.06, 0.1 * math.log(4)),
        # Beyond the width: linear, continued from the logarithm.
        (0.1, 0.1 * math.log(6)),
        (0.3, 0.2 + 0.1 * math.log(6)),
    ],
)
def test_wing_loss_by_hand(distance, expected):
    loss = wing_loss(moved(distance), TRUTH, width=0.1, curvature=0.02)
    # One of the three points is off.
    assert loss.item() == pytest.approx(expected / 3, abs=1e-7)


def test_wing_loss_is_even_in_direction_and_size():
    prediction = moved(0.05) + 0.01
    loss = wing_loss(prediction, TRUTH)
    assert wing_loss(3 * prediction - 7, 3 * TRUTH - 7).item() == pytest.approx(loss.item())
    # A quarter turn keeps the bounds' area.
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = wing_loss(prediction @ quarter.T, TRUTH @ quarter.T)
    assert turned.item() == pytest.approx(loss.item())


def test_wing_loss_is_the_mean_over_faces():
    truth = torch.cat([TRUTH, TRUTH])
    both = wing_loss(torch.cat([moved(0.05), moved(0.4)]), truth)
    each = [wing_loss(moved(distance), TRUTH).item() for distance in (0.05, 0.4)]
    assert both.item() == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("distance", [0.0, 1e-20, 0.05, 0.1, 5.0])
def test_the_gradient_is_finite(distance):
    """At no distance as well, where a length has no derivative."""
    prediction = moved(distance).requires_grad_()
    wing_loss(prediction, TRUTH).backward()
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[0, 1:] == 0).all()
    assert (prediction.grad[0, 0, 0] != 0) == (distance > 0)


def test_steady_loss_is_that_of_what_two_errors_differ_by():
    """However wrong both are, and wherever the second is in its image."""
    error = torch.tensor([0.3, -0.2])
    truth = torch.cat([TRUTH, TRUTH + 0.7])
    # But for float32's rounding.
    assert steady_loss(truth + error, truth).item() < 1e-6
    unsteady = truth + error
    unsteady[1, 0, 0] += 4 * 0.06
    assert steady_loss(unsteady, truth).item() == pytest.approx(
        wing_loss(moved(0.06), TRUTH).item(), abs=1e-6
    )


def test_a_label_without_area_gives_a_finite_loss():
    on_a_line = TRUTH * torch.tensor([1.0, 0.0])
    prediction = (on_a_line + 0.1).requires_grad_()
    loss = wing_loss(prediction, on_a_line)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(prediction.grad).all()


def test_the_gradient_leads_downhill_on_both_sides_of_the_width():
    for distance in (0.01, 0.099, 0.101, 2.0):
        prediction = moved(distance).requires_grad_()
        wing_loss(prediction, TRUTH).backward()
        assert prediction.grad[0, 0, 0] > 0
    # Beyond the width each point pulls alike, however far it is.
    gradients = []
    for distance in (0.2, 20.0):
        prediction = moved(distance).requires_grad_()
        wing_loss(prediction, TRUTH).backward()
        gradients.append(prediction.grad[0, 0, 0].item())
    assert gradients[0] == pytest.approx(gradients[1])
