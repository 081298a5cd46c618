"""What to cite, as the command, CITATION.cff and README.md say it."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import cytoforge
from cytoforge.cli import main
from cytoforge.commands.cite import PAPERS

ROOT = Path(__file__).parents[1]


def test_the_papers_are_those_of_the_readme_and_of_the_citation_file() -> None:
    told = " ".join((ROOT / "CITATION.cff").read_text().split())
    readme = " ".join((ROOT / "README.md").read_text().replace("\n> ", " ").split())
    assert [paper.doi for paper in PAPERS] == re.findall(r"doi: (\S+)", told)
    assert all(f"title: {paper.title} " in told for paper in PAPERS)
    for paper in PAPERS:
        assert f"{paper.authors}. {paper.title}. " in readme and f"https://doi.org/{paper.doi}" in readme


def test_versions_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == cytoforge.__version__ == version("cytoforge")
    assert f"version: {cytoforge.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_text_and_bibtex(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite"]) == 0
    text = capsys.readouterr().out
    assert all(paper.text in text for paper in PAPERS) and cytoforge.__version__ in text
    assert main(["cite", "--format", "bibtex"]) == 0
    entries = capsys.readouterr().out.strip().split("\n\n")
    assert [entry.partition("{")[0] for entry in entries] == ["@software", "@article", "@article"]
    assert all(entry.count("{") == entry.count("}") for entry in entries)
    assert "author = {Zargari A and Topacio BR and Mashhadi N and Shariati SA}" in entries[1]
