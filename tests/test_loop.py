"""The training loop, with a recipe small enough to follow by hand."""

import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cytoforge.data.run import Run, unflatten_state
from cytoforge.errors import Interrupted, UserError
from cytoforge.training.course import State, course, trained_in
from cytoforge.training.loop import NotFinite, Trainer, Validation, fit, wait
from cytoforge.training.recipes.recipe import Course, Update, annealed, constant, cosine, falling
from cytoforge.training.samplers.items import Batch, Drawing, item_generator
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Bounded, Budget


class Toy:
    """A linear map with dropout learns the mean of its input; the loss is NaN at chosen steps."""

    averaged: tuple[str, ...] = ("net",)
    perceptual = None

    def __init__(self, spoiled: frozenset[int] = frozenset(), course: Course = cosine) -> None:
        self.course = course
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 1, 1))
        self.networks: dict[str, nn.Module] = {"net": self.net}
        self.optimisers = {"net": torch.optim.Adam(self.net.parameters(), lr=0.01)}
        self.spoiled, self.seen = spoiled, list[int]()

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        self.seen.append(batch.step)
        noise = torch.stack([torch.rand((), generator=g) for g in batch.generators("noise")])
        loss = (self.net(batch.images).mean(dim=(1, 2, 3)) - noise).square().mean()
        if batch.step in self.spoiled:
            loss = loss * math.nan
        update("net", loss)
        return {"loss": loss}


def read(index: int) -> tuple:
    generator = torch.Generator().manual_seed(index)
    return torch.rand((1, 20, 24), generator=generator).numpy(), torch.zeros((20, 24), dtype=torch.int32).numpy()


def batches(count: int = 2, ranks: tuple[int, int] = (0, 1)) -> Windows:
    drawing = Drawing(size=(16, 16), count=count, policy="strong", seed=3, ranks=ranks)
    return Windows(["a", "b", "c"], read, drawing)


def score(networks: dict[str, nn.Module]) -> float:
    with torch.no_grad():
        return -float(networks["net"](torch.ones(1, 1, 16, 16)).mean().sub(0.5).abs())


def train(path: Path, recipe: Toy, budget: Budget, announce: Callable | None = None, **options: object) -> State:
    run = Run.open(path) if path.exists() else Run.create(path, {"command": "test"})
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    trainer = Trainer(recipe, fabric, decay=0.9)
    validation = Validation(options.pop("validate", score), **options)
    return fit(
        trainer, batches(), validation, run, budget, seed=3, announce=announce or (lambda share, state: None)
    )  # fmt: skip


def table(path: Path) -> list[str]:
    """metrics.csv but for its time column."""
    rows = [line.split(",") for line in (path / "metrics.csv").read_text().splitlines()]
    time = rows[0].index("seconds")
    return [",".join(cell for i, cell in enumerate(row) if i != time) for row in rows]


def weights(path: Path) -> dict[str, Tensor]:
    return Run.open(path).load_weights("net")


def test_a_run_learns_and_writes_its_table(tmp_path: Path) -> None:
    state = train(tmp_path / "run", Toy(), Budget(steps=60))
    assert state.finished and state.step == 60
    assert len(state.history) == 20
    assert state.history[-1][1] > state.history[0][1]
    rows = table(tmp_path / "run")
    assert rows[0].split(",") == ["step", "validation", "loss"]
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(3, 61, 3))


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_interrupted_and_continued_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    train(tmp_path / "whole", Toy(), Budget(steps=20))

    def interrupt(share: float, state: State) -> None:
        if state.step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=f"step {stop}"):
        train(tmp_path / "parts", Toy(), Budget(steps=20), interrupt)
    recipe = Toy()
    train(tmp_path / "parts", recipe, Budget(steps=20))
    assert recipe.seen[0] == stop
    assert table(tmp_path / "whole") == table(tmp_path / "parts")
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_killed_and_continued_equals_uninterrupted(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal, sys, torch
        torch.set_num_threads({torch.get_num_threads()})  # which tests before this one may have set
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_loop import Budget, Toy, train
        kill = lambda share, state: os.kill(os.getpid(), signal.SIGKILL) if state.step == 9 else None
        train(Path({str(tmp_path / "parts")!r}), Toy(), Budget(steps=20), kill)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train(tmp_path / "parts", Toy(), Budget(steps=20))
    train(tmp_path / "whole", Toy(), Budget(steps=20))
    assert table(tmp_path / "whole") == table(tmp_path / "parts")
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_batch_with_nan_is_rolled_back_and_left_out(tmp_path: Path) -> None:
    recipe = Toy(spoiled=frozenset({7}))
    state = train(tmp_path / "run", recipe, Budget(steps=40))
    assert state.skipped == [7]
    assert recipe.seen == [0, 1, 2, 3, 4, 5, 6, 7, 6, *range(8, 40)]  # saved every second step
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "run").values())
    assert "step 7: the loss of the net is not a finite number" in (tmp_path / "run" / "provenance.json").read_text()


def test_training_that_keeps_failing_gives_up_and_names_the_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"failed 6 times.*images [abc], [abc].*cytoforge check"):
        train(tmp_path / "run", Toy(spoiled=frozenset(range(4, 20))), Budget(steps=20))


def test_an_infinite_gradient_is_noticed_before_a_weight_is_touched() -> None:
    recipe = Toy(course=constant)
    trainer = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.9)
    before = [p.clone() for p in recipe.net.parameters()]
    bias = recipe.net[3].bias
    with pytest.raises(NotFinite, match="the gradient of the net is not a finite number"):
        trainer.update("net", (bias - bias.detach()).abs().sqrt().sum())  # 0, with slope infinity times 0
    assert all(torch.equal(a, b) for a, b in zip(before, recipe.net.parameters(), strict=True))


@pytest.mark.parametrize(("max_norm", "factor"), [(None, 1.0), (10.0, 1.0), (5.0, 1.0), (1.0, 0.2)])
def test_a_gradient_is_clipped_as_a_whole(max_norm: float | None, factor: float) -> None:
    recipe = Toy(course=constant)
    trainer = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.9)
    recipe.optimisers["net"] = torch.optim.SGD(recipe.net.parameters(), lr=1.0)
    weight, bias = recipe.net[0].weight, recipe.net[3].bias
    before = weight.clone(), bias.clone()
    loss = 3 * weight.flatten()[0] + 4 * bias[0]  # gradient of norm 5
    trainer.update("net", loss, max_norm=max_norm)
    torch.testing.assert_close((before[0] - weight).flatten()[0], torch.tensor(3 * factor))
    torch.testing.assert_close((before[1] - bias)[0], torch.tensor(4 * factor))


def test_patience_stops_early(tmp_path: Path) -> None:
    state = train(tmp_path / "run", Toy(), Budget(steps=100, patience=3), validate=lambda networks: 0.5)
    assert state.finished
    assert state.step == 20  # best at the first of the validations every 5 steps, then three without improvement


def test_patience_waits_until_something_is_learned(tmp_path: Path) -> None:
    scores = iter([0.0] * 8 + [0.06] * 12)
    state = train(tmp_path / "run", Toy(), Budget(steps=100, patience=3), validate=lambda networks: next(scores))
    assert (state.best_step, state.step) == (45, 60)  # after eight validations of nothing, the ninth and three more
    state = train(tmp_path / "none", Toy(), Budget(steps=40, patience=3), validate=lambda networks: 0.049)
    assert state.finished and state.step == 40


@pytest.mark.parametrize(
    ("rises", "best", "end"),
    [
        (
            30,
            120,
            164,
        ),  # 44 steps without a better score are more than a quarter of 164, 40 are no more than one of 160
        (1, 4, 160),  # not before 40 validations
        (90, 360, 400),  # the budget
    ],
)
def test_a_training_ends_when_a_quarter_of_it_has_brought_nothing(
    rises: int, best: int, end: int, tmp_path: Path
) -> None:
    asked: list[float] = []

    def rising(networks: dict[str, nn.Module]) -> float:
        asked.append(0.3 + 0.002 * min(len(asked) + 1, rises))
        return asked[-1]

    budget = Budget(steps=400, until_converged=True)
    state = train(tmp_path / "run", Toy(), budget, validate=rising)
    assert state.finished and (state.best_step, state.step, len(asked)) == (best, end, end // 4)
    assert [int(row.split(",")[0]) for row in table(tmp_path / "run")[1:]] == list(range(4, end + 1, 4))
    again = train(tmp_path / "run", Toy(), budget, validate=rising)  # what has converged does not go on
    assert (again.step, len(asked)) == (end, end // 4)


def test_a_training_that_learns_nothing_never_converges(tmp_path: Path) -> None:
    state = train(tmp_path / "run", Toy(), Budget(steps=100, until_converged=True), validate=lambda networks: 0.01)
    assert (state.best_step, state.step, len(state.history)) == (1, 100, 100)


def test_a_budget_of_time_ends(tmp_path: Path) -> None:
    state = train(tmp_path / "run", Toy(), Budget(seconds=0.5))
    assert state.seconds >= 0.5
    assert state.history[-1][0] == 1


def test_a_budget_of_time_ends_after_as_many_steps_as_are_enough(tmp_path: Path) -> None:
    budget = Bounded(seconds=100, most=50)
    assert [budget.progress(*spent) for spent in ((10, 50), (40, 50), (50, 1), (0, 100))] == [0.5, 0.8, 1.0, 1.0]
    state = train(tmp_path / "few", Toy(), Bounded(seconds=3600, most=20), validate=lambda networks: 0.5)
    assert (state.step, state.enough, state.history[-1][0]) == (20, True, 1.0)
    words = "Ended after 20 steps: more would learn so few cells by heart (validation score 0.500)."
    assert course(state) == ("converged", words)
    state = train(tmp_path / "short", Toy(), Bounded(seconds=1e-6, most=20))
    assert not state.enough and state.step == 1


def test_a_validation_that_uses_up_the_time_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(Budget, "now", property(lambda budget: lambda: clock[0]))

    def slow(networks: dict[str, nn.Module]) -> float:
        clock[0] += 2.0
        return 0.5

    def tick(share: float, state: State) -> None:
        clock[0] += 1.0

    state = train(tmp_path / "run", Toy(), Budget(seconds=3.5), tick, validate=slow)
    assert state.history == [[1.0, 0.5]]
    assert state.finished


def test_slow_validations_are_fewer_but_not_few() -> None:
    """A tenth of the time goes into validation, up to a half where else there would be fewer than five."""
    assert [wait(share) for share in (0.0, 0.01, 0.05, 0.1, 0.25)] == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.5])


def test_a_budget_of_steps_is_validated_however_long_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps go before seconds, and rows of metrics.csv do not depend on the computer."""
    clock = [0.0]
    monkeypatch.setattr(Budget, "now", property(lambda budget: lambda: clock[0]))

    def slow(networks: dict[str, nn.Module]) -> float:
        clock[0] += 2.0
        return 0.5

    state = train(tmp_path / "run", Toy(), Budget(steps=40, seconds=3.5), validate=slow)
    assert state.step == 40 and len(state.history) == 20


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []

    def rising_then_falling(networks: dict[str, nn.Module]) -> float:
        kept.append({name: t.clone() for name, t in networks["net"].state_dict().items()})
        return [0.1, 0.9, 0.3][min(len(kept) - 1, 2)]

    state = train(tmp_path / "run", Toy(), Budget(steps=20), validate=rising_then_falling)
    assert (state.best, state.best_step) == (0.9, 2)
    assert all(torch.equal(t, kept[1][name]) for name, t in weights(tmp_path / "run").items())
    assert not torch.equal(kept[1]["0.weight"], kept[-1]["0.weight"])


def test_what_training_starts_from_is_kept_if_it_is_not_surpassed(tmp_path: Path) -> None:
    recipe, asked = Toy(), list[float]()
    start = {name: t.clone() for name, t in recipe.net.state_dict().items()}

    def falling(networks: dict[str, nn.Module]) -> float:
        asked.append(1.0 / (len(asked) + 1))
        return asked[-1]

    state = train(tmp_path / "run", recipe, Budget(steps=20), validate=falling, at_start=True)
    assert (state.best, state.best_step, state.history[0]) == (1.0, 0, [0.0, 1.0])
    assert all(torch.equal(t, start[name]) for name, t in weights(tmp_path / "run").items())
    assert course(state).words.startswith("Training did not improve on what it started from (validation score 1.000)")
    assert [int(row.split(",")[0]) for row in table(tmp_path / "run")[1:3]] == [0, 1]


def test_a_start_is_validated_once_however_often_training_is_begun(tmp_path: Path) -> None:
    def stop(share: float, state: State) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", Toy(), Budget(steps=20), stop, at_start=True)
    state = train(tmp_path / "run", Toy(), Budget(steps=20), at_start=True)
    assert [share for share, _ in state.history][:2] == [0.0, 0.05]
    assert [int(row.split(",")[0]) for row in table(tmp_path / "run")[1:]] == list(range(21))


def test_the_weights_of_the_end_are_kept_when_asked_for(tmp_path: Path) -> None:
    recipe, fall = Toy(), iter(range(100, 0, -1))
    state = train(
        tmp_path / "run", recipe, Budget(steps=20), validate=lambda networks: float(next(fall)), keep_last=True
    )
    assert (state.best, state.best_step) == (100, 1)
    tensors, meta = Run.open(tmp_path / "run").load_state()
    end = unflatten_state(tensors, meta["structure"])["average"]["net"]
    assert all(torch.equal(t, end[name]) for name, t in weights(tmp_path / "run").items())


def test_the_moving_average_by_hand() -> None:
    recipe = Toy(course=constant)
    trainer = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.5)
    start = recipe.net[0].weight.detach().clone()
    trainer.step(batches()(9), progress=0.0)  # decay = min(0.5, 10 / 19)
    expected = 0.5 * start + 0.5 * recipe.net[0].weight.detach()
    torch.testing.assert_close(trainer.average["net"][0].weight, expected)  # type: ignore[index]
    assert trainer.average["net"][1].num_batches_tracked == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("course", "factors"),
    [
        (constant, {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
        (falling, {0.0: 1.0, 0.5: 1.0, 0.75: 0.5, 0.9: 0.2, 1.0: 0.0}),
        # rises from a twentieth; half way between 1 and a hundredth in the middle
        (cosine, {0.0: 0.05, 0.01: 0.5 * (0.01 + 0.99 * 0.5 * (1 + math.cos(0.01 * math.pi))), 0.5: 0.505, 1.0: 0.01}),
    ],
)
def test_the_loop_sets_the_rates_of_every_step_by_the_course(course: Course, factors: dict[float, float]) -> None:
    recipe = Toy(course=course)
    recipe.optimisers["net"].add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5})
    trainer = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.9)
    for progress, factor in factors.items():
        trainer.step(batches()(0), progress)
        rates = [group["lr"] for group in recipe.optimisers["net"].param_groups]
        assert rates == pytest.approx([0.01 * factor, 0.5 * factor])


def test_without_annealing_rates_stay() -> None:
    assert annealed(True) is cosine and annealed(False) is constant


def test_items_depend_on_their_own_seed_only() -> None:
    alone, together = batches(count=1), batches(count=3)
    assert torch.equal(together(5).images[0], batches(count=3)(5).images[0])
    first = item_generator(3, 5, 0, "augment").initial_seed()
    assert (
        first == alone(5).generators("augment")[0].initial_seed() == together(5).generators("augment")[0].initial_seed()
    )
    assert first != item_generator(3, 5, 0, "styles").initial_seed() != item_generator(3, 5, 1, "styles").initial_seed()


def test_two_processes_share_one_batch() -> None:
    whole, parts = batches(count=4)(2), [batches(count=4, ranks=(rank, 2))(2) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert part.items == whole.items[rank::2]
        assert torch.equal(part.images, whole.images[rank::2])


def test_every_image_is_seen_once_a_pass() -> None:
    names = [name for step in range(6) for name in batches(count=2)(step).names]
    assert all(sorted(names[i : i + 3]) == ["a", "b", "c"] for i in range(0, 12, 3))


@pytest.mark.parametrize(
    ("history", "steps", "words", "last"),
    [
        ([], 0, "Training ended before the first validation", "0 steps, not enough yet"),
        ([[0.25, 0.0], [0.5, 0.0], [1.0, 0.004]], 9, "Not learned yet", "9 steps, not enough yet"),
        ([[0.25, 0.2], [0.5, 0.5], [1.0, 0.505]], 100, "Converged", "100 steps"),
        ([[0.25, 0.2], [0.5, 0.5], [1.0, 0.505]], 9, "Too few steps to tell", "9 steps"),
        ([[0.1, 0.6], [0.5, 0.7], [1.0, 0.58]], 100, "Went astray (best validation score 0.700 at step 1", "100 steps"),
        ([[0.1, 0.2], [1.0, 0.5]], 100, "Too few validations to tell", "100 steps"),
        ([[0.05, 0.5], [0.78, 0.9], [1.0, 0.89]], 100, "Too few validations to tell", "100 steps"),
        ([[0.25, 0.2], [0.5, 0.5], [1.0, 0.6]], 100, "Not converged yet", "100 steps"),
        # ended before its budget: quarters are those of what was trained
        ([[0.1, 0.2], [0.2, 0.5], [0.4, 0.6]], 100, "Not converged yet", "100 steps"),
        (
            [[0.1, 0.2], [0.2, 0.5], [0.4, 0.505]],
            100,
            "Converged (best validation score 0.505 at step 1 of 100; the last quarter gained 0.005)",
            "100 steps",
        ),
        ([[0.02, 0.2], [0.38, 0.5], [0.4, 0.5]], 100, "Too few validations to tell", "100 steps"),
    ],
)
def test_the_course_and_the_last_line(history: list[list[float]], steps: int, words: str, last: str) -> None:
    state = State(step=steps, history=history, best=max((s for _, s in history), default=-math.inf), best_step=1)
    assert course(state).words.startswith(words) and trained_in(state) == last


@pytest.mark.parametrize(
    ("scores", "patience", "words"),
    [
        (
            [0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.6],
            3,
            "Converged (best validation score 0.700 at step 35 of 50; it stopped because 3 validations brought nothing "
            "better; the last quarter gained 0.000).",
        ),
        (
            [0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.6, 0.6],
            2,
            "Not converged yet (best validation score 0.700 at step 40 of 50; it stopped because 2 validations brought "
            "nothing better; the last quarter still gained 0.100): more patience would help.",
        ),
        (
            [0.4, 0.5, 0.4],
            1,
            "Too few steps to tell (best validation score 0.500 at step 10 of 15; it stopped because 1 validation "
            "brought nothing better): give it more patience, and look at what it makes.",
        ),
        (
            [0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.7, 0.6, *[0.7] * 11],  # patience is at its end with the budget
            12,
            "Converged (best validation score 0.700 at step 40 of 100; the last quarter gained 0.000).",
        ),
    ],
)
def test_the_course_says_that_patience_ended_the_training(
    tmp_path: Path, scores: list[float], patience: int, words: str
) -> None:
    left = iter(scores)
    budget = Budget(steps=100, patience=patience)
    state = train(tmp_path / "run", Toy(), budget, validate=lambda networks: next(left))
    assert list(left) == [] and course(state).words == words


def test_the_course_on_a_start_that_patience_found_no_better_than(tmp_path: Path) -> None:
    fall = iter([0.9, 0.8, 0.7, 0.6])
    budget = Budget(steps=100, patience=3)
    state = train(tmp_path / "run", Toy(), budget, validate=lambda networks: next(fall), at_start=True)
    assert course(state).words == (
        "Training did not improve on what it started from (validation score 0.900; it stopped because 3 validations "
        "brought nothing better), which was kept."
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, meta: meta.pop("counters"),
        lambda tensors, meta: meta.pop("structure"),
        lambda tensors, meta: meta.update(structure=3),
        lambda tensors, meta: meta["counters"].update(step="two"),
        lambda tensors, meta: meta["counters"].update(mood="good"),
        lambda tensors, meta: tensors.update({"0": torch.zeros(7)}),
        lambda tensors, meta: tensors.pop("0"),
    ],
)
def test_the_state_of_another_training_is_refused(spoil: Callable[[dict, dict], object], tmp_path: Path) -> None:
    def interrupt(share: float, state: State) -> None:
        if state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(tmp_path / "run", Toy(), Budget(steps=9), interrupt)
    run = Run.open(tmp_path / "run")
    tensors, meta = run.load_state()
    spoil(tensors, meta)
    run.save_state(tensors, meta)
    said = r"state\.safetensors: does not fit this training .*; remove it, and start again with --overwrite$"
    with pytest.raises(UserError, match=f"(?s){said}"):
        train(tmp_path / "run", Toy(), Budget(steps=9))
