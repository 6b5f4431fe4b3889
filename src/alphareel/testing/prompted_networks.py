"""Tiny networks of the transformers classes that the prompted engine runs, with random weights.

Requires the ``pro`` extra. Downloads nothing.
"""

import json
from pathlib import Path
from typing import Any

from alphareel.matting.torch_runtime import torch, transformers

_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "a", "person", "animal", "dog", "red", "car")
_SIDE = 64


def make_prompted(models_dir: Path) -> None:
    """Write both folders of the prompted engine, as ``alphareel models pull`` does."""
    torch().manual_seed(7)
    _make_grounding(models_dir / "grounding-dino-tiny")
    _make_sam(models_dir / "sam2.1-hiera-tiny")


def _make_grounding(folder: Path) -> None:
    library = transformers()
    swin = library.SwinConfig(
        window_size=7, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], image_size=_SIDE,
        out_features=["stage2", "stage3", "stage4"], out_indices=[2, 3, 4],
    )  # fmt: skip
    text = library.BertConfig(
        vocab_size=len(_WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    config = library.GroundingDinoConfig(
        backbone_config=swin, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2, num_queries=6,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_feature_levels=4, encoder_n_points=2, decoder_n_points=2, max_text_len=32, disable_custom_kernels=True,
    )  # fmt: skip
    _save(library.GroundingDinoForObjectDetection(config), folder)
    (folder / "vocab.txt").write_text("\n".join(_WORDS) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": "[UNK]"}))
    library.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(str(folder))
    for name in ("vocab.txt", "special_tokens_map.json"):  # newer tokenizers leave these out
        if not (folder / name).is_file():
            (folder / name).write_text("\n".join(_WORDS) + "\n" if name == "vocab.txt" else "{}")


def _make_sam(folder: Path) -> None:
    library = transformers()
    hiera = {
        "hidden_size": 8, "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3], "image_size": [_SIDE, _SIDE],
        "window_size_per_stage": [4, 4, 4, 2], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **hiera},
        "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = library.Sam2VideoConfig(
        vision_config=library.Sam2VisionConfig(**vision),
        prompt_encoder_config={"hidden_size": 128, "image_size": _SIDE, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
            "num_hidden_layers": 1,
        },
        image_size=_SIDE, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    _save(library.Sam2VideoModel(config), folder)


def _save(network: Any, folder: Path) -> None:
    """Make the weights as large as trained ones, so that temporal state affects the output."""
    with torch().no_grad():
        for values in network.parameters():
            values.add_(torch().randn_like(values) * 0.2)
    network.save_pretrained(str(folder))
