"""The networks in PyTorch: feature extractors, and the shape and transform layers."""
