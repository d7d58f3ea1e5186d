# Main targets: `make demo` and `make test`. Both first install their dependencies in .deps (libtorch, CMake).
# GPU=1 also fetches the CUDA libraries (4.7 GB). If LIBTORCH is set, that libtorch is used.

SHELL := /bin/bash
PYTHON ?= python3
PREFIX ?= /usr/local
DEPS := .deps
VARIANT := $(if $(GPU),cuda,cpu)
# The wheels contain plain libraries, so the version of Python does not matter.
WHEELS := $(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --target $(DEPS) --no-deps --require-hashes \
	--only-binary=:all: --implementation cp --python-version 3.11 \
	$(foreach tag,28 27 25 18 17,--platform manylinux_2_$(tag)_x86_64) --platform manylinux2014_x86_64

.PHONY: all lean mpi setup tools test check demo checkpoint engines install install-libraries clean

all: setup
	cargo build --release --locked
	$(MAKE) --no-print-directory lean

# Programs that do not need libtorch, built without the feature that links it.
lean: setup
	cargo build --release --locked --no-default-features --bins
	@for program in checkpoint map-reference report; do \
		! ldd target/release/scgpt-$$program | grep torch || { echo "scgpt-$$program must not link libtorch" >&2; exit 1; }; \
	done

# scgpt-pretrain for several processes on CPUs, in addition to the one without MPI. Needs MPI with headers, and libclang
# (on Debian: libopenmpi-dev openmpi-bin libclang-dev).
mpi: setup
	cargo build --release --locked --features mpi --bin scgpt-pretrain
	install -D target/release/scgpt-pretrain target/mpi/scgpt-pretrain
	cargo build --release --locked --bin scgpt-pretrain

setup: tools $(DEPS)/.ready-$(VARIANT)

tools:
	@missing=; \
	need() { command -v "$$1" >/dev/null || missing="$$missing $$2"; }; \
	need cargo "cargo(rustup)"; need c++ g++; need $(PYTHON) python3; need make make; \
	$(PYTHON) -m pip --version >/dev/null 2>&1 || missing="$$missing python3-pip"; \
	[ -z "$$missing" ] || { echo "missing on this system:$$missing - install them (on Debian: apt-get install g++ make python3 python3-pip python3-venv; Rust from rustup) and run make again" >&2; exit 1; }; \
	[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "set-up fetches libtorch for Linux on x86-64, this is $$(uname -sm): set LIBTORCH to a libtorch 2.11.0" >&2; exit 1; }

$(DEPS)/.ready-cpu: containers/libtorch-cpu.txt
	@echo "fetching libtorch 2.11.0 and CMake into $(DEPS) (0.6 GB)"
	@mkdir -p $(DEPS)
	@$(WHEELS) -r containers/libtorch-cpu.txt
	@rm -rf $(DEPS)/torch/lib/libtorch_cuda*.so $(DEPS)/torch/bin $(DEPS)/torchgen $(DEPS)/functorch
	@touch $@

$(DEPS)/.ready-cuda: containers/libtorch-cpu.txt containers/libtorch-cuda.txt
	@echo "fetching libtorch 2.11.0 with CUDA into $(DEPS) (4.7 GB)"
	@mkdir -p $(DEPS)
	@$(WHEELS) -r containers/libtorch-cpu.txt -r containers/libtorch-cuda.txt
	@touch $@ $(DEPS)/.ready-cpu

# Python packages for the tests that compare with other implementations.
$(DEPS)/python/.ready: tests/python/requirements.txt
	@$(PYTHON) -m venv $(DEPS)/python || { echo "missing on this system: python3-venv - install it (on Debian: apt-get install python3-venv) and run make again" >&2; exit 1; }
	@$(DEPS)/python/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	@touch $@

# Real data sets that some tests read lie in SCGPT_TEST_DATA. Ends with a line for every test that was skipped, and their number.
test: setup $(DEPS)/python/.ready
	if command -v mpicc >/dev/null && command -v mpirun >/dev/null; then $(MAKE) --no-print-directory mpi; fi
	@mkdir -p target && : > target/skips.txt
	SCGPT_TEST_SKIPS="$(CURDIR)/target/skips.txt" cargo test --release --locked
	$(MAKE) --no-print-directory lean
	@bash tests/skips.sh target/skips.txt

# Nextflow, from Maven Central (40 MB); the tests run it if it is installed. Needs Java 17 and Maven.
engines: $(DEPS)/nextflow/.ready

$(DEPS)/nextflow/.ready: tests/engines/nextflow/pom.xml
	@command -v mvn >/dev/null || { echo "missing on this system: maven, openjdk-17-jre-headless - install them and run make again" >&2; exit 1; }
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(@D))
	@touch $@

check: setup
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- --deny warnings
	cargo clippy --release --locked --no-default-features --lib --bins -- --deny warnings

# The reduced PBMC 68k data set (700 labeled cells) from the scanpy wheel.
$(DEPS)/demo/pbmc68k_reduced.h5ad: tests/demo/scanpy.txt | tools
	@mkdir -p $(@D)
	@$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --dest $(DEPS)/demo -r tests/demo/scanpy.txt
	@$(PYTHON) -c 'import glob, zipfile; print(end="", file=open("$@", "wb").write(zipfile.ZipFile(glob.glob("$(DEPS)/demo/scanpy-*.whl")[0]).read("scanpy/datasets/10x_pbmc68k_reduced.h5ad")) and None)'

demo: all $(DEPS)/demo/pbmc68k_reduced.h5ad
	bash tests/demo/run.sh $(DEPS)/demo/pbmc68k_reduced.h5ad demo

# A checkpoint pre-trained on the cells in SCGPT_TEST_DATA, for experiments with pre-trained models. Takes about 20 minutes on two cores.
checkpoint: all $(DEPS)/python/.ready
	bash tests/checkpoint/run.sh "$(SCGPT_TEST_DATA)" checkpoint

install: all install-libraries
	install -d $(PREFIX)/bin
	find target/release -maxdepth 1 -type f -executable -name 'scgpt-*' -exec install -t $(PREFIX)/bin {} +

# Without libraries for profilers.
install-libraries: setup
	install -d $(PREFIX)/lib/scgpt-tools
	find $${LIBTORCH:-$(DEPS)/torch}/lib -maxdepth 1 -name 'lib*.so*' ! -name '*python*' -regextype posix-extended \
		-regex '.*/lib(c10|caffe2|gomp|shm|torch)[^/]*' -exec cp -a -t $(PREFIX)/lib/scgpt-tools {} +
	! [ -d $(DEPS)/nvidia ] || find $(DEPS)/nvidia -name '*.so*' ! -name 'libnvperf*' ! -name 'libpcsampling*' ! -name 'libcheckpoint*' -exec cp -a -t $(PREFIX)/lib/scgpt-tools {} +

clean:
	cargo clean
	rm -rf $(DEPS) demo
