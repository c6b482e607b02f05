"""What others' tools read: records for trackers of experiments, and a trained model as an ONNX file.

`tracked` says what a tracker is told of a record, `tensorboard`, `mlflow` and `wandb` write it in the form of each, and
`onnx` writes the model. Nothing here runs while something is trained, and nothing uses the network.
"""
