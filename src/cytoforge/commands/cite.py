"""`cytoforge cite`: how to cite cytoforge and the papers whose methods it implements."""

from dataclasses import dataclass
from importlib.metadata import version

from cytoforge.settings import Cite


@dataclass(frozen=True)
class Paper:
    """A paper, as a list of references writes it."""

    key: str
    authors: str
    title: str
    journal: str
    year: int
    doi: str

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.authors}. {self.title}. {self.journal} ({self.year}). https://doi.org/{self.doi}"

    @property
    def bibtex(self) -> str:
        """An entry of BibTeX."""
        names = self.authors.replace(", ", " and ")
        return (
            f"@article{{{self.key},\n  author = {{{names}}},\n  title = {{{self.title}}},\n"
            f"  journal = {{{self.journal}}},\n  year = {{{self.year}}},\n  doi = {{{self.doi}}}\n}}"
        )


PAPERS = (
    Paper(
        "zargari2024cgan",
        "Zargari A, Topacio BR, Mashhadi N, Shariati SA",
        "Enhanced cell segmentation with limited training datasets using cycle generative adversarial networks",
        "iScience 27, 109740",
        2024,
        "10.1016/j.isci.2024.109740",
    ),
    Paper(
        "zargari2024tgan",
        "Zargari A, Mashhadi N, Shariati SA",
        "Enhanced cell tracking using a GAN-based super-resolution video-to-video time-lapse microscopy "
        "generative model",
        "bioRxiv 2024.06.11.598572",
        2024,
        "10.1101/2024.06.11.598572",
    ),
)


def cite(settings: Cite) -> None:
    """Print what to cite, as text or BibTeX."""
    if settings.format == "bibtex":
        software = (
            f"@software{{cytoforge,\n  author = {{{{The cytoforge developers}}}},\n  title = {{cytoforge}},\n"
            f"  version = {{{version('cytoforge')}}}\n}}"
        )
        print("\n\n".join([software, *(paper.bibtex for paper in PAPERS)]))
        return
    print(f"The cytoforge developers. cytoforge, version {version('cytoforge')}.")
    print("The first paper is that of segmentation, the second that of movies and tracking:")
    for paper in PAPERS:
        print(paper.text)
