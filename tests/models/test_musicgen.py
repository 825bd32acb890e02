"""MusicGen as an adapter: what trains, what is saved, what the likelihood and the objectives see of it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from model_fixtures import train_a_little
from music_fixtures import PROMPTS, music_batch
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError, RecipeError
from penchant.feedback.groups import Candidate, Media, Prompt
from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.music_decoding import MusicDecoding
from penchant.models.musicgen import MusicGen
from penchant.objectives import DPO
from penchant.references import AdapterOff, Cached, Frozen
from penchant.testing import build, tiny_language_model
from penchant.types import ObjectiveInputs

LIKELIHOOD = Autoregressive()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build("musicgen", tmp_path_factory.mktemp("music") / "musicgen")


@pytest.fixture(scope="module")
def shared(folder) -> MusicGen:
    return penchant.load(folder)


@pytest.fixture(scope="module")
def with_lora(folder) -> MusicGen:
    return penchant.load(folder, lora=4)


def log_prob(model, batch=None, likelihood=LIKELIHOOD, **options):
    batch = music_batch(model) if batch is None else batch
    return likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0), **options)


def test_a_folder_is_recognised_and_only_its_decoder_trains(shared, with_lora) -> None:
    assert type(shared) is MusicGen
    assert shared.modality == "sound"
    frozen = [n for n, p in shared.whole.named_parameters() if not p.requires_grad]
    trained = [n for n, p in shared.whole.named_parameters() if p.requires_grad]
    assert {n.split(".")[0] for n in trained} == {"decoder"}
    assert {n.split(".")[0] for n in frozen} == {"text_encoder", "audio_encoder", "enc_to_dec_proj"}
    assert len(shared.trainable_parameters()) == len(trained)
    names = [n for n, p in with_lora.whole.named_parameters() if p.requires_grad]
    assert names
    assert all(n.startswith("decoder.") and ".lora_" in n and "lm_heads" not in n for n in names)


def test_a_new_adapter_changes_nothing(shared, with_lora) -> None:
    assert with_lora.fingerprint(adapters=False) == shared.fingerprint() != with_lora.fingerprint()
    assert torch.equal(log_prob(with_lora).step_BKT, log_prob(shared).step_BKT)
    assert with_lora.encoder_fingerprint() == shared.encoder_fingerprint()


def test_an_adapter_goes_through_its_folder_into_the_stock_model(folder, with_lora, tmp_path) -> None:
    from transformers import MusicgenForConditionalGeneration

    model = copy.deepcopy(with_lora)
    train_a_little(model)
    model.save(tmp_path / "adapter")
    expected = log_prob(model).step_BKT
    assert (expected - log_prob(with_lora).step_BKT).abs().max() > 1e-2
    again = penchant.load(folder, adapter=str(tmp_path / "adapter"))
    assert torch.equal(log_prob(again).step_BKT, expected)
    assert again.fingerprint() == model.fingerprint()
    assert len(again.trainable_parameters()) == len(model.trainable_parameters())
    stock = MusicgenForConditionalGeneration.from_pretrained(folder)
    stock.decoder.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(log_prob(MusicGen(stock, model.tokenizer, model.spec)).step_BKT, expected)
    model.save_merged(tmp_path / "merged")
    assert_close(log_prob(penchant.load(tmp_path / "merged")).step_BKT, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(log_prob(model).step_BKT, expected)


def test_all_weights_go_through_a_folder_that_keeps_its_dropout(shared, tmp_path) -> None:
    model = copy.deepcopy(shared)
    train_a_little(model)
    model.save(tmp_path)
    again = penchant.load(tmp_path)
    assert again.fingerprint() == model.fingerprint() != shared.fingerprint()
    assert again.encoder_fingerprint() == model.encoder_fingerprint()
    assert again.whole.config.decoder.dropout == 0.1
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt")]


def test_a_frozen_copy_stays_behind_and_shares_what_never_trains(shared) -> None:
    model = copy.deepcopy(shared)
    before = log_prob(model).step_BKT
    twin = model.frozen_copy()
    train_a_little(model)
    assert torch.equal(log_prob(twin).step_BKT, before)
    assert not torch.equal(log_prob(model).step_BKT, before)
    assert twin.trainable_parameters() == []
    assert twin.whole is model.whole


@pytest.mark.parametrize("lora", [True, False])
def test_dpo_begins_at_ln_2_and_one_step_lowers_it(shared, with_lora, lora) -> None:
    model = copy.deepcopy(with_lora if lora else shared)
    batch, objective = music_batch(model), DPO(beta=0.1)
    reference = (AdapterOff() if lora else Frozen(model)).log_prob(
        LIKELIHOOD, model, batch, LIKELIHOOD.draw(batch, seed=0, epoch=0)
    )

    def loss() -> torch.Tensor:
        given = ObjectiveInputs(
            policy=log_prob(model, batch), reference=reference, scores_BK=batch.scores_BK, mask_BK=batch.mask_BK
        )
        return objective(given).loss

    before = loss()
    assert before.item() == pytest.approx(math.log(2), abs=1e-7)
    before.backward()
    torch.optim.SGD(model.trainable_parameters(), lr=1e-3).step()
    assert loss().item() < before.item() - 1e-3


def test_a_step_is_a_column_and_shorter_sounds_score_as_by_themselves(shared) -> None:
    batch = music_batch(shared)
    whole = log_prob(shared, batch)
    columns = shared.frames + 3
    assert whole.step_BKT.shape == (2, 2, columns)
    assert whole.mask_BKT.all()
    short = shared.grid_of(shared.codes_of(batch.candidates["tokens"][0, 1])[:, :8])
    batch.candidates["tokens"][0, 1] = torch.nn.functional.pad(short["tokens"], (0, columns - 11))
    batch.candidates["length"][0, 1] = short["length"]
    mixed = log_prob(shared, batch)
    assert mixed.mask_BKT[0, 1].sum() == 11
    assert_close(mixed.total()[1], whole.total()[1])
    batch = replace(batch.only_candidate(1), candidates={n: v[:1, None] for n, v in _row(short).items()})
    alone = log_prob(shared, _first_group(batch))
    assert_close(mixed.total()[0, 1], alone.total()[0, 0], rtol=1e-5, atol=1e-4)


def _row(grid):
    return {name: value[None] for name, value in grid.items()}


def _first_group(batch):
    return replace(
        batch,
        group_ids=batch.group_ids[:1],
        sample_ids=batch.sample_ids[:1],
        prompts=batch.prompts[:1],
        condition={n: v[:1] for n, v in batch.condition.items()},
        scores_BK=batch.scores_BK[:1],
        mask_BK=batch.mask_BK[:1],
    )


def test_collision_and_divergence_of_a_column_are_those_of_its_joint_distribution(shared, with_lora) -> None:
    model = copy.deepcopy(with_lora)
    train_a_little(model)
    likelihood = Autoregressive(temperature=0.9)
    mine = log_prob(model, likelihood=likelihood, keep_output=True)
    theirs = log_prob(shared, likelihood=likelihood, keep_output=True)
    kl = likelihood.divergence(mine, theirs)
    assert kl.shape == mine.step_BKT.shape
    assert (kl > 0).all()
    # At the second column two codebooks speak: 64 x 64 pairs.
    p, q = (found.output.logp[0, 0, :2, 1] for found in (mine, theirs))
    joint_p, joint_q = (x[0][:, None] + x[1][None] for x in (p, q))
    assert_close(kl[0, 0, 1], (joint_p.exp() * (joint_p - joint_q)).sum(), rtol=1e-4, atol=1e-6)
    assert mine.collision_BKT is not None
    assert_close(mine.collision_BKT[0, 0, 1], joint_p.exp().square().sum().log(), rtol=1e-4, atol=1e-5)
    kl.sum().backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.trainable_parameters())


def test_a_value_network_forecasts_before_each_column_and_is_nobodys_else(folder, shared, with_lora) -> None:
    model = copy.deepcopy(shared)
    count = len(model.trainable_parameters())
    model.add_value()
    model.value.head.bias.data.fill_(0.7)
    batch = music_batch(model)
    assert_close(LIKELIHOOD.value(model, batch), torch.full((2, 2, model.frames + 3), 0.7))
    torch.nn.init.normal_(model.value.head.weight)
    found = LIKELIHOOD.value(model, batch)
    batch.candidates["tokens"][..., 5] = 0
    changed = (LIKELIHOOD.value(model, batch) - found).abs().amax((0, 1))
    assert changed[:6].max() == 0 < changed[6:].min()
    found.sum().backward()
    assert all(p.grad is None for p in model.bare.parameters())
    assert len(model.trainable_parameters()) > count
    with pytest.raises(ModelError, match="trains in full"):
        with_lora.add_value()


def test_gradient_checkpointing_leaves_gradients_as_they_are(folder) -> None:
    gradients = []
    for on in (False, True):
        model = penchant.load(folder, lora=2, gradient_checkpointing=on)
        train_a_little(model)
        model.module.train()
        log_prob(model).step_BKT.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lora", [0, 2])
def test_lower_precision_keeps_what_trains_and_the_codec_in_float32(folder, shared, lora) -> None:
    model = penchant.load(folder, dtype="bfloat16", lora=lora)
    assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
    assert model.whole.audio_encoder.dtype == torch.float32
    assert model.whole.text_encoder.dtype == torch.bfloat16
    found = log_prob(model)
    assert found.step_BKT.dtype == torch.float32
    assert 0 < (found.total() - log_prob(shared).total()).abs().max() < 3
    assert len(model.rollouts(PROMPTS, seeds=[0, 1], decoding=Decoding())) == 2


def test_kept_reference_scores_name_the_grid(shared, tmp_path) -> None:
    reference = Cached(Frozen(shared), tmp_path / "reference.sqlite")
    batch = music_batch(shared)
    draw = LIKELIHOOD.draw(batch, seed=0, epoch=0)
    first = reference.log_prob(LIKELIHOOD, shared, batch, draw).step_BKT
    assert torch.equal(reference.log_prob(LIKELIHOOD, shared, batch, draw).step_BKT, first)
    batch.candidates["tokens"][0, 0, 2, 5] = (batch.candidates["tokens"][0, 0, 2, 5] + 1) % 64
    other = reference.log_prob(LIKELIHOOD, shared, batch, draw).step_BKT
    assert not torch.equal(other[0, 0], first[0, 0])
    assert torch.equal(other[1], first[1])


def test_what_is_no_sound_is_refused_by_name(shared) -> None:
    picture = Candidate(media=Media.of(b"\x89PNG\r\n\x1a\n"))
    for wrong in (picture, Candidate(text="words")):
        with pytest.raises(ModelError, match="learns from sounds"):
            shared.encode_candidates([wrong], flips=[False], seed=0)
    for codes in ([[1, 2]], [[64, 0]] * 4, [[-1]] * 4, [1, 2]):
        with pytest.raises(ModelError, match="are not for 4 codebooks"):
            shared.encode_candidates([Candidate(text="x", settings={"codes": codes})], flips=[False], seed=0)


def test_sounds_of_another_length_are_cut_or_said_aloud(folder) -> None:
    model = penchant.load(folder, seconds=0.1, max_prompt=3)
    assert model.notes() == []
    rows = [Candidate(text="x", settings={"codes": [[1] * n] * 4}) for n in (12, 8, 10)]
    found = model.encode_candidates(rows, flips=[False] * 3, seed=0)
    assert [int(row["length"]) for row in found] == [13, 11, 13]
    (asked,) = model.encode_asked([Prompt(text="a tune")])
    assert model.tokenizer.decode(asked["prompt"]) == "a t"
    notes = " | ".join(model.notes())
    assert "1 prompts" in notes
    assert "1 sounds were longer than 0.1 s" in notes
    assert "1 sounds were shorter" in notes


def test_impossible_settings_are_refused(folder, shared) -> None:
    with pytest.raises(ModelError, match="fewer than the last codebook waits"):
        penchant.load(folder, seconds=0.02)
    llama = build("llama", folder.parent / "llama")
    with pytest.raises(ModelError, match="music token models alone"):
        penchant.load(llama, guidance=3.0)
    with pytest.raises(ModelError, match="makes no sounds"):
        penchant.load(llama, seconds=3.0)
    with pytest.raises(ModelError, match="no sound lasts"):
        penchant.load(folder, seconds=-1.0)
    with pytest.raises(ModelError, match="top_p"):
        shared.rollouts(PROMPTS, seeds=[0, 1], decoding=Decoding(top_p=0.9))
    with pytest.raises(ModelError, match="came with"):
        shared.rollouts(PROMPTS, seeds=[0], decoding=Decoding())
    for options in ({"temperature": -1.0}, {"guidance": -1.0}, {"top_k": 0}):
        with pytest.raises(RecipeError):
            MusicDecoding(**options)


def test_only_a_model_with_a_null_branch_may_lose_its_prompt(shared) -> None:
    from penchant.models.causal_lm import CausalLM
    from penchant.models.spec import Policy
    from penchant.testing import language_tokenizer

    lm = CausalLM(tiny_language_model("llama"), language_tokenizer(), Policy(path="tiny"))
    likelihood, batch = Autoregressive(caption_dropout=1.0), music_batch(shared)
    with pytest.raises(ModelError, match="without a prompt"):
        likelihood.log_prob(lm, batch, likelihood.draw(batch, seed=0, epoch=0))
    with pytest.raises(RecipeError, match="not a probability"):
        Autoregressive(caption_dropout=1.5)


def test_guidance_is_part_of_the_policys_name(folder, shared) -> None:
    guided = penchant.load(folder, guidance=3.0)
    assert guided.fingerprint() != shared.fingerprint()
    assert (log_prob(guided).total() - log_prob(shared).total()).abs().max() > 0.1
