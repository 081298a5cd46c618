"""Flags of the commands that read images: which channels, and which plane of a stack in depth."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, model_validator

from cytoforge.settings.base import command

Projection = Annotated[str, Field(pattern=r"^(max|mean|[1-9]\d*)$", examples=["max, mean, or 3 for the third slice"])]


@command
class Reading:
    """What is read of image files."""

    channel: str | None = field(default=None, kw_only=True)
    """the channel to use, by its name in the file or its number from 1; all without it"""
    channels: Annotated[str, Field(pattern=r"\S", examples=["DAPI,GFP or 1,3"])] | None = field(
        default=None, kw_only=True
    )
    """several channels to use, such as DAPI,GFP or 1,3"""
    project: Projection | None = field(default=None, kw_only=True)
    """make one plane of a stack in depth (Z): its max or mean, or a slice by its number from 1"""

    @model_validator(mode="after")
    def _one_choice(self) -> "Reading":
        if self.channel is not None and self.channels is not None:
            raise ValueError("give --channel or --channels, not both")
        return self
