# `make` alone lists the targets. Each sets up what it needs; without make, run `python make.py TARGET`.
PYTHON ?= python3
TARGETS = demo test test-all test-nightly trial kills soak real check bench bench-load test-oldest test-newest lock dist reference docs manual host-comfyui host-a1111 host-sdnext

.PHONY: help $(TARGETS)
help:
	@$(PYTHON) make.py
$(TARGETS):
	$(PYTHON) make.py $@
