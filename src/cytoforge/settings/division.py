"""Flags of the commands whose work can be divided: among machines, or among the workers of a cluster."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, model_validator

from cytoforge.engine import Part
from cytoforge.settings.base import command

Cluster = Annotated[
    str,
    Field(
        pattern=r"^(local(:[1-9]\d*)?|slurm(:[1-9]\d*)?|(tcp|tls)://\S+:\d+)$",
        examples=["local:4, tcp://SCHEDULER:8786 or slurm:16"],
    ),
]


@command
class Division:
    """How the work of a command is divided."""

    part: str | None = field(default=None, kw_only=True)
    """do one part of the work, such as 3/16, into the same OUT as the other parts; the last one completes OUT"""
    cluster: Cluster | None = field(default=None, kw_only=True)
    """work in several processes: local:4, a dask scheduler such as tcp://HOST:8786, or slurm:16 (extra dask)"""

    @model_validator(mode="after")
    def _divisible(self) -> "Division":
        if self.part is not None:
            Part.parse(self.part)
            if self.cluster is not None:
                raise ValueError("give --part or --cluster, not both")
            if getattr(self, "overwrite", False):
                raise ValueError("--overwrite goes with the whole work, not with a --part; remove OUT before all parts")
        return self
