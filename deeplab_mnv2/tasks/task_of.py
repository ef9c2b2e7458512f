"""From a config to its task: the type of `config.model` decides."""

from deeplab_mnv2.config import ClassifierConfig, Config, DeepLabConfig, SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.classification.task import ClassificationTask
from deeplab_mnv2.tasks.detection.task import DetectionTask
from deeplab_mnv2.tasks.segmentation.task import SegmentationTask
from deeplab_mnv2.tasks.task import Task


def task_of(config: Config) -> Task:
    """Return the task of a run.

    Raises:
        UserError: nothing here trains such a network.
    """
    match config.model:
        case DeepLabConfig() as model:
            return SegmentationTask(config, model)
        case ClassifierConfig() as model:
            return ClassificationTask(config, model)
        case SsdLiteConfig() as model:
            return DetectionTask(config, model)
        case model:
            raise UserError(f"{type(model).__name__} is no network of a task; use ModelConfig.")
