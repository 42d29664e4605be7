# The trainer image: torch, ms-swift, DeepSpeed and, on GPUs, vLLM and flash attention; no kfp.
# Targets: trainer (NVIDIA GPUs, linux/amd64) and trainer-cpu (the same lock, without the rest).
#
# TRAINER_BASE has no default: give it by digest (docs/images.md). It needs apt and, for the GPUs, a
# python3 of 3.12 (3.11 will do without). torch's wheels bring CUDA's libraries, vLLM's nvcc, and the
# node its driver.
ARG TRAINER_BASE

FROM ${TRAINER_BASE} AS base
# hadolint ignore=DL3008 # a distribution keeps only its newest versions; the SBOM names them
RUN --mount=type=bind,source=docker/with-packages.sh,target=/with-packages.sh \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    /with-packages.sh apt-get update \
    && /with-packages.sh apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

# uv and the project's build back end, outside of the environment that is shipped.
FROM base AS tools
COPY docker/build-tools.txt docker/with-packages.sh /opt/tools/
# hadolint ignore=DL3008 # as above
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    /opt/tools/with-packages.sh apt-get update \
    && /opt/tools/with-packages.sh apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/tools/venv \
    && /opt/tools/with-packages.sh /opt/tools/venv/bin/pip install --require-hashes \
        --disable-pip-version-check --requirement /opt/tools/build-tools.txt

# The packages of uv.lock; made anew only when the lock changes. DeepSpeed's own operators are not
# compiled: the recipes' ZeRO stages keep everything on the GPU and use none of them.
FROM tools AS dependencies
ENV UV_PROJECT_ENVIRONMENT=/opt/omnistage \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    DS_BUILD_OPS=0
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    --mount=type=bind,source=pyproject.toml,target=/src/pyproject.toml \
    --mount=type=bind,source=uv.lock,target=/src/uv.lock \
    /opt/tools/with-packages.sh /opt/tools/venv/bin/uv sync --frozen --no-dev \
        --no-install-project --extra train

FROM tools AS project
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY omnistage omnistage
COPY components components
COPY pipelines pipelines
COPY recipes recipes
RUN /opt/tools/venv/bin/hatchling build --target wheel --directory /dist

FROM base AS runtime
# libraries ask for the name of the user; pods are checked for a numeric one
RUN groupadd --gid 65532 omnistage \
    && useradd --uid 65532 --gid 65532 --no-log-init --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin omnistage
# decord, since qwen-omni-utils otherwise takes torchcodec where it is installed, as vLLM does, and
# one recipe's clips would be decoded in two ways
ENV PATH=/opt/omnistage/bin:$PATH \
    HOME=/tmp \
    FORCE_QWENVL_VIDEO_READER=decord \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /opt/omnistage /opt/omnistage
WORKDIR /tmp

FROM runtime AS trainer-cpu
# from here on, a change of the sources makes layers anew: a few megabytes
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    --mount=type=bind,from=tools,source=/opt/tools/venv,target=/opt/tools/venv \
    /opt/tools/venv/bin/uv pip install --python /opt/omnistage --no-cache --no-deps --offline \
        --link-mode copy --compile-bytecode /dist/*.whl
USER 65532:65532
RUN --mount=type=bind,source=docker/check_imports.py,target=/opt/check_imports.py \
    --mount=type=tmpfs,target=/tmp \
    python /opt/check_imports.py kfp kubernetes \
    && python -m components.sft --check \
    && python -m components.grpo --check \
    && python -m components.dpo --check \
    && python -m components.eval --check
CMD ["omnistage", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="omnistage trainer (CPU)" \
      org.opencontainers.image.description="Runs omnistage's training and evaluation on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS gpu
# Triton and torch.compile compile kernels while they run
# hadolint ignore=DL3008 # as above
RUN --mount=type=bind,source=docker/with-packages.sh,target=/with-packages.sh \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    /with-packages.sh apt-get update \
    && /with-packages.sh apt-get install --yes --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*
# the links are what compilers look for in CUDA's own folder
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,source=docker/trainer-gpu.txt,target=/opt/trainer-gpu.txt \
    HOME=/root /opt/tools/with-packages.sh /opt/tools/venv/bin/uv pip install \
        --python /opt/omnistage --no-deps --require-hashes --link-mode copy --compile-bytecode \
        --requirement /opt/trainer-gpu.txt \
    && ln -s /opt/omnistage/lib/python3*/site-packages/nvidia/cu13 /opt/cuda \
    && ln -s lib /opt/cuda/lib64 \
    && ln -s libcudart.so.13 /opt/cuda/lib/libcudart.so
# vLLM's default sampler is FlashInfer's, which every pod would compile anew at its first step
ENV CUDA_HOME=/opt/cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VLLM_USE_FLASHINFER_SAMPLER=0 \
    VLLM_NO_USAGE_STATS=1

FROM gpu AS flash-attention
COPY --from=tools /opt/tools /opt/tools
COPY docker/flash-attn.txt /opt/tools/
# its build wants torch and wheel beside it; this copy of the environment is not shipped
RUN --mount=type=secret,id=packages --mount=type=secret,id=ca \
    /opt/tools/with-packages.sh /opt/tools/venv/bin/uv pip install --python /opt/omnistage \
        --no-cache --no-deps --require-hashes --requirement /opt/tools/build-tools.txt
# Ampere and Hopper; each compiler process takes up to 10 GB of memory
ARG FLASH_ATTN_CUDA_ARCHS="80;90"
ARG MAX_JOBS=4
RUN --mount=type=secret,id=packages --mount=type=secret,id=ca \
    FLASH_ATTENTION_FORCE_BUILD=TRUE \
    /opt/tools/with-packages.sh /opt/tools/venv/bin/pip --python /opt/omnistage/bin/python wheel \
        --require-hashes --no-deps --no-build-isolation --no-cache-dir --disable-pip-version-check \
        --requirement /opt/tools/flash-attn.txt --wheel-dir /wheels

FROM gpu AS trainer
RUN --mount=type=bind,from=flash-attention,source=/wheels,target=/wheels \
    --mount=type=bind,from=tools,source=/opt/tools/venv,target=/opt/tools/venv \
    /opt/tools/venv/bin/uv pip install --python /opt/omnistage --no-cache --no-deps --offline \
        --link-mode copy --compile-bytecode /wheels/*.whl
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    --mount=type=bind,from=tools,source=/opt/tools/venv,target=/opt/tools/venv \
    /opt/tools/venv/bin/uv pip install --python /opt/omnistage --no-cache --no-deps --offline \
        --link-mode copy --compile-bytecode /dist/*.whl
USER 65532:65532
RUN --mount=type=bind,source=docker/check_imports.py,target=/opt/check_imports.py \
    --mount=type=tmpfs,target=/tmp \
    python /opt/check_imports.py kfp kubernetes \
    && python -m components.sft --check \
    && python -m components.grpo --check \
    && python -m components.dpo --check \
    && python -m components.eval --check \
    && python -c "import deepspeed, flash_attn, vllm"
CMD ["omnistage", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="omnistage trainer" \
      org.opencontainers.image.description="Runs omnistage's training and evaluation on GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
