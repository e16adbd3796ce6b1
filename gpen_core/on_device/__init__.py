"""What `around` does, in torch on the accelerator: a picture goes there once, and only what changed comes back."""
