"""Benchmarks run in turns, count what they say they count, and survive a part that fails."""

import json
import statistics
import time

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import gpu, labels, measure, ops
from benchmarks.measure import Figure, Settings, interleaved, ratio
from benchmarks.networks import plainly, random_codes, random_generator
from benchmarks.yardstick import dense_labels, sparse_labels
from fewshot_smis.data import Classes
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.prototypes import PixelPrototypes, unit
from fewshot_smis.labelers.sparse import SparseLabeler

QUICK = Settings(torch.device("cpu"), rounds=2, quick=True)


def test_works_run_in_turns_after_a_warm_up(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "SHORTEST", 0.0)
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    times = interleaved(works, QUICK)
    assert order == list("aabb") + list("abab")
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2}


def test_short_works_are_repeated_and_counted_once():
    seconds = interleaved({"a": lambda: time.sleep(0.004)}, QUICK)["a"]
    assert all(0.004 <= s < 0.02 for s in seconds)


def test_a_ratio_is_the_median_of_the_rounds():
    figure = ratio("it", {"ours": [1.0, 2.0, 4.0], "yardstick": [3.0, 4.0, 4.0]}, aim=2)
    assert (figure.value, figure.spread) == (2.0, (1.0, 3.0))
    assert figure.details == {"ours": 2.0, "yardstick": 4.0}
    shown = measure.show(figure)
    assert shown == "it: 2 times (1 to 3), aim 2 [ours 2, yardstick 4]"


def test_figures_are_saved_with_the_machine(tmp_path):
    measure.save(tmp_path / "new" / "x.json", [Figure("it", 2.0, "ms")], torch.device("cpu"))
    found = json.loads((tmp_path / "new" / "x.json").read_text())
    assert found["figures"][0]["work"] == "it"
    assert found["machine"]["torch"] == str(torch.__version__)
    assert len(found["machine"]["commit"]) == 40


def test_labels_of_the_yardstick_are_ours():
    gen = torch.Generator().manual_seed(0)
    feat, proto = torch.randn(2, 8, 5, 6, generator=gen), unit(torch.randn(9, 8, generator=gen))
    dense = DenseLabeler(Classes.generic(9), proto, resolution=8)
    assert torch.equal(dense_labels(feat, proto), dense({8: feat}))
    ids = torch.tensor([1, 1, 2, 2, 3, 3, 3, 5, 5])
    classes = Classes.generic(6, sparse=True)
    sparse = SparseLabeler(classes, PixelPrototypes(proto, ids), resolution=8, threshold=0.2)
    found = sparse_labels(feat, proto, ids, 6, topk=3, threshold=0.2)
    assert torch.equal(found, sparse({8: feat}))
    assert len(found.unique()) > 3


def test_the_yardstick_keeps_features():
    generator = random_generator(16, torch.device("cpu"), quick=True)
    ws = random_codes(generator, 2)
    found = plainly(generator).synthesis.features(ws, (8,))
    torch.testing.assert_close(found[8], generator.synthesis.features(ws, (8,))[8])


@pytest.mark.parametrize("part", [ops, labels])
def test_parts_run(part):
    figures = list(part.measure(QUICK))
    assert all(f.value > 0 for f in figures)
    assert any(f.unit == "times" for f in figures)


def test_a_part_that_fails_or_takes_too_long_is_reported_and_the_rest_goes_on(
    tmp_path, monkeypatch, capsys
):
    def fails(settings):
        yield Figure("before", 1.0, "ms")
        raise RuntimeError("no such kernel")

    def dawdles(settings):
        time.sleep(9)
        yield Figure("late", 1.0, "ms")

    def never(settings):
        yield Figure("never", 1.0, "ms")

    parts = {"fails": fails, "works": lambda s: iter([Figure("it", 2.0, "ms")])}
    monkeypatch.setattr(gpu, "PARTS", {**parts, "dawdles": dawdles, "never": never})
    gpu.run(QUICK, 0.5, tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [f["work"] for f in found["figures"]] == ["before", "it"]
    assert found["failures"]["fails"] == "RuntimeError: no such kernel"
    assert "took longer than" in found["failures"]["dawdles"]
    assert found["failures"]["never"] == "left out: no time was left"
    assert "no such kernel" in capsys.readouterr().out


def test_the_parts_for_a_gpu_run_on_a_cpu():
    for name in ("generator", "latency", "profile"):
        assert [f for f in gpu.PARTS[name](QUICK) if f.value > 0]


def test_operations_are_counted():
    x, w = torch.randn(1, 3, 4, 5), torch.randn(2, 3, 3, 3)
    work = lambda: torch.nn.functional.conv2d(x, w, padding=1)  # noqa: E731
    assert measure.count_operations(work) == 2 * (4 * 5) * 2 * 3 * 9


def test_the_page_has_a_section_a_machine_and_a_row_a_figure(tmp_path):
    device = torch.device("cpu")
    figure = Figure("it", 2.0, "times", (1.5, 2.5), 3.0, {"ours": 0.5}, "a note")
    measure.save(tmp_path / "labels-cpu.json", [Figure("labels", 1.0, "ms")], device)
    measure.save(tmp_path / "ops-cpu.json", [figure], device)
    content = json.loads((tmp_path / "ops-cpu.json").read_text())
    content["machine"]["gpu"], content["failures"] = "Card", {"compiled": "no compiler"}
    (tmp_path / "gpu.json").write_text(json.dumps(content))
    bench.write_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| it | 2 times (1.5 to 2.5) | 3 times | ours 0.5 s; a note |" in page
    assert page.index("ops-cpu") < page.index("labels-cpu") < page.index("## Card, torch")
    assert "compiled has no figures: no compiler" in page


def test_peak_memory_counts_what_was_held_at_once():
    def work():
        a = torch.ones(16, 2**20)  # 64 MiB
        return [(a + i).sum() for i in range(3)]  # and one more at a time

    # the system may take or give pages of the libraries meanwhile
    peaks = [measure.peak_memory(work, torch.device("cpu")) for _ in range(3)]
    assert statistics.median(peaks) == pytest.approx(128, abs=20)
