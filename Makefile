# Every target brings its own uv and environment; nothing but Python, make and git is needed.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := .venv/bin
STAMP := .venv/.omnistage-synced
VLLM_STAMP := .venv-vllm/.omnistage-synced

.PHONY: demo test test-recipes test-cluster test-vllm lint format bench charts chart-deps images images-offline pin-bases help

help:
	@echo "make demo            run the whole pipeline on the tiny recipe and print the report's path"
	@echo "make test            run the tests"
	@echo "make test-recipes    run recipes in small to their reports, by the real trainer"
	@echo "make test-cluster    run the tests that need a Kubernetes cluster, on one that they start"
	@echo "make test-vllm       run the tests with vLLM on CPUs, in an environment of their own"
	@echo "make lint            check style, types and generated documents"
	@echo "make format          put the code into its canonical form, documents too"
	@echo "make bench           run the benchmarks that take minutes, and print their ratios"
	@echo "make chart-deps      assemble the platform chart with its dependencies in build/charts"
	@echo "make images          build and push the images (docker buildx)"
	@echo "make images-offline  build them where no registry can be reached"

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check "uv>=0.8"

$(STAMP): pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --frozen --all-extras --compile-bytecode
	@touch $@

# Beside .venv, because vLLM's own requirements do not fit the lock; see the file.
$(VLLM_STAMP): pyproject.toml uv.lock tests/on_vllm/requirements.txt | $(filter .uv/bin/uv,$(UV))
	UV_PROJECT_ENVIRONMENT=.venv-vllm $(UV) sync --frozen --all-extras
	$(UV) pip install --python .venv-vllm --no-deps -r tests/on_vllm/requirements.txt
	@touch $@

demo: $(STAMP)
	@$(RUN)/omnistage run tiny

test: $(STAMP)
	@# Training leaves one of two cores idle now and then, and much of the rest waits for processes.
	$(RUN)/pytest -n 2 --dist loadfile

test-recipes: $(STAMP)
	@# One test at a time for each core: they are long, and share a store.
	$(RUN)/pytest tests/recipes_run -n 2 --maxschedchunk 1 --durations 0

test-cluster: $(STAMP)
	@$(RUN)/python -m tests.on_cluster.harness.tools
	@# Most of them wait for pods most of the time, so that several files run side by side.
	$(RUN)/pytest tests/on_cluster -rf -n 3 --dist loadfile

test-vllm: $(VLLM_STAMP)
	@# Without tests/conftest.py, whose moto brings flask: vLLM looks into all modules, and flask's
	@# proxies raise errors at that.
	OMP_NUM_THREADS=1 .venv-vllm/bin/pytest -n 2 --dist loadfile --confcutdir tests/on_vllm tests/on_vllm

lint: $(STAMP)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright
	$(RUN)/python docs/generate.py --check
	$(RUN)/python charts/generate.py --check

format: $(STAMP)
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .
	$(RUN)/python docs/generate.py
	$(RUN)/python charts/generate.py

bench: $(STAMP)
	$(RUN)/python -m benchmarks.overhead
	$(RUN)/python -m benchmarks.rewrite
	$(RUN)/python -m benchmarks.download
	$(RUN)/python -m benchmarks.extract

chart-deps: $(STAMP)
	$(RUN)/python charts/deps.py

images: docker/base-images.env
	mkdir -p build
	set -a && . docker/base-images.env && REVISION=$$(git rev-parse HEAD) \
	  docker buildx bake --file docker/docker-bake.hcl --push --metadata-file build/images.json
	python3 docker/digests.py built build/images.json

docker/base-images.env: docker/base-images.tags
	python3 docker/digests.py bases

pin-bases:
	python3 docker/digests.py bases

images-offline:
	python3 docker/offline.py
