"""The run folder: the results of a training, and the state it needs to continue exactly where it stopped.

config.json  provenance.json  metrics.csv  weights/NAME.safetensors  state/state.safetensors  samples/  report.html
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cytoforge.data.files import check_readable, digest, in_utf8, read_json
from cytoforge.data.images import encode_image
from cytoforge.data.judgement import Judgement
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.resume import differences, refuse_finished, refuse_other
from cytoforge.data.run_config import FORMAT, NetworkSettings, Provenance, RunConfig, parse
from cytoforge.errors import UserError
from cytoforge.networks.registry import ROLES
from cytoforge.places import RUN, run_folder
from cytoforge.progress import tell_once

ASKED = (("method",), ("training", "parameters", "config", "start"))  # keys of config.json that determine the others
FREE = ("threads", "noise", "pixels", "contrasts")  # keys of config.json that may be others when a run goes on
WORDS = {"path": "data", "arrays": "data", "synthetic": "synthetic images"}  # names of settings in messages
PARTS = ("config.json", "provenance.json", "metrics.csv", "weights", "state", "samples", "report.html")
WRITTEN = (
    ("weights", "*.safetensors"),
    ("state", "*.safetensors"),
    ("samples", "step-*.png"),
)  # folder, files in it
TEXTURES = "textures"  # name of the weights file with the textures of real cells, `simulation.texture.Textures`
BACKGROUNDS = "backgrounds"  # name of the weights file with the backgrounds (C, H, W) that generators paint on
OWNER = "train"  # name under which trainings and imports list what they write
STAGES = "stages"  # folder of the runs and datasets of earlier stages
AGAIN = "start again with --overwrite"
STATE = "state/state.safetensors"
EARLIER = "state/earlier.safetensors"  # the state before, in case the last one is damaged
DAMAGED = "damaged.safetensors"


@dataclass(frozen=True)
class Run:
    """A run folder; each of its files is written completely or not at all."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> "Run":
        """Make a run folder with config.json (`config` and the format number) and provenance.json.

        `overwrite` replaces only the files of a former run. Raises UserError when the folder holds a run
        (without `overwrite`), files that are not part of a run, or files that were changed since they were written.
        """
        cls.clear(path, overwrite=overwrite)
        run = cls(path)
        provenance = {
            "cytoforge": version("cytoforge"),
            "commit": _commit(),
            "torch": str(torch.__version__),
            "started": _now(),
        }
        run.folder.write_json("provenance.json", provenance)
        run.folder.write_json("config.json", {"format": FORMAT, **config})
        return run

    @cached_property
    def folder(self) -> OutputFolder:
        """The folder as an OutputFolder, which knows the files that belong to the run."""
        return OutputFolder(self.path, OWNER)

    @classmethod
    def stage(cls, path: Path, name: str) -> Path:
        """Return the folder of a stage of the run at `path`; it belongs to the run, whoever writes into it."""
        return OutputFolder(path, OWNER).inside(f"{STAGES}/{name}")

    @classmethod
    def clear(cls, path: Path, *, overwrite: bool, stages: bool = False) -> None:
        """Make room for a run; `overwrite` removes an existing one, `stages` also its stages. Raises as `create`."""
        if path.is_file():
            raise UserError(f"{path}: is a file; give a folder to write the run into")
        folder = OutputFolder(path, OWNER)
        entries = sorted(path.iterdir()) if path.is_dir() else []
        names = {entry.name for entry in entries if entry.suffix != ".part"} - {STAGES, MANIFEST}
        # if killed during creation, only provenance.json exists; if killed during replacement, folder.known is true
        ours = "config.json" in names or folder.known
        foreign = names - set(PARTS) if ours else names - {"provenance.json"}
        if foreign:
            raise UserError(f"{path}: holds {', '.join(sorted(foreign)[:3])} and is no run folder; choose another")
        if "config.json" in names and not overwrite:
            raise UserError(f"{path}: holds a run already; choose another folder or give --overwrite")
        if names:
            folder.require()
        written = [file for part, kind in WRITTEN for file in path.glob(f"{part}/{kind}")]
        folder.refuse_unlisted(
            [part for part in PARTS if "." in part] + [file.relative_to(path).as_posix() for file in written]
        )
        if overwrite and folder.known:
            beside = None if stages else STAGES
            folder.clear(folder.survey(beside), beside)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open a run folder; raises UserError when it is not one, is damaged or has another format."""
        RUN.check(path)
        run = cls(run_folder(path))
        _ = run.settings, run.provenance
        run._tell_changed()
        return run

    def _tell_changed(self) -> None:
        """Say which descriptions of the run are not as the training wrote them, as far as that is known."""
        with contextlib.suppress(UserError):  # no list that can be read: reading a run needs none
            for name in ("config.json", "provenance.json"):
                if not self.folder.intact(name):
                    tell_once(
                        f"{self.path / name}: has been changed since it was written; restore it, unless you have "
                        "edited it yourself"
                    )

    @classmethod
    def start(cls, path: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> "Run":
        """Create the run folder, or open it to continue where the same command stopped.

        Raises UserError when it holds a finished run or one of another configuration, unless told to overwrite.
        """
        if overwrite or not (path / "config.json").exists():
            return cls.create(path, config, overwrite=overwrite)
        run = cls.open(path)
        former = run.config
        wanted = json.loads(json.dumps({"format": FORMAT, **config}))
        refuse_other(path, "a run", _different(former, wanted))
        run.folder.require()
        refuse_finished(path, "this run", run.finished)
        run.folder.refuse_foreign(["metrics.csv"])
        run._check_weights()
        return run

    @property
    def config(self) -> dict[str, Any]:
        """Unchecked content of config.json, for comparing and hashing; raises UserError when it is damaged."""
        return read_json(self.path / "config.json")

    @property
    def settings(self) -> RunConfig:
        """Checked content of config.json; raises UserError when it is damaged, has another format or invalid values."""
        stored = self.config
        if "format" in stored and stored["format"] != FORMAT:
            raise UserError(
                f"{self.path}: is a run of format {stored['format']!r:.60}, this version reads format {FORMAT}; "
                f"use the version of cytoforge named in {self.path / 'provenance.json'}"
            )
        return parse(RunConfig, stored, self.path / "config.json", "restore the file from a copy, or train again")

    @property
    def provenance(self) -> dict[str, Any]:
        """Content of provenance.json, empty if missing; raises UserError when it is damaged or holds invalid values."""
        path = self.path / "provenance.json"
        if not path.exists():
            return {}
        stored = read_json(path)
        parse(Provenance, stored, path, "mend the file, or remove it to do without")
        return stored

    @property
    def judgement(self) -> Judgement | None:
        """The verdict on what was trained; None without one, as of imports. Raises UserError as `provenance`."""
        stored = self.provenance.get("judgement")
        return None if stored is None else Judgement.model_validate(stored)

    @property
    def finished(self) -> bool:
        """Whether the training is finished; raises UserError as `provenance`."""
        return "finished" in self.provenance

    def record(self, **facts: Any) -> None:
        """Add facts, such as data, seed, device or threads, to provenance.json."""
        self.folder.write_json("provenance.json", {**self.provenance, **facts})

    def note(self, text: str) -> None:
        """Add a sentence to the notes in provenance.json, which readers of the results should know."""
        self.record(notes=[*self.provenance.get("notes", []), text])

    def finish(self, facts: Mapping[str, Any] | None = None) -> None:
        """Record the end of the run, with final `facts` and the SHA-256 of each of its weights files.

        Raises UserError where such a file is not as it was written.
        """
        self._check_weights()
        if self.folder.owns(EARLIER):
            self.folder.remove(EARLIER)
        weights = {file.stem: digest(file) for file in sorted((self.path / "weights").glob("*.safetensors"))}
        self.record(**(facts or {}), weights=weights, finished=_now())

    def save_sample(self, step: int, picture: np.ndarray) -> None:
        """Write samples/step-N.png, a picture uint8 (H, W, 3) of the networks' outputs at a step."""
        name = f"step-{step:06d}.png"
        self.folder.write(f"samples/{name}", encode_image(Path(name), picture.transpose(2, 0, 1)))

    def save_weights(self, name: str, state_dict: Mapping[str, Tensor]) -> None:
        """Write weights/NAME.safetensors, which also tells what was learned from, as far as provenance.json does.

        Raises UserError when the disk is full.
        """
        learned_from = self.provenance.get("learned_from")
        content = _packed(state_dict, {"learned_from": json.dumps(learned_from)} if learned_from else {})
        self.folder.write(f"weights/{name}.safetensors", content)

    def load_weights(self, name: str) -> dict[str, Tensor]:
        """Read weights/NAME.safetensors to the CPU.

        Raises UserError when they are missing or damaged, have another checksum than at the end of the training, or
        hold NaN or infinite numbers.
        """
        file = self.path / "weights" / f"{name}.safetensors"
        remedy = "restore it from a copy, or import or train again"
        if not file.exists() and not file.is_symlink():
            present = sorted(other.stem for other in file.parent.glob("*.safetensors"))
            raise UserError(f"{file}: is missing (there is {', '.join(present) or 'none'}); train on, or copy it here")
        tensors = _load(file, remedy)[0]
        written = self.provenance.get("weights", {}).get(name) if self.finished else None
        if written is not None and digest(file) != written:
            raise UserError(
                f"{file}: is not the file that the run was finished with (its checksum is not that in "
                f"{self.path / 'provenance.json'}); {remedy}"
            )
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                raise UserError(f"{file}: {key} holds NaN or infinite numbers; {remedy}")
        return tensors

    def _check_weights(self) -> None:
        for file in sorted((self.path / "weights").glob("*.safetensors")):
            self._check(file, f"move it away, and {AGAIN}")

    def _check(self, file: Path, remedy: str) -> None:
        if not self.folder.intact(file.relative_to(self.path).as_posix()):
            raise UserError(f"{file}: is damaged (its checksum is not that in {self.path / MANIFEST}); {remedy}")

    def network(self, name: str) -> NetworkSettings:
        """Return kind and options of a network from config.json; raises UserError when the run does not hold it."""
        stored = self.settings.networks
        if name not in stored:
            held = ", ".join(ROLES.get(other, other) for other in stored) or "nothing"
            raise UserError(
                f"{self.path / 'config.json'}: holds no {ROLES.get(name, name)}, only {held}; give a run that was "
                "trained for it"
            )
        return stored[name]

    def fingerprint(self, name: str, settings: Iterable[str]) -> str:
        """Return the SHA-256 over a network's weights and kind and the named settings of config.json (null if absent).

        Networks with the same fingerprint give the same results. Raises UserError when the run does not hold the
        network.
        """
        self.network(name)
        stored = self.config
        parts = [stored["networks"][name], *(stored.get(key) for key in settings)]
        weights = digest(self.path / "weights" / f"{name}.safetensors")
        return hashlib.sha256(json.dumps([*parts, weights], sort_keys=True).encode()).hexdigest()

    @property
    def has_state(self) -> bool:
        """Whether there is a state from which training can continue."""
        return any((self.path / name).exists() for name in (STATE, EARLIER))

    @property
    def _state(self) -> Path:
        return self.path / STATE

    def save_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write tensors and JSON-serialisable `meta` as one file; raises UserError when the disk is full.

        The state before stays until the run is finished. One that is damaged is put aside.
        """
        aside = self._state.with_name(DAMAGED)
        if self.folder.lists(STATE) and not self.folder.intact(STATE) and not aside.exists():
            self._state.rename(aside)
        with self.folder.writing(STATE) as temporary:
            temporary.write_bytes(_packed(tensors, {"meta": json.dumps(meta)}))
            if self._state.exists():
                self.folder.move(STATE, EARLIER)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what save_state wrote last, or the time before where that is damaged.

        Raises UserError when it is missing, or there is none that is not damaged.
        """
        damage: UserError | None = None
        for file in (self.path / name for name in (STATE, EARLIER)):
            if not file.exists():
                continue
            try:
                state = self._read_state(file)
            except UserError as error:
                damage = damage or error
                continue
            if damage:
                tell_once(f"{self._state}: is damaged; training goes on from the state before, {file.name}")
            return state
        raise damage or UserError(f"{self.path}: has no state to go on from; {AGAIN}")

    def _read_state(self, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        remedy = f"remove it, and {AGAIN}"
        tensors, header = _load(file, remedy)
        self._check(file, remedy)
        try:
            meta = json.loads(header["meta"])
        except (KeyError, ValueError, RecursionError) as error:
            raise UserError(f"{file}: lacks its header ({error}); {remedy}") from error
        if not isinstance(meta, dict):
            raise UserError(f"{file}: lacks its header ({type(meta).__name__}); {remedy}")
        return tensors, meta

    def foreign_state(self, error: Exception) -> UserError:
        """Return the error for a state that can be read but belongs to another training."""
        message = " ".join(str(error).split())
        return UserError(f"{self._state}: does not fit this training ({message:.200}); remove it, and {AGAIN}")

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add a row to metrics.csv; `row` holds "step". New columns join at the end, older rows leave them empty."""
        rows = self.metrics()
        columns = list(dict.fromkeys(key for other in (*rows, row) for key in other))
        self._write_metrics(columns, [*rows, dict(row)])

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after `step`, which were written after the saved state from which the run continues."""
        rows = self.metrics()
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            self._write_metrics(list(dict.fromkeys(key for row in rows for key in row)), kept)

    def metrics(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv, without empty cells; raises UserError when the file is damaged."""
        file = self.path / "metrics.csv"
        if not file.exists():
            return []
        try:
            lines = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")), strict=True)
            rows = [{key: _number(cell) for key, cell in line.items() if cell != ""} for line in lines]
        except (ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{file}: cannot be read ({error}); restore or remove the file") from error
        if any("step" not in row for row in rows):
            raise UserError(f"{file}: has rows without a step; restore or remove the file")
        return rows

    def _write_metrics(self, columns: list[str], rows: list[dict[str, float]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.folder.write("metrics.csv", text.getvalue().encode())


def _packed(tensors: Mapping[str, Tensor], header: dict[str, str]) -> bytes:
    """Return the content of a file; safetensors would write it beside another one, which stayed there after a kill."""
    # copies: safetensors refuses tensors that share storage, such as tied weights
    owned = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # one entry at most: safetensors writes several in an order that is another each time
    return save(owned, metadata=header or {"format": "pt"})


def _number(cell: str) -> float:
    value = float(cell)
    return int(cell) if math.isfinite(value) and cell.lstrip("-").isdigit() else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Return the git commit of the source tree that runs, or None when it is an installed package."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or not (root / "pyproject.toml").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _load(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    check_readable(file, remedy)  # safetensors calls every failure a missing file
    try:
        with in_utf8(file) as path, safe_open(path, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}, content.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, AttributeError, KeyError) as error:  # unknown tensor types, too
        raise UserError(f"{file}: is damaged ({error}); {remedy}") from error


def _different(former: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ between two config.json: those that the user set, else those derived from them."""
    former, wanted = ({key: config[key] for key in config if key not in FREE} for config in (former, wanted))
    for keys in ASKED:
        there, here = ({key: config.get(key) for key in keys} for config in (former, wanted))
        if found := differences(there, here, WORDS):
            return found
    return differences(former, wanted, WORDS)


def flatten_state(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into tensors by name and a JSON-serialisable structure with the rest.

    `tree` is made of dicts (keys: strings or whole numbers), lists, tuples, tensors, numbers, strings, booleans and
    None, as the states of networks, optimisers and random generators are. Raises ValueError for anything else.
    """
    tensors: dict[str, Tensor] = {}

    def take(node: Any) -> Any:
        if isinstance(node, Tensor):
            name = str(len(tensors))
            tensors[name] = node
            return {"tensor": name}
        if isinstance(node, Mapping):
            for key in node:
                if type(key) not in (str, int):
                    raise ValueError(f"a state has keys of text or whole numbers, got {key!r}")
            return {"dict": [[key, take(value)] for key, value in node.items()]}
        if isinstance(node, (list, tuple)):
            return {"tuple" if isinstance(node, tuple) else "list": [take(value) for value in node]}
        if node is None or type(node) in (bool, int, float, str):
            return node
        raise ValueError(f"a state is made of tensors, numbers and text, got {type(node).__name__}: {node!r:.80}")

    return tensors, take(tree)


def unflatten_state(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """Rebuild a state from the results of flatten_state; raises ValueError when they do not belong together."""
    if not isinstance(structure, dict):
        return structure
    kind: str
    content: Any
    kind, content = next(iter(structure.items()), ("", None))
    try:
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {key: unflatten_state(tensors, value) for key, value in content}
        build = {"list": list, "tuple": tuple}[kind]
        return build(unflatten_state(tensors, value) for value in content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the structure of the state does not fit its tensors: {error!r}") from error
