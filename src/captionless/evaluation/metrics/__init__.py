"""Pure functions of tensors that measure generated images."""
