"""The networks: the original extractor's table, the compact one's cost, folding, parameters."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the networks are PyTorch's")

import torch
from torch import nn

from npshapenet.network import from_json
from reference.networks.backbone import Backbone, BlockSettings
from reference.networks.blocks import ConvolutionBlock, InvertedResidual
from reference.networks.build import build_extractor
from reference.networks.compact import CompactExtractor
from reference.networks.graph import GraphError, describe
from reference.networks.layers import ShapeLayer, SimilarityLayer
from reference.networks.original import OriginalExtractor
from reference.networks.run_graph import run_graph
from reference.networks.shapenet import ShapeNet, with_shape_model
from reference.recipe import NetworkSettings, from_values, read_recipe
from reference.shape_model import fit

RECIPES = Path(__file__).resolve().parents[2] / "reference" / "recipes"

#: What is known of the original for 29 outputs: name, output (C, H, W), parameters, multiply-adds.
ORIGINAL = (
    ("conv_1", (64, 218, 224), 512, 21_876_736),
    ("conv_2", (64, 218, 218), 28_736, 1_362_608_128),
    ("down_conv_1", (128, 106, 106), 401_536, 4_510_220_288),
    ("conv_3", (128, 100, 106), 114_816, 1_215_692_800),
    ("conv_4", (128, 100, 100), 114_816, 1_146_880_000),
    ("down_conv_2", (256, 47, 47), 1_605_888, 3_546_841_088),
    ("conv_5", (256, 43, 47), 327_936, 662_241_280),
    ("conv_6", (256, 43, 43), 327_936, 605_880_320),
    ("down_conv_3", (256, 20, 20), 1_638_656, 655_360_000),
    ("conv_7", (256, 16, 20), 327_936, 104_857_600),
    ("conv_8", (256, 16, 16), 327_936, 83_886_080),
    ("down_conv_4", (128, 6, 6), 819_328, 29_491_200),
    ("conv_9", (128, 4, 6), 49_280, 1_179_648),
    ("conv_10", (128, 4, 4), 49_280, 786_432),
    ("conv_11", (128, 2, 4), 49_280, 393_216),
    ("conv_12", (128, 2, 2), 49_280, 196_608),
    ("final_conv", (29, 1, 1), 14_877, 14_848),
)

#: A block that keeps its size, and is therefore added to its input.
INVERTED = {"type": "inverted", "channels": 16, "hidden": 24}


def shape_net(extractor, output_count, seed=0):
    """A ShapeNet of 68 points whose outputs have scales and offsets of their own."""
    generator = torch.Generator().manual_seed(seed)
    return ShapeNet(
        extractor,
        torch.randn(68, 2, generator=generator),
        torch.randn(output_count - 4, 68, 2, generator=generator),
        torch.rand(output_count, generator=generator) + 0.5,
        torch.randn(output_count, generator=generator),
    ).eval()


def with_random_statistics(network, seed=0):
    """Batch norms as after training: statistics, weights and biases that are not fresh ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            count = len(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(count, generator=generator))
                module.running_var.copy_(torch.rand(count, generator=generator) + 0.1)
            module.weight.data.copy_(torch.randn(count, generator=generator) + 1)
            module.bias.data.copy_(torch.randn(count, generator=generator))
    return network


def small_compact(activation="hard_swish", end_channels=12, output_count=10, side_px=21):
    """All kinds of blocks, with odd sizes and both residuals and none."""
    blocks = (
        BlockSettings("convolution", 16, stride=2),
        BlockSettings("separable", 12, kernel=5),
        BlockSettings("inverted", 12, hidden=24),
        BlockSettings("inverted", 16, stride=2, hidden=20),
    )
    backbone = Backbone(side_px, blocks, activation)
    return CompactExtractor(backbone, output_count, activation, end_channels)


class TestOriginal:
    @pytest.fixture(scope="class")
    @staticmethod
    def network():
        torch.manual_seed(0)
        net = shape_net(OriginalExtractor(29), 29)
        graph, _ = describe(net, 224)
        return net, from_json(graph)

    def test_has_the_layers_of_the_table(self, network):
        _, described = network
        shapes, costs = described.shapes(), {}
        for layer, inputs in described.with_input_shapes():
            numbers = sum(int(np.prod(s)) for s in layer.tensor_shapes(*inputs).values())
            costs[layer.name] = (shapes[layer.name], numbers, layer.multiply_adds(*inputs))
        assert {name: costs[name] for name, *_ in ORIGINAL} == {n: tuple(r) for n, *r in ORIGINAL}
        names = [layer.name for layer in described.layers if not layer.name.startswith("norm")]
        assert names == [name for name, *_ in ORIGINAL]
        assert described.multiply_adds() == 13_948_406_272

    def test_norm_follows_the_relu_of_the_strided_convolutions(self, network):
        _, described = network
        before = {layer.name: layer.inputs[0] for layer in described.layers}
        for index in range(1, 5):
            assert before[f"norm_{index}"] == f"down_conv_{index}"
        relus = [
            layer.name for layer in described.layers if getattr(layer, "activation", "") == "relu"
        ]
        assert relus == [name for name, *_ in ORIGINAL[:-1]]

    @pytest.mark.parametrize("output_count", [9, 29, 72])
    def test_parameters_grow_with_the_outputs(self, output_count):
        with torch.device("meta"):
            extractor = OriginalExtractor(output_count)
        count = sum(parameter.numel() for parameter in extractor.parameters())
        assert count == 6_233_152 + 513 * output_count

    @pytest.mark.parametrize(
        ("norm", "extra"), [("instance", 0), ("none", 0), ("batch", 1536), ("group", 1536)]
    )
    def test_norms(self, norm, extra):
        with torch.device("meta"):
            extractor = OriginalExtractor(29, norm)
            assert extractor(torch.zeros(2, 1, 224, 224)).shape == (2, 29)
        assert sum(parameter.numel() for parameter in extractor.parameters()) == 6_248_029 + extra
        kinds = [type(m).__name__ for m in extractor.stages if "Norm" in type(m).__name__]
        expected = {"instance": "InstanceNorm2d", "batch": "BatchNorm2d", "group": "GroupNorm"}
        assert kinds == ([] if norm == "none" else [expected[norm]] * 4)

    def test_gives_the_original_features(self, shared_data):
        """The features of the paper's own code for its golden weights, in float64."""
        folder = shared_data / "original"
        spec = importlib.util.spec_from_file_location("golden", folder / "golden_weights.py")
        golden = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(golden)
        prefix = "_model.model."
        state = {
            f"stages.{key.removeprefix(prefix).replace('._conv', '')}": torch.from_numpy(value)
            for key, value in golden.network("a").items()
            if key.startswith(prefix)
        }
        extractor = OriginalExtractor(29)
        extractor.load_state_dict(state)
        expected = np.load(folder / "golden_a_expected.npz")
        # As the original was given it: divided in float32.
        images = torch.from_numpy(expected["images"][:1].astype(np.float32) / np.float32(255))
        with torch.inference_mode():
            features = extractor.double()(images.double())
        np.testing.assert_allclose(features.numpy(), expected["features_f64"][:1], rtol=1e-9)


class TestCompact:
    @pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
    def test_bundled_recipes_stay_within_their_multiply_adds(self, path):
        recipe = read_recipe(path)
        outputs = (recipe.shape_model.components or 132) + 4
        net = shape_net(build_extractor(recipe.network, outputs), outputs)
        described = from_json(describe(net, recipe.network.side_px)[0])
        if recipe.network.extractor == "compact":
            most = 60_000_000 if path.stem == "accurate" else 8_000_000
            assert described.multiply_adds() <= most
        assert described.input_shape == (1, recipe.network.side_px, recipe.network.side_px)
        assert described.output_count == outputs

    @pytest.mark.parametrize("side_px", [16, 21, 32, 33])
    @pytest.mark.parametrize("end_channels", [0, 12])
    def test_any_side_gives_one_row_of_outputs(self, side_px, end_channels):
        extractor = small_compact(end_channels=end_channels, side_px=side_px).eval()
        assert extractor(torch.zeros(3, 1, side_px, side_px)).shape == (3, 10)

    def test_residuals_stand_where_sizes_allow(self):
        residual = InvertedResidual(12, 12, 24, 3, 1, "relu").eval()
        for parameter in residual.narrow.parameters():
            nn.init.zeros_(parameter)
        images = torch.rand(2, 12, 5, 5)
        assert torch.equal(residual(images), images)
        assert not InvertedResidual(12, 16, 24, 3, 1, "relu").has_residual
        assert not InvertedResidual(12, 12, 24, 3, 2, "relu").has_residual

    def test_settings_reach_the_layers(self):
        settings = NetworkSettings(
            side_px=32,
            activation="relu",
            end_channels=8,
            blocks=({"type": "convolution", "channels": 16, "stride": 2, "kernel": 5}, INVERTED),
        )
        torch.manual_seed(0)
        graph, tensors = describe(shape_net(build_extractor(settings, 9), 9), 32)
        described = from_json(graph)
        assert described.shapes()["block_1"] == (16, 16, 16)
        assert tensors["block_1.weight"].shape == (16, 1, 5, 5)
        assert described.shapes()["block_2_widen"] == (24, 16, 16)
        assert "block_2_add" in described.shapes()
        assert described.shapes()["hidden"] == (8, 1, 1)
        activations = {layer.name: getattr(layer, "activation", None) for layer in described.layers}
        assert activations["block_2_narrow"] == activations["dense"] == "none"
        assert activations["block_1"] == activations["hidden"] == "relu"


class TestFolding:
    """``describe`` gives the network that was trained, in float64 to rounding."""

    #: Some hundred additions in another order.
    TOLERANCE = 1e-12

    def assert_folded(self, net, side_px):
        graph, tensors = describe(net, side_px)
        from_json(graph)
        images = torch.rand(2, 1, side_px, side_px, dtype=torch.float64)
        doubles = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        folded = run_graph(graph, doubles, images)[graph["layers"][-1]["name"]].flatten(1)
        with torch.inference_mode():
            trained = net.double().outputs(images)
        torch.testing.assert_close(
            folded, trained, rtol=0, atol=self.TOLERANCE * trained.abs().max()
        )

    @pytest.mark.parametrize("activation", ["none", "relu", "hard_swish"])
    @pytest.mark.parametrize("end_channels", [0, 12])
    def test_compact(self, activation, end_channels):
        torch.manual_seed(1)
        extractor = with_random_statistics(small_compact(activation, end_channels))
        nn.init.normal_(extractor.dense.weight)
        self.assert_folded(shape_net(extractor, 10), 21)

    @pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
    def test_original(self, norm, monkeypatch):
        """On its last four stages, as the whole takes seconds: norms lie between convolutions."""
        import reference.networks.original as original

        monkeypatch.setattr(
            original,
            "STAGES",
            (
                ("conv_1", 6, (3, 1), 1),
                ("down_conv_1", 8, (5, 5), 2),
                ("conv_3", 8, (1, 3), 1),
                ("down_conv_2", 8, (3, 3), 2),
            ),
        )
        torch.manual_seed(2)
        extractor = with_random_statistics(OriginalExtractor(9, norm))
        # 17×17 → 15×17 → 6×7 → 6×5 → 2×2, which the final kernel takes whole.
        self.assert_folded(shape_net(extractor, 9), 17)

    def test_dilated_convolutions_are_refused(self):
        extractor = small_compact()
        extractor.blocks[0].convolution.dilation = (2, 2)
        with pytest.raises(GraphError, match="block_1: only undilated"):
            describe(shape_net(extractor, 10), 21)

    def test_unknown_modules_are_refused(self):
        with pytest.raises(GraphError, match="Conv3d"):
            describe(shape_net(nn.Conv3d(1, 1, 1), 10), 21)

    def test_a_convolution_block_keeps_the_size(self):
        for kernel in (1, 3, 5, 7):
            assert ConvolutionBlock(1, 4, kernel)(torch.rand(2, 1, 9, 8)).shape == (2, 4, 9, 8)


class TestShapeNet:
    def test_outputs_have_the_spread_of_the_parameters(self, make_shapes):
        model = fit(make_shapes(50) * 0.3, components=3)
        net = with_shape_model(nn.Flatten(), model)
        raw = torch.tensor([[[[1.0, 0.0, -2.0, 0.0, 1.0, -1.0, 0.5]]]])
        expected = raw.flatten().numpy() * model.parameter_deviations + model.parameter_means
        np.testing.assert_allclose(net.outputs(raw)[0], expected, rtol=1e-5, atol=1e-6)

    def test_outputs_of_nothing_are_the_mean_face(self, make_shapes):
        shapes = make_shapes(50) * 0.3
        model = fit(shapes, components=5)
        landmarks = with_shape_model(nn.Flatten(), model)(torch.zeros(1, 1, 1, 9))
        # Not exactly, as turns and sizes are averaged by themselves.
        assert (landmarks[0] - torch.from_numpy(shapes.mean(axis=0))).abs().max() < 0.01

    def test_landmarks_are_made_by_the_layers(self):
        net = shape_net(nn.Flatten(), 7)
        outputs = torch.rand(4, 7)
        expected = net.similarity_layer(net.shape_layer(outputs[:, :3]), outputs[:, 3:])
        assert torch.equal(net.landmarks(outputs), expected)
        assert net(torch.rand(4, 1, 1, 7)).shape == (4, 68, 2)

    def test_the_formulas_by_hand(self):
        mean = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        components = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
        shapes = ShapeLayer(mean, components)(torch.tensor([[1.0, -1.0]]))
        assert shapes.tolist() == [[[2.0, 0.0], [0.0, 1.0]]]
        # Scale 3, a quarter turn clockwise on the screen: x goes to y, y to −x.
        transform = torch.tensor([[3.0, torch.pi / 2, 10.0, 20.0]])
        landmarks = SimilarityLayer()(shapes, transform)
        torch.testing.assert_close(landmarks, torch.tensor([[[10.0, 26.0], [7.0, 20.0]]]))

    def test_all_parameters_of_the_network_learn(self):
        torch.manual_seed(0)
        net = shape_net(small_compact(), 10).train()
        net(torch.rand(4, 1, 21, 21)).square().sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_recipes_without_blocks_give_a_network_too():
    """The collapse alone, over the whole image: small, but nothing that fails."""
    recipe = from_values({"name": "bare", "network": {"side_px": 16}})
    extractor = build_extractor(recipe.network, 9).eval()
    assert extractor(torch.zeros(1, 1, 16, 16)).shape == (1, 9)
