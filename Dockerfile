# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/reconciler
COPY requirements.lock ./
RUN /opt/reconciler/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md ./
COPY schemas ./schemas
COPY examples ./examples
COPY reconciler ./reconciler
RUN /opt/reconciler/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="reconciler" \
      org.opencontainers.image.description="GitOps for CI/CD integrations: reconciles webhooks, notifications and pipelines with manifests in Git" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends git openssh-client ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 65532 --user-group --no-create-home --home-dir /var/lib/reconciler reconciler \
 && install -d -m 0700 -o 65532 -g 65532 /var/lib/reconciler
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    RECONCILER_STATE_URL=sqlite:////var/lib/reconciler/state.db \
    RECONCILER_STATUS_FILE=/var/lib/reconciler/status.json \
    RECONCILER_MASTER_KEY_FILE=/var/lib/reconciler/master.key \
    RECONCILER_SERVER_LISTEN=0.0.0.0:8080
# Everything that is written lies in the volume: a read-only root file system works (--read-only --tmpfs /tmp).
VOLUME /var/lib/reconciler
WORKDIR /var/lib/reconciler
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["reconciler", "healthcheck"]
ENTRYPOINT ["reconciler"]
CMD ["run"]
