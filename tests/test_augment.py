"""Windows and their augmentation: labels follow the image, values stay in range, items depend on their generator."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from cells import THREE_CELLS
from cytoforge.cells import augment as module
from cytoforge.cells.augment import (
    DEGRADING,
    DIFFERENTIABLE,
    VANILLA,
    DiffAugment,
    apply_diff_augment,
    augment,
    augment_pair,
    draw_diff_augment,
)

POLICIES = ("strong", "wide", "paper", "none")


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def scene(height: int = 90, width: int = 120, channels: int = 1) -> tuple[Tensor, Tensor]:
    """A noisy image float32 and labels int32 with unrelated ids."""
    image = torch.rand(channels, height, width, generator=seeded(0)) * 2 - 1
    labels = torch.randint(0, 2**31 - 1, (height, width), generator=seeded(1), dtype=torch.int32)
    return image, labels


def blocks(height: int = 96, width: int = 128, side: int = 16) -> Tensor:
    """Labels 1, 2, ... of square cells that fill the image."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    return (rows[:, None] * (width // side) + columns + 1).int()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every item of the paper's policy is augmented."""
    monkeypatch.setattr(augment, "__defaults__", (1.0,))


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(4, 70), st.integers(4, 70)),
    source=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
)
def test_shape_kind_and_range(
    policy: str, size: tuple[int, int], source: tuple[int, int], channels: int, seed: int
) -> None:
    image, labels = scene(*source, channels)
    before = image.clone(), labels.clone()
    window, cells = augment(image, labels, size, policy, seeded(seed))
    assert window.shape == (channels, *size)
    assert cells.shape == size
    assert (window.dtype, cells.dtype) == (torch.float32, torch.int32)
    assert window.min() >= -1
    assert window.max() <= 1
    assert torch.isin(cells, labels).all()
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("policy", POLICIES)
def test_an_item_depends_on_its_generator_only(policy: str, always: None) -> None:
    image, labels = scene()
    first = [augment(image, labels, (32, 40), policy, seeded(seed)) for seed in range(8)]
    torch.manual_seed(123)
    again = [augment(image, labels, (32, 40), policy, seeded(seed)) for seed in reversed(range(8))][::-1]
    for (one, one_cells), (other, other_cells) in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one_cells, other_cells)
    assert not any(torch.equal(one[0], other[0]) for one, other in itertools.combinations(first, 2))


def test_none_cuts_every_window_there_is() -> None:
    labels = torch.arange(6 * 7).reshape(6, 7)
    image = labels[None].float()
    corners = Counter()
    for seed in range(600):
        window, cells = augment(image, labels, (4, 5), "none", seeded(seed))
        top, left = divmod(int(cells[0, 0]), 7)
        assert torch.equal(cells, labels[top : top + 4, left : left + 5])
        assert torch.equal(window[0], cells.float())
        corners[top, left] += 1
    assert set(corners) == set(itertools.product(range(3), range(3)))
    assert min(corners.values()) > 600 / 9 / 2


def test_a_small_image_is_continued_by_reflection() -> None:
    labels = torch.tensor([[1, 2, 3], [4, 5, 6]])
    seen = set()
    for seed in range(40):
        window, cells = augment(labels[None].float(), labels, (4, 5), "none", seeded(seed))
        assert torch.equal(window[0], cells.float())
        assert torch.isin(labels, cells).all()
        seen.add(tuple(map(tuple, cells.tolist())))
    assert ((1, 2, 3, 3, 2), (4, 5, 6, 6, 5), (4, 5, 6, 6, 5), (1, 2, 3, 3, 2)) in seen
    assert len(seen) == 3 * 3


@pytest.mark.parametrize("policy", ["strong", "wide", "paper"])
def test_labels_follow_the_image(policy: str, monkeypatch: pytest.MonkeyPatch, always: None) -> None:
    """With the label map as the image, away from outlines both must show the same cell."""
    for vary in ("_strong_intensity", "_wide_intensity"):
        monkeypatch.setattr(module, vary, lambda image, generator: image)
    geometry = {name: VANILLA[name] for name in ("crop", "horizontal flip", "vertical flip")}
    monkeypatch.setattr(module, "VANILLA", geometry)
    labels = blocks()
    image = (labels[None] / labels.max() * 2 - 1).float()
    for seed in range(60):
        window, cells = augment(image, labels, (64, 80), policy, seeded(seed))
        around = torch.nn.functional.unfold(cells[None, None].float(), 3, padding=1).reshape(9, 64, 80)
        inside = (around == cells).all(dim=0)
        assert inside.float().mean() > 0.5
        shown = (window[0] + 1) / 2 * labels.max()
        torch.testing.assert_close(shown[inside], cells[inside].float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("policy", "least", "most"), [("strong", 0.7, 1.4), ("wide", 0.6, 1.6)])
def test_cells_are_scaled_within_the_range_of_the_policy(policy: str, least: float, most: float) -> None:
    labels = torch.zeros(192, 192, dtype=torch.int32)
    labels[48:144, 48:144] = 1
    image = torch.zeros(1, 192, 192)
    areas = [augment(image, labels, (192, 192), policy, seeded(seed))[1].sum() / 96**2 for seed in range(200)]
    assert least**2 * 0.9 < min(areas) < least**2 * 1.25
    assert most**2 * 0.8 < max(areas) < most**2 * 1.1


def test_strong_rotates_by_any_angle_and_mirrors() -> None:
    """An L-shaped pair of cells: the angle from one to the other, and which side the third lies on."""
    labels = torch.zeros(200, 200, dtype=torch.int32)
    labels[95:105, 95:105], labels[95:105, 125:135], labels[125:135, 95:105] = 1, 2, 3
    angles, mirrored = [], 0
    for seed in range(200):
        cells = augment(torch.zeros(1, 200, 200), labels, (200, 200), "strong", seeded(seed))[1]
        origin, right, below = (torch.nonzero(cells == cell).float().mean(dim=0) for cell in (1, 2, 3))
        (y, x), (v, u) = (right - origin).tolist(), (below - origin).tolist()
        angles.append(float(torch.atan2(torch.tensor(y), torch.tensor(x))))
        mirrored += x * v - y * u < 0
    sectors = Counter(int((angle + torch.pi) // (torch.pi / 4)) for angle in angles)
    assert min(sectors[sector] for sector in range(8)) >= 8
    assert 70 <= mirrored <= 130


def test_strong_leaves_a_share_of_items_plain() -> None:
    """Flips and quarter turns only: then the sorted grey values are those of a window of the source."""
    image, labels = torch.rand(1, 64, 64, generator=seeded(0)) * 2 - 1, torch.zeros(64, 64, dtype=torch.int32)
    values = image.flatten().sort().values
    windows = [augment(image, labels, (64, 64), "strong", seeded(seed))[0] for seed in range(300)]
    plain = sum(torch.allclose(window.flatten().sort().values, values, atol=1e-4) for window in windows)
    assert 300 * 0.1 - 18 <= plain <= 300 * 0.1 + 35  # those that drew nothing else come on top


def test_wide_moves_labels_by_geometry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same labels come whatever the image shows, and whatever is done to its grey values."""
    image, labels = scene(96, 96)
    varied = [augment(image, labels, (64, 64), "wide", seeded(seed)) for seed in range(40)]
    monkeypatch.setattr(module, "_wide_intensity", lambda image, generator: image)
    unvaried = [augment(-image / 2, labels, (64, 64), "wide", seeded(seed)) for seed in range(40)]
    for (window, cells), (other, same) in zip(varied, unvaried, strict=True):
        assert torch.equal(cells, same) and torch.isin(cells, labels).all()
        assert not torch.equal(window, other)


def test_wide_inverts_a_share_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but the draw of inversion, an item is as it was or its negative."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 64, 64).contiguous()
    for name in ("P_COARSE", "P_INTENSITY", "P_SHADE", "P_WIDE_BLUR", "P_WIDE_NOISE"):
        monkeypatch.setattr(module, name, 0.0)
    seen = Counter()
    for seed in range(400):
        found = module._wide_intensity(ramp, seeded(seed))
        kind = next(kind for kind, expected in ((1, ramp), (-1, -ramp)) if torch.allclose(found, expected, atol=1e-5))
        seen[kind] += 1
    assert 400 * module.P_INVERSION / 2 < seen[-1] < 400 * module.P_INVERSION * 1.5


def test_wide_is_wider_than_strong() -> None:
    """Mean and spread of grey values vary more from window to window, and so does their order."""
    image = torch.where(blocks(96, 96) % 2 == 0, 0.5, -0.5)[None]
    labels = torch.zeros(96, 96, dtype=torch.int32)
    spread = {}
    for policy in ("strong", "wide"):
        windows = torch.stack([augment(image, labels, (64, 64), policy, seeded(seed))[0] for seed in range(150)])
        assert windows.abs().max() <= 1 and windows.isfinite().all()
        spread[policy] = torch.stack([windows.mean(dim=(1, 2, 3)).std(), windows.std(dim=(1, 2, 3)).std()])
    assert (spread["wide"] > 1.3 * spread["strong"]).all()


def test_parts_of_wide_by_hand() -> None:
    fine = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 64, 64).contiguous()
    coarse = module._coarse(fine, 0.4)
    assert coarse.shape == fine.shape and coarse.std() < 0.2 * fine.std()  # stripes of one pixel are not resolved
    torch.testing.assert_close(module._coarse(torch.full((2, 9, 13), 0.3), 0.5), torch.full((2, 9, 13), 0.3))
    for seed in range(50):
        light = module._unevenness((40, 60), seeded(seed))
        assert light.shape == (40, 60) and light.abs().max() <= 1
        assert light.diff(dim=0).abs().max() < 0.2 and light.diff(dim=1).abs().max() < 0.2  # smooth
        assert light.std() > 0.1
    factors = torch.tensor([module._factor((0.4, 2.5), seeded(seed)) for seed in range(500)])
    assert factors.min() >= 0.4 and factors.max() <= 2.5 and abs(factors.log().mean()) < 0.1


def test_elastic_deformation_does_not_fold() -> None:
    for seed in range(60):
        dy, dx = module._displacement((128, 96), seeded(seed))
        y_y, y_x = torch.gradient(dy)
        x_y, x_x = torch.gradient(dx)
        assert ((1 + y_y) * (1 + x_x) - y_x * x_y).min() > 0


@pytest.mark.usefixtures("always")
def test_paper_functions_come_at_one_half_each_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def recorder(name: str) -> object:
        return lambda image, labels, generator: (calls.append(name), (image, labels))[1]

    monkeypatch.setattr(module, "VANILLA", {name: recorder(name) for name in VANILLA})
    counts, firsts, sequences = Counter(), Counter(), set()
    for seed in range(400):
        calls.clear()
        augment(*scene(8, 8), (8, 8), "paper", seeded(seed))
        assert len(set(calls)) == len(calls)
        counts.update(calls)
        firsts.update(calls[:1])
        sequences.add(tuple(calls))
    assert len(counts) == 10
    assert all(150 <= count <= 250 for count in counts.values())  # five standard deviations
    assert len(firsts) == 10
    assert max(firsts.values()) < 400 / 10 + 5 * 6
    assert len(sequences) > 350


def test_items_are_varied_never_and_always_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    varied: list[Generator] = []

    def vary(image: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        varied.append(generator)
        return image, labels

    monkeypatch.setattr(module, "_vanilla", vary)
    image, labels = scene(32, 32)
    for seed in range(50):
        cut, never = (augment(image, labels, (16, 16), *given) for given in (
            ("none", seeded(seed)), ("paper", seeded(seed), 0.0)))  # fmt: skip
        assert all(map(torch.equal, cut, never)) and varied == []
    for seed in range(50):
        augment(image, labels, (16, 16), "paper", seeded(seed), 1.0)
    assert len(varied) == 50
    for policy in ("strong", "flip", "none"):
        augment(image, labels, (16, 16), policy, seeded(0), 1.0)
    assert len(varied) == 50  # other policies have no such share


def test_a_window_of_the_size_of_the_image_is_the_image() -> None:
    """So the paper's preset trains on whole images, all of which are resized to one size."""
    image, labels = scene(32, 48)
    for seed in range(5):
        found = augment(image, labels, (32, 48), "paper", seeded(seed), 0.0)
        assert torch.equal(found[0], image) and torch.equal(found[1], labels)


def test_paper_leaves_four_of_five_items_alone() -> None:
    image, labels = scene(32, 32)
    changed = 0
    for seed in range(400):
        generator = seeded(seed)
        changed += not torch.equal(augment(image, labels, (32, 32), "paper", generator)[0], image)
    assert 40 <= changed <= 120  # 0.2 of them, five standard deviations


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", VANILLA)
def test_each_paper_function_changes_what_it_should(name: str, channels: int) -> None:
    image, labels = scene(48, 60, channels)
    image = (image + 1) / 2
    changed, cells = VANILLA[name](image, labels, seeded(0))
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    moves = name in ("crop", "horizontal flip", "vertical flip")
    assert torch.equal(cells, labels) != moves
    if name == "saturation" and channels == 1:
        torch.testing.assert_close(changed, image)
    else:
        assert (changed - image).abs().max() > 1e-3


def test_paper_functions_by_hand() -> None:
    image = torch.full((1, 20, 20), 0.4)
    image[:, :, 10:] = 0.6
    labels = torch.arange(400).reshape(20, 20)
    flipped, cells = VANILLA["horizontal flip"](image, labels, seeded(0))
    assert torch.equal(flipped[0, 0, :10], image[0, 0, 10:])
    assert cells[0].tolist() == list(range(19, -1, -1))
    assert VANILLA["vertical flip"](image, labels, seeded(0))[1][:, 0].tolist() == list(range(380, -1, -20))
    factor = 0.67 + 0.66 * float(torch.rand((), generator=seeded(3)))
    brighter = VANILLA["brightness"](image, labels, seeded(3))[0]
    torch.testing.assert_close(brighter, image * factor)
    stretched = VANILLA["contrast"](image, labels, seeded(3))[0]
    torch.testing.assert_close(stretched, (image - 0.5) * factor + 0.5)
    sharp = VANILLA["sharpness"](image, labels, seeded(0))[0]
    smooth = (0.4 * 10 + 0.6 * 3) / 13  # kernel of ones around a five, left of the step
    assert sharp[0, 5, 9].item() == pytest.approx(0.4 * 2 - smooth, abs=1e-6)
    colours = torch.stack([torch.full((6, 6), value) for value in (0.4, 0.5, 0.6)])
    saturated = VANILLA["saturation"](colours, labels, seeded(3))[0]
    torch.testing.assert_close(saturated[:, 0, 0], torch.tensor([0.5 - 0.1 * factor, 0.5, 0.5 + 0.1 * factor]))


def test_paper_crop_magnifies_a_part() -> None:
    labels = torch.arange(40 * 60).reshape(40, 60)
    image = labels[None] / 2400
    corners = set()
    for seed in range(200):
        window, cells = VANILLA["crop"](image, labels, seeded(seed))
        rows, columns = (cells // 60).unique(), (cells % 60).unique()
        assert (len(rows), len(columns)) == (34, 51)
        assert torch.equal(rows, torch.arange(rows[0], rows[0] + 34))
        torch.testing.assert_close(window[0, 1:-1, 1:-1] * 2400, cells[1:-1, 1:-1].float(), rtol=0, atol=31)
        corners.add((int(rows[0]), int(columns[0])))
    assert {top for top, _ in corners} == set(range(7))
    assert {left for _, left in corners} == set(range(10))


def test_paper_noise_neither_wraps_around_nor_overwhelms() -> None:
    labels = torch.zeros(50, 50, dtype=torch.int32)
    spreads = []
    for seed in range(30):
        dark = VANILLA["noise"](torch.zeros(1, 50, 50), labels, seeded(seed))[0]
        assert dark.max() < 0.06
        spreads.append(VANILLA["noise"](torch.full((1, 50, 50), 0.5), labels, seeded(seed))[0].std())
    assert 0.0047 < min(spreads) < 0.006
    assert 0.009 < max(spreads) < 0.0103


def smooth(height: int, width: int, step: float) -> Tensor:
    """An image (1, h, w) whose values tell places, at pixels that are `step` px of the small image wide."""
    y, x = ((torch.arange(n) + 0.5) * step for n in (height, width))
    return ((y[:, None] / 30).sin() * (x / 40).cos())[None] * 0.8


@pytest.mark.parametrize("name", sorted(VANILLA.keys() - set(DEGRADING)))
def test_a_pair_is_varied_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large image, reduced again, is the small one, and labels stay on the large one's cells."""
    monkeypatch.setattr(module, "VANILLA", {name: VANILLA[name]})
    monkeypatch.setattr(module, "P_FUNCTION", 1.0)
    large, small = smooth(96, 128, 0.5), smooth(48, 64, 1.0)
    marked = torch.arange(96 * 128).reshape(96, 128)
    for seed in range(5):
        one, other, labels = augment_pair(large, small, marked, seeded(seed), 1.0)
        assert one.shape == large.shape and other.shape == small.shape and labels.shape == marked.shape
        reduced = torch.nn.functional.avg_pool2d(one, 2)
        # saturation has no effect on grey; sharpness sees neighbours at another distance
        torch.testing.assert_close(reduced, other, atol=0.02, rtol=0)
        assert name == "saturation" or not torch.equal(other, small)
        if "flip" in name or name == "crop":
            rows, columns = labels // 128, labels % 128
            torch.testing.assert_close(large[0, rows, columns], one[0], atol=0.02, rtol=0)
            assert not torch.equal(labels, marked)


def test_only_the_small_image_of_a_pair_is_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "P_FUNCTION", 1.0)
    monkeypatch.setattr(module, "VANILLA", {name: VANILLA[name] for name in DEGRADING})
    large, small, labels = smooth(96, 128, 0.5), smooth(48, 64, 1.0), torch.zeros(96, 128)
    one, other, _ = augment_pair(large, small, labels, seeded(0), 1.0)
    torch.testing.assert_close(one, large)
    assert (other - small).abs().max() > 0.1
    torch.testing.assert_close(augment_pair(large, small, labels, seeded(0), 1.0, degrade=False)[1], small)
    same = [torch.equal(augment_pair(large, small, labels, seeded(seed))[1], small) for seed in range(200)]
    assert 140 <= sum(same) <= 180  # p_vanilla is 0.2


def test_mistakes_are_named() -> None:
    image, labels = scene(20, 20)
    with pytest.raises(ValueError, match="policy must be one of strong, wide, paper, flip, none, got 'weak'"):
        augment(image, labels, (8, 8), "weak", seeded(0))
    with pytest.raises(ValueError, match=r"must fit, got \(1, 20, 20\) and \(19, 20\)"):
        augment(image, labels[1:], (8, 8), "none", seeded(0))
    with pytest.raises(ValueError, match=r"must fit, got \(20, 20\) and \(20, 20\)"):
        augment(image[0], labels, (8, 8), "none", seeded(0))
    with pytest.raises(ValueError, match=r"at least 4 px high and wide, got \(8, 3\)"):
        augment(image, labels, (8, 3), "none", seeded(0))


NOTHING_DONE = DiffAugment((), 0.3, 1.5, 0.5, (1, -2), (slice(0, 2), slice(1, 3)))


def done(function: str, image: Tensor) -> Tensor:
    return apply_diff_augment(image[None], [replace(NOTHING_DONE, functions=(function,))])[0]


def test_differentiable_functions_by_hand() -> None:
    image = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(done("brightness", image), image + 0.3)
    # the mean of the channels of a pixel is its first channel plus 6: -6 and +6 become -9 and +9
    torch.testing.assert_close(done("saturation", image), torch.stack([image[0] - 3, image[1] + 3]))
    torch.testing.assert_close(done("contrast", image), (image - 11.5) / 2 + 11.5)
    expected = torch.zeros(3, 4)
    expected[1:, :2] = image[0, :2, 2:]  # one down, two to the left
    assert torch.equal(done("translation", image)[0], expected)
    expected = image.clone()
    expected[:, :2, 1:3] = 0
    assert torch.equal(done("cutout", image), expected)
    assert torch.equal(done("saturation", image[:1]), image[:1])


def test_differentiable_functions_run_in_the_order_drawn() -> None:
    image = torch.ones(1, 1, 4, 4)
    late, early = (
        apply_diff_augment(image, [replace(NOTHING_DONE, functions=functions)])
        for functions in (("cutout", "brightness"), ("brightness", "cutout"))
    )
    assert late[0, 0, 0, 1] == pytest.approx(0.3)
    assert early[0, 0, 0, 1] == 0


def test_one_draw_does_the_same_to_real_and_fake() -> None:
    real, fake = torch.rand(6, 2, 24, 32, generator=seeded(0)), torch.rand(6, 2, 24, 32, generator=seeded(1))
    draw = draw_diff_augment([seeded(seed) for seed in range(6)], real.shape, 1.0)
    assert len({item.functions for item in draw}) > 3
    kept = apply_diff_augment(real, draw), apply_diff_augment(real.clone(), draw)
    assert torch.equal(*kept)
    blind = [replace(item, functions=tuple(f for f in item.functions if f != "contrast")) for item in draw]
    both = apply_diff_augment(real, blind) - apply_diff_augment(fake, blind)  # affine but for the mean in contrast
    linear = [replace(item, functions=tuple(f for f in item.functions if f != "brightness")) for item in blind]
    torch.testing.assert_close(both, apply_diff_augment(real - fake, linear))


def test_gradients_flow_back_through_every_function() -> None:
    for function in DIFFERENTIABLE:
        image = torch.rand(1, 2, 6, 6, dtype=torch.float64, generator=seeded(0)).requires_grad_()
        draw = [replace(NOTHING_DONE, functions=(function,))]
        assert torch.autograd.gradcheck(lambda x, draw=draw: apply_diff_augment(x, draw), (image,))
    image = torch.rand(8, 1, 16, 16, generator=seeded(0), requires_grad=True)
    apply_diff_augment(image, draw_diff_augment([seeded(s) for s in range(8)], image.shape, 1.0)).sum().backward()
    assert (image.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_draws_have_the_stated_ranges_and_frequencies() -> None:
    draws = draw_diff_augment([seeded(seed) for seed in range(1000)], (1000, 1, 40, 64), 1.0)
    counts = Counter(function for draw in draws for function in draw.functions)
    assert set(counts) == set(DIFFERENTIABLE)
    assert all(420 <= count <= 580 for count in counts.values())  # five standard deviations
    firsts = Counter(draw.functions[0] for draw in draws if draw.functions)
    assert all(130 <= firsts[name] <= 260 for name in DIFFERENTIABLE)
    assert all(len(set(draw.functions)) == len(draw.functions) for draw in draws)
    for name, low, high in (("brightness", -0.5, 0.5), ("saturation", 0, 2), ("contrast", 0.5, 1.5)):
        values = [getattr(draw, name) for draw in draws]
        margin = (high - low) / 50
        assert low <= min(values) < low + margin
        assert high - margin < max(values) <= high
    assert {draw.shift[0] for draw in draws} == set(range(-5, 6))
    assert {draw.shift[1] for draw in draws} == set(range(-8, 9))
    rows, columns = ({(d.cutout[i].start, d.cutout[i].stop) for d in draws} for i in (0, 1))
    assert rows == {(max(centre - 10, 0), centre + 10) for centre in range(40)}
    assert columns == {(max(centre - 16, 0), centre + 16) for centre in range(64)}


def test_p_decides_how_many_items_are_augmented() -> None:
    images = torch.rand(5, 1, 16, 16, generator=seeded(0))
    untouched = draw_diff_augment([seeded(seed) for seed in range(5)], images.shape, 0.0)
    assert torch.equal(apply_diff_augment(images, untouched), images)
    draws = draw_diff_augment([seeded(seed) for seed in range(1000)], (1000, 1, 16, 16), 0.2)
    augmented = sum(bool(draw.functions) for draw in draws)
    assert 130 <= augmented <= 260  # 0.2 less the 1/32 of empty choices, five standard deviations


def test_a_draw_depends_on_its_items_generator_only() -> None:
    together = draw_diff_augment([seeded(seed) for seed in range(4)], (4, 1, 16, 16), 0.5)
    alone = [draw_diff_augment([seeded(seed)], (1, 1, 16, 16), 0.5)[0] for seed in reversed(range(4))][::-1]
    assert list(together) == alone
    with pytest.raises(ValueError, match="got 4 draws for 3 images"):
        apply_diff_augment(torch.zeros(3, 1, 16, 16), together)


def test_labels_of_a_drawing_survive_quarter_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "P_PLAIN", 1.0)
    labels = torch.from_numpy(THREE_CELLS[:, :5])
    turned = {tuple(torch.rot90(m, k).flatten().tolist()) for m in (labels, labels.flip(0)) for k in range(4)}
    seen = set()
    for seed in range(60):
        window, cells = augment(labels[None] / 4, labels, (5, 5), "strong", seeded(seed))
        torch.testing.assert_close(window[0] * 4, cells.float(), rtol=0, atol=1e-4)
        seen.add(tuple(cells.flatten().tolist()))
    assert seen == turned
