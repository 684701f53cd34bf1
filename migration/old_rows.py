"""What nodes of other packs look like in workflow files: the order of their widget values, and what came and went.

Order and defaults are facts of those packs' releases of 2023 to 2026; see docs/other_packs.md for what stands in their
place.
"""

ADE, ACN, VHS, FIZZ, AVX = "AnimateDiff-Evolved", "Advanced-ControlNet", "VideoHelperSuite", "FizzNodes", "ArtVentureX"

CONTEXT = "fuse_method={fuse} use_on_equal_length=false start_percent=0.0 guarantee_steps=1"
CONTEXT_SOCKETS = "prev_context view_opts"
PYRAMID, FLAT = CONTEXT.format(fuse='"pyramid"'), CONTEXT.format(fuse='"flat"')
STRENGTHS = "pe_strength=1.0 attn_strength=1.0"
POSITIONS = (
    "motion_pe_stretch=0 cap_initial_pe_length=0 interpolate_pe_to_length=0 initial_pe_idx_offset=0 "
    "final_pe_idx_offset=0"
)
MASKED = "min_motion_scale=1.0 max_motion_scale=1.0"
APPLIED = "motion_lora scale_multival effect_multival ad_keyframes per_block"
CONTROL = "strength=1.0 start_percent=0.0 end_percent=1.0"
CONTROL_SOCKETS = (
    "positive negative control_net image mask_optional timestep_kf latent_kf_override weights_override model_optional "
    "vae_optional"
)
VIDEO = (
    'video="" force_rate=0 force_size="" frame_load_cap=0 skip_first_frames=0 select_every_nth=1 custom_width=0 '
    'custom_height=0 format="None"'
)
COMBINE = (
    'frame_rate=8 loop_count=0 filename_prefix="AnimateDiff" format="image/gif" pingpong=false save_output=true '
    'crf=null pix_fmt="" save_metadata=true trim_to_audio=false bitrate=null megabit=false profile="" '
    'input_color_depth="" lossless=null dither="" videopreview=null audio_file=""'
)
IMAGES = 'directory="" image_load_cap=0 skip_first_images=0 select_every_nth=1'
EXPRESSIONS = "pw_a pw_b pw_c pw_d"
TEXTS = "pre_text app_text"

# node: pack, its widgets in order, its sockets; after | another name of the same input in some releases
ROWS = {
    "ADE_AnimateDiffLoaderWithContext": (
        ADE,
        'model_name="" beta_schedule="autoselect" motion_scale=1.0 apply_v2_models_properly=true',
        "model context_options motion_lora ad_settings|motion_model_settings sample_settings ad_keyframes",
    ),
    "ADE_AnimateDiffLoaderGen1": (
        ADE,
        'model_name="" beta_schedule="autoselect"',
        f"model context_options ad_settings sample_settings {APPLIED}",
    ),
    "AnimateDiffLoaderV1": (
        ADE,
        'model_name="" unlimited_area_hack=false beta_schedule="sqrt_linear (AnimateDiff)"',
        "model latents",
    ),
    "ADE_AnimateDiffLoaderV1Advanced": (
        ADE,
        'model_name="" unlimited_area_hack=false context_length=16 context_stride=1 context_overlap=4 '
        'context_schedule="uniform" closed_loop=false beta_schedule="sqrt_linear (AnimateDiff)"',
        "model latents",
    ),
    "ADE_UseEvolvedSampling": (
        ADE,
        'beta_schedule="autoselect"',
        "model m_models context_options sample_settings",
    ),
    "ADE_ApplyAnimateDiffModel": (
        ADE,
        "start_percent=0.0 end_percent=1.0",
        f"motion_model prev_m_models {APPLIED}",
    ),
    "ADE_ApplyAnimateDiffModelSimple": (ADE, "", f"motion_model {APPLIED}"),
    "ADE_LoadAnimateDiffModel": (ADE, 'model_name=""', "ad_settings"),
    "ADE_AnimateDiffLoRALoader": (ADE, 'name|lora_name="" strength=1.0', "prev_motion_lora"),
    "ADE_AnimateDiffSamplingSettings": (
        ADE,
        'batch_offset=0 noise_type="default" seed_gen="comfy" seed_offset=0 seed_override=0 adapt_denoise_steps=false',
        "noise_layers iteration_opts custom_cfg sigma_schedule image_inject ancestral_opts",
    ),
    "ADE_MultivalDynamic": (ADE, "float_val=1.0", "mask_optional"),
    "ADE_MultivalDynamicFloatInput": (ADE, "", "float_val mask_optional"),
    "ADE_MultivalScaledMask": (ADE, 'min_float_val=0.0 max_float_val=1.0 scaling="absolute"', "mask"),
    "ADE_AnimateDiffUniformContextOptions": (
        ADE,
        f'context_length=16 context_stride=1 context_overlap=4 context_schedule="uniform" closed_loop=false {FLAT}',
        CONTEXT_SOCKETS,
    ),
    "ADE_LoopedUniformContextOptions": (
        ADE,
        f"context_length=16 context_stride=1 context_overlap=4 closed_loop=false {PYRAMID}",
        CONTEXT_SOCKETS,
    ),
    "ADE_StandardUniformContextOptions": (
        ADE,
        f"context_length=16 context_stride=1 context_overlap=4 {PYRAMID}",
        CONTEXT_SOCKETS,
    ),
    "ADE_StandardStaticContextOptions": (ADE, f"context_length=16 context_overlap=4 {PYRAMID}", CONTEXT_SOCKETS),
    "ADE_BatchedContextOptions": (ADE, "context_length=16 start_percent=0.0 guarantee_steps=1", "prev_context"),
    "ADE_ViewsOnlyContextOptions": (ADE, "start_percent=0.0 guarantee_steps=1", "view_opts_req prev_context"),
    "ADE_StandardStaticViewOptions": (ADE, 'view_length=16 view_overlap=4 fuse_method="pyramid"', ""),
    "ADE_AnimateDiffSettings": (ADE, "", "pe_adjust weight_adjust"),
    "ADE_AnimateDiffModelSettings_Release": (ADE, MASKED, "mask_motion_scale"),
    "ADE_AnimateDiffModelSettingsSimple": (ADE, f"motion_pe_stretch=0 {MASKED}", "mask_motion_scale"),
    "ADE_AnimateDiffModelSettings": (ADE, f"{STRENGTHS} other_strength=1.0 {POSITIONS} {MASKED}", "mask_motion_scale"),
    "ADE_AnimateDiffModelSettingsAdvancedAttnStrengths": (
        ADE,
        f"{STRENGTHS} attn_q_strength=1.0 attn_k_strength=1.0 attn_v_strength=1.0 attn_out_weight_strength=1.0 "
        f"attn_out_bias_strength=1.0 other_strength=1.0 {POSITIONS} {MASKED}",
        "mask_motion_scale",
    ),
    "ADE_AdjustPESweetspotStretch": (ADE, "sweetspot=16 new_sweetspot=16 print_adjustment=false", "prev_pe_adjust"),
    "ADE_AdjustPEFullStretch": (ADE, "pe_stretch=0 print_adjustment=false", "prev_pe_adjust"),
    "ADE_AdjustWeightAllMult": (ADE, "all_MULT=1.0 print_adjustment=false", "prev_weight_adjust"),
    "ADE_IterationOptsFreeInit": (
        ADE,
        'iterations=2 filter="gaussian" d_s=0.25 d_t=0.25 n_butterworth=4 sigma_step=999 apply_to_1st_iter=false '
        'init_type="FreeInit [sampler sigma]" iter_batch_offset=0 iter_seed_offset=1',
        "",
    ),
    "ADE_IterationOptsDefault": (ADE, "iterations=1 iter_batch_offset=0 iter_seed_offset=0", ""),
    "ADE_CustomCFGSimple": (ADE, "cfg=8.0", "cfg_extras"),
    "ADE_SigmaSchedule": (ADE, 'beta_schedule=""', ""),
    "ADE_AnimateDiffUnload": (ADE, "", "model"),
    "ADE_EmptyLatentImageLarge": (ADE, "width=512 height=512 batch_size=1", ""),
    "CheckpointLoaderSimpleWithNoiseSelect": (
        ADE,
        'ckpt_name="" beta_schedule="use existing" use_custom_scale_factor=false scale_factor=0.18215',
        "",
    ),
    "ADE_AnimateDiffCombine": (
        ADE,
        'frame_rate=8 loop_count=0 filename_prefix="AnimateDiff" format="image/gif" pingpong=false '
        "save_image=true preview=null",
        "images",
    ),
    "AnimateDiffCombine": (
        AVX,
        'frame_rate=8 loop_count=0 save_image=true filename_prefix="animate_diff" format="image/gif" pingpong=false '
        "preview=null",
        "images",
    ),
    "AnimateDiffModuleLoader": (AVX, 'model_name=""', "lora_stack"),
    "AnimateDiffLoraLoader": (AVX, 'lora_name="" alpha=1.0', "lora_stack"),
    "AnimateDiffSlidingWindowOptions": (
        AVX,
        'context_length=16 context_stride=1 context_overlap=4 context_schedule="uniform" closed_loop=false',
        "",
    ),
    "AnimateDiffSampler": (
        AVX,
        'inject_method="default" frame_number=16 seed=0 control_after_generate="" steps=20 cfg=8.0 '
        'sampler_name="euler" scheduler="normal" denoise=1.0',
        "motion_module model positive negative latent_image sliding_window_opts",
    ),
    "ControlNetLoaderAdvanced": (ACN, 'control_net_name|cnet=""', "timestep_keyframe|tk_optional|_tk_opt"),
    "ACN_ControlNetLoaderAdvanced": (ACN, 'control_net_name|cnet=""', "timestep_keyframe|tk_optional|_tk_opt"),
    "DiffControlNetLoaderAdvanced": (ACN, 'control_net_name|cnet=""', "model timestep_keyframe|tk_optional|_tk_opt"),
    "ACN_DiffControlNetLoaderAdvanced": (
        ACN,
        'control_net_name|cnet=""',
        "model timestep_keyframe|tk_optional|_tk_opt",
    ),
    "ACN_AdvancedControlNetApply": (ACN, CONTROL, CONTROL_SOCKETS),
    "ACN_AdvancedControlNetApply_v2": (ACN, CONTROL, CONTROL_SOCKETS),
    "TimestepKeyframe": (
        ACN,
        "start_percent=0.0 strength=1.0 null_latent_kf_strength=0.0 inherit_missing=true guarantee_usage|"
        "guarantee_steps=1",
        "cn_weights|control_net_weights t2i_adapter_weights latent_keyframe prev_timestep_kf|prev_timestep_keyframe "
        "mask_optional",
    ),
    "LatentKeyframe": (ACN, "batch_index=0 strength=1.0", "prev_latent_kf|prev_latent_keyframe"),
    "LatentKeyframeTiming": (
        ACN,
        'batch_index_from=0 batch_index_to_excl=0 strength_from=1.0 strength_to=1.0 interpolation="linear" '
        "print_keyframes=false",
        "prev_latent_kf|prev_latent_keyframe",
    ),
    "ScaledSoftControlNetWeights": (
        ACN,
        "base_multiplier=0.825 flip_weights=false uncond_multiplier=1.0",
        "cn_extras",
    ),
    "ACN_ScaledSoftControlNetWeights": (ACN, "base_multiplier=0.825 uncond_multiplier=1.0", "cn_extras"),
    "ACN_DefaultUniversalWeights": (ACN, "", "cn_extras"),
    "ACN_SparseCtrlLoaderAdvanced": (
        ACN,
        'sparsectrl_name="" use_motion=true motion_strength=1.0 motion_scale=1.0 context_aware="nearest_hint" '
        "sparse_hint_mult=1.0 sparse_nonhint_mult=1.0 sparse_mask_mult=1.0",
        "sparse_method tk_optional",
    ),
    "ACN_SparseCtrlIndexMethodNode": (ACN, 'indexes="0"', ""),
    "ACN_SparseCtrlSpreadMethodNode": (ACN, 'spread="uniform"', ""),
    "ACN_SparseCtrlRGBPreprocessor": (ACN, "", "image vae latent_size"),
    "LoadImagesFromDirectory": (ACN, 'directory="" image_load_cap=0 start_index=0', ""),
    "BatchPromptSchedule": (
        FIZZ,
        'text="" max_frames=120 print_output=false',
        f"clip {TEXTS} start_frame end_frame {EXPRESSIONS}",
    ),
    "PromptSchedule": (
        FIZZ,
        'text="" max_frames=120 current_frame=0 print_output=false',
        f"clip {TEXTS} {EXPRESSIONS}",
    ),
    "BatchPromptScheduleLatentInput": (
        FIZZ,
        'text="" print_output=false',
        f"clip num_latents {TEXTS} start_frame end_frame {EXPRESSIONS}",
    ),
    "BatchValueSchedule": (FIZZ, 'text="" max_frames=120 print_output=false', ""),
    "BatchValueScheduleLatentInput": (FIZZ, 'text="" print_output=false', "num_latents"),
    "VHS_VideoCombine": (VHS, COMBINE, "images audio meta_batch vae"),
    "VHS_LoadVideo": (VHS, VIDEO, "meta_batch vae"),
    "VHS_LoadVideoPath": (VHS, VIDEO, "meta_batch vae"),
    "VHS_LoadImages": (VHS, IMAGES, "meta_batch"),
    "VHS_LoadImagesPath": (VHS, IMAGES, "meta_batch"),
    "VHS_LoadAudioUpload": (VHS, 'audio="" start_time=0.0 duration=0.0', ""),
    "VHS_LoadAudio": (VHS, 'audio_file="" seek_seconds=0.0 duration=0.0', ""),
    "VHS_SplitImages": (VHS, "split_index=0", "images"),
    "VHS_SplitLatents": (VHS, "split_index=0", "latents"),
    "VHS_DuplicateImages": (VHS, "multiply_by=1", "images"),
    "VHS_DuplicateLatents": (VHS, "multiply_by=1", "latents"),
    "VHS_GetImageCount": (VHS, "", "images"),
    "VHS_GetLatentCount": (VHS, "", "latents"),
    "VHS_VAEDecodeBatched": (VHS, "per_batch=16", "samples vae"),
    "VHS_VAEEncodeBatched": (VHS, "per_batch=16", "pixels vae"),
    "VHS_VideoInfo": (VHS, "", "video_info"),
    "VHS_VideoInfoSource": (VHS, "", "video_info"),
    "VHS_VideoInfoLoaded": (VHS, "", "video_info"),
    "VHS_SelectFilename": (VHS, "index=-1", "filenames"),
    "VHS_PruneOutputs": (VHS, 'options="Intermediate"', "filenames"),
}
