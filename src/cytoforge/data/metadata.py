"""What image files state of their pixels: their size, the time between frames, and the names of channels."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from cytoforge.data.files import is_number
from cytoforge.data.microscopes import READERS, open_microscope
from cytoforge.data.ngff import find_described, is_zarr
from cytoforge.data.tiff import listening
from cytoforge.progress import tell_once

MICROMETERS = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "nm": 1e-3}
MICROMETERS |= {"nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6, "meter": 1e6}
MINUTES = {"min": 1.0, "minute": 1.0, "minutes": 1.0, "s": 1 / 60, "sec": 1 / 60, "second": 1 / 60, "seconds": 1 / 60}
MINUTES |= {"h": 60.0, "hour": 60.0, "hours": 60.0, "ms": 1 / 60_000, "millisecond": 1 / 60_000, "d": 1440.0}
PRINTED = {"cm", "centimeter", "m", "meter"}
"""Units in which ImageJ gives the resolution of a print, like inches"""
UNEQUAL = 0.01  # relative difference of width and height from which pixels have no one size
ALIKE = 1e-4  # relative difference up to which two files state the same
LOOKED_AT = 20  # most files of a set whose statements are compared


@dataclass(frozen=True)
class Metadata:
    """What a file states; None and empty where it says nothing."""

    pixel_size: float | None = None
    """side of a pixel in micrometers"""
    frame_interval: float | None = None
    """minutes from one frame to the next"""
    channels: tuple[str, ...] = ()
    """names of the channels, in their order"""


NOTHING = Metadata()


def read_metadata(path: Path) -> Metadata:
    """Return what a TIFF of ImageJ, an OME-TIFF, an OME-Zarr or a file of a microscope states in physical units.

    Resolutions of prints (dots per inch or centimetre) and units such as pixel or inch say nothing about the size of a
    pixel, nor do pixels that are not square. What is damaged or missing says nothing: reading the pixels reports it.
    """
    with contextlib.suppress(Exception):  # decoders raise anything on damaged bytes
        if is_zarr(path):
            return _of_zarr(path)
        if path.suffix.lower() in READERS:
            return _of_microscope(path)
        if path.suffix.lower() in (".tif", ".tiff"):
            with listening(), tifffile.TiffFile(path) as file:
                if file.is_ome:
                    return _of_ome(path, ElementTree.fromstring(file.ome_metadata or ""))
                if file.is_imagej:
                    return _of_imagej(path, file.imagej_metadata or {}, file.pages.first.tags)
    return NOTHING


def stated(files: Iterable[Path]) -> Metadata:
    """Return what files state alike, of about LOOKED_AT of them; None and empty where they differ or say nothing."""
    chosen = list(files)
    found = [read_metadata(file) for file in chosen[:: max(len(chosen) // LOOKED_AT, 1)]] or [NOTHING]
    names = {one.channels for one in found}
    return Metadata(
        common(one.pixel_size for one in found),
        common(one.frame_interval for one in found),
        next(iter(names)) if len(names) == 1 else (),
    )


def common(values: Iterable[float | None]) -> float | None:
    """Return the number that all values are, but for rounding; None where they differ, or one is None."""
    first, *others = values
    alike = all(value is not None and abs(value - (first or 0)) <= ALIKE * (first or 0) for value in others)
    return first if alike else None


def _of_imagej(path: Path, stored: Mapping[str, Any], tags: Any) -> Metadata:
    """Read ImageJ's unit and pixels per unit of a TIFF, and its interval in seconds or `tunit`."""
    unit = _unit(stored.get("unit"))
    across, down = (_inverse(tags.valueof(code)) for code in (282, 283))  # XResolution, YResolution
    factor = None if unit in PRINTED or _unit(stored.get("yunit", unit)) != unit else MICROMETERS.get(unit)
    minutes = MINUTES.get(_unit(stored.get("tunit", "s")))
    labels = stored.get("Labels", ())
    pages = stored.get("images", 1)
    names = tuple(map(str, labels)) if pages == stored.get("channels", 1) == len(labels) else ()
    return Metadata(_square(path, (across, factor), (down, factor)), _positive(stored.get("finterval"), minutes), names)


def _inverse(fraction: Any) -> float | None:
    numerator, denominator = fraction or (0, 0)
    return denominator / numerator if numerator else None


def _unit(text: Any) -> str:
    return str(text).replace("\\u00B5", "µ").replace("\\u00b5", "µ").strip()


def _of_ome(path: Path, root: ElementTree.Element) -> Metadata:
    """Read the Pixels of the first image of OME-XML; its units are micrometers and seconds unless it says otherwise."""
    pixels = next((child for image in _named(root, "Image") for child in _named(image, "Pixels")), None)
    if pixels is None:
        return NOTHING
    sides = [
        (pixels.get(f"PhysicalSize{axis}"), MICROMETERS.get(_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))))
        for axis in "XY"
    ]
    minutes = MINUTES.get(_unit(pixels.get("TimeIncrementUnit", "s")))
    names = [channel.get("Name", "") for channel in _named(pixels, "Channel")]
    return Metadata(
        _square(path, *sides), _positive(pixels.get("TimeIncrement"), minutes), tuple(names) if any(names) else ()
    )


def _named(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _of_zarr(path: Path) -> Metadata:
    """Read the scale of the full resolution of an OME-Zarr image along axes that state a unit."""
    attributes, level = find_described(path)
    if not (multiscales := attributes.get("multiscales")):
        return NOTHING
    (image, *_), nothing = multiscales, (None, None)
    axes = [axis for axis in image.get("axes", ()) if isinstance(axis, Mapping)]
    reduced = next(one for one in image["datasets"] if level in (None, one["path"]))
    scale = [1.0] * len(axes)
    for step in (step for part in (reduced, image) for step in part.get("coordinateTransformations", ())):
        if step.get("type") == "scale":
            scale = [one * float(other) for one, other in zip(scale, step["scale"], strict=True)]
    sizes = {str(axis["name"]).lower(): (size, axis.get("unit")) for axis, size in zip(axes, scale, strict=True)}
    sides = [(size, MICROMETERS.get(_unit(unit))) for size, unit in (sizes.get(axis, nothing) for axis in "xy")]
    interval, unit = sizes.get("t", nothing)
    names = tuple(str(channel.get("label", "")) for channel in attributes.get("omero", {}).get("channels", ()))
    return Metadata(_square(path, *sides), _positive(interval, MINUTES.get(_unit(unit))), names if any(names) else ())


def _of_microscope(path: Path) -> Metadata:
    """Read what bioio says: micrometers, and seconds or a timedelta from frame to frame."""
    image = open_microscope(path)
    sides = image.physical_pixel_sizes
    interval = getattr(image.time_interval, "total_seconds", lambda: image.time_interval)()
    names = tuple(map(str, image.channel_names or ()))
    return Metadata(_square(path, (sides.X, 1.0), (sides.Y, 1.0)), _positive(interval, 1 / 60), names)


def _square(path: Path, *sides: tuple[Any, float | None]) -> float | None:
    """Return the side of a pixel from its width and height, each a number and a factor; None unless they are equal."""
    width, height = (_positive(size, factor) for size, factor in sides)
    if width is None or height is None:
        return None
    if abs(width - height) > UNEQUAL * width:
        tell_once(f"{path}: its pixels are {width:g} x {height:g} micrometers and not square, so they have no one size")
        return None
    return width


def _positive(value: Any, factor: float | None) -> float | None:
    """Return a stated number times a factor; None unless both are there, and the product is finite and above 0."""
    try:
        product = float(value) * float(factor if factor is not None else "nan")
    except (TypeError, ValueError):
        return None
    return product if is_number(product) and product > 0 else None
