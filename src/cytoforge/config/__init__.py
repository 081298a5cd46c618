"""One frozen, validated dataclass per command: default, type, help, flag and check are defined here once."""

from cytoforge.config.base import ABSENT, PRESENT, RUN, check_places
from cytoforge.config.commands import (
    Check,
    Demo,
    GenerateImages,
    ImportCheckpoint,
    ScoreGeneration,
    ScoreSegmentation,
    Segment,
    SimulateMasks,
)
from cytoforge.config.study import (
    StudyAblation,
    StudyDense,
    StudyExtrapolation,
    StudyGenerators,
    StudyLimitedData,
    StudySegmenters,
    StudyTraining,
    StudyVersatility,
)
from cytoforge.config.training import (
    FITTING_DIAMETER,
    PRESETS,
    Preset,
    TrainGenerator,
    Training,
    TrainSegmentation,
    fitting_scale,
)

__all__ = [
    "ABSENT",
    "FITTING_DIAMETER",
    "PRESENT",
    "PRESETS",
    "RUN",
    "Check",
    "Demo",
    "GenerateImages",
    "ImportCheckpoint",
    "Preset",
    "ScoreGeneration",
    "ScoreSegmentation",
    "Segment",
    "SimulateMasks",
    "StudyAblation",
    "StudyDense",
    "StudyExtrapolation",
    "StudyGenerators",
    "StudyLimitedData",
    "StudySegmenters",
    "StudyTraining",
    "StudyVersatility",
    "TrainGenerator",
    "TrainSegmentation",
    "Training",
    "check_places",
    "fitting_scale",
]
