"""Pixel size, frame interval and names of channels, as files state them, and as commands carry them on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from cytoforge.cli import main
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.metadata import NOTHING, Metadata, read_metadata, stated
from cytoforge.data.tracks import Calibration, calibration_of

FILM = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)


def imagej(path: Path, pixels_per_unit: float = 4.0, array: np.ndarray = FILM, **metadata: Any) -> Path:
    tifffile.imwrite(path, array, imagej=True, resolution=(pixels_per_unit, pixels_per_unit), metadata=metadata)
    return path


def ome(path: Path, array: np.ndarray = FILM, **metadata: Any) -> Path:
    tifffile.imwrite(path, array, ome=True, metadata={"axes": "TYX", **metadata})
    return path


def ome_zarr(path: Path, axes: list[dict[str, str]], scale: list[float], whole: list[float] | None = None) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", shape=FILM.shape, dtype=FILM.dtype, chunks=FILM.shape)[...] = FILM
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    multiscale: dict[str, Any] = {"version": "0.4", "axes": axes, "datasets": [level]}
    if whole:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": whole}]
    group.attrs.update({"multiscales": [multiscale], "omero": {"channels": [{"label": "phase"}]}})
    return path


def axes(time: str, space: str) -> list[dict[str, str]]:
    return [
        {"name": "t", "type": "time", "unit": time},
        *({"name": name, "type": "space", "unit": space} for name in "yx"),
    ]


@pytest.mark.parametrize(
    ("unit", "pixels_per_unit", "micrometers"),
    [
        ("micron", 4, 0.25),
        ("um", 2, 0.5),
        ("\\u00B5m", 4, 0.25),
        ("nm", 0.004, 0.25),
        ("mm", 4000, 0.25),
        ("inch", 72, None),
        ("inch", 1, None),
        ("cm", 28.35, None),
        ("pixel", 1, None),
        (None, 72, None),
    ],
)
def test_imagej_states_a_pixel_size_in_a_physical_unit_only(
    unit: str | None, pixels_per_unit: float, micrometers: float | None, tmp_path: Path
) -> None:
    found = read_metadata(imagej(tmp_path / "a.tif", pixels_per_unit, **({"unit": unit} if unit else {})))
    assert found.pixel_size == (None if micrometers is None else pytest.approx(micrometers, rel=1e-5))
    assert found.frame_interval is None


def test_imagej_states_seconds_between_frames(tmp_path: Path) -> None:
    found = read_metadata(imagej(tmp_path / "a.tif", unit="micron", finterval=90.0, axes="TYX"))
    assert found.frame_interval == pytest.approx(1.5)
    assert read_metadata(imagej(tmp_path / "b.tif", finterval=0.0, axes="TYX")) == NOTHING
    minutes = read_metadata(imagej(tmp_path / "c.tif", finterval=2, tunit="min", axes="TYX"))
    assert minutes == Metadata(frame_interval=2.0)


def test_dots_per_inch_say_nothing(tmp_path: Path) -> None:
    for unit in ("INCH", "CENTIMETER"):
        tifffile.imwrite(tmp_path / "a.tif", FILM[0], resolution=(72, 72), resolutionunit=unit)
        assert read_metadata(tmp_path / "a.tif") == NOTHING


def test_ome_states_sizes_in_its_units(tmp_path: Path) -> None:
    told = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65, "TimeIncrement": 15.0, "TimeIncrementUnit": "min"}
    assert read_metadata(ome(tmp_path / "a.ome.tif", **told)) == Metadata(0.65, 15.0)
    nanometers = {"PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 650, "PhysicalSizeYUnit": "nm"}
    found = read_metadata(ome(tmp_path / "b.ome.tif", **nanometers, TimeIncrement=30.0))
    assert found == Metadata(pytest.approx(0.65), 0.5)
    pixels = {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1.0, "PhysicalSizeYUnit": "pixel"}
    assert read_metadata(ome(tmp_path / "c.ome.tif", **pixels)) == NOTHING
    named = ome(tmp_path / "d.ome.tif", axes="CYX", Channel={"Name": ["DAPI", "GFP", "phase"]})
    assert read_metadata(named).channels == ("DAPI", "GFP", "phase")


def test_pixels_that_are_not_square_have_no_one_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeY=0.6)
    assert read_metadata(file).pixel_size is None
    assert f"{file}: its pixels are 0.5 x 0.6 micrometers" in capsys.readouterr().err


def test_ome_zarr_states_the_scale_of_its_first_level(tmp_path: Path) -> None:
    file = ome_zarr(tmp_path / "a.zarr", axes("second", "micrometer"), [1, 0.5, 0.5], [30, 1, 1])
    assert read_metadata(file) == Metadata(0.5, 0.5, ("phase",))
    assert read_metadata(file / "0") == Metadata(0.5, 0.5, ("phase",))
    unknown = [{"name": name} for name in "tyx"]
    assert read_metadata(ome_zarr(tmp_path / "b.zarr", unknown, [1, 1, 1])) == Metadata(channels=("phase",))


def test_what_is_damaged_or_says_nothing_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0no tiff")
    write_image(tmp_path / "b.png", FILM[:1])
    assert read_metadata(tmp_path / "a.tif") == read_metadata(tmp_path / "b.png") == NOTHING
    assert read_metadata(tmp_path / "missing.tif") == NOTHING


def test_files_state_together_what_all_of_them_state(tmp_path: Path) -> None:
    files = [
        ome(tmp_path / f"{k}.ome.tif", PhysicalSizeX=0.65, PhysicalSizeY=0.65, TimeIncrement=60.0 * k) for k in (1, 2)
    ]
    assert stated(files) == Metadata(0.65)
    write_image(tmp_path / "b.png", FILM[:1])
    assert stated([*files, tmp_path / "b.png"]) == stated([]) == NOTHING


def test_what_is_given_goes_before_what_is_written_and_this_before_what_files_state(tmp_path: Path) -> None:
    file = imagej(tmp_path / "a.tif", unit="micron", finterval=60.0, axes="TYX")
    assert calibration_of(tmp_path, {}, [file]) == Calibration(0.25, 1.0)
    assert calibration_of(tmp_path, {"pixel_size": 2}, [file]) == Calibration(2, 1.0)
    assert calibration_of(tmp_path, {"pixel_size": 2}, [file], 3.0, 4.0) == Calibration(3.0, 4.0)


def moving(number: int) -> np.ndarray:
    labels = np.zeros((40, 44), np.int32)
    labels[10:20, 5 + number : 15 + number] = 1
    return labels


def test_a_movie_keeps_what_its_stack_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = np.stack([moving(k) for k in range(3)]).astype(np.uint16)
    imagej(tmp_path / "film.tif", array=1000 * stack, unit="micron", finterval=300.0, axes="TYX")
    tifffile.imwrite(tmp_path / "cells.tif", stack, photometric="minisblack", metadata={"axes": "TYX"})
    movie, tracked, table = tmp_path / "movie", tmp_path / "tracked", tmp_path / "cells.csv"
    masks = ["--masks", str(tmp_path / "cells.tif")]
    assert main(["import", "movie", str(tmp_path / "film.tif"), *masks, "--out", str(movie)]) == 0
    assert "3 frames, pixels of 0.25 micrometers, frames 5 minutes apart, 1 track" in capsys.readouterr().out
    info = json.loads((movie / "dataset.json").read_text())
    assert (info["pixel_size"], info["frame_interval"]) == (0.25, 5.0)
    assert main(["track", "overlap", str(movie), "--out", str(tracked)]) == 0
    info = json.loads((tracked / "dataset.json").read_text())
    assert (info["pixel_size"], info["frame_interval"]) == (0.25, 5.0)
    assert main(["export", str(tracked), "--format", "features", "--out", str(table)]) == 0
    header, _, second, _ = table.read_text().splitlines()
    row = dict(zip(header.split(","), second.split(","), strict=True))
    assert float(row["area_um2"]) == 100 * 0.25**2 and float(row["time_min"]) == 5
    assert float(row["speed_um_per_min"]) == pytest.approx(0.25 / 5)
    given = ["--pixel-size", "2", "--frame-interval", "3"]
    assert main(["import", "movie", str(tmp_path / "film.tif"), *given, "--out", str(tmp_path / "given")]) == 0
    info = json.loads((tmp_path / "given" / "dataset.json").read_text())
    assert (info["pixel_size"], info["frame_interval"]) == (2.0, 3.0)


def test_check_and_import_dataset_tell_the_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cellpose").mkdir()
    imagej(tmp_path / "cellpose" / "a.tif", array=moving(1).astype(np.uint16), unit="micron")
    write_labels(tmp_path / "cellpose" / "a_cp_masks.tif", moving(0))
    assert main(["import", "dataset", str(tmp_path / "cellpose"), "--out", str(tmp_path / "data")]) == 0
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["pixel_size"] == 0.25
    capsys.readouterr()
    main(["check", str(tmp_path / "data")])
    assert "1 channel, pixels of 0.25 micrometers" in capsys.readouterr().out
    (tmp_path / "data" / "dataset.json").write_text('{"pixel_size": "small"}')
    assert main(["check", str(tmp_path / "data")]) == 1
    assert "must be a number from 1e-6 to 1e6" in capsys.readouterr().out
