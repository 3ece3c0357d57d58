"""A run of ours as TRL's `SFTTrainer` takes it: same adapter, rows, order, windows, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from training.trainer import Trainer

IGNORED_LABEL = -100


def trl_trainer(ours: Trainer, out: Path) -> SFTTrainer:
    """TRL's trainer of the model that `ours` opened; torch's own AdamW, no validation.

    Rows come with ids and labels, so TRL renders and tokenizes nothing. Its windows are ours: one
    row after the other, `accumulation` of them a step, and the loss divided by the number of
    labels of all of them.
    """
    settings = ours.settings
    config = SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        max_length=None,
        packing=False,
        max_grad_norm=settings.clip,
        gradient_checkpointing=settings.checkpointing,
        bf16=False,
        use_cpu=settings.device == "cpu",
        seed=settings.seed,
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    optimizer = torch.optim.AdamW(
        ours.trained, lr=settings.lr, weight_decay=settings.weight_decay, foreach=False
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ours._factor)
    return SFTTrainer(
        model=ours.model,
        args=config,
        train_dataset=Dataset.from_list([_row(ours, index) for index in ours.order]),
        processing_class=_no_words(),
        optimizers=(optimizer, schedule),
    )


def _row(ours: Trainer, index: int) -> dict[str, Any]:
    sample = ours.train[index]
    labels = [IGNORED_LABEL] * len(sample.ids)
    for begin, end in sample.targets:
        labels[begin:end] = sample.ids[begin:end]
    return {"input_ids": list(sample.ids), "labels": labels}


def _no_words() -> PreTrainedTokenizerFast:
    """SFTTrainer wants a tokenizer, if only to ask it for the token that pads."""
    tokenizer = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<pad>", unk_token="<pad>"
    )
