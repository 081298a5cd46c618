"""The panels of the plugin for napari, with Qt but no screen: they are driven to a result, an error and a stop."""

import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cytoforge
from cytoforge.errors import Interrupted, UserError
from cytoforge.napari.work import Simulated
from cytoforge.simulation.phantom import phantom

pytestmark = pytest.mark.filterwarnings("ignore")  # napari, vispy and Qt warn of each other
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    napari = pytest.importorskip("napari", reason="needs the package napari[pyqt6]", exc_type=ImportError)
    widgets = pytest.importorskip("qtpy.QtWidgets", reason="needs the package pyqt6 and libegl1", exc_type=ImportError)
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager
    from qtpy.QtCore import QEvent

    from cytoforge.napari.panel import Panel
    from cytoforge.napari.widgets import SegmentPanel, SimulatePanel, TrackPanel, TrainPanel, models

PATIENCE = 120.0  # seconds after which a panel counts as hanging


@pytest.fixture(scope="module", autouse=True)
def application() -> Any:
    return widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def viewer() -> Any:
    """Two phantom images, of which the first is annotated."""
    images, masks = zip(*(phantom(seed, (96, 96), 12) for seed in range(2)), strict=True)
    model = ViewerModel()
    model.add_image(np.stack(images), name="cells", scale=(1, 0.5, 0.5))
    model.add_labels(np.stack([masks[0], np.zeros_like(masks[1])]), name="drawn")
    return model


def settle(panel: Panel) -> str:
    """Let the window work until the panel rests; return what it says."""
    end = time.monotonic() + PATIENCE
    while panel.job is not None:
        assert time.monotonic() < end, "the panel hangs"
        widgets.QApplication.processEvents()
        time.sleep(0.01)
    widgets.QApplication.processEvents()
    assert panel.button.enabled and not panel.halt.enabled and not panel.bar.visible
    return str(panel.said.value)


def close(panel: Panel) -> None:
    panel.native.deleteLater()
    widgets.QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def complaint(panel: Panel) -> str:
    """Press the button, and return the sentence that napari is given."""
    before = len(notification_manager.records)
    panel.press()
    said = settle(panel)
    (told,) = notification_manager.records[before:]
    assert str(told.severity) == "error" and "color" in said
    return str(told.message)


def test_segmenting_adds_labels_in_place(viewer: Any) -> None:
    panel = SegmentPanel(viewer)
    panel.press()
    assert panel.halt.enabled and not panel.button.enabled
    said = settle(panel)
    layer = viewer.layers["cells cells"]
    base = cytoforge.Segmenter.load("base")
    diameter = float(said.rpartition("taken to be ")[2].partition(" px")[0])
    assert np.array_equal(layer.data[1], base.segment(viewer.layers["cells"].data[1], diameter=diameter))
    assert tuple(layer.scale) == (1, 0.5, 0.5) and "cells in 2 planes" in said
    panel.estimate.value = False
    panel.diameter.value = 18
    panel.press()
    assert "taken to be 18 px across" in settle(panel)


def test_the_choices_are_the_layers(viewer: Any) -> None:
    panel = SegmentPanel(viewer)
    assert [layer.name for layer in panel.images.image.choices] == ["cells"]
    viewer.add_image(np.zeros((96, 96)), name="another")
    panel.reset_choices()
    assert [layer.name for layer in panel.images.image.choices] == ["cells", "another"]
    panel.images.others.value = [viewer.layers["another"]]
    assert "are no channels of one image" in complaint(panel)
    viewer.layers.clear()
    panel.reset_choices()
    assert complaint(panel) == "image: choose a layer"


def test_channels_are_segmented_together(viewer: Any) -> None:
    image = viewer.layers["cells"].data[0]
    viewer.add_image(image, name="one")
    viewer.add_image(np.flipud(image), name="two")
    panel = SegmentPanel(viewer)
    panel.images.image.value = viewer.layers["one"]
    panel.images.others.value = [viewer.layers["one"], viewer.layers["two"]]
    panel.estimate.value = False
    panel.diameter.value = 20
    panel.press()
    settle(panel)
    expected = cytoforge.Segmenter.load("base").segment(np.stack([image, np.flipud(image)]), "CYX", diameter=20)
    assert np.array_equal(viewer.layers["one cells"].data, expected)


def test_work_is_stopped_by_its_button(viewer: Any) -> None:
    panel = SegmentPanel(viewer)
    panel.press()
    panel.halt.changed.emit(True)
    assert settle(panel) == "stopped" and "cells cells" not in viewer.layers
    panel.stop()  # nothing is at work


@pytest.mark.parametrize("stops", [True, False])
def test_a_panel_can_be_closed_at_work(stops: bool, viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work stops at the next report, and neither that nor a result is shown in what is gone."""
    faults, results = list[Any](), list[Any]()
    monkeypatch.setattr(sys, "excepthook", lambda *fault: faults.append(fault))  # PyQt would end the process
    closed, over = threading.Event(), threading.Event()

    def work(report: Any) -> int:
        try:
            closed.wait(PATIENCE)
            if stops:
                report(0.5, "half")
            return 1
        finally:
            over.set()

    panel = SegmentPanel(viewer)
    panel.begin(work, results.append)
    job = panel.job
    close(panel)
    closed.set()
    assert over.wait(PATIENCE) and job is not None
    with pytest.raises(Interrupted):
        job(0.5)
    for _ in range(50):  # signals of the thread come a moment after its work is over
        widgets.QApplication.processEvents()
        time.sleep(0.01)
    assert faults == results == []


def test_models_are_not_offered_to_closed_panels(viewer: Any) -> None:
    closed, panel = SegmentPanel(viewer), SegmentPanel(viewer)
    close(closed)
    models.append("another")
    assert list(panel.model.known.choices) == ["base", "another"]
    models.pop()


def test_a_folder_without_a_run_is_told(viewer: Any, tmp_path: Path) -> None:
    panel = SegmentPanel(viewer)
    panel.model.folder.value = tmp_path
    assert str(tmp_path) in complaint(panel)
    assert panel.job is None and len(viewer.layers) == 2


def test_faults_are_told_too(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*given: Any) -> None:
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr("cytoforge.napari.work.segment", fault)
    assert complaint(SegmentPanel(viewer)) == "ZeroDivisionError: a fault of the program"


def test_a_run_is_trained_judged_and_offered(viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel, other = TrainPanel(viewer), SegmentPanel(viewer)
    assert complaint(panel) == "run folder: choose an empty folder, which keeps what is learned"
    panel.out.value = tmp_path / "run"
    panel.minutes.min, panel.minutes.value = 0, 0.03
    panel.press()
    said = settle(panel)
    assert any(f"{verdict}: F at IoU 0.5 is" in said for verdict in ("Poor", "Usable", "Good"))
    run = str(tmp_path / "run")
    assert f"Segment offers {run}." in said and models[-1] == run
    assert list(other.model.known.choices) == ["base", run]
    other.estimate.value = False
    other.model.known.value = run
    assert not other.diameter.enabled and not other.estimate.enabled  # a run has the scale of its training
    other.press()
    assert "cells in 2 planes." in settle(other)
    assert "holds this run, finished" in complaint(panel)


def test_masks_are_simulated_like_the_labels(viewer: Any) -> None:
    panel = SimulatePanel(viewer)
    panel.cells.value = viewer.layers["drawn"]
    panel.masks.value, panel.side.value, panel.usual.value, panel.density.value = 2, 64, False, 0.2
    panel.press()
    said = settle(panel)
    drawn = viewer.layers["drawn"].data[0]
    expected = [cytoforge.simulate_masks(drawn, size=(64, 64), density=0.2, seed=seed)[0] for seed in (0, 1)]
    assert np.array_equal(viewer.layers["simulated"].data, np.stack(expected))
    cells, area = sum(len(np.unique(one)) - 1 for one in expected), np.mean(np.stack(expected) > 0)
    assert said == f"{cells} cells in 2 masks, which cover {area:.0%}."


@pytest.mark.parametrize(("kind", "work"), [(SimulatePanel, "simulate"), (TrackPanel, "track"), (TrainPanel, "train")])
def test_what_is_drawn_during_work_is_left_out(
    kind: Any, work: str, viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def seen(*arguments: Any, **how: Any) -> None:
        given.extend(one for one in arguments if isinstance(one, np.ndarray))
        raise UserError("enough")

    monkeypatch.setattr(f"cytoforge.napari.work.{work}", seen)
    panel, layer = kind(viewer), viewer.layers["drawn"]
    panel.cells.value = layer
    if work == "train":
        panel.out.value = tmp_path
    assert complaint(panel) == "enough"
    (labels,) = given
    assert np.array_equal(labels, layer.data) and not np.shares_memory(labels, layer.data)


@pytest.mark.parametrize(("channels", "layers"), [(1, ["painted"]), (2, ["painted", "painted [1]"])])
def test_painted_images_lie_under_their_masks(
    channels: int, layers: list[str], viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def painted(like: Any, count: int, **how: Any) -> Simulated:
        given.update(how, like=like, count=count)
        return Simulated(np.ones((2, 8, 9), np.int32), np.arange(2 * channels * 72).reshape(2, channels, 8, 9))

    monkeypatch.setattr("cytoforge.napari.work.simulate", painted)
    panel = SimulatePanel(viewer)
    panel.generator.value, panel.seed.value = tmp_path, 7
    panel.press()
    settle(panel)
    assert (given["generator"], given["seed"], given["density"], given["like"]) == (tmp_path, 7, None, None)
    assert [layer.name for layer in viewer.layers][2:] == [*layers, "simulated"]
    assert [viewer.layers[name].data[0, 0, 0] for name in layers] == [72 * k for k in range(channels)]


def test_a_movie_is_tracked_with_its_divisions() -> None:
    movie = cytoforge.simulate_movie(frames=8, size=(96, 96), density=0.2, diameter=14, seed=3)
    viewer = ViewerModel()
    viewer.add_labels(movie.labels, name="film")
    panel = TrackPanel(viewer)
    panel.cells.value = viewer.layers["film"]
    panel.press()
    said = settle(panel)
    found = cytoforge.Tracker.load("base").track(movie.labels)
    tracks = viewer.layers["film tracks"]
    assert np.array_equal(viewer.layers["film tracked"].data, found.labels)
    assert tracks.graph == {row[0]: [row[3]] for row in found.tracks.tolist() if row[3]} and len(tracks.graph) > 0
    assert f"{len(found.tracks)} tracks with" in said and "in 8 frames." in said


def test_a_movie_is_segmented_first(viewer: Any) -> None:
    panel = TrackPanel(viewer)
    assert complaint(panel) == "labels: choose a labels layer, or images to segment"
    panel.images.image.value = viewer.layers["cells"]
    panel.press()
    settle(panel)
    assert viewer.layers["cells tracked"].data.shape == (2, 96, 96)
    assert tuple(viewer.layers["cells tracks"].scale) == (1, 0.5, 0.5)
