# Every target sets up what it needs; see make.py, which does the same where there is no make.
PYTHON ?= python3

.PHONY: demo test test-all test-nightly trial kills soak check bench bench-load test-oldest test-newest lock dist reference docs manual host-comfyui host-a1111 host-sdnext
demo test test-all test-nightly trial kills soak check bench bench-load test-oldest test-newest lock dist reference docs manual host-comfyui host-a1111 host-sdnext:
	$(PYTHON) make.py $@
