"""Prompts with clips for vLLM, so that it makes the same tokens of them as transformers."""

from typing import Any

from swift.template.templates.qwen import Qwen2_5OmniTemplate


class VLLMClips(Qwen2_5OmniTemplate):
    """Clips in ms-swift's mode ``vllm``, over the templates of models that hear.

    **Tags once.** ms-swift writes ``<|audio_bos|>`` and ``<|audio_eos|>`` around a clip with sound
    (``Qwen2_5OmniTemplate.replace_tag``), and so does vLLM
    (``omni_get_updates_use_audio_in_video``): two pairs, where the model knows one.

    **Sound beside its pictures.** vLLM cuts picture and sound into pieces of two seconds by
    ``second_per_grid_ts``, which ms-swift does not tell it; it then takes 1.0
    (``qwen2_5_omni_thinker.py``), whatever the clip's rate. Where pictures lie further apart than a
    piece, vLLM also counts pieces without a picture, which transformers has none of; told the
    length of a piece, it makes one for each picture as transformers does.

    **One rate.** vLLM takes one rate for all clips of a prompt, and ms-swift keeps the first: a
    prompt whose clips are sampled at several is refused instead.
    """

    def prepare_engine_kwargs(self) -> dict[str, Any]:
        """Return what an engine is started with, after having vLLM count as transformers does."""
        if self.mode == "vllm" and self.version == "omni_v2_5":
            from omnistage.swift.rollout.positions import register  # vLLM is not always there

            register()
        return super().prepare_engine_kwargs()

    def replace_tag(self, media_type: Any, index: int, inputs: Any) -> Any:
        """Return what stands in the prompt for a medium.

        Raises:
            ValueError: If a prompt for vLLM has clips of several rates.
        """
        if self.mode != "vllm" or media_type != "video":
            return super().replace_tag(media_type, index, inputs)
        told = inputs.mm_processor_kwargs
        earlier = told.pop("fps", None)
        tag = super().replace_tag(media_type, index, inputs)
        rate = told["fps"]
        if earlier is not None and rate != earlier:
            raise ValueError(
                f"its clips are sampled at {earlier:g} and {rate:g} frames a second: vLLM takes "
                "one rate for all clips of a prompt; cut them to one length, or roll out without "
                "vLLM"
            )
        if self.version == "omni_v2_5" and self.use_audio_in_video:
            apart = self.processor.video_processor.temporal_patch_size / rate
            told.setdefault("second_per_grid_ts", []).append(min(apart, self.seconds_per_chunk))
            return ["<|vision_bos|><|VIDEO|><|vision_eos|>"]
        return tag
