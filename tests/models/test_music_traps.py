"""MusicGen as transformers samples it is MusicGen as it is scored here: every way to get that wrong, once."""

from __future__ import annotations

import pytest
import torch
from music_fixtures import PROMPTS, codes, music_batch, noise
from torch.testing import assert_close

from penchant.feedback.groups import Candidate
from penchant.likelihoods import Autoregressive
from penchant.models import delay
from penchant.models.completion import Decoding
from penchant.models.music_decoding import MusicDecoding
from penchant.models.music_scoring import CodeLogits
from penchant.models.musicgen import MusicGen
from penchant.models.spec import Policy
from penchant.testing.music import music_tokenizer, tiny_musicgen

SILENT = 64
HOW = [(1.0, None), (3.0, None), (1.0, 10), (3.0, 10)]


def adapter(*, channels: int = 1, **options) -> MusicGen:
    return MusicGen(tiny_musicgen(channels=channels), music_tokenizer(), Policy(path="tiny", **options))


@pytest.fixture(scope="module")
def model() -> MusicGen:
    return adapter()


@pytest.fixture(scope="module")
def stereo() -> MusicGen:
    return adapter(channels=2)


def asked(model: MusicGen) -> dict[str, torch.Tensor]:
    """The prompts as transformers takes them."""
    condition = music_batch(model).condition
    mask = torch.arange(condition["prompt"].shape[1]) < condition["prompt_length"][:, None]
    return {"input_ids": condition["prompt"], "attention_mask": mask.long()}


def generated(model: MusicGen, **options) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Codes [B, Kq, N] and processed scores, a column each [B, Kq, V], of transformers' own `generate`."""
    kept, codec = [], model.whole.audio_encoder
    original = codec.decode
    codec.decode = lambda codes, *rest, **more: kept.append(codes[0]) or original(codes, *rest, **more)
    try:
        drawn = model.whole.generate(
            **asked(model),
            max_new_tokens=model.frames + max(model.waits),
            output_scores=True,
            return_dict_in_generate=True,
            **options,
        )
    finally:
        del codec.decode
    found = kept[0] if len(kept) == 1 else torch.stack(kept, 2).flatten(1, 2)
    return found, [score.unflatten(0, (2, -1)) for score in drawn.scores]


def scored(model: MusicGen, grid: torch.Tensor, how: MusicDecoding) -> CodeLogits:
    condition = music_batch(model).condition
    with torch.no_grad():
        states, heard = model._heard(condition["prompt"], condition["prompt_length"])
        logits = model.module(grid, states, heard, how.guidance)
    spoken = delay.spoken(torch.tensor([grid.shape[-1]] * len(grid)), model.waits, columns=grid.shape[-1])
    return CodeLogits.of(logits, spoken=spoken, temperature=how.temperature, top_k=how.top_k)


@pytest.mark.parametrize(("guidance", "top_k"), HOW)
@pytest.mark.parametrize("channels", [1, 2])
def test_log_probs_are_those_that_generate_draws_at(model, stereo, channels, guidance, top_k) -> None:
    model = stereo if channels == 2 else model
    torch.manual_seed(1)
    found, scores = generated(model, do_sample=True, temperature=0.99, top_k=top_k or 0, guidance_scale=guidance)
    assert found.shape == (2, 4 * channels, model.frames)
    grid = delay.delayed(found, model.waits, silent=SILENT)
    ours = scored(model, grid, MusicDecoding(temperature=0.99, guidance=guidance, top_k=top_k))
    theirs = torch.stack(scores, 2).log_softmax(-1).gather(-1, grid.clamp(max=63)[..., None])[..., 0]
    mine = ours.logp.gather(-1, grid.clamp(max=63)[..., None])[..., 0]
    said = grid != SILENT
    assert torch.equal(said, ours.spoken)
    assert said.sum() == found.numel()
    assert_close(mine[said], theirs[said], rtol=0, atol=1e-5)
    assert_close(ours.of_codes(grid), torch.where(said, theirs, 0).sum(1), rtol=0, atol=4e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_likeliest_codes_are_generates(model, guidance) -> None:
    found, _ = generated(model, do_sample=False, guidance_scale=guidance)
    condition = music_batch(model).condition
    drawn = model._drawn(PROMPTS, [0, 1], MusicDecoding(temperature=0, guidance=guidance))
    assert torch.equal(model.codes_of(drawn.grid_RKT), found)
    assert len(condition["prompt"][0]) > condition["prompt_length"][0]  # a padded prompt among them


@pytest.mark.parametrize(("guidance", "top_k"), HOW)
def test_what_is_drawn_is_scored_as_it_was_drawn(model, guidance, top_k) -> None:
    how = MusicDecoding(temperature=0.9, guidance=guidance, top_k=top_k)
    drawn = model._drawn(PROMPTS, [3, 4], how)
    again = scored(model, drawn.grid_RKT, how).of_codes(drawn.grid_RKT)
    assert drawn.log_probs_RT.isfinite().all()
    assert_close(again, drawn.log_probs_RT, rtol=0, atol=2e-5)


def test_rollouts_are_scored_by_the_likelihood_as_they_were_drawn(stereo) -> None:
    for guidance in (1.0, 3.0):
        model = adapter(channels=2, guidance=guidance)
        rollouts = model.rollouts(PROMPTS, seeds=[5, 6], decoding=Decoding(temperature=0.99))
        batch = music_batch(model, K=1)
        batch.candidates["tokens"][:] = torch.stack([r.candidate["tokens"] for r in rollouts])[:, None]
        likelihood = Autoregressive(temperature=0.99)
        found = likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0))
        assert found.step_BKT.shape == (2, 1, model.frames + 3)
        behavior = torch.stack([r.behavior_T for r in rollouts])
        assert_close(found.step_BKT[:, 0].detach(), behavior, rtol=0, atol=4e-5)
        assert all(r.finished for r in rollouts)


def test_the_loss_of_transformers_is_the_mean_of_the_codebooks_means(model) -> None:
    grid = delay.delayed(codes(model, 2), model.waits, silent=SILENT)
    found = scored(model, grid, MusicDecoding())
    logp = found.logp.gather(-1, grid.clamp(max=63)[..., None])[..., 0]
    ours = -torch.where(found.spoken, logp, 0).sum((0, 2)) / found.spoken.sum((0, 2))
    config = model.whole.config.decoder
    config.decoder_start_token_id = SILENT
    try:
        loss = model.whole(**asked(model), labels=grid.masked_fill(grid == SILENT, -100).transpose(1, 2)).loss
    finally:
        del config.decoder_start_token_id
    assert_close(ours.mean(), loss, rtol=1e-6, atol=1e-6)


def test_labels_are_never_handed_to_a_model_that_cannot_take_them(model, monkeypatch) -> None:
    seen = []
    forward = model.bare.forward
    monkeypatch.setattr(model.bare, "forward", lambda *a, **k: seen.append(k) or forward(*a, **k))
    likelihood, batch = Autoregressive(), music_batch(model)
    likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0))
    model.rollouts(PROMPTS[:1], seeds=[0], decoding=Decoding())
    assert len(seen) == 1 + model.frames + 3
    assert all("labels" not in given for given in seen)


def test_two_samples_of_a_prompt_are_two_sounds(model) -> None:
    """`generate(num_return_sequences=2)` of transformers gives one of twice the length."""
    both = model.rollouts([PROMPTS[0], PROMPTS[0]], seeds=[1, 2], decoding=Decoding())
    assert [r.candidate["tokens"].shape for r in both] == [(4, model.frames + 3)] * 2
    assert not torch.equal(both[0].candidate["tokens"], both[1].candidate["tokens"])


@pytest.mark.parametrize("frames", [3, 12, 20])
def test_as_many_frames_are_drawn_as_are_asked_for(frames) -> None:
    model = adapter(seconds=frames / 100)
    (sound,) = model.generate(PROMPTS[:1], seeds=[0], decoding=MusicDecoding())
    assert model.frames == frames
    assert len(sound) == frames * 80
    assert sound.seconds == pytest.approx(frames / 100)


def test_a_sample_does_not_depend_on_its_batch(model) -> None:
    decoding = Decoding(temperature=1.0)
    together = model.rollouts([*PROMPTS, PROMPTS[0]], seeds=[1, 2, 3], decoding=decoding)
    for i, (prompt, seed) in enumerate(zip([*PROMPTS, PROMPTS[0]], [1, 2, 3], strict=True)):
        (alone,) = model.rollouts([prompt], seeds=[seed], decoding=decoding)
        assert torch.equal(alone.candidate["tokens"], together[i].candidate["tokens"])
        assert_close(alone.behavior_T, together[i].behavior_T, rtol=0, atol=1e-5)


def test_encoding_a_sample_again_gives_other_codes_so_they_are_kept(model) -> None:
    (rollout,) = model.rollouts(PROMPTS[:1], seeds=[0], decoding=Decoding())
    grid = rollout.candidate["tokens"]
    said = model.codes_of(grid)
    assert (model.codec.encode(rollout.sample) != said).float().mean() > 0.2
    candidate = Candidate(text="a sound", settings={"codes": said.tolist()})
    (kept,) = model.encode_candidates([candidate], flips=[False], seed=0)
    assert torch.equal(kept["tokens"], grid)
    assert int(kept["length"]) == grid.shape[1]


def test_training_mode_drops_nothing(model) -> None:
    likelihood, batch = Autoregressive(), music_batch(model)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    before = likelihood.log_prob(model, batch, draw).step_BKT
    model.module.train()
    assert torch.equal(likelihood.log_prob(model, batch, draw).step_BKT, before)
    model.module.eval()
    stock = tiny_musicgen().train()
    inputs = delay.shifted(batch.candidates["tokens"].flatten(0, 1), silent=SILENT).flatten(0, 1)
    logits = [stock.decoder(input_ids=inputs).logits for _ in range(2)]
    assert not torch.equal(*logits)  # what the published configuration would do
    assert model.whole.config.decoder.dropout == 0.1


def test_silence_is_never_drawn(model) -> None:
    drawn = model._drawn(PROMPTS * 8, range(16), MusicDecoding(temperature=100.0))
    found = model.codes_of(drawn.grid_RKT)
    assert found.max() == SILENT - 1
    assert found.min() == 0
    assert (drawn.grid_RKT == SILENT).sum() == 16 * (1 + 2 + 3) * 2


@pytest.mark.parametrize("channels", [1, 2])
def test_the_delay_is_transformers_own(model, stereo, channels) -> None:
    model = stereo if channels == 2 else model
    given = codes(model, 2)
    grid = delay.delayed(given, model.waits, silent=SILENT)
    begun = torch.nn.functional.pad(given, (1, 0), value=SILENT).flatten(0, 1)
    _, pattern = model.bare.build_delay_pattern_mask(begun, SILENT, max_length=1 + grid.shape[-1])
    assert torch.equal(pattern.unflatten(0, (2, -1))[..., 1:], grid)
    assert torch.equal(delay.undelayed(grid, model.waits), given)
    assert model.waits == ((0, 1, 2, 3) if channels == 1 else (0, 0, 1, 1, 2, 2, 3, 3))


def test_a_prompt_of_no_length_is_the_null_branch_of_transformers(model) -> None:
    batch = music_batch(model, K=1)
    batch.condition["prompt_length"][:] = 0
    likelihood = Autoregressive()
    found = likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0)).step_BKT[:, 0]
    grid = batch.candidates["tokens"][:, 0]
    null = model.whole.get_unconditional_inputs(num_samples=2)
    logits = model.whole(
        encoder_outputs=null.encoder_outputs,
        attention_mask=null.attention_mask,
        decoder_input_ids=delay.shifted(grid, silent=SILENT).flatten(0, 1),
    ).logits.unflatten(0, (2, -1))
    theirs = logits.log_softmax(-1).gather(-1, grid.clamp(max=63)[..., None])[..., 0]
    assert found.isfinite().all()
    assert_close(found, torch.where(grid != SILENT, theirs, 0).sum(1), rtol=0, atol=2e-5)


def test_dropped_captions_are_counted_and_score_as_the_null_branch(model) -> None:
    likelihood = Autoregressive(caption_dropout=0.5)
    batch = music_batch(model, groups=16, K=1)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    assert draw.dropped_B is not None
    assert 0 < draw.dropped_B.sum() < 16
    found = likelihood.log_prob(model, batch, draw).step_BKT
    plain = Autoregressive()
    kept = plain.log_prob(model, batch, plain.draw(batch, seed=0, epoch=0)).step_BKT
    batch.condition["prompt_length"][:] = 0
    null = plain.log_prob(model, batch, plain.draw(batch, seed=0, epoch=0)).step_BKT
    assert (kept - null).abs().max() > 1e-3
    assert_close(found, torch.where(draw.dropped_B[:, None, None], null, kept))


def test_a_codec_makes_what_a_decoder_hears(stereo) -> None:
    """Left and right are encoded by themselves and alternate, level by level."""
    sound = noise(channels=2)
    found = stereo.codec.encode(sound)
    left = stereo.whole.audio_encoder.encode(torch.from_numpy(sound.samples[:1])[None], bandwidth=2.4).audio_codes[0, 0]
    assert torch.equal(found[::2], left)
    assert not torch.equal(found[1::2], left)
