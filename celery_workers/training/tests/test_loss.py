from __future__ import annotations

from pathlib import Path

import pytest
import torch

from celery_workers.data.examples_file import open_examples
from celery_workers.modeling.loading import load_base
from celery_workers.training.attention import join_rows
from celery_workers.training.batches import join
from celery_workers.training.loss import token_logprobs
from celery_workers.training.tests.conftest import write_examples

LENGTHS = [9, 20, 5, 33]


def test_joined_loss_and_gradients_equal_a_padded_batch_of_transformers(tmp_path: Path, tiny_model_folder: Path) -> None:
    table = open_examples(write_examples(tmp_path, lengths=LENGTHS).path)
    padded = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    labels, mask = torch.full_like(padded, -100), torch.zeros_like(padded)
    for place, length in enumerate(LENGTHS):
        padded[place, :length] = torch.tensor(table.input_ids(place))
        labels[place, :length] = torch.tensor(table.labels(place))
        mask[place, :length] = 1
    reference = load_base(tiny_model_folder, dtype=torch.float32)
    expected = reference(input_ids=padded, attention_mask=mask, labels=labels).loss
    expected.backward()

    model = load_base(tiny_model_folder, dtype=torch.float32)
    assert join_rows(model)
    batch = join([(ids, labels) for ids, labels, _number in table], torch.device("cpu"))
    loss = -token_logprobs(model, batch, can_join=True, precision="float32").sum() / batch.supervised_tokens
    loss.backward()

    assert batch.supervised_tokens == table.supervised_tokens
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
