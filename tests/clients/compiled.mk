# The clients that a compiler makes. Each ends in $(CLIENTS)/NAME/run, which takes what a client program takes; where
# the toolchain is missing or too old, $(CLIENTS)/NAME/absent says so in a line, and make goes on.
#
# Versions are chosen in go.mod, pom.xml and Cargo.toml; after a change of those, `make lock-compiled`.

# `nice`: what is built beside tests leaves them the processor.
GO    := GOPATH=$(abspath $(CACHE)/go) GOCACHE=$(abspath $(CACHE)/go/build) GOFLAGS=-modcacherw nice go
CARGO := CARGO_HOME=$(abspath $(CACHE)/cargo) CARGO_TARGET_DIR=$(abspath $(CACHE)/cargo/target) nice cargo
MAVEN := nice mvn --batch-mode --quiet -Dmaven.repo.local=$(abspath $(CACHE)/maven)
JARS  := $(MAVEN) org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DincludeScope=runtime
SUMS  := sha256sum *.jar | LC_ALL=C sort -k 2

# $(call lacks,PROGRAM,VERSION,COMMAND): nothing where COMMAND tells of that version or a later one, else what is wrong.
lacks = $(shell found=$$($3 2>/dev/null | grep --only-matching '[a-z] *[0-9][0-9.]*' | head -n 1 | tr -dc 0-9.); \
	[ -n "$$found" ] || { echo "$1 is not installed"; exit; }; \
	printf '%s\n' $2 "$$found" | sort --check=quiet --version-sort || echo "$1 is $$found; $2 is needed")

# $(call build,WHAT IS WRONG,RECIPE)
build = rm -rf $(@D) && mkdir -p $(@D)$(newline)$(if $1,$(say_absent),$2)
say_absent = @echo "$1" > $(@D)/absent; echo "no client $(notdir $(@D)): $1"
define newline


endef

NO_GO    = $(call lacks,Go,1.24,go version)
NO_CARGO = $(call lacks,Cargo,1.94.1,cargo --version)
NO_JAVA  = $(or $(call lacks,the Java compiler,11,javac -version),$(call lacks,Maven,3.6,mvn --batch-mode --version))

$(CLIENTS)/go/.ready: $(addprefix tests/clients/go/,main.go go.mod go.sum) tests/clients/compiled.mk
	$(call build,$(NO_GO),$(BUILD_GO))

define BUILD_GO
cd $(<D) && $(GO) build -trimpath -buildvcs=false -ldflags "-s -w" -o $(abspath $(@D)/run)
@touch $@
endef

JAVA = $(CLIENTS)/java/.ready $(CLIENTS)/java_v1/.ready
$(JAVA): $(CLIENTS)/%/.ready: $(addprefix tests/clients/%/,Client.java pom.xml jars.sha256) tests/clients/compiled.mk
	$(call build,$(NO_JAVA),$(BUILD_JAVA))

# The SDK's jars have to be the locked ones, each and no other.
define BUILD_JAVA
$(JARS) --file $(<D)/pom.xml -DoutputDirectory=$(abspath $(@D)/jars)
cd $(@D)/jars && $(SUMS) | diff $(abspath $(<D)/jars.sha256) -
nice javac -cp '$(@D)/jars/*' -d $(@D)/classes $(<D)/Client.java
$(WRITE_RUN) "java -cp '$(abspath $(@D))/jars/*:$(abspath $(@D))/classes' Client" > $(@D)/run
chmod +x $(@D)/run
@touch $@
endef

$(CLIENTS)/rust/.ready: $(addprefix tests/clients/rust/,src/main.rs Cargo.toml crates.lock) tests/clients/compiled.mk
	$(call build,$(NO_CARGO),$(BUILD_RUST))

# crates.lock is Cargo.lock without the lines that say where a crate comes from; Cargo says that by itself.
define BUILD_RUST
cp -r tests/clients/rust $(@D)/crate
cd $(@D)/crate && origin=$$($(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"source":"\([^"]*\)".*/\1/') \
	&& sed "/^checksum/i source = \"$$origin\"" crates.lock > Cargo.lock
cd $(@D)/crate && $(CARGO) build --quiet --release --locked
cp $(CACHE)/cargo/target/release/client $(@D)/run
@touch $@
endef

.PHONY: lock-compiled
lock-compiled: FOLDER := $(abspath $(CACHE)/lock-compiled)
lock-compiled:
	rm -rf $(FOLDER) && mkdir -p $(FOLDER)
	cd tests/clients/go && $(GO) mod tidy
	for sdk in java java_v1; do \
		$(JARS) --file tests/clients/$$sdk/pom.xml -DoutputDirectory=$(FOLDER)/$$sdk \
		&& (cd $(FOLDER)/$$sdk && $(SUMS)) > tests/clients/$$sdk/jars.sha256 || exit; \
	done
	cp -r tests/clients/rust $(FOLDER)/rust
	cd $(FOLDER)/rust && $(CARGO) generate-lockfile
	grep --invert-match '^source' $(FOLDER)/rust/Cargo.lock > tests/clients/rust/crates.lock
