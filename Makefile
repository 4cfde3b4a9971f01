# Everything a fresh machine needs is Python 3.11 to 3.13, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two test processes: one per core of the smallest machine we promise to run on.
TEST_PROCESSES ?= 2
# Whole files, in the order that tests/conftest.py gives them.
IN_PROCESSES := -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Most tests compile many small programs and compute little in them: XLA's optimizer would take most
# of their time. tests/conftest.py turns it on again, as it is for users, in those that are marked
# "optimized", which compute much or are about rounding, and in all of real weights; what stays there
# is the older way to make kernels, which compiles in two thirds of the time. `make test UNOPTIMIZED=`
# leaves all of it as it is for users.
UNOPTIMIZED ?= JAX_DISABLE_MOST_OPTIMIZATIONS=true \
	XLA_FLAGS="$(strip $(XLA_FLAGS) --xla_cpu_use_fusion_emitters=false)"
# Files with tests of a mark: to collect the others takes longer than to find these.
files_with = $$(grep -rlE --include="test_*.py" "mark.($(1))" tests)
export JAX_PLATFORMS ?= cpu
# The tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv test parity compiled endurance lint demo toy-study clean

venv: $(VENV)/.installed

$(VENV)/.installed: requirements.txt setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test: venv  ## every test that needs neither torch nor the accelerator compilers
	$(UNOPTIMIZED) $(BIN)/python -m pytest $(IN_PROCESSES) -m "not (parity or ray or compiled or endurance)"

parity: venv $(VENV)/transformers4/.installed  ## with torch and ray: goldens made again, models and losses compared live, a cluster of two
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-parity.txt
	$(UNOPTIMIZED) $(BIN)/python -m pytest $(IN_PROCESSES) -m "(parity or ray) and not endurance" \
		$(call files_with,parity|ray)

compiled: $(VENV)-plan/.installed  ## programs for A100, H100 and TPU, compiled without the hardware and read
	$(VENV)-plan/bin/python -m pytest $(IN_PROCESSES) -m "compiled and not endurance" \
		$(call files_with,compiled)

endurance: venv $(VENV)-plan/.installed  ## what takes many minutes: faults, twenty kills, large reports, plans of TPUs, long replies
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-parity.txt
	$(BIN)/python -m pytest -q -m "endurance and not compiled"
	$(BIN)/python tests/faults.py
	$(VENV)-plan/bin/python -m pytest -q -m "endurance and compiled" $(call files_with,compiled)

$(VENV)/transformers4/.installed: requirements-transformers4.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(@D) -r requirements-transformers4.txt
	touch $@

$(VENV)-plan/.installed: requirements.txt requirements-plan.txt setup.cfg
	$(PYTHON) -m venv $(VENV)-plan
	$(VENV)-plan/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-plan.txt
	$(VENV)-plan/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: venv  ## the toy run on this machine: measured, co-evolved without labels, measured again
	$(BIN)/python launch/demo.py

toy-study: venv  ## every arm of docs/results/toy_study.md over three seeds; resumes arm by arm
	$(BIN)/python launch/toy_study.py

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-plan
