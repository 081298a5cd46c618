"""A segmenter in other programs: the same probabilities from ONNX and TorchScript, the same cells without cytoforge."""

import ast
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from cytoforge.cells.instances import TARGETS
from cytoforge.cli import main
from cytoforge.data.images import Normalisation
from cytoforge.data.judgement import Judgement, Measured
from cytoforge.data.run import Run
from cytoforge.inference import exported, standalone
from cytoforge.inference.load import load_network
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import margin
from cytoforge.networks.registry import NETWORKS
from cytoforge.simulation.phantom import phantom_image, phantom_labels

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
SIZES = ((1, 40), (33, 48), (64, 64), (101, 77))
PYDANTIC = tuple(map(int, version("pydantic").split(".")[:2]))
BROKEN = version("bioimageio.spec").startswith("0.5.12") and PYDANTIC >= (2, 14)
"""its serialisers do not run under this pydantic"""


def run_of(folder: Path, network: str = "unet", target: str = "boundary", **config: Any) -> Path:
    """A run of random weights, in whose batch norms there are statistics; its network finds each class somewhere."""
    described = {"in_channels": 1, "classes": TARGETS[target].classes, "width": 4, "depth": 2, "norm": "batch"}
    described |= {"network": network} | config.pop("options", {})
    stored = {"command": "train segmentation", "networks": {"segmenter": described}, "target": target, "tile": 64}
    stored |= {"scale": 1.0, "normalisation": {"kind": "percentile", "low": 0.1, "high": 99.9}} | config
    run = Run.create(folder, stored)
    torch.manual_seed(0)
    built = NETWORKS[network].load()(**{name: value for name, value in described.items() if name != "network"})
    with torch.no_grad():
        for part in built.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2)
        *_, weight, bias = built.eval().parameters()
        weight *= 12  # so that classes are told apart, and each is found
        image = Normalisation().apply(seen := cells(described["in_channels"]), Normalisation().measure(seen))
        bias -= built(torch.from_numpy(image)[None]).mean(dim=(0, 2, 3))
        logits = built(torch.from_numpy(image)[None])[0]
        bias[0] -= (logits[0] - logits[1:].logsumexp(0)).quantile(0.4)  # 0.6 of the image is background
    run.save_weights("segmenter", built.state_dict())
    run.finish()
    return folder


def exported_to(run: Path | str, form: str, out: Path, *more: str) -> Path:
    assert main(["export-model", str(run), "--format", form, "--out", str(out), *more]) == 0
    return out


def cells(channels: int = 1, shape: tuple[int, int] = (96, 120)) -> np.ndarray:
    generator = np.random.default_rng(3)
    labels = phantom_labels(shape, 14, generator)
    return np.stack([phantom_image(labels, generator) for _ in range(channels)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for images of two channels."""
    return run_of(tmp_path_factory.mktemp("of") / "run", options={"in_channels": 2})


@pytest.fixture(scope="module")
def package(run: Path) -> Path:
    """The run as a package of bioimage.io, which holds ONNX and TorchScript."""
    return exported_to(run, "bioimageio", run.parent / "package", "--licence", "CC-BY-4.0")


# the network


def compare(found: standalone.Network, run: Path, channels: int) -> None:
    """Compare a network with that of a run, at sizes that are multiples of its stride, and at others."""
    own = load_network(run)
    generator = torch.Generator().manual_seed(1)
    for size in SIZES:
        image = torch.rand((channels, *size), generator=generator) * 2 - 1
        with torch.inference_mode():
            expected = own(image[None]).softmax(dim=1)[0].numpy()
        probabilities = found(image.numpy())
        assert probabilities.dtype == np.float32 and probabilities.shape == expected.shape
        assert np.abs(probabilities - expected).max() < 1e-5


def test_onnx_has_the_same_probabilities_at_any_size(run: Path, package: Path) -> None:
    compare(standalone.load(package), run, 2)
    session = onnxruntime.InferenceSession(str(package / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 2, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.run(None, {"image": np.zeros((3, 2, 20, 30), np.float32)})[0].shape == (3, 3, 20, 30)
    expected = Segmenter.load(run, threads=1, precision="float32").segment(cells(2), "CYX")
    assert np.mean(standalone.Model(package).segment(cells(2)) != expected) < 1e-3  # rounding may move pixels


@pytest.mark.parametrize(
    ("network", "norm", "channels", "target"),
    [("unet", "group", 1, "depth"), ("cellpose", "batch", 3, "boundary"), ("deepsea", "batch", 1, "semantic")],
)
def test_torchscript_has_the_same_probabilities_at_any_size(
    network: str, norm: str, channels: int, target: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path / "run", network, target, options={"in_channels": channels, "norm": norm})
    compare(standalone.load(exported_to(run, "torchscript", tmp_path / "out")), run, channels)


# the decoder


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(TARGETS)), st.integers(1, 60), st.integers(1, 60))
def test_the_same_cells_from_the_same_probabilities(seed: int, name: str, height: int, width: int) -> None:
    """Smooth maps of all grades of sureness; those that are sure of themselves hold many equal values."""
    target, generator = TARGETS[name], np.random.default_rng(seed)
    logits = ndimage.gaussian_filter(generator.normal(size=(target.classes, height, width)), (0, 2, 2))
    logits *= generator.choice([5, 50, 1000])
    probabilities = torch.from_numpy(np.round(logits, 1)).float().softmax(dim=0).numpy()
    found = standalone.decode(probabilities, {"target": exported._target(target)})
    assert found.dtype == np.int32 and np.array_equal(found, target.decode(probabilities))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3, 100]))
def test_floods_as_scikit_image(seed: int, height: int, width: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    relief = generator.integers(-levels, levels, (height, width)).astype(np.float32)
    foreground = generator.random((height, width)) < 0.8
    seeds = ndimage.label(foreground & (generator.random((height, width)) < 0.1))[0].astype(np.int32)
    expected = watershed(relief, seeds, connectivity=2, mask=foreground)
    assert np.array_equal(standalone.flooded(relief, seeds, foreground), expected)


IMAGES: dict[str, tuple[dict[str, Any], Callable[[], np.ndarray]]] = {
    "smaller": ({"scale": 0.5}, lambda: cells()),
    "larger": ({"scale": 1.7, "target": "depth"}, lambda: cells().astype(np.float32) / 7),
    "of one size": ({"resize": [130, 160], "target": "semantic"}, lambda: (cells() // 16).astype(np.uint8)),
    "of extremes": ({"normalisation": {"kind": "min-max", "low": 0.0, "high": 100.0}}, lambda: cells()),
    "two channels": ({"options": {"in_channels": 2}, "scale": 0.8}, lambda: cells(2)),
    "not a number": ({}, lambda: np.where(cells() > 2500, np.nan, cells()).astype(np.float64)),
    "odd": ({}, lambda: cells(shape=(211, 173))),
}


@pytest.mark.parametrize("case", IMAGES)
def test_the_same_labels_without_cytoforge(case: str, tmp_path: Path) -> None:
    config, image = IMAGES[case][0], IMAGES[case][1]()
    run = run_of(tmp_path / "run", **config)
    model = standalone.Model(exported_to(run, "torchscript", tmp_path / "out"))
    expected = Segmenter.load(run, threads=1, precision="float32").segment(image, "CYX")
    found = model.segment(image)
    assert expected.max() > 2 and found.dtype == np.int32 and np.array_equal(found, expected)
    assert not model.segment(np.full_like(image, 7)).any()


@pytest.mark.parametrize("values", [np.eye(60)[None] * 200, np.stack([np.full((9, 9), 4.0), np.full((9, 9), np.nan)])])
def test_grey_values_as_in_cytoforge(values: np.ndarray) -> None:
    """A few bright pixels on black, which percentiles overlook; a channel of one value, and one without any."""
    own = Normalisation("percentile", 5, 95)
    limits = standalone.measured(values, **own.to_json())
    assert np.array_equal(limits, own.measure(values))
    assert np.array_equal(standalone.normalised(values, limits), own.apply(values, limits))


def test_base_without_cytoforge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported_to("base", "torchscript", tmp_path / "out")
    assert capsys.readouterr().out.startswith(f"{out / 'model.pt'}: cytoforge base; segment_cells.py beside it")
    image, segmenter, model = cells(2), Segmenter.load("base", threads=1, precision="float32"), standalone.Model(out)
    for diameter in (18.0, 25.0):
        expected = segmenter.segment(image, "CYX", diameter=diameter)
        assert expected.max() > 5 and np.array_equal(model.segment(image, diameter), expected)
    with pytest.raises(ValueError, match="give the diameter of the cells in pixels"):
        model.segment(image)


# the package of bioimage.io


def test_the_description_says_how_to_use_the_network(package: Path) -> None:
    with zipfile.ZipFile(package / "package.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    others = {"package.zip", "manifest.jsonl"}
    assert files == {file.name: file.read_bytes() for file in package.iterdir() if file.name not in others}
    description = json.loads((package / "bioimageio.yaml").read_text())
    image, expected = np.load(package / "test_input.npy"), np.load(package / "test_output.npy")
    low, high = (np.percentile(image, share, axis=(2, 3), keepdims=True) for share in (0.1, 99.9))
    scaled = np.clip(2 * (image - low) / (high - low + 1e-6) - 1, -1, 1).astype(np.float32)
    assert np.abs(standalone.load(package)(scaled[0]) - expected[0]).max() < 1e-4
    halo = margin(load_network(package.parent / "run"))
    assert halo and description["outputs"][0]["axes"][2]["halo"] == halo
    assert description["inputs"][0]["axes"][2]["size"] == {"min": 64, "step": 4} and 2 * halo < 64
    assert description["license"] == "CC-BY-4.0" and description["name"] == "cytoforge run"
    assert description["config"]["cytoforge"] == json.loads((package / "model.json").read_text())


@pytest.mark.slow
@pytest.mark.skipif(BROKEN, reason="bioimageio.spec 0.5.12 does not run under pydantic 2.14; install pydantic<2.14")
def test_bioimage_io_takes_the_package(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path / "cache"))
    with warnings.catch_warnings(action="ignore"):  # those of bioimage.io about its own parts
        from bioimageio.core import test_model as reproduces
        from bioimageio.spec import InvalidDescr, load_description

        model = load_description(package / "bioimageio.yaml")
        assert not isinstance(model, InvalidDescr), model.validation_summary.format()
        for form in ("onnx", "torchscript"):
            summary = reproduces(model, weight_format=form)
            assert summary.status == "passed", summary.format()


# the files


def test_the_decoder_knows_nothing_of_cytoforge(tmp_path: Path) -> None:
    out = exported_to(run_of(tmp_path / "run"), "torchscript", tmp_path / "out")
    tree = ast.parse((out / "segment_cells.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"argparse", "json", "math", "collections", "pathlib", "typing", "numpy", "scipy", "onnxruntime", "torch"}
    assert {name.partition(".")[0] for name in imported} <= allowed
    image = cells()
    np.save(tmp_path / "image.npy", image)
    line = [sys.executable, "-I", str(out / "segment_cells.py"), str(tmp_path / "image.npy"), str(tmp_path / "l.npy")]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    done = subprocess.run([*line[:3], "image.png", line[4]], capture_output=True, text=True, check=False)
    makes = "image: give a .npy; numpy.save('image.npy', skimage.io.imread('image.png')) makes one"
    assert done.returncode == 2 and done.stderr.endswith(f"{makes}\n")
    labels = np.load(tmp_path / "l.npy")
    assert told == f"{tmp_path / 'l.npy'}: {labels.max()} cells\n"
    assert np.array_equal(
        labels, Segmenter.load(tmp_path / "run", threads=1, precision="float32").segment(image, "CYX")
    )
    with pytest.raises(FileNotFoundError, match=r"holds neither model\.onnx nor model\.pt"):
        standalone.load(tmp_path)
    with pytest.raises(ValueError, match="the model takes 1 channels, the image has 2"):
        standalone.Model(out).segment(cells(2))
    with pytest.raises(ValueError, match="the model takes no diameter"):
        standalone.Model(out).segment(image, 30)


@pytest.mark.parametrize(
    ("config", "sentences"),
    [
        (
            {"target": "boundary", "scale": 0.5},
            ("resized by 0.5", "least border first", "over 4 views", "percentiles 0.1 and 99.9"),
        ),
        (
            {"target": "semantic", "resize": [64, 48], "options": {"norm": "group"}},
            ("resized to 64 x 48 px", "connected by their sides", "tiles of 64 px that"),
        ),
        (
            {"target": "depth", "normalisation": {"kind": "min-max", "low": 0.0, "high": 100.0}},
            ("keep their size", "above 0.6, and cells grow", "least and the greatest value"),
        ),
    ],
)
def test_the_text_says_what_is_done(config: dict[str, Any], sentences: tuple[str, ...], tmp_path: Path) -> None:
    out = exported_to(run_of(tmp_path / "run", **config), "torchscript", tmp_path / "out")
    text = " ".join((out / "README.md").read_text().split())
    for sentence in sentences:
        assert sentence in text
    assert "wrote these files: model.json, model.pt, segment_cells.py" in text and "--diameter" not in text


def test_the_text_says_how_good_the_model_is_and_not_only_that_it_converged(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    score = Measured(value=0.09)
    judgement = Judgement(verdict="poor", measure="F", over="3 images", score=score, reasons=["few cells"])
    for facts, sentence in (
        ({}, "Nothing is known of its quality."),
        ({"verdict": "Converged (0.071)."}, "Its training ended so: Converged (0.071)."),
        ({"judgement": judgement.to_json()}, "Poor: F is 0.09 on validation (3 images). Why: few cells."),
    ):
        Run.open(run).record(**facts)
        assert sentence in exported.readme(Segmenter.load(run), "model", []).decode().replace("\n", " ")


def test_what_belongs_to_the_user_stays(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    line = ["export-model", str(run), "--format", "torchscript", "--out", str(out)]
    assert main(line) == 0 and main(line) == 2
    assert "exists already; choose another name or give --overwrite" in capsys.readouterr().err
    (out / "mine.txt").write_text("mine")
    assert main([*line, "--overwrite"]) == 0 and (out / "mine.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    assert main([*line[:-1], str(other), "--overwrite"]) == 2
    assert "holds files that export-model did not write" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = ["export-model", str(run), "--format", "onnx", "--out", str(tmp_path / "onnx")]
    assert main(line) == 2 and not (tmp_path / "onnx").exists()
    assert "ONNX: needs the package onnxscript; run pip install" in capsys.readouterr().err
