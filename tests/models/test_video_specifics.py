"""What is particular to clips and to one video family: time, size, refusals, experts, conditioning."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_fixtures import train_a_little
from PIL import Image
from video_fixtures import Tiny, clips, likelihood_of, pairs, rows

import penchant
from penchant.errors import MediaError, ModelError
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, Media
from penchant.feedback.video_files import encode_clip
from penchant.models.causal_lm import CausalLM
from penchant.models.clips import frame_clip
from penchant.models.experts import Experts
from penchant.models.lora import scales
from penchant.models.process import flow_process
from penchant.models.video import SIZE_FILE, ClipSize
from penchant.recipes import find
from penchant.references import AdapterOff
from penchant.testing import build
from penchant.testing.video import SIZES, save, tiny_hunyuan_video, tiny_mochi, tiny_wan

SIZE = ClipSize(height=16, width=24, frames=9, fps=6.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("video"))


def clip(frames: int, fps: float, *, high: int = 16, wide: int = 24) -> Clip:
    """Every frame is of one value, its number."""
    values = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return Clip(frames=np.broadcast_to(values, (frames, high, wide, 3)).copy(), fps=fps)


# Time.


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (6.0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (12.0, [0, 2, 4, 6, 8, 10, 12, 14, 16]),
        (24.0, [0, 4, 8, 12, 16, 20, 24, 28, 32]),
        (15.0, [0, 2, 5, 7, 10, 12, 15, 17, 20]),  # the frame on the screen
        (20.0, [0, 3, 6, 10, 13, 16, 20, 23, 26]),
        (3.0, [0, 0, 1, 1, 2, 2, 3, 3, 4]),
    ],
)
def test_frames_are_taken_at_the_models_times(fps, expected):
    given = clip(40, fps)
    pixels = frame_clip(given, SIZE, name="x")
    assert ((pixels[0, :, 0, 0] + 1) * 127.5).round().int().tolist() == expected


def test_a_clip_that_is_too_short_is_refused_with_what_is_needed():
    assert frame_clip(clip(9, 6.0), SIZE, name="abc").shape == (3, 9, 16, 24)
    with pytest.raises(
        MediaError, match=r"clip abc has 8 frames at 6 a second, that is 1.33 s; 9 frames at 6"
    ) as caught:
        frame_clip(clip(8, 6.0), SIZE, name="abc")
    assert "frames=" in str(caught.value)


def test_a_short_clip_is_refused_by_name_when_it_is_encoded(tiny):
    with pytest.raises(MediaError, match="clip second has 5 frames"):
        tiny.shared("wan").encode_clips([clip(9, 6.0), clip(5, 6.0)], ids=["first", "second"])


# Size.


def test_framing_cuts_the_centre_of_what_covers_the_size():
    frames = np.zeros((9, 16, 72, 3), np.uint8)
    frames[:, :, :36] = 255
    pixels = frame_clip(Clip(frames=frames, fps=6.0), SIZE, name="x")
    assert pixels.shape == (3, 9, 16, 24)
    assert pixels[..., :12].eq(1).all()
    assert pixels[..., 12:].eq(-1).all()
    mirrored = frame_clip(Clip(frames=frames, fps=6.0), SIZE, name="x", flip=True)
    assert torch.equal(mirrored, pixels.flip(-1))
    assert frame_clip(clip(9, 6.0, high=90, wide=30), SIZE, name="x").shape == (3, 9, 16, 24)


def test_the_size_is_the_policys_else_the_folders_else_the_familys(tiny, tmp_path):
    folder = str(tiny.folder("wan"))
    assert tiny.shared("wan").clip_size == SIZES["wan"]
    assert penchant.load(folder, resolution=32).clip_size == ClipSize(height=32, width=32, frames=9, fps=6.0)
    wide = penchant.load(folder, resolution=16, width=32, frames=5, fps=8.0)
    assert wide.clip_size == ClipSize(height=16, width=32, frames=5, fps=8.0)
    (made,) = wide.generate(["x"], seeds=[0], steps=1)
    assert made.frames.shape == (5, 16, 32, 3)
    assert made.fps == 8.0
    assert wide.encoder_fingerprint() != tiny.shared("wan").encoder_fingerprint()

    tiny_wan().save_pretrained(tmp_path)
    assert penchant.load(str(tmp_path)).clip_size == ClipSize(height=480, width=832, frames=81, fps=16.0)


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"resolution": 40}, r"height of 40 .* multiple of 16.*use 32"),
        ({"width": 40}, r"width of 40 .* multiple of 16.*use 32"),
        ({"frames": 8}, r"8 frames .* multiple of 4.*use 5"),
        ({"fps": -1.0}, "cannot have a size of -1"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(tiny, wish, problem):
    with pytest.raises(ModelError, match=problem):
        penchant.load(str(tiny.folder("wan")), **wish)


def test_a_damaged_size_file_is_refused(tmp_path):
    (tmp_path / SIZE_FILE).write_text(json.dumps({"height": 16, "width": "wide"}))
    with pytest.raises(ModelError, match=r"clip_size.json.* is no size of clips"):
        ClipSize.read(tmp_path)
    SIZE.write(tmp_path)
    assert ClipSize.read(tmp_path) == SIZE


def test_an_image_model_has_no_frames(folders):
    with pytest.raises(ModelError, match="makes square pictures"):
        penchant.load(str(folders["stable-diffusion"]), frames=9)


# Modalities.


def candidate(data: bytes) -> Candidate:
    return Candidate(media=Media.of(data))


def picture(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, mode)
    return buffer.getvalue()


def test_candidates_are_decoded_framed_and_encoded(tiny):
    model, given = tiny.shared("wan"), clips(2)
    files = [candidate(encode_clip(one)) for one in given]
    rows = model.encode_candidates(files, flips=[False, True], seed=0)
    expected = model.encode_clips(given, ids=[c.id for c in files], flips=[False, True])["latents"]
    assert torch.equal(torch.stack([row["latents"] for row in rows]), expected)


@pytest.mark.parametrize("mode", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_video_model_refuses_pictures_and_texts(tiny, mode):
    model = tiny.shared("wan")
    with pytest.raises(ModelError, match=r"is a picture, and Wan learns from clips.*an image model"):
        model.encode_candidates([candidate(picture(mode))], flips=[False], seed=0)
    with pytest.raises(ModelError, match=r"is text, and Wan learns from clips.*a language model"):
        model.encode_candidates([Candidate(text="a")], flips=[False], seed=0)


def test_a_broken_clip_is_refused_by_name(tiny):
    broken = candidate(encode_clip(clips(1)[0])[:-2000])
    with pytest.raises(MediaError, match=f"candidate {broken.id[:12]}: "):
        tiny.shared("wan").encode_candidates([broken], flips=[False], seed=0)


def test_a_picture_model_refuses_clips(folders):
    model = penchant.load(str(folders["stable-diffusion"]))
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    for mode in ("WEBP", "GIF", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, mode, save_all=True, append_images=frames[1:], duration=100)
        with pytest.raises(ModelError, match=r"is a clip, and StableDiffusion learns from pictures.*a video model"):
            model.encode_candidates([candidate(buffer.getvalue())], flips=[False], seed=0)
    with pytest.raises(ModelError, match="is a clip"):
        model.encode_candidates([candidate(b"\0\0\0\x20ftypisom" + b"\0" * 64)], flips=[False], seed=0)


def test_every_model_says_its_modality(tiny, folders):
    assert tiny.shared("mochi").modality == "clip"
    assert penchant.load(str(folders["flux"]), resolution=32).modality == "picture"
    assert CausalLM.modality == "text"


# Families.


def test_schedules_are_the_folders(tiny):
    tokens = 3 * 8 * 8
    mu = 0.95 + (2.05 - 0.95) * (tokens - 1024) / (4096 - 1024)
    expected = {"wan": 3.0, "wan-per-token": 3.0, "ltx": np.exp(mu), "hunyuan-video": 7.0, "mochi": 1.0}
    for name, shift in expected.items():
        model = tiny.shared(name)
        assert (model.prediction, model.alphas_cumprod) == ("velocity", None)
        assert model.shift == pytest.approx(shift)


def test_cogvideox_has_zero_terminal_snr_and_a_shifted_one(tiny):
    model = tiny.shared("cogvideox")
    powers = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    powers = powers / (3.0 + (1 - 3.0) * powers)  # snr_shift_scale
    roots = np.sqrt(powers)
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    assert model.prediction == "v_prediction"
    np.testing.assert_allclose(model.alphas_cumprod.numpy(), roots**2, rtol=1e-4, atol=1e-7)
    assert model.alphas_cumprod[-1] == 0


def test_a_scheduler_of_another_kind_is_refused():
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    with pytest.raises(ModelError, match="expects a prediction of 'epsilon'"):
        flow_process(UniPCMultistepScheduler())
    with pytest.raises(ModelError, match="depends on the number of tokens"):
        flow_process(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))


def asked(module: torch.nn.Module) -> list[dict]:
    """What a module will be asked."""
    calls: list[dict] = []
    module.register_forward_pre_hook(lambda _, __, kwargs: calls.append(kwargs), with_kwargs=True)
    return calls


def test_each_noise_level_goes_to_its_own_expert(tiny):
    model = tiny.load("wan-experts")
    assert isinstance(model.bare, Experts)
    assert model.bare.boundary == 875.0
    high, low = asked(model.pipeline.transformer), asked(model.pipeline.transformer_2)
    latents, _, condition, _ = rows(model)
    time = torch.tensor([0.2, 0.9, 0.875])
    with torch.no_grad():
        answers = model.denoise(latents, time, condition, {})
        assert [c["timestep"].tolist() for c in low] == [[pytest.approx(200.0)]]
        assert [c["timestep"].tolist() for c in high] == [[pytest.approx(900.0), pytest.approx(875.0)]]
        for i in range(3):
            one = {name: value[i : i + 1] for name, value in condition.items()}
            alone = model.denoise(latents[i : i + 1], time[i : i + 1], one, {})
            torch.testing.assert_close(answers[i : i + 1], alone, rtol=1e-5, atol=1e-6)


def test_the_loss_reaches_the_adapters_of_both_experts(tiny):
    model = tiny.load("wan-experts", lora=2)
    likelihood, batch = likelihood_of(model, steps=16), pairs(model, groups=1)
    likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0)).total().sum().backward()
    for expert in model.denoisers().values():
        trained = {n: p for n, p in expert.named_parameters() if p.requires_grad}
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    starts = [
        [p for n, p in e.named_parameters() if ".lora_A." in n and p.requires_grad] for e in model.denoisers().values()
    ]
    assert not torch.equal(starts[0][0], starts[1][0])


def test_the_reference_switches_both_adapters_off(tiny):
    model, base = tiny.load("wan-experts", lora=2), tiny.shared("wan-experts")
    train_a_little(model)
    likelihood, batch = likelihood_of(model, steps=8), pairs(model, groups=1)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    with torch.no_grad():
        expected = likelihood.log_prob(base, batch, draw).step_BKT
        assert not torch.equal(likelihood.log_prob(model, batch, draw).step_BKT, expected)
    assert torch.equal(AdapterOff().log_prob(likelihood, model, batch, draw).step_BKT, expected)


def test_the_boundary_is_part_of_the_fingerprint(tiny):
    model = tiny.load("wan-experts")
    before = model.fingerprint()
    model.pipeline.register_to_config(boundary_ratio=0.9)
    assert model.fingerprint() != before


def test_a_boundary_needs_two_experts(tiny, tmp_path):
    pipeline = tiny_wan(experts=True)
    pipeline.register_modules(transformer_2=None)
    save(pipeline, tmp_path, size=SIZES["wan"])
    with pytest.raises(ModelError, match="between two transformers, and there is one"):
        penchant.load(str(tmp_path))


def test_an_adapter_of_one_expert_alone_is_refused(tiny, tmp_path):
    tiny.load("wan", lora=2).save(tmp_path)
    with pytest.raises(ModelError, match="pytorch_lora_weights_2"):
        penchant.load(str(tiny.folder("wan-experts")), adapter=str(tmp_path))


def test_wan_2_2_is_told_the_time_of_every_token(tiny):
    model = tiny.load("wan-per-token")
    calls = asked(model.bare)
    model.denoise(*rows(model))
    assert calls[0]["timestep"].shape == (3, 3)  # 3 frames of one token
    torch.testing.assert_close(calls[0]["timestep"], torch.tensor([[100.0] * 3, [500.0] * 3, [950.0] * 3]))


def test_ltx_knows_the_rate_of_frames(tiny):
    folder = str(tiny.folder("ltx"))
    slow, fast = tiny.shared("ltx"), penchant.load(folder, fps=12.0)
    given = rows(slow)
    with torch.no_grad():
        assert not torch.equal(slow.denoise(*given), fast.denoise(*given))


def test_hunyuan_video_crops_the_template_and_nothing_else(tiny):
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE as TEMPLATE

    pipeline = tiny.shared("hunyuan-video").pipeline
    ids = pipeline.tokenizer([TEMPLATE["template"].format("ab cd")])["input_ids"][0]
    assert pipeline.tokenizer.decode(ids[TEMPLATE["crop_start"] :]).startswith("ab cd")


def test_hunyuan_video_trains_at_the_guidance_its_pipeline_samples_with(tiny, tmp_path):
    import inspect

    from diffusers import HunyuanVideoPipeline

    model = tiny.load("hunyuan-video")
    calls = asked(model.bare)
    model.denoise(*rows(model))
    default = inspect.signature(HunyuanVideoPipeline.__call__).parameters["guidance_scale"].default
    assert calls[0]["guidance"].tolist() == [1000 * default] * 3

    save(tiny_hunyuan_video(guidance_embeds=False), tmp_path, size=SIZES["hunyuan-video"])
    plain = penchant.load(str(tmp_path))
    calls = asked(plain.bare)
    plain.generate(["x"], seeds=[0], steps=1, guidance=1.0)
    assert len(calls) == 1
    plain.generate(["x"], seeds=[0], steps=1, guidance=2.0)
    assert len(calls) == 3


def test_mochi_blanks_the_empty_prompt_and_none_beside_it(tmp_path):
    save(tiny_mochi(blank=True), tmp_path, size=SIZES["mochi"])
    model = penchant.load(str(tmp_path))
    both = model.encode_prompts(["a red cat", ""])
    assert both["prompt_attention_mask"].sum(1).tolist() == [10, 0]
    for name, value in model.encode_prompts(["a red cat"]).items():
        assert torch.equal(both[name][:1], value)
    together = model.generate(["a red cat", ""], seeds=[0, 1], steps=2, guidance=1.0)[0]
    (alone,) = model.generate(["a red cat"], seeds=[0], steps=2, guidance=1.0)
    assert np.array_equal(together.frames, alone.frames)


def test_cogvideox_1_5_lengthens_latents_at_their_beginning(tiny):
    model, plain = tiny.shared("cogvideox-1.5"), tiny.shared("cogvideox")
    given = clips(1)
    latents = model.encode_clips(given, ids=["a"])["latents"]
    short = plain.encode_clips(given, ids=["a"])["latents"]
    assert (latents.shape[2], short.shape[2]) == (4, 3)
    assert torch.equal(latents[:, :, 0], latents[:, :, 1])
    assert model.decode_latents(latents)[0].frames.shape == (9, 16, 16, 3)


@pytest.mark.parametrize("recipe", ["wan-flow-dpo", "wan-flow-rwr"])
def test_the_recipes_train_the_four_projections_of_both_attentions_at_twice_their_scale(tiny, recipe):
    """Table 10 of arXiv 2501.13918: rank 64, alpha 128, q, k, v and o; beta 500 on the mean error."""
    found = find(recipe)
    model = penchant.load(replace(found.policy, path=str(tiny.folder("wan")), dtype="float32"))
    layers = {n.split(".lora_")[0] for n, p in model.bare.named_parameters() if p.requires_grad}
    parts = ("to_q", "to_k", "to_v", "to_out.0")
    assert layers == {f"blocks.{i}.attn{k}.{part}" for i in range(2) for k in (1, 2) for part in parts}
    assert scales(model.bare) == [2.0]
    assert model.bare.peft_config["default"].r == 64
    assert found.train.steps * found.train.batch_size <= 182_000 < (found.train.steps + 1) * found.train.batch_size
    assert getattr(found.objective, "beta", 500.0) == 500.0


def test_build_knows_the_video_families(tmp_path):
    folder = build("ltx", tmp_path / "ltx")
    assert ClipSize.read(folder) == SIZES["ltx"]
    with pytest.raises(ModelError, match="did you mean 'mochi'"):
        build("mocki", tmp_path / "b")
