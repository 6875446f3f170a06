"""From labelled photos to a weights file: data, shape model, training, evaluation, export."""
