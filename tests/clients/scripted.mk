# The clients that an interpreter runs. Each ends in $(CLIENTS)/NAME/run, which takes what a client program takes.

# $(call lack,WORDS): the client is absent, and $(CLIENTS)/NAME/absent says why.
lack = { mkdir -p $(@D); echo "$1" | tee $(@D)/absent; exit 1; }

WRITE_RUN = printf '\#!/bin/sh\nexec %s "$$@"\n'

# AWS CLI v2 and the SDK for Ruby are Debian's; where they are not installed there is no such client.
$(CLIENTS)/awscli_v2/.ready: $(CLIENTS)/boto3/.ready tests/clients/scripted.mk
	@/usr/bin/aws --version 2>&1 | grep --quiet '^aws-cli/2' || $(call lack,AWS CLI v2 is not installed (awscli))
	mkdir -p $(@D)
	$(WRITE_RUN) '$(abspath $(CLIENTS)/boto3/bin/python) $(abspath tests/clients/awscli_client.py) /usr/bin/aws' > $(@D)/run
	chmod +x $(@D)/run
	@touch $@

$(CLIENTS)/ruby/.ready: tests/clients/scripted.mk
	@ruby -e 'require "aws-sdk-s3"' 2>/dev/null || $(call lack,the SDK for Ruby is not installed (ruby-aws-sdk-s3))
	mkdir -p $(@D)
	$(WRITE_RUN) 'ruby $(abspath tests/clients/ruby_client.rb)' > $(@D)/run
	chmod +x $(@D)/run
	@touch $@

# Node finds modules beside the program, so the program is copied to them.
$(CLIENTS)/js_%/.ready: tests/clients/js_%/package-lock.json tests/clients/js_%/client.js tests/clients/scripted.mk
	@command -v npm >/dev/null || $(call lack,npm is not installed)
	mkdir -p $(@D)
	cp tests/clients/js_$*/* $(@D)
	cd $(@D) && npm ci --silent --no-audit --no-fund --ignore-scripts
	$(WRITE_RUN) 'node $(abspath $(@D)/client.js)' > $(@D)/run
	chmod +x $(@D)/run
	@touch $@

# AWS CLI v1 is a program of its environment; every other client is a Python program in its own.
$(CLIENTS)/awscli/.ready: tests/clients/awscli.txt tests/clients/scripted.mk
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --require-hashes -r $<
	$(WRITE_RUN) '$(abspath $(@D)/bin/python) $(abspath tests/clients/awscli_client.py) $(abspath $(@D)/bin/aws)' > $(@D)/run
	chmod +x $(@D)/run
	@touch $@

$(CLIENTS)/%/.ready: tests/clients/%.txt tests/clients/scripted.mk
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --require-hashes -r $<
	$(WRITE_RUN) '$(abspath $(@D)/bin/python) $(abspath tests/clients/$*_client.py)' > $(@D)/run
	chmod +x $(@D)/run
	@touch $@
