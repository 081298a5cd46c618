"""`cytoforge export-model`: a trained segmenter for other programs, with all that is needed to get cells from it."""

from pathlib import Path

from cytoforge.data.lock import alone
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.resume import refuse_taken, written_anew
from cytoforge.inference import exported
from cytoforge.inference.bioimageio import package, zipped
from cytoforge.inference.segmenter import Segmenter
from cytoforge.places import BASE
from cytoforge.settings import ExportModel

OWNER = "export-model"
PACKAGE = "package.zip"


@alone
def export_model(config: ExportModel) -> Path:
    """Write the model, model.json, README.md and segment_cells.py to OUT, print what for, and return OUT.

    Raises UserError when the run holds no segmenter, packages are missing, and when OUT holds anything that this
    command did not write, or a model already, unless told to overwrite.
    """
    folder = OutputFolder(config.out, OWNER)
    settings = {"run": config.run, "format": config.format, "licence": config.licence}
    refuse_taken(folder, settings, overwrite=config.overwrite)  # before the network is loaded
    segmenter = Segmenter.load(config.run, device="cpu", precision="float32")
    base = segmenter.run == BASE
    name = "cytoforge base" if base else f"cytoforge {config.run.resolve().name}"
    weights = {}
    if config.format != "torchscript":
        weights["model.onnx"] = exported.onnx(segmenter)
    if config.format != "onnx":
        weights["model.pt"] = exported.torchscript(segmenter)
    beside = exported.beside(segmenter, name, weights)
    files = {**weights, **beside}
    if config.format == "bioimageio":
        files = package(segmenter, name, "BSD-3-Clause" if base else config.licence, weights, beside)
        files[PACKAGE] = zipped(files)
    with written_anew(folder, settings, overwrite=config.overwrite):
        for file, content in files.items():
            folder.write(file, content)
    main = {"onnx": "model.onnx", "torchscript": "model.pt", "bioimageio": PACKAGE}[config.format]
    print(f"{config.out / main}: {name}; {exported.SCRIPT} beside it makes cells, README.md says how")
    return config.out
