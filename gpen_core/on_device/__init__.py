"""What `around` and `faces.scene` do, in torch on the accelerator: a picture goes there once, and only what changed comes
back."""
