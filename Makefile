# Every target sets up what it needs; see make.py, which does the same where there is no make.
PYTHON ?= python3

.PHONY: demo test test-all trial kills soak check bench bench-load test-oldest test-newest lock dist reference docs
demo test test-all trial kills soak check bench bench-load test-oldest test-newest lock dist reference docs:
	$(PYTHON) make.py $@
