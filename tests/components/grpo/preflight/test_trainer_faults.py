"""Faults of the trainer, as they were seen: each is caught by a check of its own."""

from tests.components.grpo.preflight.preflight_kit import failure


def test_images_that_do_not_reach_the_model_are_caught(preflight, records, loaded, monkeypatch):
    import torch

    visual = loaded.model.thinker.visual
    forward = visual.forward

    def blind(pixels, *args, **kwargs):
        return forward(torch.zeros_like(pixels), *args, **kwargs)

    monkeypatch.setattr(visual, "forward", blind)

    name, detail = failure(preflight(records))

    assert name == "media matter"
    assert "image does not reach the model" in detail


def test_a_rollout_of_the_first_prompt_alone_is_caught(preflight, records, monkeypatch):
    from swift.infer_engine import TransformersEngine

    encode = TransformersEngine._batch_encode

    def first_only(self, requests, strict):
        return encode(self, [requests[0]] * len(requests), strict)

    monkeypatch.setattr(TransformersEngine, "_batch_encode", first_only)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "the rollout's prompt has" in detail


def test_a_flag_that_is_hard_coded_in_the_rollout_is_caught(preflight, records, monkeypatch):
    from swift.infer_engine import TransformersEngine

    infer = TransformersEngine._infer

    def deaf(self, *args, **kwargs):
        self.template.use_audio_in_video = False
        return infer(self, *args, **kwargs)

    monkeypatch.setattr(TransformersEngine, "_infer", deaf)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "(video)" in detail


def test_a_rollout_that_sees_its_padding_is_caught(preflight, records, monkeypatch):
    import torch
    from swift.template import Template

    collate = Template.data_collator

    def unmasked(self, batch, **kwargs):
        inputs = collate(self, batch, **kwargs)
        inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        return inputs

    monkeypatch.setattr(Template, "data_collator", unmasked)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "greedy completions part at token" in detail


def test_a_loss_on_other_positions_than_the_rollout_is_caught(preflight, records, monkeypatch):
    import torch
    from swift.template.templates.qwen import Qwen2_5OmniTemplate

    def all_at_once(self, inputs):
        if not self.is_training:
            return {}
        return {"position_ids": torch.zeros(4, *inputs["input_ids"].shape, dtype=torch.int64)}

    monkeypatch.setattr(Qwen2_5OmniTemplate, "_get_position_ids", all_at_once)

    name, _ = failure(preflight(records))

    assert name == "loss parity"
