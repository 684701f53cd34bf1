"""One row for each node that is replaced: what does it, and what stands in its place. The rows run in this order."""

from collections.abc import Callable
from typing import NamedTuple

from . import clips, controls, motion, prompts
from .graph import Node
from .work import Work


class Rule(NamedTuple):
    """run: rewrites one node. becomes: the nodes that may stand in its place, for the table in the documentation."""

    run: Callable[[Work, Node], None]
    becomes: str


LOAD, APPLY, CONTEXT = "AnimaticLoadMotionModule", "AnimaticApplyMotionModule", "AnimaticContextOptions"
STRENGTH, SIZE, NUMBERS = "AnimaticControlStrength", "GetImageSize", "AnimaticFrameNumbers"
SEQUENCE = "AnimaticLoadImageSequence"

STOCK_APPLY = ("ControlNetApplyAdvanced", "ControlNetApply")  # stock nodes that may read ACN's loaders
RULES = {
    # what others look back to comes after them: nodes on the MODEL before loaders, ControlNets before their loaders
    "ADE_AnimateDiffUnload": Rule(motion.unload, ""),
    "ADE_AnimateDiffLoRALoader": Rule(motion.load_lora, "AnimaticLoadMotionLora"),
    "AnimateDiffLoraLoader": Rule(motion.load_lora, "AnimaticLoadMotionLora"),
    "ADE_LoadAnimateDiffModel": Rule(motion.load_module, LOAD),
    "ADE_AnimateDiffLoaderWithContext": Rule(motion.loader, f"{APPLY} {LOAD} {CONTEXT}"),
    "ADE_AnimateDiffLoaderGen1": Rule(motion.loader, f"{APPLY} {LOAD} {CONTEXT}"),
    "AnimateDiffLoaderV1": Rule(motion.loader, f"{APPLY} {LOAD}"),
    "ADE_AnimateDiffLoaderV1Advanced": Rule(motion.loader, f"{APPLY} {LOAD} {CONTEXT}"),
    "ADE_UseEvolvedSampling": Rule(motion.evolved, f"{APPLY} {CONTEXT}"),
    "AnimateDiffSampler": Rule(motion.sampler, f"KSampler {LOAD} {APPLY} {CONTEXT} RepeatLatentBatch"),
    "CheckpointLoaderSimpleWithNoiseSelect": Rule(clips.checkpoint, "CheckpointLoaderSimple"),
    "ADE_EmptyLatentImageLarge": Rule(clips.empty_latent, "EmptyLatentImage"),
    "ACN_AdvancedControlNetApply": Rule(controls.apply, f"ControlNetApplyAdvanced {STRENGTH}"),
    "ACN_AdvancedControlNetApply_v2": Rule(controls.apply, f"ControlNetApplyAdvanced {STRENGTH}"),
    "ACN_SparseCtrlLoaderAdvanced": Rule(controls.load_sparse, "AnimaticLoadSparseCtrl"),
    "ControlNetLoaderAdvanced": Rule(controls.load, "ControlNetLoader"),
    "ACN_ControlNetLoaderAdvanced": Rule(controls.load, "ControlNetLoader"),
    "DiffControlNetLoaderAdvanced": Rule(controls.load, "DiffControlNetLoader"),
    "ACN_DiffControlNetLoaderAdvanced": Rule(controls.load, "DiffControlNetLoader"),
    "BatchPromptSchedule": Rule(prompts.travel, "AnimaticPromptTravel"),
    "PromptSchedule": Rule(prompts.travel, "AnimaticPromptTravel"),
    "BatchPromptScheduleLatentInput": Rule(prompts.travel, f"AnimaticPromptTravel {NUMBERS}"),
    "BatchValueSchedule": Rule(prompts.values, NUMBERS),
    "BatchValueScheduleLatentInput": Rule(prompts.values, NUMBERS),
    "VHS_LoadVideo": Rule(clips.load_video, f"AnimaticLoadVideo {SIZE} VAEEncode"),
    "VHS_LoadVideoPath": Rule(clips.load_video, f"AnimaticLoadVideo {SIZE} VAEEncode"),
    "VHS_LoadImages": Rule(clips.load_images, SEQUENCE),
    "VHS_LoadImagesPath": Rule(clips.load_images, SEQUENCE),
    "LoadImagesFromDirectory": Rule(clips.load_images, SEQUENCE),
    "VHS_VideoCombine": Rule(clips.combine, "AnimaticVideoCombine"),
    "ADE_AnimateDiffCombine": Rule(clips.combine, "AnimaticVideoCombine"),
    "AnimateDiffCombine": Rule(clips.combine, "AnimaticVideoCombine"),
    "VHS_LoadAudioUpload": Rule(clips.load_audio, "LoadAudio TrimAudioDuration"),
    "VHS_LoadAudio": Rule(clips.load_audio, "LoadAudio TrimAudioDuration"),
    "VHS_SplitImages": Rule(clips.split, f"ImageFromBatch {SIZE}"),
    "VHS_SplitLatents": Rule(clips.split, f"LatentFromBatch {NUMBERS}"),
    "VHS_DuplicateImages": Rule(clips.repeat, f"RepeatImageBatch {SIZE}"),
    "VHS_DuplicateLatents": Rule(clips.repeat, f"RepeatLatentBatch {NUMBERS}"),
    "VHS_GetImageCount": Rule(clips.count, SIZE),
    "VHS_GetLatentCount": Rule(clips.count, NUMBERS),
    "VHS_VAEDecodeBatched": Rule(clips.vae_batched, "VAEDecode"),
    "VHS_VAEEncodeBatched": Rule(clips.vae_batched, "VAEEncode"),
}

# nodes that only hold settings of others: gone once these have been read
CARRIED = {
    "ADE_ApplyAnimateDiffModel": APPLY,
    "ADE_ApplyAnimateDiffModelSimple": APPLY,
    "ADE_AnimateDiffSamplingSettings": "AnimaticFrameNoise AnimaticFreeInit AnimaticCfgSchedule",
    "ADE_MultivalDynamic": f"{APPLY} AnimaticMotionControl",
    "ADE_MultivalDynamicFloatInput": "AnimaticMotionControl",
    "ADE_MultivalScaledMask": "AnimaticMotionControl",
    "ADE_AnimateDiffUniformContextOptions": CONTEXT,
    "ADE_LoopedUniformContextOptions": CONTEXT,
    "ADE_StandardUniformContextOptions": CONTEXT,
    "ADE_StandardStaticContextOptions": CONTEXT,
    "ADE_BatchedContextOptions": CONTEXT,
    "ADE_ViewsOnlyContextOptions": CONTEXT,
    "ADE_StandardStaticViewOptions": CONTEXT,
    "ADE_AnimateDiffSettings": LOAD,
    "ADE_AnimateDiffModelSettings_Release": "AnimaticMotionControl",
    "ADE_AnimateDiffModelSettingsSimple": "AnimaticMotionControl",
    "ADE_AnimateDiffModelSettings": "AnimaticMotionControl",
    "ADE_AnimateDiffModelSettingsAdvancedAttnStrengths": "AnimaticMotionControl",
    "ADE_AdjustPESweetspotStretch": LOAD,
    "ADE_AdjustPEFullStretch": LOAD,
    "ADE_AdjustWeightAllMult": LOAD,
    "ADE_IterationOptsFreeInit": "AnimaticFreeInit",
    "ADE_IterationOptsDefault": "",
    "ADE_CustomCFGSimple": "AnimaticCfgSchedule",
    "ADE_SigmaSchedule": APPLY,
    "AnimateDiffModuleLoader": LOAD,
    "AnimateDiffSlidingWindowOptions": CONTEXT,
    "TimestepKeyframe": STRENGTH,
    "LatentKeyframe": STRENGTH,
    "LatentKeyframeTiming": STRENGTH,
    "ScaledSoftControlNetWeights": STRENGTH,
    "ACN_ScaledSoftControlNetWeights": STRENGTH,
    "ACN_DefaultUniversalWeights": "",
    "ACN_SparseCtrlIndexMethodNode": "AnimaticLoadSparseCtrl",
    "ACN_SparseCtrlSpreadMethodNode": "AnimaticLoadSparseCtrl",
    "ACN_SparseCtrlRGBPreprocessor": "ControlNetApplyAdvanced",
    "VHS_VideoInfo": SIZE,
    "VHS_VideoInfoSource": SIZE,
    "VHS_VideoInfoLoaded": SIZE,
    "VHS_SelectFilename": "",
    "VHS_PruneOutputs": "",
}

# nodes without an equal that a migration names, with what to do
ADVICE = {
    "VHS_BatchManager": "long clips are what Context Options is for; for plain video work keep VideoHelperSuite",
    "ADE_AnimateDiffKeyframe": "one Motion Control for each keyframe, connected through previous",
    "ADE_LoadAnimateLCMI2VModel": "Load Motion Module and Motion Image",
    "ADE_ApplyAnimateLCMI2VModel": "Apply Motion Module with Motion Image",
    "ADE_ApplyAnimateDiffModelWithPIA": "Apply Motion Module with Motion Image",
    "ADE_InputPIA_PaperPresets": "Motion Image's pia_motion",
    "ADE_NoiseLayerAdd": "Noise by Frame blends seeds",
    "ADE_CustomCFGKeyframe": "CFG Schedule's by_step",
    "ADE_ContextExtras_Set": "Window Reference on the MODEL",
    "ADE_ContextExtras_ContextRef": "Window Reference",
    "ADE_ContextExtras_NaiveReuse": "Window Reference's reuse",
    "BatchPromptScheduleEncodeSDXL": "Prompt Travel: it serves SDXL's two encoders with one text",
    "LatentKeyframeGroup": "Control Strength's by_frame",
    "LatentKeyframeBatchedGroup": "connect the numbers to Control Strength's by_frame",
    "ACN_TimestepKeyframeInterpolation": "Control Strength's by_step, e.g. '0: 1, 1: 0'",
    "ACN_AdvancedControlNetApplySingle": "stock Apply ControlNet with positive and negative",
    "ACN_AdvancedControlNetApplySingle_v2": "stock Apply ControlNet with positive and negative",
    "ACN_ReferenceControlNet": "Reference Image on the MODEL",
    "VHS_SelectImages": "stock ImageFromBatch, one for each picture",
    "VHS_MergeImages": "stock Batch Images",
    "VHS_SelectEveryNthImage": "Load Video's select_every_nth, or keep VideoHelperSuite for it",
    "AnimateDiff Script": "an Efficiency sampler's script: use Apply Motion Module and stock KSampler",
}
