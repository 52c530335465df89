# make figures   draw every figure (SCALE=smoke; SCALE=laptop for the committed ones)
# make test      notebooks in step, ruff, notebook tests, pytest
# make outputs   run all chapters at SCALE and put their outputs into the notebooks
# make gpu       where there is a GPU: kernels' tests, times and memory, and the larger experiments (25 minutes)
# make soak      long runs of faults: kills, damaged files, fuzzed files, bad input (hours; results beside them)
# make mutants   small deliberate bugs, and which test notices each (an hour; the result is tests/soak/mutants.json)
# make redraw    draw figures anew from the numbers in figures/, NAMES='speed_scaling ...'
# make readme    render README.md from nbs/index.ipynb
# make docs      the site in _site/ (SITE=folder: there), links checked, pages looked at in a chromium, if there is one
# make export    write archsae/ from nbs/, and clean the notebooks
# make clean     remove what can be made again
# Each does its own set-up: git, make and Python 3.11 or newer are all that has to be there.
PYTHON ?= python3
VENV ?= .venv
SCALE ?= smoke
JOBS ?= 2
# folders of the figures and of the executed notebooks; the defaults are those of archsae_figures
FIGURES ?=
OUT ?=
# folder of the site
SITE ?= _site
# more options for archsae_figures, for example ARGS='--only stability --source imagenet'
ARGS ?=

BIN = $(VENV)/bin
READY = $(VENV)/archsae-ready

NAMES ?=

.PHONY: figures outputs test gpu soak mutants redraw readme docs export clean setup

figures: $(READY)
	@$(BIN)/archsae_figures --scale '$(SCALE)' --jobs '$(JOBS)' $(if $(FIGURES),--figures '$(FIGURES)') $(if $(OUT),--out '$(OUT)') $(ARGS)

outputs: $(READY)
	@t=$$(mktemp -d) && $(MAKE) figures OUT="$$t" && $(BIN)/python .ci/outputs.py "$$t" '$(SCALE)'; rc=$$?; rm -rf "$$t"; exit $$rc

test: $(READY)
	@$(BIN)/python .ci/test.py

gpu: $(READY)
	@$(BIN)/python .ci/gpu.py $(or $(PART),all) $(ARGS)

soak: $(READY)
	@rc=0; for f in tests/soak/*.py; do echo "$$f"; $(BIN)/python "$$f" $(ARGS) || rc=1; done; exit $$rc

mutants: $(READY)
	@$(BIN)/python .ci/mutants.py --jobs '$(JOBS)' $(ARGS)

redraw: $(READY)
	@$(BIN)/python .ci/redraw.py $(NAMES)

readme: $(READY)
	@$(BIN)/python .ci/readme.py

# needs neither torch nor the package: nothing is executed, docstrings are read
docs: $(VENV)-docs/ready
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet --strict -f docs/mkdocs.yml -d '$(abspath $(SITE))'
	@$(VENV)-docs/bin/python docs/check.py '$(SITE)'
	@$(VENV)-docs/bin/python docs/measure.py '$(SITE)'

$(VENV)-docs/ready: settings.ini
	@echo "set-up: installing what the site needs into $(VENV)-docs (once)"
	@$(PYTHON) -m venv '$(VENV)-docs'
	@$(VENV)-docs/bin/pip install --quiet --disable-pip-version-check \
		$$(sed -n 's/^docs_requirements = //p' settings.ini)
	@touch '$@'

export: $(READY)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nbdev_export
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nbdev_clean

setup: $(READY)

$(READY): settings.ini setup.py pyproject.toml .ci/setup.sh
	@sh .ci/setup.sh '$(PYTHON)' '$(VENV)' '$@'

clean:
	rm -rf .venv .venv-docs _site build dist *.egg-info figures/smoke .pytest_cache .hypothesis nbs/.hypothesis
	find archsae nbs tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +
