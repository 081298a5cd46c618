"""The four panels of the plugin: segment, train on the current labels, simulate masks, track."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, FileEdit, FloatSpinBox, Select, SpinBox
from numpy.typing import NDArray
from psygnal.containers import EventedList

from cytoforge.errors import UserError
from cytoforge.napari import work
from cytoforge.napari.layers import Planes, full_size
from cytoforge.napari.panel import BAD, Panel
from cytoforge.napari.work import Report
from cytoforge.progress import counted

COLOURS = {"poor": BAD, "usable": "#d9a02c", "good": "#4caf6a"}
models: "EventedList[str]" = EventedList(["base"])
"""Segmenters that panels offer: the base model, and the runs that were trained in this session"""


class SegmentPanel(Panel):
    """Cells of an image layer, plane by plane, as a labels layer."""

    def __init__(self, napari_viewer: Any) -> None:
        self.images = _Images(napari_viewer)
        self.model = _Model()
        self.estimate = CheckBox(value=True, text="find the diameter of the cells")
        self.diameter = FloatSpinBox(
            value=30, min=2, max=2000, step=1, label="diameter (px)", tooltip="of the median cell, for the base model"
        )
        for choice in (self.estimate, self.model.known, self.model.folder):
            choice.changed.connect(self._allow)
        self._allow()
        inputs = [*self.images.widgets, *self.model.widgets, self.estimate, self.diameter]
        super().__init__(napari_viewer, inputs, "Segment", "Each plane of a stack is segmented for itself.")

    def run(self) -> None:
        """Segment the chosen layer."""
        planes, like, model = self.images.planes, self.images.layer, self.model.chosen
        diameter = float(self.diameter.value) if self.diameter.enabled else None

        def done(found: work.Segmented) -> None:
            self.viewer.add_labels(found.labels, name=f"{like.name} cells", **_place(like, found.labels.ndim))
            across = "" if found.diameter is None else f", taken to be {found.diameter:g} px across"
            self.tell(f"{counted(found.cells, 'cell')} in {counted(len(planes), 'plane')}{across}.")

        self.begin(lambda report: work.segment(planes, model, diameter, report), done)

    def _allow(self, *_: Any) -> None:
        """Let a diameter be given where it counts: runs keep the scale at which they were trained."""
        base = self.model.chosen == Path("base")
        self.estimate.enabled, self.diameter.enabled = base, base and not self.estimate.value


class TrainPanel(Panel):
    """A segmenter that learns from the cells drawn in a labels layer."""

    def __init__(self, napari_viewer: Any) -> None:
        self.images = _Images(napari_viewer)
        self.cells = _labels(napari_viewer, "labels")
        self.minutes = FloatSpinBox(value=10, min=0.1, max=10000, step=1, label="minutes")
        self.out = _folder("run folder", "an empty folder that keeps the run")
        inputs = [*self.images.widgets, self.cells, self.minutes, self.out]
        about = (
            "Planes without labels are left out: draw all cells of an image, or none. Training starts from the base "
            "model where that fits."
        )
        super().__init__(napari_viewer, inputs, "Train", about)

    def run(self) -> None:
        """Train on the chosen layers."""
        planes, labels = self.images.planes, _drawn(_chosen(self.cells, "labels"))
        out, minutes = _path(self.out), float(self.minutes.value)
        if out is None:
            raise UserError("run folder: choose an empty folder, which keeps what is learned")

        def done(segmenter: Any) -> None:
            run = str(segmenter.run)
            if run not in models:
                models.append(run)
            judged = segmenter.judgement
            lines = [judged.headline, *judged.details] if judged else []
            self.tell("\n".join([*lines, f"Segment offers {run}."]), colour=judged and COLOURS[judged.verdict])

        self.begin(lambda report: work.train(planes, labels, out, minutes, report), done)


class SimulatePanel(Panel):
    """Masks of simulated cells, like those of a labels layer, and images painted on them."""

    def __init__(self, napari_viewer: Any) -> None:
        self.cells = _labels(napari_viewer, "cells like", nullable=True)
        self.masks = SpinBox(value=4, min=1, max=1000, label="masks")
        self.side = SpinBox(value=256, min=32, max=8192, label="height and width (px)")
        self.usual = CheckBox(value=True, text="as dense as these")
        self.density = FloatSpinBox(
            value=0.3, min=0.01, max=5000, step=0.05, label="density", tooltip="coverage below 1, or number of cells"
        )
        self.density.enabled = False
        self.usual.changed.connect(lambda usual: setattr(self.density, "enabled", not usual))
        self.generator = _folder("paint with run", "folder of `cytoforge train generator`, or empty")
        self.seed = SpinBox(value=0, min=0, max=2**31 - 1, label="seed")
        inputs = [self.cells, self.masks, self.side, self.usual, self.density, self.generator, self.seed]
        super().__init__(napari_viewer, inputs, "Simulate", "Without a labels layer cells have shapes of our own.")

    def run(self) -> None:
        """Simulate masks, and paint them if a run is given."""
        like = None if self.cells.value is None else _drawn(self.cells.value)
        count, side, seed = int(self.masks.value), int(self.side.value), int(self.seed.value)
        density, generator = None if self.usual.value else float(self.density.value), _path(self.generator)

        def simulate(report: Report) -> work.Simulated:
            size = (side, side)
            return work.simulate(like, count, size=size, density=density, generator=generator, seed=seed, report=report)

        def done(found: work.Simulated) -> None:
            if found.images is not None:
                one = found.images.shape[1] == 1
                self.viewer.add_image(
                    found.images[:, 0] if one else np.moveaxis(found.images, 1, -1),
                    name="painted",
                    **({} if one else {"channel_axis": -1}),
                )
            self.viewer.add_labels(found.labels, name="simulated")
            self.tell(f"{counted(found.cells, 'cell')} in {counted(count, 'mask')}, which cover {found.coverage:.0%}.")

        self.begin(simulate, done)


class TrackPanel(Panel):
    """Tracks and divisions of the cells of a movie, as labels with the ids of tracks and a tracks layer."""

    def __init__(self, napari_viewer: Any) -> None:
        self.images = _Images(napari_viewer, nullable=True)
        self.cells = _labels(napari_viewer, "labels", nullable=True)
        self.model = _Model("segment by")
        self.tracker = ComboBox(choices=["base", "laptrack", "overlap", "btrack"], value="base", label="tracker")
        self.trained = _folder("or run folder", "of `cytoforge train tracker`")
        inputs = [*self.images.widgets, self.cells, *self.model.widgets, self.tracker, self.trained]
        about = "Layers have the axes time, height, width. Without labels the images are segmented first."
        super().__init__(napari_viewer, inputs, "Track", about)

    def run(self) -> None:
        """Track the cells of the chosen labels, or of the images once they are segmented."""
        labelled = self.cells.value
        planes = None if self.images.image.value is None else self.images.planes
        if planes is None and labelled is None:
            raise UserError("labels: choose a labels layer, or images to segment")
        like = self.images.layer if labelled is None else labelled
        labels = None if labelled is None else _drawn(labelled)
        model, tracker = self.model.chosen, str(_path(self.trained) or self.tracker.value)

        def track(report: Report) -> work.Followed:
            given = labels
            if given is None and planes is not None:
                given = work.segment(planes, model, None, report).labels
            return work.track(planes, given, tracker, report)

        def done(found: work.Followed) -> None:
            place = _place(like, 3)
            self.viewer.add_labels(found.labels, name=f"{like.name} tracked", **place)
            if len(found.tracks):
                self.viewer.add_tracks(found.tracks, graph=found.graph, name=f"{like.name} tracks", **place)
            ids = counted(len(np.unique(found.tracks[:, 0])), "track")
            self.tell(f"{ids} with {counted(found.divisions, 'division')} in {counted(len(found.labels), 'frame')}.")

        self.begin(track, done)


class _Images:
    """A choice of an image layer, and of further ones that are its other channels."""

    def __init__(self, viewer: Any, *, nullable: bool = False) -> None:
        from napari.layers import Image

        choices = _layers(viewer, Image)
        self.image = ComboBox(choices=choices, nullable=nullable, label="image")
        self.others = _Channels(choices=choices, label="more channels", tooltip="image layers of the same pixels")
        self.widgets = [self.image, self.others]

    @property
    def layer(self) -> Any:
        """The layer that was chosen; raises UserError if none was."""
        return _chosen(self.image, "image")

    @property
    def planes(self) -> Planes:
        """The planes of the chosen layers; raises UserError where they do not belong together."""
        others = [layer for layer in self.others.value if layer != self.layer]
        layers = (self.layer, *others)
        return Planes.of([(full_size(layer.data, layer.multiscale), bool(layer.rgb)) for layer in layers])


class _Channels(Select):
    """A choice of several layers, which is shown where there are several."""

    def reset_choices(self, *_: Any) -> None:
        """Take the layers of the viewer as they are now."""
        super().reset_choices()
        self.max_height = 70
        if self.native.parent() is not None:
            self.visible = len(self.choices) > 1


class _Model:
    """A choice of a segmenter: the base model, a run of this session, or the folder of any other run."""

    def __init__(self, label: str = "model") -> None:
        self.known = ComboBox(choices=lambda _: list(models), value="base", label=label)
        self.folder = _folder("or run folder", "of `cytoforge train`")
        models.events.inserted.connect(self.known.reset_choices)
        self.known.native.destroyed.connect(lambda: models.events.inserted.disconnect(self.known.reset_choices))
        self.widgets = [self.known, self.folder]

    @property
    def chosen(self) -> Path:
        """The folder of the run, or base."""
        return _path(self.folder) or Path(str(self.known.value))


def _folder(label: str, tooltip: str) -> FileEdit:
    """Return a choice of a folder, or none."""
    return FileEdit(mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True, label=label, tooltip=tooltip)


def _path(choice: FileEdit) -> Path | None:
    return choice.value if isinstance(choice.value, Path) else None


def _layers(viewer: Any, kind: type) -> Callable[[Any], list[Any]]:
    return lambda widget: [layer for layer in viewer.layers if isinstance(layer, kind)]


def _labels(viewer: Any, label: str, *, nullable: bool = False) -> ComboBox:
    from napari.layers import Labels

    return ComboBox(choices=_layers(viewer, Labels), nullable=nullable, label=label)


def _chosen(choice: ComboBox, what: str) -> Any:
    if choice.value is None:
        raise UserError(f"{what}: choose a layer")
    return choice.value


def _drawn(layer: Any) -> NDArray[Any]:
    """Return a copy of the array of a labels layer: who draws on does not change what a thread works on."""
    return np.array(full_size(layer.data, layer.multiscale))


def _place(layer: Any, axes: int) -> dict[str, Any]:
    """Return where a layer lies in the world, for another one of the same pixels."""
    return {"scale": layer.scale[-axes:], "translate": layer.translate[-axes:]}
