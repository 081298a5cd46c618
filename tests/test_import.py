"""`cytoforge import`: checkpoints become runs, and what is none is refused in a sentence."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cytoforge.cli import main
from cytoforge.commands.import_checkpoint import import_checkpoint, misfit, read_checkpoint
from cytoforge.data.images import write_image
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network
from cytoforge.networks.layers import initialise
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.registry import NETWORKS
from cytoforge.networks.registry import PUBLISHED as KINDS
from cytoforge.networks.style_unet import StyleUNet
from cytoforge.settings import ImportCheckpoint
from parity import PUBLISHED, filled_state, published_shapes

SIZES: dict[str, dict[str, Any]] = {
    "unet": {"width": 4, "depth": 3},
    "cellpose": {"width": 4, "depth": 2, "in_channels": 3},
    "deepsea": {"width": 4, "depth": 2, "norm": "group"},
    "style-unet": {"width": 4, "depth": 2, "latent": 16, "out_channels": 3},
    "patchgan": {"width": 4, "heads": 2},
    "movie": {"width": 4, "depth": 2, "latent": 16, "in_channels": 3, "out_channels": 2},
    "super-resolution": {"width": 8, "depth": 2, "latent": 16, "factor": 4},
    "flow": {"width": 4, "channels": 3},
}


def network(name: str, **other: Any) -> nn.Module:
    built = NETWORKS[name].load()(**{**SIZES[name], **other})
    initialise(built, torch.Generator().manual_seed(0))
    return built.eval()


def kind_of(published: str) -> str:
    """The --network of a published checkpoint; there are several discriminators."""
    return "patchgan" if published.startswith("patchgan") else published


def shrunk(published: str) -> dict[str, Tensor]:
    """A published checkpoint of tGAN with an eighth of its channels, filled."""
    shapes = published_shapes(published)
    return filled_state({key: [n // 8 if n >= 16 else n for n in shape] for key, shape in shapes.items()})


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[object], Path]:
    """Save an object as a .pth file."""

    def save(content: object) -> Path:
        path = tmp_path / "Seg.pth"
        torch.save(content, path)
        return path

    return save


def run_of(path: Path, name: Any) -> Run:
    return Run.open(import_checkpoint(ImportCheckpoint(checkpoint=path, network=name, out=path.parent / "run")))


class TestImport:
    @pytest.mark.parametrize("name", SIZES)
    def test_sizes_come_from_the_shapes(self, name: str, saved: Callable[[object], Path]) -> None:
        original = network(name)
        run = run_of(saved(original.state_dict()), name)
        (role,) = run.config["networks"]
        assert role == NETWORKS[name].role
        assert run.config["networks"][role].items() >= {"network": name, **SIZES[name]}.items()
        restored = load_network(run, role).state_dict()
        assert all(torch.equal(tensor, restored[key]) for key, tensor in original.state_dict().items())
        # matrix products of tensors at other places round differently, here and on a worker of a cluster
        assert all(tensor.data_ptr() % 64 == 0 for tensor in restored.values() if tensor.numel() > 1)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_published_checkpoints_fit_their_network_and_no_other(self, name: str) -> None:
        shapes = published_shapes(name)
        state = {key.removeprefix("module."): torch.empty(shape, device="meta") for key, shape in shapes.items()}
        assert [other for other in KINDS if misfit(other, state) is None] == [kind_of(name)]

    def test_discriminator_without_attention(self, saved: Callable[[object], Path]) -> None:
        run = run_of(saved(PatchGAN(width=4, heads=0).state_dict()), "patchgan")
        assert run.config["networks"]["discriminator"]["heads"] == 0

    def test_names_of_data_parallel_and_half_precision(self, saved: Callable[[object], Path]) -> None:
        wrapped = {f"module.module.{name}": tensor.half() for name, tensor in network("unet").state_dict().items()}
        weights = run_of(saved(wrapped), "unet").load_weights("segmenter")
        assert weights.keys() == network("unet").state_dict().keys()
        assert weights["outputs.weight"].dtype == torch.float32

    @pytest.mark.parametrize("name", ["movie", "super-resolution", "flow", "patchgan-movie"])
    def test_checkpoints_of_tgan(self, name: str, saved: Callable[[object], Path]) -> None:
        state, kind = shrunk(name), kind_of(name)
        assert all(key.startswith("module.") for key in state)
        run = run_of(saved(state), kind)
        (described,) = run.config["networks"].values()
        sizes = {
            "movie": {"in_channels": 2, "out_channels": 1, "width": 8, "depth": 4, "latent": 16},
            "super-resolution": {"in_channels": 1, "out_channels": 1, "width": 8, "depth": 4, "factor": 2},
            "flow": {"channels": 1, "width": 8},
            "patchgan-movie": {"in_channels": 4, "width": 8, "heads": 1, "dropout": 0.3},
        }
        assert described.items() >= sizes[name].items()
        assert run.config.get("mask_value") == (0.4 if name == "movie" else None)
        loaded = load_network(run, next(iter(run.config["networks"]))).state_dict()
        for key, tensor in state.items():
            own = key.removeprefix("module.")
            if name == "movie" and own not in loaded:
                if own.startswith("be"):  # published, it was never used
                    continue
                own = {"e": "", "p": "previous.", "b": "background."}[own[0]] + own[1:]
            assert torch.equal(loaded[own.replace("layers.", "model.")], tensor)
        if name == "movie":
            used = {key: tensor for key, tensor in loaded.items() if key.startswith("previous.e")}
            assert used and all(torch.equal(loaded[k.replace("previous", "background")], t) for k, t in used.items())

    def test_a_tensor_of_a_discriminator_that_is_no_twin_is_named(self, saved: Callable[[object], Path]) -> None:
        state = {**shrunk("patchgan-movie"), "module.layers.17.weight": torch.zeros(1)}
        with pytest.raises(UserError, match=r"is no patchgan \(layers\.17\.weight is not part of it\)"):
            run_of(saved(state), "patchgan")

    def test_generators_of_movies_are_loaded_without_a_name(
        self, saved: Callable[[object], Path], tmp_path: Path
    ) -> None:
        path = saved(shrunk("movie"))
        assert main(["import", str(path), "--network", "movie", "--out", str(tmp_path / "low")]) == 0
        masks, frames, noise = torch.ones(1, 2, 20, 17), torch.zeros(2, 1, 1, 20, 17), torch.rand(1, 1, 40, 34)
        frame = load_network(tmp_path / "low")(masks, *frames, torch.randn(1, 4, 16), noise[..., :20, :17])
        path = saved(shrunk("super-resolution"))
        assert main(["import", str(path), "--network", "super-resolution", "--out", str(tmp_path / "high")]) == 0
        for name in (None, "super-resolution"):
            large = load_network(tmp_path / "high", name)(frame, torch.randn(1, 5, 16), noise)
            assert large.shape == (1, 1, 40, 34)
        run_of(saved(shrunk("flow")), "flow")
        with pytest.raises(UserError, match="neither segmenter nor generator, only flow; name one of them"):
            load_network(tmp_path / "run")

    def test_run_says_what_it_came_from(self, saved: Callable[[object], Path]) -> None:
        run = run_of(saved(network("unet").state_dict()), "unet")
        assert run.config["config"] == {"checkpoint": "Seg.pth", "network": "unet"}
        assert (run.config["target"], run.config["scale"]) == ("semantic", 1.0)
        assert run.config["normalisation"]["kind"] == "min-max"
        assert len(run.provenance["checkpoint_sha256"]) == 64

    def test_segment_takes_the_run(self, saved: Callable[[object], Path], tmp_path: Path) -> None:
        path = saved(network("cellpose", in_channels=1).state_dict())
        image = tmp_path / "image.png"
        write_image(image, np.random.default_rng(0).integers(0, 255, (1, 40, 52), dtype=np.uint8))
        assert main(["import", str(path), "--network", "cellpose", "--out", str(tmp_path / "run")]) == 0
        assert main(["segment", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "masks" / "image.png").is_file()


class TestRefusals:
    def test_another_network_is_named(self, saved: Callable[[object], Path]) -> None:
        path = saved(network("unet").state_dict())
        with pytest.raises(UserError, match=r"Seg\.pth: is no deepsea \(.* is missing\); it fits --network unet$"):
            run_of(path, "deepsea")
        with pytest.raises(UserError, match=r"is no style-unet \(.* it fits --network unet"):
            run_of(path, "style-unet")
        assert not (path.parent / "run").exists()

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda s: s.pop("d2.up.bias"), "d2.up.bias is missing"),
            (lambda s: s.update(extra=torch.zeros(1)), "extra is not part of it"),
            (
                lambda s: s.update({"d1.up.bias": torch.zeros(3)}),
                r"d1.up.bias has shape \[3\], not \[16\]",
            ),
            (lambda s: s.update({"e1.conv.conv1.weight": torch.zeros(3)}), "not that of a convolution"),
            (
                lambda s: s.update({"e1.conv.conv1.weight": torch.zeros(0, 1, 3, 3)}),
                "width is 0, but should be greater than or equal to 1",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, change: Callable[[dict[str, Tensor]], object], problem: str, saved: Callable[[object], Path]
    ) -> None:
        state = dict(network("unet").state_dict())
        change(state)
        with pytest.raises(UserError, match=rf"is no unet \(.*{problem}.*\); it fits no other network either"):
            run_of(saved(state), "unet")

    def test_more_classes_than_two(self, saved: Callable[[object], Path]) -> None:
        with pytest.raises(UserError, match="tells 3 classes apart; only segmenters of 2 classes"):
            run_of(saved(network("unet", classes=3).state_dict()), "unet")

    @pytest.mark.parametrize("content", [{}, [torch.zeros(1)], {"epoch": 3}, torch.zeros(3)])
    def test_no_state_dict(self, content: object, saved: Callable[[object], Path]) -> None:
        with pytest.raises(UserError, match="holds no state dict"):
            run_of(saved(content), "unet")

    def test_code_is_not_run(self, saved: Callable[[object], Path], tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "sprung"),)

        with pytest.raises(UserError, match="cannot be read as a checkpoint of tensors alone"):
            run_of(saved({"weight": Trap()}), "unet")
        with pytest.raises(UserError, match="cannot be read as a checkpoint of tensors alone"):
            run_of(saved(network("unet")), "unet")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("bias", "sentence"),
        [
            (torch.full((2,), float("nan")), "holds NaN or infinite numbers"),
            (torch.zeros(1).expand(2**40), "claims more numbers than the file can hold"),
            (torch.zeros(2).to_sparse(), "is no plain tensor of real numbers"),
            (torch.zeros(2, dtype=torch.complex64), "is no plain tensor of real numbers"),
            (torch.zeros(2, device="meta"), "is no plain tensor of real numbers"),
        ],
    )
    def test_numbers_that_are_none(self, bias: Tensor, sentence: str, saved: Callable[[object], Path]) -> None:
        with pytest.raises(UserError, match=f"outputs.bias {sentence}"):
            run_of(saved({**network("unet").state_dict(), "outputs.bias": bias}), "unet")

    def test_depths_that_no_network_has(self, saved: Callable[[object], Path]) -> None:
        deep = {f"e{k}.conv.conv1.weight": torch.zeros(1, 1, 3, 3) for k in range(1, 61)}
        with pytest.raises(UserError, match=r"is no unet \(depth is 60, but should be less"):
            run_of(saved({**network("unet").state_dict(), **deep}), "unet")

    def test_packed_files_are_not_unpacked(self, saved: Callable[[object], Path]) -> None:
        path = saved({"weight": torch.zeros(2**20)})
        with zipfile.ZipFile(path) as archive:
            parts = {part.filename: archive.read(part) for part in archive.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        with pytest.raises(UserError, match=r"packs [\d,]+ bytes into [\d,]+; save it with torch.save"):
            read_checkpoint(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no\.pth: does not exist"):
            read_checkpoint(tmp_path / "no.pth")

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.floats(0, 0.999), noise=st.binary(max_size=40))
    def test_damaged_files(self, saved: Callable[[object], Path], cut: float, noise: bytes) -> None:
        """A file cut short, and bytes that were never a checkpoint."""
        path = saved({"weight": torch.zeros(50)})
        content = path.read_bytes()
        for damaged in (content[: int(cut * len(content))], noise):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=r"cannot be read as a checkpoint|holds no state dict"):
                read_checkpoint(path)

    def test_existing_runs_are_kept(self, saved: Callable[[object], Path], tmp_path: Path) -> None:
        path = saved(network("unet").state_dict())
        run_of(path, "unet")
        with pytest.raises(UserError, match="--overwrite"):
            run_of(path, "unet")
        settings = ImportCheckpoint(checkpoint=path, network="unet", out=tmp_path / "run", overwrite=True)
        assert import_checkpoint(settings) == tmp_path / "run"


def test_published_generator_is_imported_with_its_numbers(saved: Callable[[object], Path]) -> None:
    shapes = {name: tensor.shape for name, tensor in network("style-unet").state_dict().items()}
    state = filled_state(shapes)
    original = StyleUNet(**SIZES["style-unet"]).eval()
    original.load_state_dict(state)
    imported = load_network(run_of(saved(state), "style-unet"))
    mask, styles, noise = torch.ones(1, 1, 16, 20), torch.randn(1, 2, 16), torch.rand(1, 1, 16, 20)
    with torch.no_grad():
        assert torch.equal(imported(mask, styles, noise), original(mask, styles, noise))
