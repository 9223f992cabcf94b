"""Small stand-ins for the files that the stages up to evaluate leave."""

import json
from pathlib import Path

from PIL import Image

KEY = "0123456789abcdef"
"""Training key in the models/run.json that `write_outputs` writes."""
FILES = {
    "params.yaml": "train: {lr: 0.01}\n",
    "data/splits.csv": "key,label,split\na.jpg,owl,train\nb.jpg,jay,test\n",
    "models/run.json": json.dumps(
        {
            "training_key": KEY,
            "hardware": {"device": "a GPU elsewhere"},
            "environment": {"packages": {"torch": "2.9.0"}, "machine": {"processor": "another"}},
            "best_epoch": 2,
        }
    ),
    "reports/data.json": '{"source": "sample"}\n',
    "reports/history.csv": "epoch,train/loss,val/accuracy\n1,2.0,0.5\n2,1.0,0.75\n",
    "reports/metrics.json": json.dumps(
        {"test": {"accuracy": 0.9, "accuracy_ci95": {"low": 0.8, "high": 1.0}}, "val": {"accuracy": 0.75}}
    ),
    "reports/per_class.csv": "label,f1\nowl,0.9\njay,0.9\n",
    "reports/slices.csv": "slice,group\n",
    "reports/predictions.csv": "key,label,prob_label\nb.jpg,jay,0.9\n",
    "reports/label_errors.csv": "key,label,suggested,score,split\na.jpg,owl,jay,0.9,train\n",
    "reports/confusion.csv": "actual,predicted,count\njay,jay,1\n",
    "reports/report.html": "<p>birds</p>",
    "reports/plots/recall.png": "not a picture",
}


def write_outputs(folder: Path) -> None:
    """Write FILES and a confusion matrix's picture below `folder`."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    Image.new("RGB", (800, 500), "navy").save(folder / "reports/plots/confusion.png")
