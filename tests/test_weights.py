"""`cytoforge weights`: recipes, fetching from a server on this machine, conversion, and checks of what is here."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import prod
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cytoforge.cli import main
from cytoforge.commands.weights import convert_weights, fetch_weights, verify_weights
from cytoforge.data.download import _SecureRedirects, open_securely
from cytoforge.data.feature_files import FEATURE_FILES, Published
from cytoforge.data.weights import VARIABLE, lacking, load_lpips_vgg
from cytoforge.errors import UserError
from cytoforge.settings import WeightsConvert, WeightsFetch, WeightsVerify
from cytoforge.settings.weights import FeatureFileName
from parity import feature_shapes, feature_state, vgg_state

SHAPES = {"inception-768": "inception"}  # file: the network whose shapes it has a part of


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def heads() -> dict[str, Tensor]:
    return feature_state(feature_shapes("lpips-vgg"))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file with heads of LPIPS (VGG), and a tensor that does not belong to them, as others publish it."""
    path = tmp_path / "published" / "heads.pth"
    path.parent.mkdir()
    torch.save({**heads(), "other": torch.zeros(3)}, path)
    return path


class Server(BaseHTTPRequestHandler):
    """Gives what `content` holds by path, and what `moved` says instead."""

    content: ClassVar[dict[str, bytes]] = {}
    moved: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
        elif self.path in self.content:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content[self.path])
        else:
            self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that publishes `heads.pth`; the recipe of lpips-vgg names it."""
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(Server, "content", {"/heads.pth": published.read_bytes()})
    place = f"http://127.0.0.1:{server.server_port}"
    recipe(monkeypatch, f"{place}/heads.pth", published)
    yield place
    server.shutdown()
    thread.join()
    server.server_close()


def recipe(monkeypatch: pytest.MonkeyPatch, address: str, file: Path, **changed: Any) -> None:
    content = file.read_bytes()
    told = replace(Published(address, len(content), hashlib.sha256(content).hexdigest()), **changed)
    monkeypatch.setitem(FEATURE_FILES, "lpips-vgg", replace(FEATURE_FILES["lpips-vgg"], published=told))  # type: ignore[arg-type]


def no_network(address: str) -> Any:
    raise urllib.error.URLError("no route to host")


class TestRecipes:
    def test_the_command_line_names_them_all(self) -> None:
        assert get_args(FeatureFileName) == tuple(FEATURE_FILES)
        assert len({each.file for each in FEATURE_FILES.values()}) == len(FEATURE_FILES)

    def test_addresses_are_secure_and_hashes_whole(self) -> None:
        told = [each.published for each in FEATURE_FILES.values() if each.published]
        assert len(told) == 8
        assert all(each.address.startswith("https://") and len(each.sha256) == 64 for each in told)
        assert all(int(each.sha256, 16) for each in told)
        # the authors put the beginning of the hash into the name
        short = [each for each in told if "-" in each.name]
        assert [each.name.rpartition("-")[2].removesuffix(".pth") for each in short] == [e.sha256[:8] for e in short]
        assert len(short) == 5

    @pytest.mark.parametrize("name", FEATURE_FILES)
    def test_what_is_kept_is_what_other_code_has(self, name: str) -> None:
        each = FEATURE_FILES[name]
        if name.startswith("vgg19"):
            shapes = {key: list(tensor.shape) for key, tensor in vgg_state(10 if name == "vgg19-relu3" else 28).items()}
        else:
            shapes = feature_shapes(SHAPES.get(name, name))
        kept = {key: shape for key, shape in shapes.items() if each.keeps(key)}
        assert (len(kept), sum(map(prod, kept.values()))) == (each.tensors, each.numbers)
        left = set(shapes) - set(kept)
        assert not {key for key in left if not key.startswith(("fc.", "Mixed_7")) and "num_batches" not in key}

    def test_vgg19_is_cut_behind_relu5_1(self) -> None:
        keeps = FEATURE_FILES["vgg19"].keeps
        assert keeps("features.28.bias") and not keeps("features.30.bias") and not keeps("classifier.0.weight")


class TestFetch:
    def test_a_published_file_becomes_ours(self, address: str, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "weights"
        fetch_weights(WeightsFetch(("lpips-vgg",), folder), urllib.request.urlopen)
        assert {file.name for file in folder.iterdir()} == {"lpips_vgg_v0.1.safetensors", "manifest.jsonl"}
        found = load_file(folder / "lpips_vgg_v0.1.safetensors")
        assert found.keys() == heads().keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in heads().items())
        fetch_weights(WeightsFetch(("lpips-vgg",), folder), no_network)  # it is here and right

    def test_it_goes_where_the_variable_says_and_is_found_there(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
        fetch_weights(WeightsFetch(("lpips-vgg",)), urllib.request.urlopen)
        assert (tmp_path / "named" / "lpips_vgg_v0.1.safetensors").is_file()

    def test_without_a_name_it_goes_to_the_cache_and_scores_find_it(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cytoforge.data.weights.default_folder", lambda: tmp_path / "cache")
        assert lacking(None, "lpips-vgg") == (
            "this needs lpips_vgg_v0.1.safetensors; get it by cytoforge weights fetch lpips-vgg, or name the folder "
            f"that holds it with --weights-dir or {VARIABLE}"
        )
        fetch_weights(WeightsFetch(("lpips-vgg",)), urllib.request.urlopen)
        save_file(feature_state(feature_shapes("vgg16")), tmp_path / "cache" / "vgg16.safetensors")
        network = load_lpips_vgg()
        assert network is not None and network.name == "LPIPS (VGG, v0.1)"

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"sha256": "0" * 64}, r"gave a file with SHA-256 [0-9a-f]{64}, not the 0{64} that was published"),
            ({"size": 100}, "gave more than 100 bytes"),
            ({"size": 10**6}, r"gave [\d,]+ of 1,000,000 bytes"),
        ],
    )
    def test_another_file_is_not_kept(
        self,
        changed: dict[str, Any],
        said: str,
        address: str,
        published: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        recipe(monkeypatch, f"{address}/heads.pth", published, **changed)
        with pytest.raises(UserError, match=f"{said}.*put heads.pth into"):
            fetch_weights(WeightsFetch(("lpips-vgg",), tmp_path / "weights"), urllib.request.urlopen)
        assert [file.name for file in (tmp_path / "weights").iterdir()] == ["manifest.jsonl"]

    def test_no_more_than_the_published_size_is_read(
        self, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Endless:
            taken = 0

            def __enter__(self) -> "Endless":
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def read(self, count: int) -> bytes:
                self.taken += count
                return bytes(count)

        stream = Endless()
        recipe(monkeypatch, "https://127.0.0.1/heads.pth", published)
        with pytest.raises(UserError, match="gave more than"):
            fetch_weights(WeightsFetch(("lpips-vgg",), tmp_path / "weights"), lambda _: stream)
        assert stream.taken == published.stat().st_size + 1

    def test_the_beginning_of_a_hash_is_compared_where_no_more_is_known(
        self, address: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = hashlib.sha256(published.read_bytes()).hexdigest()[:8]
        recipe(monkeypatch, f"{address}/heads.pth", published, sha256=known)
        fetch_weights(WeightsFetch(("lpips-vgg",), tmp_path / "weights"), urllib.request.urlopen)
        assert verify_weights(WeightsVerify(weights_dir=tmp_path / "weights")) == 0

    @pytest.mark.parametrize("opener", [no_network, urllib.request.urlopen])
    def test_without_network_one_sentence_says_where_to_put_the_file(
        self, opener: Any, address: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "weights"
        recipe(monkeypatch, f"{address}/absent.pth", published)
        said = rf"/absent\.pth: cannot be fetched \([^)]+\); put absent\.pth into {folder} by other means, and give"
        with pytest.raises(UserError, match=said):
            fetch_weights(WeightsFetch(("lpips-vgg",), folder), opener)
        (folder / "absent.pth").write_bytes(b"something else")
        with pytest.raises(UserError, match=r"absent\.pth: is not the published file, by its SHA-256"):
            fetch_weights(WeightsFetch(("lpips-vgg",), folder), opener)
        (folder / "absent.pth").write_bytes(published.read_bytes())
        fetch_weights(WeightsFetch(("lpips-vgg",), folder), opener)
        assert verify_weights(WeightsVerify(("lpips-vgg",), folder)) == 0
        assert (folder / "absent.pth").is_file()  # it belongs to the user

    def test_only_secure_addresses_are_opened(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match=r"http://127\.0\.0\.1:\d+/heads\.pth: is no https address"):
            open_securely(f"{address}/heads.pth")
        monkeypatch.setattr(Server, "moved", {"/elsewhere": f"{address}/heads.pth"})
        with pytest.raises(UserError, match=r"http://127\.0\.0\.1:\d+/heads\.pth: is no https address"):
            urllib.request.build_opener(_SecureRedirects).open(f"{address}/elsewhere")

    def test_what_is_not_published_is_not_fetched(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"vgg19-relu3: is published in no form .*; fetch vgg19 instead"):
            fetch_weights(WeightsFetch(("vgg19-relu3",), tmp_path), no_network)
        with pytest.raises(UserError, match="name at least one"):
            WeightsFetch(())

    def test_a_file_of_somebody_else_is_not_replaced(self, address: str, tmp_path: Path) -> None:
        (tmp_path / "lpips_vgg_v0.1.safetensors").write_bytes(b"mine")
        with pytest.raises(UserError, match="is there already, and this command did not write it"):
            fetch_weights(WeightsFetch(("lpips-vgg",), tmp_path), urllib.request.urlopen)
        assert (tmp_path / "lpips_vgg_v0.1.safetensors").read_bytes() == b"mine"


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class TestConvert:
    def test_network_is_cut_to_what_scores_read(self, tmp_path: Path) -> None:
        """SqueezeNet as torchvision publishes it, with a classifier, in half precision."""
        state = {key: tensor.half() for key, tensor in feature_state(feature_shapes("squeezenet")).items()}
        torch.save({**state, "classifier.1.weight": torch.zeros(2)}, tmp_path / "net.pth")
        path = convert_weights(WeightsConvert(tmp_path / "net.pth", "squeezenet", tmp_path / "weights"))
        assert path == tmp_path / "weights" / "squeezenet1_1.safetensors"
        found = load_file(path)
        assert found.keys() == state.keys() and {tensor.dtype for tensor in found.values()} == {torch.float32}

    def test_safetensors_are_read_too(
        self, tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save_file(heads(), tmp_path / "heads.safetensors")
        path = convert_weights(WeightsConvert(tmp_path / "heads.safetensors", "lpips-vgg", tmp_path / "weights"))
        assert "heads.safetensors is not the published vgg.pth, by its SHA-256" in capsys.readouterr().out
        with safe_open(path, "pt") as opened:
            assert opened.metadata()["source"] == "heads.safetensors"

    def test_another_network_is_refused(self, published: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"heads\.pth: is no lpips-squeeze \(5 of its tensors .* not 7 with 2,240"):
            convert_weights(WeightsConvert(published, "lpips-squeeze", tmp_path / "weights"))
        state = feature_state(feature_shapes("squeezenet"))
        name, other = "features.3.squeeze.weight", "features.3.expand1x1.weight"
        state[name], state[other] = state[other], state[name]  # as many numbers in the wrong shape
        torch.save(state, tmp_path / "net.pth")
        with pytest.raises(UserError, match=r"is no squeezenet \(.*size mismatch"):
            convert_weights(WeightsConvert(tmp_path / "net.pth", "squeezenet", tmp_path / "weights"))
        assert not (tmp_path / "weights").exists()

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        torch.save({"lin0.model.1.weight": Malicious(tmp_path / "touched")}, tmp_path / "heads.pth")
        with pytest.raises(UserError, match="cannot be read as a checkpoint of tensors alone"):
            convert_weights(WeightsConvert(tmp_path / "heads.pth", "lpips-vgg", tmp_path / "weights"))
        assert not (tmp_path / "touched").exists()

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_torchscript_is_refused(self, tmp_path: Path) -> None:
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "heads.pt")
        with pytest.raises(UserError, match=r"heads\.pt: is a TorchScript program, which would have to be run"):
            convert_weights(WeightsConvert(tmp_path / "heads.pt", "lpips-vgg", tmp_path / "weights"))


class TestVerify:
    @pytest.fixture
    def folder(self, published: Path, tmp_path: Path) -> Path:
        convert_weights(WeightsConvert(published, "lpips-vgg", tmp_path / "weights"))
        return tmp_path / "weights"

    def verified(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["weights", "verify", "--weights-dir", str(folder)])
        return status, capsys.readouterr().out

    def test_as_converted(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, said = self.verified(folder, capsys)
        assert status == 0 and "is as it was converted from heads.pth, which is not the published file" in said

    def test_changed_numbers(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = folder / "lpips_vgg_v0.1.safetensors"
        with safe_open(path, "pt") as opened:
            told = opened.metadata()
        state = load_file(path)
        state["lin2.model.1.weight"][0, 7] += 1e-4
        save_file(state, path, told)
        status, said = self.verified(folder, capsys)
        assert status == 1 and f"{path}: its numbers have been changed since it was converted; fetch it anew" in said

    def test_shapes_numbers_and_damage(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path, state = folder / "lpips_vgg_v0.1.safetensors", heads()
        save_file(state, path)
        assert self.verified(folder, capsys) == (
            0,
            f"{path}: has the right tensors; where they come from is not told, so no checksum is compared\n",
        )
        save_file({**state, "lin0.model.1.weight": torch.ones(1, 65, 1, 1)}, path)
        status, said = self.verified(folder, capsys)
        assert status == 1 and "with 1,473 numbers, and not 5 with 1,472; fetch it anew" in said
        save_file({**state, "lin0.model.1.weight": torch.full((1, 64, 1, 1), torch.nan)}, path)
        assert self.verified(folder, capsys)[0] == 1
        path.write_bytes(path.read_bytes()[:100])
        status, said = self.verified(folder, capsys)
        assert status == 1 and "is damaged" in said

    def test_what_is_absent(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=rf"{folder}: i3d_\S+ is not here; get it by cytoforge weights fetch i3d"):
            verify_weights(WeightsVerify(("lpips-vgg", "i3d"), folder))
        with pytest.raises(UserError, match="no weights are here"):
            verify_weights(WeightsVerify(weights_dir=tmp_path))

    def test_files_that_were_measured_with(self, real_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, said = self.verified(real_weights, capsys)
        assert status == 0 and said.count("is the file that this project measured with") == 4


def test_the_list_tells_what_is_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vgg16.safetensors").touch()
    assert main(["weights", "list", "--weights-dir", str(tmp_path)]) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert first.split() == ["name", "here", "to", "fetch", "licence", "for"]
    assert rows.keys() == FEATURE_FILES.keys()
    assert rows["vgg16"][1:5] == ["yes", "553.43", "MB", "BSD-3-Clause"] and rows["i3d"][1:3] == ["no", "50.88"]
    assert last == f"folder: {tmp_path} (--weights-dir)"


def test_the_page_tells_the_same() -> None:
    """docs/weights.md has a row for each file, with its licence, size and SHA-256."""
    page = (Path(__file__).parents[1] / "docs" / "weights.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert list(rows) == list(FEATURE_FILES)
    for name, each in FEATURE_FILES.items():
        told = [each.file, each.licence]
        told += [each.published.address, f"{each.published.size:,}", each.published.sha256] if each.published else []
        assert [word for word in told if word not in rows[name]] == [], name
