# The launcher image: Kubeflow Pipelines, the Kubernetes API, the hubs and the store; no torch.
# It runs the stages that need no GPU and launches the jobs of those that do.
#
# PYTHON_BASE has no default: give it by digest (docs/images.md). It needs Debian's layout and a
# python3 of 3.11 or 3.12 with venv.
ARG PYTHON_BASE

FROM ${PYTHON_BASE} AS base

# uv and the project's build back end, outside of the environment that is shipped.
FROM base AS tools
COPY docker/build-tools.txt docker/with-packages.sh /opt/tools/
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    python3 -m venv /opt/tools/venv \
    && /opt/tools/with-packages.sh /opt/tools/venv/bin/pip install --require-hashes \
        --disable-pip-version-check --requirement /opt/tools/build-tools.txt

# The packages of uv.lock; made anew only when the lock changes.
FROM tools AS dependencies
ENV UV_PROJECT_ENVIRONMENT=/opt/omnistage \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=packages --mount=type=secret,id=ca \
    --mount=type=bind,source=pyproject.toml,target=/src/pyproject.toml \
    --mount=type=bind,source=uv.lock,target=/src/uv.lock \
    /opt/tools/with-packages.sh /opt/tools/venv/bin/uv sync --frozen --no-dev \
        --no-install-project --extra pipeline

FROM tools AS project
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY omnistage omnistage
COPY components components
COPY pipelines pipelines
COPY recipes recipes
RUN /opt/tools/venv/bin/hatchling build --target wheel --directory /dist

FROM base AS launcher
# libraries ask for the name of the user; pods are checked for a numeric one
RUN groupadd --gid 65532 omnistage \
    && useradd --uid 65532 --gid 65532 --no-log-init --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin omnistage
ENV PATH=/opt/omnistage/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /opt/omnistage /opt/omnistage
# from here on, a change of the sources makes layers anew: a few megabytes
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    --mount=type=bind,from=tools,source=/opt/tools/venv,target=/opt/tools/venv \
    /opt/tools/venv/bin/uv pip install --python /opt/omnistage --no-cache --no-deps --offline \
        --link-mode copy --compile-bytecode /dist/*.whl
USER 65532:65532
WORKDIR /tmp
RUN --mount=type=bind,source=docker/check_imports.py,target=/opt/check_imports.py \
    --mount=type=tmpfs,target=/tmp \
    python /opt/check_imports.py torch swift transformers deepspeed \
    && python -m components.download --check \
    && python -m components.download.model --check \
    && python -m components.rewrite_paths --check \
    && python -m components.mix --check \
    && python -m kfp.dsl.executor_main --help > /dev/null \
    && omnistage --help > /dev/null
CMD ["omnistage", "--help"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="omnistage launcher" \
      org.opencontainers.image.description="Runs omnistage's CPU stages and launches its GPU jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
