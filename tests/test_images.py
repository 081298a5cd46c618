"""Every supported kind of file is read exactly; every damaged or unsuitable one is refused by name."""

import errno
import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytoforge.data import formats, images
from cytoforge.data.files import atomic, make_folder, read_json, write_bytes
from cytoforge.data.images import (
    Normalisation,
    RowReader,
    is_blank,
    is_constant,
    read_header,
    read_image,
    read_labels,
    resize_image,
    resize_labels,
    resize_part,
    scaled_shape,
    units_agree,
    widened,
    write_image,
    write_labels,
)
from cytoforge.data.stack import open_stack
from cytoforge.errors import UserError


def noise(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def read_stack(path: Path, *, labels: bool = False) -> np.ndarray:
    """All frames of a file, folder or film: (T, C, H, W), or labels (T, H, W)."""
    return np.stack(list(open_stack(path, labels=labels)))


def planes(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) as (C, H, W)."""
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


# PNG


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("stored", "channels"), [((5, 7), 1), ((5, 7, 2), 1), ((5, 7, 3), 3), ((5, 7, 4), 3)])
def test_png_keeps_every_bit_and_drops_alpha(
    tmp_path: Path, dtype: type, stored: tuple[int, ...], channels: int
) -> None:
    array = noise(*stored, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    image = read_image(tmp_path / "a.png")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, planes(array)[:channels])
    assert read_header(tmp_path / "a.png") == ((channels, 5, 7), np.dtype(dtype))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits_keeps_its_ids(tmp_path: Path, bits: int) -> None:
    ids = (np.arange(24).reshape(4, 6) % 2**bits).astype(np.uint8)
    packed = np.packbits(np.unpackbits(ids[..., None], axis=2)[:, :, -bits:].reshape(4, -1), axis=1)
    _write_raw_png(tmp_path / "a.png", packed, width=6, bits=bits, colour=0)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], ids)


def _write_raw_png(path: Path, rows: np.ndarray, width: int, bits: int, colour: int) -> None:
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + len(rows).to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_indexed_png_is_colours_as_an_image_and_ids_as_labels(tmp_path: Path) -> None:
    ids = (np.arange(35).reshape(5, 7) % 4).astype(np.uint8)
    colours = np.array([[0, 0, 0], [9, 200, 3], [7, 7, 99], [255, 1, 5]], np.uint8)
    indexed = Image.fromarray(ids, mode=None)
    indexed = indexed.convert("P")
    indexed.putdata(ids.ravel().tolist())
    indexed.putpalette(colours.ravel().tolist())
    indexed.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours[ids].transpose(2, 0, 1))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)


def test_indexed_png_with_grey_palette_is_one_channel(tmp_path: Path) -> None:
    values = noise(5, 7, dtype=np.uint8)
    indexed = Image.fromarray(255 - values).convert("P")
    indexed.putdata((255 - values).ravel().tolist())
    indexed.putpalette(np.repeat(np.arange(256)[::-1], 3).tolist())  # an inverted grey scale, as ImageJ may write
    indexed.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png")[0] == (1, 5, 7)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], values)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_masks_in_palettes_of_grey_and_of_colours(tmp_path: Path, bits: int) -> None:
    ids = np.array([[0, 0, 0, 1], [0, 2, 2, 3]], np.uint8)

    def palette(order: np.ndarray, colours: list[tuple[int, int, int]]) -> Path:
        image = Image.fromarray(order).convert("P")
        image.putdata(order.ravel().tolist())
        image.putpalette(np.array(colours, np.uint8).ravel().tolist())
        image.save(tmp_path / "a.png", bits=bits)
        return tmp_path / "a.png"

    grey = palette(3 - ids, [(9, 9, 9), (7, 7, 7), (5, 5, 5), (0, 0, 0)])  # the background has index 3
    np.testing.assert_array_equal(read_labels(grey), np.array([0, 5, 7, 9])[ids])
    black = palette(ids, [(0, 0, 0)] * 4)  # tells nothing, so that no two cells become one
    np.testing.assert_array_equal(read_labels(black), ids)
    colours = palette(ids, [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)])
    np.testing.assert_array_equal(read_labels(colours), ids)
    crowded = palette(np.where(ids == 0, 1, 0).astype(np.uint8), [(0, 0, 0), (255, 0, 0), (0, 1, 0), (0, 2, 0)])
    assert read_labels(crowded).mean() == 0.5  # a large cell is none the less no background
    for ground in ((0, 0, 0), (255, 255, 255)):
        turned = palette(3 - ids, [(255, 0, 0), (0, 255, 0), (0, 0, 255), ground])
        with pytest.raises(UserError, match=r"a\.png: its background is colour 3 of its palette, not 0"):
            read_labels(turned)
        assert read_image(turned).shape == (3, 2, 4)


def test_png_of_several_frames_is_refused(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in noise(3, 5, 7, dtype=np.uint8)]
    first.save(tmp_path / "a.png", save_all=True, append_images=others)
    with pytest.raises(UserError, match=r"a\.png: is an animation of 3 frames; save each"):
        read_image(tmp_path / "a.png")


# TIFF


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "rowsperstrip": 7},
        {"tile": (16, 32)},
        {"compression": "zlib", "tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True, "rowsperstrip": 5},
    ],
    ids=str,
)
def test_tiff_whole_and_by_rows(tmp_path: Path, dtype: type, options: dict[str, object]) -> None:
    array = noise(45, 70, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **options)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image[0], array)
    with RowReader(tmp_path / "a.tif") as reader:
        assert (reader.shape, reader.dtype) == ((1, 45, 70), np.dtype(dtype))
        for start, stop in [(0, 45), (0, 1), (13, 31), (44, 45)]:
            np.testing.assert_array_equal(reader.rows(start, stop)[0], array[start:stop])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("stored", "options", "kept"),
    [
        ((30, 40, 3), {"photometric": "rgb"}, 3),
        ((30, 40, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, 3),
        ((30, 40, 2), {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}, 1),
        ((30, 40, 2), {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unspecified"]}, 2),
        ((3, 30, 40), {"photometric": "rgb", "planarconfig": "separate"}, 3),
        ((5, 30, 40), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, 5),
        ((2, 30, 40), {"imagej": True, "metadata": {"axes": "CYX"}}, 2),
        ((2, 30, 40), {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"}, 2),
    ],
)
def test_tiff_channels(
    tmp_path: Path, compression: str | None, stored: tuple[int, ...], options: dict[str, object], kept: int
) -> None:
    array = noise(*stored)
    if "imagej" in options:
        compression = None
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, rowsperstrip=8, **options)
    expected = (array if stored[0] != 30 else array.transpose(2, 0, 1))[:kept]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    with RowReader(tmp_path / "a.tif") as reader:
        assert reader.shape == expected.shape
        np.testing.assert_array_equal(reader.rows(11, 23), expected[:, 11:23])


@pytest.mark.parametrize(
    ("name", "stored", "options"),
    [
        ("pages.tif", (4, 30, 40), {"photometric": "minisblack"}),
        ("hyper.tif", (4, 2, 30, 40), {"imagej": True, "metadata": {"axes": "TCYX"}}),
        ("a.ome.tif", (4, 2, 30, 40), {"photometric": "minisblack", "metadata": {"axes": "TCYX"}}),
        ("depth.ome.tif", (4, 1, 30, 40), {"photometric": "minisblack", "metadata": {"axes": "ZCYX"}}),
    ],
)
def test_stacks(tmp_path: Path, name: str, stored: tuple[int, ...], options: dict[str, object]) -> None:
    array = noise(*stored)
    tifffile.imwrite(tmp_path / name, array, **options)
    np.testing.assert_array_equal(read_stack(tmp_path / name), array.reshape(4, -1, 30, 40))
    with pytest.raises(UserError, match=r"holds 4 pages .* save each page as a file"):
        read_image(tmp_path / name)


def test_unrelated_pages_of_one_size_are_a_stack(tmp_path: Path) -> None:
    array = noise(3, 30, 40)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in array:
            writer.write(page, contiguous=False, metadata=None)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif")[:, 0], array)


def _write_pages(path: Path, pages: list[np.ndarray], options: list[dict[str, object]] | None = None) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page, given in zip(pages, options or [{}] * len(pages), strict=True):
            writer.write(page, **{"metadata": None, "contiguous": False, **given})


@pytest.mark.parametrize("pages", [1, 3, 200])
@pytest.mark.parametrize("big", [False, True])
def test_pages_that_lead_back_to_earlier_ones_are_refused(pages: int, big: bool, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as writer:
        for _ in range(pages):
            writer.write(noise(4, 5), contiguous=False, photometric="minisblack", metadata=None)
    assert read_stack(tmp_path / "a.tif").shape[0] == pages
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        last, form = file.pages[-1].offset, file.tiff
        size = struct.unpack_from(form.tagnoformat, content, last)[0] * form.tagsize
    struct.pack_into(form.offsetformat, content, last + form.tagnosize + size, last)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: cannot be read \(the last of its pages leads back to an earlier one"):
        read_stack(tmp_path / "a.tif")


def test_pages_that_were_appended_are_one_stack(tmp_path: Path) -> None:
    array = noise(6, 30, 40)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in array:
            writer.write(page)  # each a series with a description of its own
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif")[:, 0], array)
    tifffile.imwrite(tmp_path / "b.tif", array[:4], photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", array[4:], photometric="minisblack", append=True)
    np.testing.assert_array_equal(read_stack(tmp_path / "b.tif")[:, 0], array)
    with tifffile.TiffWriter(tmp_path / "c.tif") as writer:
        for start in (0, 2, 4):
            writer.write(array[start : start + 2], photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_stack(tmp_path / "c.tif"), array.reshape(3, 2, 30, 40))


def test_pages_stored_in_different_ways_keep_their_order(tmp_path: Path) -> None:
    array = noise(5, 30, 40)
    ways: list[dict[str, object]] = [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"compression": "lzw"}, {}]
    _write_pages(tmp_path / "a.tif", list(array), ways)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif")[:, 0], array)


def test_a_description_that_tells_of_fewer_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = noise(6, 30, 40)
    tifffile.imwrite(tmp_path / "a.tif", array[:4], imagej=True)
    with tifffile.TiffWriter(tmp_path / "a.tif", append="force") as writer:
        for page in array[4:]:
            writer.write(page, metadata=None, contiguous=False)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif")[:, 0], array)
    assert "a.tif: holds 6 pages, its description tells of 4; all are read" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "odd"), [(5, 2), (10, 4), (10, 9)])
def test_a_page_of_another_type_or_size_is_named(tmp_path: Path, count: int, odd: int) -> None:
    array = noise(count, 30, 40) % 200
    for page, says in (
        (array[odd].astype(np.uint8), f"page {odd + 1} holds uint8 values, page 1 uint16"),
        (array[odd].astype(np.float32), f"page {odd + 1} holds float32 values, page 1 uint16"),
        (array[odd][:28], f"page {odd + 1} has 28 x 40 pixels, page 1 has 30 x 40"),
        (array[odd][::2, ::2], f"page {odd + 1} has 15 x 20 pixels, page 1 has 30 x 40"),
    ):
        _write_pages(tmp_path / "a.tif", [*array[:odd], page, *array[odd + 1 :]])
        with pytest.raises(UserError, match=r"a\.tif: " + says):
            read_stack(tmp_path / "a.tif")
    _write_pages(tmp_path / "a.tif", [*array[:odd], array[odd].astype(np.uint8), *array[odd + 1 :]])
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif", labels=True), array)  # ids are the same in any depth


@pytest.mark.parametrize("odd", [{"compression": "zlib"}, None], ids=["compressed", "8 bit"])
def test_a_described_page_is_not_taken_for_one_like_the_first(tmp_path: Path, odd: dict[str, object] | None) -> None:
    array = noise(5, 30, 40) % 200
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": "CYX"}, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        described = file.pages[0].description
    pages = list(array) if odd else [*array[:3], array[3].astype(np.uint8), array[4]]
    _write_pages(tmp_path / "a.ome.tif", pages, [{"description": described}, {}, {}, odd or {}, {}])
    if odd:
        np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif"), array)
    else:
        with pytest.raises(UserError, match=r"page 4 holds uint8 values, page 1 uint16"):
            read_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("flagged", [False, True])
def test_a_preview_is_not_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, flagged: bool
) -> None:
    array = noise(60, 80)
    pages, options = [array[::4, ::4].astype(np.uint8), array], [{"subfiletype": int(flagged)}, {}]
    step = 1 if place == "before" else -1
    _write_pages(tmp_path / "a.tif", pages[::step], options[::step])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), array[None])
    assert "a.tif: the image of 60 x 80 pixels is read, its preview of 15 x 20 is not" in capsys.readouterr().err
    read_image(tmp_path / "a.tif")
    assert capsys.readouterr().err == ""  # once


def test_smaller_copies_of_a_stack(tmp_path: Path) -> None:
    array = noise(4, 40, 60)
    with tifffile.TiffWriter(tmp_path / "sub.tif") as writer:
        for page in array:
            writer.write(page, subifds=1, metadata=None)
            writer.write(page[::2, ::2], subfiletype=1, metadata=None)
    _write_pages(
        tmp_path / "flag.tif",
        [view for page in array for view in (page, page[::4, ::4].astype(np.uint8))],
        [{}, {"subfiletype": 1}] * 4,
    )
    for name in ("sub.tif", "flag.tif"):
        np.testing.assert_array_equal(read_stack(tmp_path / name)[:, 0], array)


def test_positions_are_no_movie(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for position in noise(3, 30, 40):
            writer.write(position, metadata={"axes": "YX"})
    for read in (read_image, read_stack, read_header):
        with pytest.raises(UserError, match=r"holds 3 images \(positions or scenes\).*save each as a file of its own"):
            read(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(("name", "told"), [("position", "positions or phases"), ("scene", "positions or tiles")])
def test_positions_of_an_axis_are_no_movie(tmp_path: Path, name: str, told: str) -> None:
    _zarr(tmp_path / "a.zarr", noise(3, 30, 40), (1, 30, 40), dimension_names=(name, "y", "x"))
    with pytest.raises(UserError, match=f"a.zarr: holds 3 {told} .* save each as a file of its own"):
        read_stack(tmp_path / "a.zarr")


def _write_set(folder: Path, array: np.ndarray, positions: bool) -> list[Path]:
    """An OME-TIFF of three files with a page each: positions, or frames of one movie."""
    names = [f"p{number}.ome.tif" for number in range(3)]
    data = [
        f'<TiffData FirstT="{0 if positions else n}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:{n}</UUID>'
        "</TiffData>"
        for n, name in enumerate(names)
    ]
    pixels = (
        '<Image ID="Image:{0}"><Pixels ID="Pixels:{0}" DimensionOrder="XYCZT" Type="uint16" SizeX="40" SizeY="30" '
        'SizeC="1" SizeZ="1" SizeT="{1}"><Channel ID="Channel:{0}:0" SamplesPerPixel="1"/>{2}</Pixels></Image>'
    )
    images = (
        [pixels.format(n, 1, one) for n, one in enumerate(data)] if positions else [pixels.format(0, 3, "".join(data))]
    )
    for number, name in enumerate(names):
        schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        xml = f'<OME xmlns="{schema}" UUID="urn:{number}">{"".join(images)}</OME>'
        tifffile.imwrite(folder / name, array[number], description=xml, metadata=None, photometric="minisblack")
    return [folder / name for name in names]


@pytest.mark.parametrize("positions", [True, False])
def test_a_file_of_an_ome_tiff_in_several_gives_its_own_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], positions: bool
) -> None:
    array = noise(3, 30, 40)
    files = _write_set(tmp_path, array, positions)
    for file, page in zip(files, array, strict=True):
        np.testing.assert_array_equal(read_image(file), page[None])
    assert capsys.readouterr().err == ""
    whole = array[1:2] if positions else array
    np.testing.assert_array_equal(read_stack(files[1])[:, 0], whole)
    files[0].unlink()
    files[2].unlink()
    for read in (read_image, lambda file: read_stack(file)[0]):
        np.testing.assert_array_equal(read(files[1]), array[1:2])
    said = "p1.ome.tif: belongs to an OME-TIFF of 3 files, of which p0.ome.tif, p2.ome.tif are missing"
    assert capsys.readouterr().err.count(said) == 1


def test_a_description_that_cannot_be_parsed_is_left_out(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(30, 40), description="<OME><Image></OME>", metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], noise(30, 40))


def test_an_orientation_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = noise(30, 40)
    tifffile.imwrite(tmp_path / "a.tif", array, extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), array[None])
    assert "a.tif: is marked as turned or mirrored (orientation 6); read as stored" in capsys.readouterr().err


def test_frames_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = noise(6, 2, 30, 40)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": "TCYX"})
    tifffile.imwrite(tmp_path / "b.tif", array, photometric="minisblack", metadata={"axes": "TCYX"}, compression="zlib")
    mapped = tifffile.memmap(tmp_path / "c.tif", shape=(6, 30, 40), dtype=np.uint16, photometric="minisblack")
    mapped[:] = array[:, 0]
    mapped.flush()
    _zarr(tmp_path / "d.zarr", array, (1, 1, 30, 40), dimension_names=("t", "c", "y", "x"))
    monkeypatch.setattr(formats, "MAX_BYTES", 2 * array[0].nbytes)  # less than all
    for name, expected in (("a.tif", array), ("b.tif", array), ("c.tif", array[:, :1]), ("d.zarr", array)):
        np.testing.assert_array_equal(read_stack(tmp_path / name), expected)


def test_the_remedy_for_large_images_depends_on_how_they_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_BYTES", 2000)
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 40))
    with pytest.raises(UserError, match=r"crop it into parts; segment and score segmentation read it as it is"):
        read_image(tmp_path / "a.tif")
    with RowReader(tmp_path / "a.tif") as reader:
        assert reader.rows(0, 20).shape == (1, 20, 40)
    tifffile.imwrite(tmp_path / "b.tif", noise(40, 40), tile=(64, 64))
    with pytest.raises(UserError, match=r"b\.tif: its tiles or chunks hold .* save it with smaller ones"):
        read_image(tmp_path / "b.tif")
    monkeypatch.setattr(formats, "MAX_SIDE", 39)
    with RowReader(tmp_path / "a.tif") as reader, pytest.raises(UserError, match="40 x 40 pixels are more than any"):
        reader.rows(0, 1)


def test_single_image_is_a_stack_of_one(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(3, 5, 7))
    np.testing.assert_array_equal(read_stack(tmp_path / "a.png"), noise(3, 5, 7)[None])


def test_axes_that_no_image_has(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(3, 2, 2, 8, 8), metadata={"axes": "TZCYX"}, photometric="minisblack")
    with pytest.raises(UserError, match=r"a.ome.tif: its axes are TZCYX .* save single planes"):
        read_stack(tmp_path / "a.ome.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(UserError, match=r"b.tif: holds complex64 values"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("name", "stored", "options"),
    [
        ("plain.tif", (50, 60), {}),
        ("zlib.tif", (50, 60), {"compression": "zlib"}),
        ("tiles.tif", (50, 60), {"tile": (16, 16)}),
        ("imagej.tif", (5, 2, 30, 40), {"imagej": True, "metadata": {"axes": "TCYX"}, "compression": "zlib"}),
        ("a.ome.tif", (3, 30, 40), {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}),
        ("pages.tif", (3, 30, 40), {"photometric": "minisblack", "compression": "zlib"}),
    ],
)
@pytest.mark.parametrize("kept", [0.1, 0.6, 0.97])
def test_truncated_tiff_is_refused(
    tmp_path: Path, name: str, stored: tuple[int, ...], options: dict[str, object], kept: float
) -> None:
    tifffile.imwrite(tmp_path / name, noise(*stored), **options)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=name + r".* export it again"):
        read_stack(tmp_path / name)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 4}, {"tile": (16, 16)}], ids=str)
def test_truncated_tiff_is_refused_by_rows(tmp_path: Path, options: dict[str, object]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(50, 60), **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) * 8 // 10])
    with pytest.raises(UserError, match=r"a.tif"), RowReader(tmp_path / "a.tif") as reader:
        reader.rows(45, 50)


def test_damaged_png_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(1, 50, 60))
    content = (tmp_path / "a.png").read_bytes()
    for kept in (4, 20, 40, len(content) // 2):
        (tmp_path / "a.png").write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"a.png: cannot be read .*export it again"):
            read_image(tmp_path / "a.png")
    indexed = Image.fromarray(noise(50, 60, dtype=np.uint8)).convert("P")
    indexed.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for kept in (33, 40, len(content) // 2):
        (tmp_path / "a.png").write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"a.png: cannot be read"):
            read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.tif", b"", "the file is empty"),
        ("a.png", b"just some text\n" * 9, r"cannot be read \(not a PNG\)"),
        ("a.tif", b"just some text\n" * 9, "cannot be read .*not a TIFF"),
        ("a.tif", b"II*\0" + b"\xff" * 60, "cannot be read"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "header is damaged"),
        ("a.gif", b"abc", ".gif is not supported; convert it to PNG or TIFF"),
        ("a.jpg", b"abc", "cannot be read"),
        ("a.npy", b"abc", "cannot be read"),
        (
            "a.nd2",
            b"abc",
            r'needs the package bioio; run pip install "cytoforge\[microscopes\]", or export the file as TIFF',
        ),
        ("noending", b"abc", "without ending is not supported"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_image(tmp_path / name)


def test_missing_and_forbidden_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "a.tif", "a.zarr"):
        with pytest.raises(UserError, match=f"{name}: it does not exist"):
            read_image(tmp_path / name)
    write_image(tmp_path / "a.png", noise(1, 5, 5))

    def forbid(*_: object) -> bytes:
        raise PermissionError

    def exhaust(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", forbid)
    with pytest.raises(UserError, match="may not be read"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Path, "read_bytes", exhaust)
    with pytest.raises(UserError, match="does not fit into memory"):
        read_image(tmp_path / "a.png")


def test_size_is_refused_before_anything_is_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_raw_png(tmp_path / "bomb.png", np.zeros((1, 1), np.uint8), width=2**30, bits=8, colour=0)
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[20:24] = (2**20).to_bytes(4, "big")  # height
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(UserError, match=r"bomb.png: .* make 1048576.0 GiB at once, more than 4 GiB; crop it"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setattr(formats, "MAX_BYTES", 2000)
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 40), rowsperstrip=4, compression="zlib")
    with pytest.raises(UserError, match="GiB at once"):
        read_image(tmp_path / "a.tif")
    with RowReader(tmp_path / "a.tif") as reader:
        assert reader.rows(0, 20).shape == (1, 20, 40)
    tifffile.imwrite(tmp_path / "b.tif", noise(40, 40), rowsperstrip=40, compression="zlib")
    with RowReader(tmp_path / "b.tif") as reader, pytest.raises(UserError, match="tiled TIFF"):
        reader.rows(0, 1)


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 16}], ids=str)
def test_rows_decode_only_what_holds_them(tmp_path: Path, options: dict[str, object]) -> None:
    array = noise(256, 64)
    tifffile.imwrite(tmp_path / "a.tif", array, compression="zlib", **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        last, size = page.dataoffsets[-1], page.databytecounts[-1]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[last : last + size] = bytes(size)  # the last block can no longer be decoded
    (tmp_path / "a.tif").write_bytes(content)
    with RowReader(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader.rows(20, 230)[0], array[20:230])
        with pytest.raises(UserError, match=r"a\.tif: cannot be read"):
            reader.rows(230, 250)
    with pytest.raises(UserError, match=r"a\.tif: cannot be read"):
        read_image(tmp_path / "a.tif")


def test_rows_outside_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 40))
    with RowReader(tmp_path / "a.tif") as reader:
        for start, stop in [(-1, 3), (3, 3), (30, 41)]:
            with pytest.raises(ValueError, match=f"rows {start}..{stop} are not in an image of 40 rows"):
                reader.rows(start, stop)


def test_logs_of_another_thread_do_not_spoil_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import threading

    tifffile.imwrite(tmp_path / "a.tif", noise(40, 40))
    plain = tifffile.TiffFile.__init__

    def shouted(self: tifffile.TiffFile, *args: object, **keys: object) -> None:
        other = threading.Thread(target=logging.getLogger("tifffile").error, args=["corrupt"])
        other.start()
        other.join()
        plain(self, *args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(tifffile.TiffFile, "__init__", shouted)
    assert read_image(tmp_path / "a.tif").shape == (1, 40, 40)


# zarr


def _zarr(path: Path, array: np.ndarray, chunks: tuple[int, ...], **options: object) -> None:
    zarr.create_array(str(path), shape=array.shape, chunks=chunks, dtype=array.dtype, **options)[...] = array


def _ome_zarr(path: Path, array: np.ndarray, axes: str, version: str) -> None:
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    level = group.create_array("0", shape=array.shape, chunks=(1,) * (array.ndim - 2) + (16, 16), dtype=array.dtype)
    level[...] = array
    images = [{"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "0"}]}]
    group.attrs.update(
        {"ome": {"version": version, "multiscales": images}} if version == "0.5" else {"multiscales": images}
    )


@pytest.mark.parametrize(
    ("stored", "names"), [((30, 40), None), ((2, 30, 40), None), ((30, 40, 2), ("y", "x", "channel"))]
)
def test_zarr_arrays(tmp_path: Path, stored: tuple[int, ...], names: tuple[str, ...] | None) -> None:
    array = noise(*stored)
    _zarr(tmp_path / "a.zarr", array, tuple(min(16, n) for n in stored), dimension_names=names)
    expected = array.transpose(2, 0, 1) if names else array.reshape(-1, 30, 40)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr"), expected)
    with RowReader(tmp_path / "a.zarr") as reader:
        np.testing.assert_array_equal(reader.rows(10, 21), expected[:, 10:21])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    array = noise(1, 2, 1, 30, 40)
    _ome_zarr(tmp_path / "a.ome.zarr", array, "tczyx", version)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.zarr"), array[0, :, 0])
    _ome_zarr(tmp_path / "b.ome.zarr", noise(4, 30, 40), "tyx", version)
    assert read_stack(tmp_path / "b.ome.zarr").shape == (4, 1, 30, 40)


def _groups(path: Path, *images: str, version: int = 2) -> None:
    """A folder of OME-Zarr images, each of one grey value: its number from 1."""
    for value, name in enumerate(images, 1):
        _ome_zarr(path / name, np.full((1, 1, 1, 30, 40), value, np.uint16), "tczyx", "0.4")
    zarr.open_group(str(path), mode="a", zarr_format=version).attrs["bioformats2raw.layout"] = 3


def test_layouts_of_several_ome_zarr_images(tmp_path: Path) -> None:
    _groups(tmp_path / "one.zarr", "0")
    (tmp_path / "one.zarr" / "OME").mkdir()
    (tmp_path / "one.zarr" / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    assert (read_image(tmp_path / "one.zarr") == 1).all()
    _groups(tmp_path / "many.zarr", "0", "1", "2", "3")
    with pytest.raises(
        UserError, match=r"many.zarr: holds several images; give one of them: (\S+), .* \.\.\."
    ) as error:
        read_image(tmp_path / "many.zarr")
    named = str(error.value).split("them: ")[1].split(",")
    assert (read_image(Path(named[1].strip())) == 2).all()  # the remedy, followed literally
    _groups(tmp_path / "plate.zarr", "A/1/0", "A/2/0")
    with pytest.raises(UserError, match=r"plate.zarr/A/1/0, \S+plate.zarr/A/2/0"):
        read_image(tmp_path / "plate.zarr")


def test_levels_and_labels_of_ome_zarr(tmp_path: Path) -> None:
    _ome_zarr(tmp_path / "a.zarr", noise(1, 2, 1, 30, 40), "tczyx", "0.4")
    zarr.open_group(str(tmp_path / "a.zarr")).create_group("labels")
    _ome_zarr(tmp_path / "a.zarr" / "labels" / "cells", np.full((1, 1, 1, 30, 40), 7, np.uint32), "tczyx", "0.4")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr" / "0"), noise(1, 2, 1, 30, 40)[0, :, 0])
    for path in ("labels", "labels/cells"):
        assert (read_labels(tmp_path / "a.zarr" / path) == 7).all()


def test_ome_zarr_without_axes_and_with_those_of_xarray(tmp_path: Path) -> None:
    array = noise(4, 2, 1, 30, 40)
    _ome_zarr(tmp_path / "old.zarr", array, "tczyx", "0.4")
    group = zarr.open_group(str(tmp_path / "old.zarr"))
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]
    np.testing.assert_array_equal(read_stack(tmp_path / "old.zarr"), array[:, :, 0])
    _zarr(tmp_path / "x.zarr", array[:, 0, 0], (1, 30, 40), zarr_format=2)
    zarr.open_array(str(tmp_path / "x.zarr")).attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    np.testing.assert_array_equal(read_stack(tmp_path / "x.zarr"), array[:, :1, 0])
    _ome_zarr(tmp_path / "turned.zarr", array[0, 0, 0].T, "xy", "0.4")
    np.testing.assert_array_equal(read_image(tmp_path / "turned.zarr"), array[0, :1, 0])


def test_zarr_of_absurd_shapes(tmp_path: Path) -> None:
    for name, shape, chunks, says in (
        ("empty", (0, 64), (1, 64), "holds no pixels"),
        ("chunk", (64, 64), (2**18, 2**18), "its tiles or chunks hold 128.0 GiB each"),
        ("tall", (2**34, 16), (4096, 16), "17179869184 x 16 pixels are more than any image has"),
    ):
        zarr.create_array(str(tmp_path / f"{name}.zarr"), shape=shape, chunks=chunks, dtype="u2")
        with pytest.raises(UserError, match=rf"{name}.zarr: {says}"), RowReader(tmp_path / f"{name}.zarr") as reader:
            reader.rows(0, 1)


def test_zarr_that_is_no_image(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "group.zarr"))
    with pytest.raises(UserError, match=r"group.zarr: a zarr group without OME-Zarr multiscales"):
        read_image(tmp_path / "group.zarr")
    _zarr(tmp_path / "many.zarr", noise(2, 2, 30, 40), (1, 1, 16, 16))
    with pytest.raises(UserError, match=r"many.zarr: the axes of \(2, 2, 30, 40\) are not named"):
        read_image(tmp_path / "many.zarr")
    _zarr(tmp_path / "bad.zarr", noise(30, 40), (16, 16))
    next((tmp_path / "bad.zarr").rglob("c/0/0")).write_bytes(b"xx")
    with pytest.raises(UserError, match=r"bad.zarr: cannot be read"):
        read_image(tmp_path / "bad.zarr")
    (tmp_path / "bad.zarr" / "zarr.json").write_text('{"zarr_fo')
    with pytest.raises(UserError, match=r"bad.zarr: cannot be read"):
        read_image(tmp_path / "bad.zarr")


# labels


@pytest.mark.parametrize(
    ("top", "stored"), [(7, np.uint16), (65535, np.uint16), (65536, np.uint32), (2**31 - 1, np.uint32)]
)
def test_labels_round_trip_in_the_smallest_type_that_holds_them(tmp_path: Path, top: int, stored: type) -> None:
    labels = np.array([[0, 1, 2], [3, top, 0]], np.int32)
    write_labels(tmp_path / "a.tif", labels)
    assert tifffile.imread(tmp_path / "a.tif").dtype == stored
    result = read_labels(tmp_path / "a.tif")
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, labels)
    if stored == np.uint16:
        write_labels(tmp_path / "a.png", labels)
        assert np.asarray(Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))).dtype == np.uint16
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
    else:
        with pytest.raises(UserError, match=r"a.png: PNG holds ids up to 65535, .* name the file .tif"):
            write_labels(tmp_path / "a.png", labels)


@pytest.mark.parametrize(
    "array",
    [
        np.eye(8, dtype=bool),
        np.eye(8, dtype=np.uint8) * 255,
        np.eye(8, dtype=np.float32) * 3,
        np.eye(8, dtype=np.int64),
    ],
)
def test_labels_of_other_types_are_read_as_they_are(tmp_path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), array.astype(np.int32))


def test_labels_that_are_no_ids(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(3, 8, 8, dtype=np.uint8))
    with pytest.raises(UserError, match=r"a.png: a mask has one channel of cell ids, this has 3"):
        read_labels(tmp_path / "a.png")
    for array, says in [
        (np.full((8, 8), 0.5, np.float32), "fractions or NaN"),
        (np.full((8, 8), np.nan, np.float32), "fractions or NaN"),
        (np.full((8, 8), -1, np.int16), "ids run from -1 to -1"),
        (np.full((8, 8), 2**31, np.uint32), "to 2147483648"),
    ]:
        tifffile.imwrite(tmp_path / "a.tif", array)
        with pytest.raises(UserError, match=says):
            read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 2, 2), int), np.zeros((2, 2)), np.full((2, 2), -1), np.zeros((0, 2), int)]
)
def test_writing_what_are_no_labels(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels are"):
        write_labels(tmp_path / "a.tif", labels)
    assert not list(tmp_path.iterdir())


# writing


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_round_trip(tmp_path: Path, dtype: type, channels: int) -> None:
    image = noise(channels, 9, 7, dtype=dtype)
    write_image(tmp_path / "deep" / "a.tif", image)
    np.testing.assert_array_equal(read_image(tmp_path / "deep" / "a.tif"), image)
    if channels in (1, 3) and dtype in (np.uint8, np.uint16):
        write_image(tmp_path / "a.png", image)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
    else:
        with pytest.raises(ValueError, match=r"use \.tif"):
            write_image(tmp_path / "a.png", image)


def test_writing_under_another_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png or \.tif, not a.jpg"):
        write_image(tmp_path / "a.jpg", noise(1, 5, 5))
    with pytest.raises(ValueError, match=r"\.png or \.tif, not a.jpg"):
        write_labels(tmp_path / "a.jpg", np.zeros((5, 5), int))
    with pytest.raises(ValueError, match=r"an image is \(C, H, W\), got \(5, 5\)"):
        write_image(tmp_path / "a.png", np.zeros((5, 5), np.uint8))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labels(tmp_path / "a.png", np.ones((5, 5), int))
    before = (tmp_path / "a.png").read_bytes()
    plain = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        plain(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match=r"a.png: the disk is full; make room"):
        write_labels(tmp_path / "a.png", np.zeros((50, 50), int))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_other_failures_of_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written .*choose another place"):
        write_bytes(tmp_path / "file" / "a.png", b"x")
    with pytest.raises(UserError, match=r"cannot be written"):
        make_folder(tmp_path / "file" / "folder")


def test_an_interrupted_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic(tmp_path / "folder" / "a") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list((tmp_path / "folder").iterdir())


def test_json_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: does not exist"):
        read_json(tmp_path / "a.json")
    for content, says in [("{", "cannot be read as JSON"), ("[1]", "must hold a JSON object, not list")]:
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(UserError, match=says):
            read_json(tmp_path / "a.json")


# grey values


def test_percentiles_by_hand() -> None:
    image = np.arange(1001, dtype=np.uint16).reshape(1, 7, 143)
    limits = Normalisation(low=1, high=90).measure(image)
    np.testing.assert_allclose(limits, [[10, 900]])
    result = Normalisation().apply(image, limits)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.ravel()[[0, 10, 455, 900, 1000]], [-1, -1, 0, 1, 1], atol=1e-6)


def test_min_max_by_hand_and_each_channel_by_itself() -> None:
    image = np.array([[[2, 4, 6]], [[10, 10, 30]]], np.uint8)
    normalisation = Normalisation("min-max")
    limits = normalisation.measure(image)
    np.testing.assert_array_equal(limits, [[2, 6], [10, 30]])
    np.testing.assert_array_equal(normalisation.apply(image, limits), [[[-1, 0, 1]], [[-1, -1, 1]]])


def test_large_values_keep_their_differences() -> None:
    image = (2**30 + np.arange(4)).astype(np.uint32).reshape(1, 2, 2)
    normalisation = Normalisation("min-max")
    result = normalisation.apply(image, normalisation.measure(image))
    np.testing.assert_allclose(result.ravel(), [-1, -1 / 3, 1 / 3, 1], atol=1e-6)


def test_constant_and_nan_images_become_minus_one() -> None:
    for image in (np.full((1, 4, 4), 7, np.uint8), np.full((1, 4, 4), np.nan, np.float32)):
        limits = Normalisation().measure(image)
        assert is_blank(image)
        assert is_blank(limits)
        np.testing.assert_array_equal(Normalisation().apply(image, limits), -1)


def test_nan_pixels_are_left_out_and_become_minus_one() -> None:
    image = np.array([[[np.nan, 0, 1, 2, np.inf, -np.inf]]], np.float32)
    normalisation = Normalisation("min-max")
    limits = normalisation.measure(image)
    np.testing.assert_array_equal(limits, [[0, 2]])
    np.testing.assert_array_equal(normalisation.apply(image, limits), [[[-1, -1, 0, 1, 1, -1]]])


def test_few_bright_cells_on_black_are_not_lost() -> None:
    image = np.zeros((1, 300, 300), np.uint16)
    image[0, 5, 5:9] = [100, 200, 300, 400]
    limits = Normalisation().measure(image)
    np.testing.assert_array_equal(limits, [[0, 400]])
    assert not is_blank(image)
    assert not is_blank(limits)


def test_limits_do_not_depend_on_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SAMPLE", 500)
    array = noise(100, 90)
    tifffile.imwrite(tmp_path / "a.tif", array, rowsperstrip=9, compression="zlib")
    whole = Normalisation().measure(array[None])
    stride = 5  # ceil(sqrt(9000 / 500))
    np.testing.assert_allclose(whole[0], np.percentile(array[::stride, ::stride], (0.1, 99.9)))
    for strip in (180 * 7, 180 * 13, 180 * 100):
        monkeypatch.setattr(images, "STRIP_BYTES", strip)
        with RowReader(tmp_path / "a.tif") as reader:
            np.testing.assert_array_equal(Normalisation().measure(reader), whole)


def test_measuring_holds_one_strip_and_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(images, "SAMPLE", 2**14)
    monkeypatch.setattr(images, "STRIP_BYTES", 2**18)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4096, 1024), np.uint16), rowsperstrip=64)  # 8 MiB
    with RowReader(tmp_path / "a.tif") as reader:
        tracemalloc.start()
        try:
            Normalisation().measure(reader)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 2**21


def test_normalisation_is_stored_and_checked() -> None:
    normalisation = Normalisation("percentile", 1, 99)
    assert Normalisation(**normalisation.to_json()) == normalisation
    for wrong in ({"kind": "z-score"}, {"low": 50, "high": 50}, {"low": -1}, {"high": 101}):
        with pytest.raises(ValueError, match="normalisation is percentile or min-max"):
            Normalisation(**wrong)


# size


@pytest.mark.parametrize(
    ("source", "target"), [((60, 80), (20, 31)), ((20, 31), (60, 80)), ((37, 41), (37, 20)), ((5, 5), (1, 1))]
)
def test_resizing_agrees_with_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    image = noise(2, *source, dtype=np.float32) / 1000
    expected = [
        np.asarray(Image.fromarray(channel).resize(target[::-1], Image.Resampling.BILINEAR)) for channel in image
    ]
    np.testing.assert_allclose(resize_image(image, target), expected, atol=2e-6)


def test_shrinking_by_hand() -> None:
    image = np.array([[[0, 0, 8, 8, 0, 0]]], np.float32)
    # pixels 2 wide: triangle weights 1 3 3 1 over 8; at the borders 3 3 1 over 7
    np.testing.assert_allclose(resize_image(image, (1, 3)), [[[8 / 7, 6, 8 / 7]]], rtol=1e-6)


@given(
    source=st.tuples(st.integers(1, 60), st.integers(1, 9)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 9)),
    cuts=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_parts_equal_the_whole(
    source: tuple[int, int], target: tuple[int, int], cuts: tuple[float, float, float, float]
) -> None:
    image = noise(2, *source, dtype=np.float32)
    (start, stop), (left, right) = parts = [
        (first := int(min(cut) * (n - 1)), max(first + 1, int(max(cut) * n)))
        for cut, n in zip((cuts[:2], cuts[2:]), target, strict=True)
    ]
    asked: list[tuple[int, int]] = []

    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        asked.extend((rows, columns))
        assert all(0 <= first < last <= n for (first, last), n in zip((rows, columns), source, strict=True))
        return image[:, slice(*rows), slice(*columns)]

    part = resize_part(read, source, target, *parts)
    np.testing.assert_array_equal(part, resize_image(image, target)[:, start:stop, left:right])
    for (first, last), (begin, end), n, m in zip(asked, parts, source, target, strict=True):
        assert last - first <= (end - begin) * n / m + 2 * max(n / m, 1) + 2
    labels = np.arange(source[0] * source[1], dtype=np.int32).reshape(source)
    np.testing.assert_array_equal(
        resize_labels(labels, target, (start, stop)), resize_labels(labels, target)[start:stop]
    )


def test_labels_by_hand() -> None:
    labels = np.array([[1, 2, 3, 4]], np.int32)
    np.testing.assert_array_equal(resize_labels(labels, (2, 8)), [[1, 1, 2, 2, 3, 3, 4, 4]] * 2)
    np.testing.assert_array_equal(resize_labels(labels, (1, 2)), [[2, 4]])
    assert resize_labels(labels, (1, 4)) is labels


def test_same_size_is_untouched() -> None:
    image = noise(1, 6, 7, dtype=np.float32)
    np.testing.assert_array_equal(resize_image(image, (6, 7)), image)
    assert scaled_shape((3, 100, 31), 0.333) == (33, 10)
    assert scaled_shape((1, 1), 0.1) == (1, 1)


def test_one_size_for_all_images_whatever_their_aspect() -> None:
    assert scaled_shape((3, 100, 31), (64, 48)) == (64, 48)
    assert scaled_shape((64, 48), (64, 48)) == (64, 48)
    whole = (1, 100, 30)
    strips = [scaled_shape((1, rows, 30), (50, 60), whole) for rows in (20, 80)]
    assert strips == [(10, 60), (40, 60)]  # parts of the rows have their part of the height, and the whole width
    assert scaled_shape((1, 1, 30), (10, 60), (1, 100, 30)) == (1, 60)  # never none


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_views_are_written_as_they_look(suffix: str, tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_labels(tmp_path / f"labels.{suffix}", values.T)
    np.testing.assert_array_equal(read_labels(tmp_path / f"labels.{suffix}"), values.T)
    write_image(tmp_path / f"image.{suffix}", values[None, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{suffix}"), values[None, ::-1])


def test_limits_of_constant_channels_are_widened_and_tell_no_units() -> None:
    real, painted = np.array([[0.0, 10], [5, 5], [7, 7]]), np.array([[2.0, 9], [1, 3], [7, 7]])
    assert is_constant(real).tolist() == [False, True, True]
    np.testing.assert_array_equal(widened(real, painted), [[0, 10], [1, 5], [7, 7]])
    assert units_agree(real, painted)
    assert not units_agree(real, painted * [[9], [1], [1]] + 9)
