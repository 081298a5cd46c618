"""`cytoforge weights`: list, fetch, verify and convert the files of pretrained feature networks."""

import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from torch import Tensor

from cytoforge.commands.import_checkpoint import read_checkpoint
from cytoforge.data.conversion import BY, convert, verify
from cytoforge.data.download import Opener, fetch, open_securely
from cytoforge.data.feature_files import FEATURE_FILES, Published
from cytoforge.data.files import check_readable, digest
from cytoforge.data.formats import reading
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.weights import VARIABLE, find_weights, read_safetensors, target_folder
from cytoforge.errors import UserError
from cytoforge.progress import Progress
from cytoforge.settings import WeightsConvert, WeightsFetch, WeightsList, WeightsVerify


def list_weights(settings: WeightsList) -> None:
    """Print a table of all files; raises UserError as `find_weights`."""
    print("\n".join(_table(find_weights(settings.weights_dir), settings.weights_dir)))


def _table(folder: Path | None, named: Path | None) -> Iterator[str]:
    width, licences = max(map(len, FEATURE_FILES)), max(len(each.licence) for each in FEATURE_FILES.values())
    yield f"  {'name':<{width}}  here  {'to fetch':>9}  {'licence':<{licences}}  for"
    for name, each in FEATURE_FILES.items():
        here = "yes" if folder and (folder / each.file).is_file() else "no"
        size = f"{each.published.size / 1e6:.2f} MB" if each.published else "-"
        yield f"  {name:<{width}}  {here:<4}  {size:>9}  {each.licence:<{licences}}  {each.use}"
    why = "--weights-dir" if named else VARIABLE if os.environ.get(VARIABLE) else "the user's cache"
    yield f"folder: {target_folder(named)} ({why})"


def fetch_weights(settings: WeightsFetch, opener: Opener = open_securely) -> None:
    """Fetch and convert the named files; those that are here and right are left as they are.

    `opener` opens an address. Raises UserError when a file has no address, cannot be fetched, is not the published one,
    or when another file is in its place.
    """
    folder = target_folder(settings.weights_dir)
    for name in settings.name:
        recipe = FEATURE_FILES[name]
        path = folder / recipe.file
        if path.is_file() and (found := verify(name, path)).right:
            print(f"{path}: is here already, and {found.words}")
            continue
        if recipe.published is None:
            raise UserError(f"{name}: is published in no form that can be converted; fetch {recipe.network} instead")
        _published(recipe.published, folder, opener)
        _convert(folder / recipe.published.name, name, folder)
        output = OutputFolder(folder, by=BY)
        if output.owns(recipe.published.name):
            output.remove(recipe.published.name)


def _published(published: Published, folder: Path, opener: Opener) -> None:
    """Make sure that a published file lies in the folder: as somebody has put it there, or fetched."""
    path = folder / published.name
    if not path.exists():
        remedy = f"put {published.name} into {folder} by other means, and give the same command again"
        print(f"{published.address}: {published.size / 1e6:.2f} MB")
        with OutputFolder(folder, by=BY).writing(published.name) as file:
            fetch(published, file, remedy, Progress(published.name), opener)
    elif not digest(path).startswith(published.sha256):
        raise UserError(f"{path}: is not the published file, by its SHA-256; remove it, or put the right one there")


def convert_weights(settings: WeightsConvert) -> Path:
    """Convert a published file, and return the path of the new one.

    Raises UserError when the file cannot be read safely or holds something else, or another file is in the new one's
    place.
    """
    published = FEATURE_FILES[settings.network].published
    path = _convert(settings.file, settings.network, target_folder(settings.weights_dir))
    if published and not digest(settings.file).startswith(published.sha256):
        print(f"note: {settings.file} is not the published {published.name}, by its SHA-256")
    return path


def _convert(source: Path, name: str, folder: Path) -> Path:
    path = convert(_read(source), name, source, digest(source), folder)
    recipe = FEATURE_FILES[name]
    print(f"{path}: {recipe.tensors} tensors of {name}, {recipe.numbers:,} numbers; licence {recipe.licence}")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    """Read names and tensors of a published file, and run no code from it."""
    if path.suffix == ".safetensors":
        check_readable(path, "give the published file")
        return read_safetensors(path)
    if path.is_file() and zipfile.is_zipfile(path):
        with reading(path), zipfile.ZipFile(path) as archive:
            if any(part.endswith("/constants.pkl") for part in archive.namelist()):
                raise UserError(
                    f"{path}: is a TorchScript program, which would have to be run to be read; give the published file "
                    "of plain tensors, which weights fetch names"
                )
    return read_checkpoint(path)


def verify_weights(settings: WeightsVerify) -> int:
    """Check the named files, or all that are here; print a line for each, and return 1 if one is wrong, else 0.

    Raises UserError when the folder or a named file is absent.
    """
    folder = find_weights(settings.weights_dir)
    names: Collection[str] = settings.name or FEATURE_FILES
    paths = {name: folder / FEATURE_FILES[name].file for name in names} if folder else {}
    here = {name: path for name, path in paths.items() if path.is_file()}
    if not here or (settings.name and len(here) < len(set(names))):
        lost = next(name for name in names if name not in here)
        what = f"{FEATURE_FILES[lost].file} is not" if settings.name else "no weights are"
        raise UserError(
            f"{target_folder(settings.weights_dir)}: {what} here; get it by cytoforge weights fetch {lost}, or name "
            f"another folder with --weights-dir or {VARIABLE}"
        )
    found = {name: verify(name, path) for name, path in here.items()}
    for name, verdict in found.items():
        print(f"{here[name]}: {verdict.words}" if verdict.right else verdict.words)
    return 0 if all(verdict.right for verdict in found.values()) else 1
