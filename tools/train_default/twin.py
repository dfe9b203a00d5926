"""The trained detector as a TFLite file with float16 weights, for boards whose engine is LiteRT.

    python3 -m venv twin && . twin/bin/activate && pip install torch==2.13.0
    pip install litert-torch==0.10.0 ai-edge-quantizer==0.10.0 onnx onnxruntime pycocotools -e .
    python tools/train_default/twin.py --run .cache/train_default/main --out gelan_nano.tflite

The environment is its own because the converter brings TensorFlow's, of 2 GB. Input, outputs and card are those
of the ONNX file; the card lies in a zip archive behind the model, where TFLite's metadata tools put theirs.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

import litert_torch
import torch
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.recipe import AlgorithmName
from export import LICENCE, Exported, card_of, kept_of, narrowed, provenance
from training import trained

from edge_sdk.files import replacing
from edge_sdk.models.metadata import CARD_KEY

_LAYERS = (
    qtyping.TFLOperationName.CONV_2D,
    qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
    qtyping.TFLOperationName.FULLY_CONNECTED,
)
# Weights are halved in the file alone: the engine makes them float32 again when it opens it.
_FLOAT16 = qtyping.OpQuantizationConfig(
    weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
    compute_precision=qtyping.ComputePrecision.FLOAT,
    explicit_dequantize=True,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", dest="run_folder", type=Path, required=True, help="the folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="the file")
    parser.add_argument("--classes", help="keep these, commas between; left out: all")
    arguments = parser.parse_args()
    config, detector, state = trained(arguments.run_folder)
    kept = kept_of(arguments.classes, config.classes)
    narrowed(detector, config.classes, kept)
    example = torch.zeros(1, config.height, config.width, 3, dtype=torch.uint8)
    edge = litert_torch.convert(Exported(detector, config.height, config.width).eval(), (example,))
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.tflite"
        edge.export(str(whole))
        halved = quantizer.Quantizer(str(whole))
        for operation in _LAYERS:
            halved.update_quantization_recipe(".*", operation, _FLOAT16, AlgorithmName.FLOAT_CASTING)
        model = bytes(halved.quantize().quantized_model)
    archive = io.BytesIO(model)
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a") as members:
        card = {CARD_KEY: json.dumps(card_of(kept, config.height, config.width)), "licence": LICENCE}
        members.writestr("card.json", json.dumps({**card, **provenance(config, state)}))
    with replacing(arguments.out) as path:
        path.write_bytes(archive.getvalue())


if __name__ == "__main__":
    main()
