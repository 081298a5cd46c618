"""Messages about files and folders that are not read: counted and named by kind, with a remedy."""

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from cytoforge.data.formats import ARRAYS, PICTURES, SUFFIXES
from cytoforge.data.manifest import MANIFEST
from cytoforge.progress import counted

NAMED = 3  # number of files of a kind that a message names
LOOKED_AT = 10_000  # greatest number of entries of a subfolder that are searched for images
# files that operating systems, browsers and editors leave in a folder
JUNK = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
JUNK_ENDINGS = (":zone.identifier", ".bak", ".part", ".tmp", ".crdownload", ".swp", "~")
OWN = ("dataset.json", "segment.json", "statistics.json", MANIFEST)  # what cytoforge writes beside images
RESULTS = ("segment.json", "provenance.json", "statistics.json")  # files that mark a folder of cytoforge's results
# documents and tables that accompany images
PAPERS = (".txt", ".md", ".csv", ".tsv", ".xlsx", ".xls", ".docx", ".pdf", ".html", ".log", ".yml", ".yaml", ".toml")
REMEDIES = {
    "convert them to PNG or TIFF": (".gif", ".jp2", ".heic"),
    "export them as TIFF, which Fiji does: File > Save As > Tiff": (
        *(".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".oir", ".ims", ".vsi", ".stk", ".dv", ".zvi", ".sld"),
        *(".svs", ".ndpi", ".mrxs", ".scn", ".mrc", ".dm3", ".dm4", ".dcm", ".nrrd", ".nii", ".ics", ".ids"),
    ),
    "cytoforge import dataset reads the masks in them": ("_seg.npy",),
    "save the arrays in them as TIFF": (".npz", ".h5", ".hdf5", ".mat", ".pkl", ".raw"),
    "unpack them": (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar"),
    "cytoforge import dataset reads outlines of COCO, LabelMe, QuPath and ImageJ": (".json", ".geojson", ".roi"),
    "save the outlines in them as label images, a number for each cell": (".xml",),
    "make movie folders of films by cytoforge import movie": (".mp4", ".avi", ".mov", ".mkv", ".webm"),
}
LIKE_IMAGES = (*SUFFIXES, *(ending for group in list(REMEDIES.values())[:4] for ending in group))
MASKS = ("labels", "label", "mask", "annotations", "annotation", "gt", "groundtruth", "ground_truth", "instances")
IMAGES = ("image", "img", "imgs", "raw", "originals")


def is_junk(path: Path) -> bool:
    """Tell whether a file or folder is hidden, or left by a system, browser or editor."""
    name = path.name.lower()
    return name.startswith(".") or name in JUNK or name.endswith(JUNK_ENDINGS)


def left_out(folder: Path, read: Collection[Path], *, named: str | None = None, parts: bool = False) -> list[str]:
    """Return one sentence for each kind of file or folder that is not among those `read`; opens no file.

    Junk (see is_junk), documents, tables and cytoforge's own files are ignored. `named` is the file name pattern that
    is read in this folder. `parts` is for the folder of a dataset or movie, where only files with the suffix of an
    image format count, and subfolders that hold such files.
    """
    kinds: dict[str, list[str]] = {}
    folders: dict[str, int] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path in read or is_junk(path) or path.name in OWN or any((path / name).is_file() for name in RESULTS):
            continue
        ending = _ending(path)
        if path.is_dir() and ending != ".zarr":
            if count := sum(1 for _ in _images_in(path)):
                folders[path.name] = count
        elif (ending in LIKE_IMAGES) if parts else (ending and ending not in PAPERS):
            kinds.setdefault(ending, []).append(path.name)
    notes = [
        f"{folder}: left out {counted(len(names), f'{ending} file')} ({_some(names)}); {_remedy(ending, named, parts)}"
        for ending, names in kinds.items()
    ]
    if folders:
        inside = counted(sum(folders.values()), "image")
        what = f"left out {counted(len(folders), 'subfolder')} with {inside} ({_some(list(folders))})"
        notes.append(f"{folder}: {what}; {_folder_remedy(folders, read, parts)}")
    return notes


def _ending(path: Path) -> str:
    name = path.name.lower()
    return "_seg.npy" if name.endswith("_seg.npy") else path.suffix.lower()


def _images_in(folder: Path) -> Iterator[Path]:
    """Yield the files with a suffix in LIKE_IMAGES among the first LOOKED_AT entries of a folder and its subfolders."""
    for path in islice(folder.rglob("*"), LOOKED_AT):
        if path.suffix.lower() in LIKE_IMAGES and not is_junk(path):
            yield path


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")


def _remedy(ending: str, named: str | None, parts: bool) -> str:
    if ending in SUFFIXES and named:
        return f"rename them: files that are read there are named {named}"
    if ending in SUFFIXES and parts:
        return "put images into images/ and masks into masks/"
    if ending in (*PICTURES, *ARRAYS):
        return "PNG, TIFF and zarr beside them are read, or give them as data of their own"
    remedy_for = next((remedy for remedy, endings in REMEDIES.items() if ending in endings), None)
    return remedy_for or "PNG, TIFF and zarr are read"


def _folder_remedy(folders: Collection[str], read: Collection[Path], parts: bool) -> str:
    if parts and len(folders) == 1:
        name, held = next(iter(folders)), {path.name.lower() for path in read}
        for part, others in (("masks", MASKS), ("images", IMAGES)):
            if name.lower() in others and part not in held:
                return f"rename it {part}, if it holds the {part}"
    return "move the images up, or give such a folder as data of its own"
