"""Model folders under the keys that users' disks and extra_model_paths.yaml already have."""

import logging
import os

import folder_paths

logger = logging.getLogger(__name__)

MOTION_MODULES = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"
LORAS = "loras"
CONTROLNETS = "controlnet"
ANIMATE_ANYONE = "animate_anyone"
TUNED_VIDEOS = "tune_a_video"


def register_model_folders() -> None:
    """Make the folders known to the host, create them, and list only weight files in them."""
    for key in (MOTION_MODULES, MOTION_LORAS, ANIMATE_ANYONE, TUNED_VIDEOS):
        folder = os.path.join(folder_paths.models_dir, key)
        folder_paths.add_model_folder_path(key, folder)
        # A key that is new, or that extra_model_paths.yaml made, has no extensions, and then every file is listed.
        folder_paths.folder_names_and_paths[key][1].update(folder_paths.supported_pt_extensions)
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:  # a read-only models folder still serves what is in it
            logger.warning("Could not create %s: %s", folder, error)


def file_names(key: str) -> list[str]:
    """The files that a node offers from a model folder."""
    return folder_paths.get_filename_list(key)
