"""`train tracker`: what a move is, which moves are drawn, that none leaks, and a run from end to end."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from cells import draw
from conftest import picture
from cytoforge.cells.crops import SIDE
from cytoforge.cli import main
from cytoforge.commands.train import specified
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference import track_deepsea
from cytoforge.inference.load import load_network
from cytoforge.inference.track_deepsea import deepsea_links, predict
from cytoforge.losses import dice_loss
from cytoforge.networks.tracker import Tracker
from cytoforge.settings import TrainTracker
from cytoforge.training.data import open_data
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.recipe import one_cycle
from cytoforge.training.recipes.tracking import Tracking
from cytoforge.training.samplers.items import Drawing, item_generator
from cytoforge.training.samplers.moves import DIVISION_WEIGHT, Moves, MoveSampler
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.tasks.tracker import Examples

# A divides into B and C, D goes on, E leaves, F enters
MOTHER = draw("""
    EE..........
    ....AAA.....
    ....AAA..DDD
    .........DDD
    """)
DAUGHTERS = draw("""
    ............
    ..BB..CC..FF
    ..BB..CC..DD
    .........DDD
    """)


def film(path: Path, sequence: str = "01", frames: int = 10, *, at: int | None = 4) -> Path:
    """A movie folder of `frames` enlarged pictures: MOTHER before frame `at`, DAUGHTERS from it on."""
    for t in range(frames):
        drawn = MOTHER if at is None or t < at else DAUGHTERS
        labels = np.kron(drawn, np.ones((6, 6), np.int32))
        write_image(path / sequence / f"t{t:03d}.tif", picture(labels, seed=t + 100 * (int(sequence) - 1)))
        write_labels(path / f"{sequence}_GT" / "TRA" / f"man_track{t:03d}.tif", labels)
    last = frames - 1
    rows = [(1, 0, last, 0), (4, 0, last, 0), (5, 0, last, 0)]
    if at is not None:
        rows = [(1, 0, at - 1, 0), (2, at, last, 1), (3, at, last, 1), (4, 0, last, 0), (5, 0, at - 1, 0)]
        rows.append((6, at, last, 0))
    table = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    (path / f"{sequence}_GT" / "TRA" / "man_track.txt").write_text(table)
    return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(film(tmp_path_factory.mktemp("films") / "movie"), "02", 5, at=None)


def opened(movie: Path, **options):
    training = specified(TrainTracker(data=movie, out=Path("x"), preset="tiny", method="deepsea", **options))
    return open_data(training.data, training.seed, "tracks")


def sampler(moves: Moves, policy: str = "flip", synthetic: Synthetic | None = None, **options) -> MoveSampler:
    return MoveSampler(moves, Drawing(size=(SIDE, SIDE), policy=policy, **{"seed": 0, **options}), synthetic)


def train(movie: Path, out: Path, *flags: str) -> int:
    line = [
        "train",
        "tracker",
        str(movie),
        "--out",
        str(out),
        "--method",
        "deepsea",
        "--preset",
        "tiny",
        "--threads",
        "1",
        *flags,
    ]
    return main(line)


def written_out(state: dict[str, Tensor], previous: Tensor, current: Tensor) -> Tensor:
    """DeepSea's tracker on crops (B, 1, h, w), from its description and published names, in functions of torch."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, gain, offset = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gain + offset

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def block(x: Tensor, name: str) -> Tensor:
        inner = norm(conv(x, f"{name}.double_conv.0"), f"{name}.double_conv.1").clamp(min=0)
        return norm(conv(inner, f"{name}.double_conv.4") + conv(x, f"{name}.conv1d"), f"{name}.bn").clamp(min=0)

    def twice(x: Tensor) -> Tensor:
        rows, columns = (torch.linspace(-1, 1, 2 * side) for side in x.shape[2:])
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).expand(len(x), -1, -1, -1)
        return F.grid_sample(x, grid, align_corners=True)

    fine = torch.cat([block(previous, "res1"), block(current, "res2")], dim=1)
    coarse = block(F.max_pool2d(fine, 2), "res3")
    deep = block(F.max_pool2d(coarse, 2), "res4")
    middle = block(torch.cat([coarse, twice(deep)], dim=1), "res5")
    return conv(block(torch.cat([fine, twice(middle)], dim=1), "res6"), "conv3")


def published_state(width: int = 64) -> dict[str, Tensor]:
    """Weights of DeepSea's tracker under its names, drawn, with running statistics that are not neutral."""
    sizes = {"res1": (1, 1), "res2": (1, 1), "res3": (2, 2), "res4": (2, 4), "res5": (6, 2), "res6": (4, 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (before, after) in sizes.items():
        inside, outside = (1 if name in ("res1", "res2") else before * width), after * width
        for layer, side, channels in (
            ("double_conv.0", 3, inside),
            ("double_conv.4", 3, outside),
            ("conv1d", 1, inside),
        ):
            shapes[f"{name}.{layer}.weight"] = (outside, channels, side, side)
            shapes[f"{name}.{layer}.bias"] = (outside,)
        for layer in ("double_conv.1", "bn"):
            shapes |= {f"{name}.{layer}.{part}": (outside,) for part in ("weight", "bias", "running_mean")}
            shapes |= {f"{name}.{layer}.running_var": (outside,), f"{name}.{layer}.num_batches_tracked": ()}
    shapes |= {"conv3.weight": (2, width, 1, 1), "conv3.bias": (2,)}
    draw, state = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        value = 0.2 * torch.randn(shape, generator=draw)
        state[name] = value.abs() + 0.5 if name.endswith("running_var") else value
        if name.endswith("tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
    return state


def test_the_network_is_the_published_one(tmp_path: Path) -> None:
    """An imported tracker computes what its description says, with the published number of parameters."""
    state = published_state()
    learned = [value for name, value in state.items() if "running" not in name and "tracked" not in name]
    assert sum(map(torch.numel, learned)) == sum(p.numel() for p in Tracker().parameters()) == 2_148_546
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "tracker.pth")
    line = ["import", str(tmp_path / "tracker.pth"), "--network", "deepsea-tracker", "--out", str(tmp_path / "run")]
    assert main(line) == 0
    run = Run.open(tmp_path / "run")
    assert run.config["networks"] == {"tracker": {"network": "tracker", "in_channels": 1, "width": 64, "norm": "batch"}}
    assert run.config["darkest"] == -1.0 and run.config["resize"] is None
    tracker = load_network(run)
    crops = torch.rand(2, 2, 1, 32, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(tracker(*crops), written_out(state, *crops), rtol=1e-3, atol=1e-3)
    assert (written_out(state, *crops) - written_out(state, crops[1], crops[0])).abs().max() > 0.1


def test_an_imported_tracker_sees_cells_as_the_published_program_shows_them(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops are the image itself inside cells; those of our own trackers have half its range, above the background."""
    torch.save(published_state(4), tmp_path / "tracker.pth")
    run = tmp_path / "run"
    assert main(["import", str(tmp_path / "tracker.pth"), "--network", "deepsea-tracker", "--out", str(run)]) == 0
    seen: list[Tensor] = []
    original = track_deepsea.predict

    def watched(tracker: Tracker, previous: Tensor, current: Tensor) -> np.ndarray:
        seen.append(torch.cat([previous, current])[..., SIDE // 2, SIDE // 2])
        return original(tracker, previous, current)

    monkeypatch.setattr(track_deepsea, "predict", watched)
    found = []
    for folder in ("imported", "own"):
        line = ["track", str(run), str(movie), "--sequence", "01", "--out", str(tmp_path / folder), "--threads", "1"]
        assert main(line) == 0
        found.append(torch.cat(seen))
        seen.clear()
        config = json.loads((run / "config.json").read_text())
        config.pop("darkest", None)  # as our own trainings
        (run / "config.json").write_text(json.dumps(config))
    inside = found[0] > -0.9
    assert inside.sum() > 10 and found[0][inside].std() > 0.01
    torch.testing.assert_close(found[1][inside], (found[0][inside] + 1) / 2)


@pytest.mark.parametrize(("one", "other"), [((1, 1, 30, 32), (1, 1, 30, 32)), ((1, 1, 32, 32), (2, 1, 32, 32))])
def test_crops_that_do_not_fit_are_refused(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        Tracker(width=2)(torch.zeros(one), torch.zeros(other))


@pytest.mark.parametrize("sizes", [{"width": 0}, {"in_channels": 0}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        Tracker(**sizes)


def test_dice_of_both_classes_by_hand() -> None:
    target = torch.tensor([[[1, 0, 0, 0]]])
    logits = torch.full((1, 2, 1, 4), 0.0)  # both classes one half: cell 2 * .5 / (2 + 1), ground 2 * 1.5 / (2 + 3)
    assert float(dice_loss(logits, target)) == pytest.approx(1 - 1 / 3)
    assert float(dice_loss(logits, target, background=True)) == pytest.approx(1 - (1 / 3 + 3 / 5) / 2)
    target[0, 0, 3] = -100  # left out on both sides: cell 2 * .5 / (1.5 + 1), ground 2 * 1 / (1.5 + 2)
    assert float(dice_loss(logits, target, background=True)) == pytest.approx(1 - (1 / 2.5 + 2 / 3.5) / 2)


def test_moves_are_what_cells_become(movie: Path) -> None:
    data = opened(movie, sequence=("01",), fold="5/5")  # frames 8 and 9 are held out
    moves = Moves(data.items, data.read)
    assert [(move.place, move.cell, move.after) for move in moves.divisions] == [(3, 1, (2, 3))]
    by_frame = Counter(move.place for move in moves.single)
    assert by_frame == {0: 3, 1: 3, 2: 3, 3: 1, 4: 4, 5: 4, 6: 4}  # 5 leaves, 6 enters
    assert {move.cell for move in moves.single if move.place == 3} == {4}


def test_the_target_of_a_division_is_both_daughters(movie: Path) -> None:
    data = opened(movie, sequence=("01",), fold="5/5")
    moves = Moves(data.items, data.read)
    crops, target = moves.crops(moves.divisions[0])
    assert crops.shape == (2, SIDE, SIDE) and target.shape == (SIDE, SIDE) and target.dtype == torch.int64
    assert ndimage.label(target)[1] == 2
    middle = SIDE // 2
    assert target[middle, middle] == 0 and crops[0, middle, middle] > -1  # the mother was between her daughters
    assert (crops[1][target > 0] > -1).all()
    others = (crops[1] > -1) & (target == 0)
    assert others.any() and not (crops[0] > -1)[0].any()  # D and F are in view; of the first frame only the mother is


def test_divisions_are_drawn_by_their_weight(movie: Path) -> None:
    data = opened(movie, sequence=("01",), fold="5/5")
    moves = Moves(data.items, data.read)
    drawn = [len(moves.draw(item_generator(0, i, 0, "move")).after) > 1 for i in range(2000)]
    share = DIVISION_WEIGHT / (DIVISION_WEIGHT + 22)
    assert len(moves.single) == 22
    assert np.mean(drawn) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 2000))


def test_without_divisions_moves_are_drawn_alike(movie: Path) -> None:
    data = opened(movie, sequence=("02",))
    moves = Moves(data.items, data.read)
    assert not moves.divisions
    drawn = Counter(moves.draw(item_generator(0, i, 0, "move"))[:2] for i in range(600))
    assert len(drawn) == len(moves.single) and max(drawn.values()) < 3 * min(drawn.values())


@pytest.mark.parametrize(
    "options",
    [{}, {"seed": 1}, {"fold": "2/3"}, {"limit": 6}, {"limit": 7, "seed": 2}, {"split_by": "group"}],
    ids=str,
)
def test_no_move_of_training_shows_a_frame_of_validation(movie: Path, options: dict) -> None:
    data = opened(movie, **options)
    training, held = Moves(data.items, data.read), Moves(data.held, lambda i: data.validation[i][1:])
    seen = [
        {moves.items[place].name for move in moves.single + moves.divisions for place in (move.place, move.place + 1)}
        for moves in (training, held)
    ]
    assert seen[0] and seen[1] and not seen[0] & seen[1]
    if "limit" in options:
        assert len(data.items) + len(data.held) == options["limit"]


def test_other_sequences_can_be_validated_on(movie: Path) -> None:
    data = opened(movie, sequence=("01",), validation=movie)
    assert {item.group for item in data.items} == {"01"} and {item.group for item in data.held} == {"02"}


@pytest.mark.parametrize("seed", range(6))
def test_frames_in_a_row_are_parts_of_longer_ones(movie: Path, seed: int) -> None:
    dataset = Dataset.open(movie).tracked()
    before: set[str] = set()
    for n in range(1, 16):
        items = dataset.in_a_row(n, seed).items
        assert len(items) == n and before < {item.name for item in items}
        for group in {item.group for item in items}:
            frames = [item.frame for item in items if item.group == group]
            assert frames == list(range(frames[0], frames[0] + len(frames)))
        before = {item.name for item in items}


def test_labels_get_the_ids_of_tracks(tmp_path: Path) -> None:
    path = film(tmp_path / "movie")
    for t in range(10):  # masks of other ids, with a cell that nobody tracked; markers are single pixels
        mask = 40 - np.kron(MOTHER if t < 4 else DAUGHTERS, np.ones((6, 6), np.int32))
        mask[mask == 40] = 0
        mask[20:23, :5] = 41
        write_labels(path / "01_ST" / "SEG" / f"man_seg{t:03d}.tif", mask)
    data = opened(path)
    plain = opened(film(tmp_path / "plain"))
    for i, item in enumerate(data.items):
        assert item.mask.parent.name == "SEG" and item.markers.name.startswith("man_track")
        np.testing.assert_array_equal(data.read(i)[1], plain.read(i)[1])
    assert Moves(data.items, data.read).single == Moves(plain.items, plain.read).single
    assert data.fingerprints[0]["sha256"] != Dataset.open(path).fingerprint()["sha256"]


def test_batches_repeat_and_know_nothing_of_each_other(movie: Path) -> None:
    data = opened(movie)
    one, two = (sampler(Moves(data.items, data.read), "strong", count=count, seed=5)(3, 0.5) for count in (1, 3))
    assert torch.equal(one.images[0], two.images[0]) and torch.equal(one.labels[0], two.labels[0])
    assert two.images.shape == (3, 2, SIDE, SIDE) and two.synthetic == (False,) * 3
    shares = [sampler(Moves(data.items, data.read), "strong", count=4, seed=5, ranks=(rank, 2))(3) for rank in (0, 1)]
    assert [share.items for share in shares] == [(0, 2), (1, 3)]


def test_crops_and_target_are_varied_alike(movie: Path) -> None:
    data = opened(movie, sequence=("02",))
    batches = sampler(Moves(data.items, data.read), "strong", count=1)
    target = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    target[50:90, 30:80] = 1
    for step in range(20):
        crops, varied = batches._varied((2.0 * target - 1).expand(2, -1, -1), target, step, 0)
        assert torch.equal(crops[0], crops[1])
        seen = crops[0] > 0
        assert (seen & (varied > 0)).sum() > 0.9 * (seen | (varied > 0)).sum()


def test_painted_moves_join_and_leave(movie: Path, tmp_path: Path) -> None:
    data, painted = opened(movie), opened(film(tmp_path / "painted", at=None))
    synthetic = Synthetic([Item(f"p{i.name}", **{"group": i.group, "frame": i.frame}) for i in painted.items],
                          painted.read, 0.5, "mix")  # fmt: skip
    batches = sampler(Moves(data.items, data.read), synthetic=synthetic, count=20)
    early, late = batches(1, 0.2), batches(1, 0.8)
    assert 0 < sum(early.synthetic) < 20 and not any(late.synthetic)
    assert [name.startswith("p") for name in early.names] == list(early.synthetic)


def test_the_rate_follows_torchs_one_cycle_at_every_step() -> None:
    steps = 1000
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = OneCycleLR(optimiser, 1.0, total_steps=steps), []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    np.testing.assert_allclose([one_cycle(step / (steps - 1)) for step in range(steps)], rates, atol=5e-3)
    assert one_cycle(0) == pytest.approx(1 / 25) and one_cycle(0.3) == 1 and one_cycle(1) == pytest.approx(1 / 25e4)


def test_the_loop_applies_the_schedule(movie: Path) -> None:
    data = opened(movie)
    batches = sampler(Moves(data.items, data.read), count=1)
    recipe = Tracking(Tracker(width=2), rate=1e-3)
    trainer = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.9)
    for progress in (0.0, 0.1, 0.3, 0.9):
        trainer.step(batches(0, progress), progress)
        assert recipe.optimisers["tracker"].param_groups[0]["lr"] == pytest.approx(1e-3 * one_cycle(progress))


def test_scores_tell_divisions_from_the_others(movie: Path) -> None:
    data = opened(movie, sequence=("01",), fold="5/5")
    examples = Examples(Moves(data.items, data.read))

    class Perfect(torch.nn.Module):
        def __init__(self, answer: np.ndarray) -> None:
            super().__init__()
            self.answer, self.weight = torch.from_numpy(answer), torch.nn.Parameter(torch.zeros(1))

        def forward(self, previous: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
            part, self.answer = self.answer[: len(current)], self.answer[len(current) :]
            return torch.nn.functional.one_hot(part, 2).movedim(-1, 1).float()

    truth = (examples.truth > 0).astype(np.int64)
    assert examples.scores(Perfect(truth)) == {"mitosis": 1.0, "single": 1.0}
    one_daughter = np.where((examples.truth == 2)[[0]], 0, truth[:1])  # divisions come first
    assert examples.scores(Perfect(np.concatenate([one_daughter, truth[1:]]))) == {"mitosis": 0.5, "single": 1.0}
    assert examples.scores(Perfect(np.zeros_like(truth))) == {"mitosis": 0.0, "single": 0.0}


@pytest.fixture(scope="module")
def run(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(movie, out, "--steps", "3") == 0
    return out


def test_its_run_tracks_movies(run: Path, movie: Path, tmp_path: Path) -> None:
    assert main(["track", str(run), str(movie), "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    (first, second) = read_sequences(tmp_path / "out")
    for sequence in (first, second):
        found = {label for _, labels in sequence.tracked() for label in np.unique(labels[labels > 0])}
        assert found == {track.label for track in read_tracks(sequence.tracks["RES"])}


def test_a_run_from_end_to_end(run: Path, movie: Path) -> None:
    opened_run = Run.open(run)
    assert opened_run.config["command"] == "train tracker"
    assert opened_run.config["networks"]["tracker"] == {
        "network": "tracker",
        "in_channels": 1,
        "width": 8,
        "norm": "batch",
    }
    assert opened_run.config["divisions"] == 1
    assert set(opened_run.provenance["average_precision"]) <= {"single", "mitosis"}
    assert all(0 <= row["validation"] <= 1 for row in opened_run.metrics())
    assert (run / "report.html").exists() and list((run / "samples").glob("*.png"))
    dataset = Dataset.open(movie, ("01",)).tracked()
    frames = []
    for item in dataset.items:
        labels = dataset.read_labels(item)
        frames.append((np.searchsorted(np.unique(labels), labels), dataset.read_image(item)))
    counts, pairs = deepsea_links(run, iter(frames))
    assert counts.tolist() == [3] * 4 + [4] * 6
    assert pairs.shape[1] == 4 and (pairs[:, 2] == pairs[:, 0] + 1).all()
    assert len({tuple(pair) for pair in pairs[:, 2:].tolist()}) == len(pairs)  # one predecessor each
    with pytest.raises(UserError, match="was trained on images of 1 channel, these have 3; convert them"):
        deepsea_links(run, ((labels, np.tile(image, (3, 1, 1))) for labels, image in frames))


def test_who_has_seen_no_division_finds_none(
    movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(movie, tmp_path / "run", "--steps", "1", "--sequence", "02") == 0
    assert "no cell divides, so the tracker will find no divisions" in capsys.readouterr().err
    monkeypatch.setattr("cytoforge.inference.track_deepsea.predict", lambda net, one, two: two[:, 0].numpy() > -1)
    assert main(["track", str(tmp_path / "run"), str(movie), "--out", str(tmp_path / "out"), "--sequence", "01"]) == 0
    assert "divisions = none were learned" in capsys.readouterr().out
    (sequence,) = read_sequences(tmp_path / "out")
    assert all(track.parent == 0 for track in read_tracks(sequence.tracks["RES"]))


def test_crops_are_predicted_in_parts_as_in_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = load_network(run, "tracker")
    crops = torch.rand(2, 5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = predict(tracker, *crops)
    monkeypatch.setattr("cytoforge.inference.track_deepsea.TOGETHER", 2)
    assert whole.shape == (5, SIDE, SIDE)
    np.testing.assert_array_equal(predict(tracker, *crops), whole)
    assert predict(tracker, crops[0, :0], crops[1, :0]).shape == (0, SIDE, SIDE)


def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    run: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Tracking.step

    def stopped(self, batch, progress, update):
        if batch.step == 2:
            raise KeyboardInterrupt
        return step(self, batch, progress, update)

    monkeypatch.setattr(Tracking, "step", stopped)
    assert train(movie, tmp_path / "again", "--steps", "3") == 130
    monkeypatch.setattr(Tracking, "step", step)
    assert train(movie, tmp_path / "again", "--steps", "3") == 0
    for file in (run / "weights").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / "weights" / file.name).read_bytes()


def test_painted_frames_are_learned_from_and_never_validated_on(movie: Path, tmp_path: Path) -> None:
    painted = film(tmp_path / "painted", frames=3, at=None)
    (painted / "dataset.json").write_text(json.dumps({"synthetic": {}, "scale": 0.5, "limits": [0, 255]}))
    assert train(movie, tmp_path / "run", "--with", str(painted), "--limit", "5", "--steps", "1") == 0
    stored = Run.open(tmp_path / "run")
    assert stored.provenance["synthetic_data"]["items"] == 3
    assert len(stored.config["training_images"]) + len(stored.config["validation_images"]) == 5
    with pytest.raises(UserError, match="says that these images are synthetic"):
        opened(movie, validation=painted)
    dataset = Dataset.open(painted)
    assert dataset.scale == 0.5 and dataset.limits.tolist() == [0, 255]


def test_what_is_no_tracked_movie_is_refused(
    tiny_dataset: Path, tiny_movie: Path, movie: Path, tmp_path, capsys
) -> None:
    still = film(tmp_path / "still", frames=1, at=None)
    torn = film(tmp_path / "torn", frames=4, at=None)
    write_image(torn / "01" / "t002.tif", np.zeros((1, 70, 72), np.uint8))
    for line, sentence in (
        (f"{tiny_dataset}", "is no movie folder"),
        (f"{tiny_movie} --sequence 02", "holds no tracked frames"),
        (f"{movie}/01", "is a part of the movie"),
        (f"{torn}", "t002.tif: is of 1 x 70 x 72 pixels, others are of 1 x 24 x 72"),
        (f"{still}", "among the frames for training no two in a row show the same cell; give a longer movie"),
        (f"{movie} --limit 3", "among the frames for training no two in a row"),
        (f"{movie} --method deepsea --with {still}", "does not say that these images are synthetic"),
        (f"{movie} --scale 0.5", "--scale: is no option of cytoforge train tracker"),
    ):
        capsys.readouterr()
        assert main(["train", "tracker", *line.split(), "--out", str(tmp_path / "x"), "--preset", "tiny"]) == 2
        assert sentence in capsys.readouterr().err
    assert "sequence 02: has no tracks" in " ".join(Dataset.open(tiny_movie).tracked().notes)
