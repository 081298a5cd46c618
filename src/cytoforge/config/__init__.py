"""One frozen, validated dataclass per command: default, type, help, flag and check are defined here once."""

from cytoforge.config.commands import (
    Check,
    Demo,
    GenerateImages,
    ImportCheckpoint,
    ScoreGeneration,
    ScoreSegmentation,
    Segment,
    SimulateMasks,
    SimulateMovie,
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
    "FITTING_DIAMETER",
    "PRESETS",
    "Check",
    "Demo",
    "GenerateImages",
    "ImportCheckpoint",
    "Preset",
    "ScoreGeneration",
    "ScoreSegmentation",
    "Segment",
    "SimulateMasks",
    "SimulateMovie",
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
    "fitting_scale",
]
