# What is made of the chart, and what checks it.

.PHONY: golden
golden: $(TEST)/.ready $(CACHE)/helm/.ready ## Render again what is made of the chart: golden files, kustomize bases, the table of values
	$(TEST)/bin/python tests/deploy/render.py
