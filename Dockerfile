# syntax=docker/dockerfile:1
# Debian's own Python on Debian's slim image: a third of the size of the python images. Pin it by digest: --build-arg BASE=...@sha256:...
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS runtime
# git needs Perl only for scripts that the daemon never starts (send-email, svn); without it the image is 50 MB smaller. The package
# database says so too: scanners report nothing that is not there, and images built on this one can use apt-get.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git openssh-client python3 \
 && dpkg --purge --force-depends perl liberror-perl git-man $(dpkg-query -W -f '${Package}\n' 'perl-modules-*' 'libperl5*') \
 && sed -i '/^Package: git$/,/^$/s/, perl, liberror-perl, git-man ([^)]*), git-man ([^)]*)//' /var/lib/dpkg/status \
 && apt-get autoremove -y --purge && apt-get check \
 && cd /usr/lib/git-core \
 && rm -f git-daemon git-http-fetch git-http-push git-imap-send git-shell scalar /usr/bin/git-shell /usr/bin/scalar \
 && cd / && rm -rf /usr/share/gitweb /usr/share/man /usr/share/info /usr/share/locale \
      /var/lib/apt/lists/* /var/cache/* /var/log/* /var/lib/dpkg/*-old \
 && find /usr/share/doc -type f ! -name copyright -delete && find /usr/share/doc -type d -empty -delete \
 && groupadd --system --gid 65532 reconciler \
 && useradd --system --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/reconciler --shell /usr/sbin/nologin reconciler \
 && install -d -m 0700 -o 65532 -g 65532 /var/lib/reconciler

FROM runtime AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils python3-venv
WORKDIR /src
# All wheels, verified by hash; the environments below are installed from these alone.
COPY requirements-image.lock ./
RUN python3 -m venv /build \
 && /build/bin/pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
      --dest /wheels -r requirements-image.lock
COPY pyproject.toml README.md ./
COPY schemas ./schemas
COPY examples ./examples
COPY reconciler ./reconciler
RUN /build/bin/pip install --quiet --no-index --find-links /wheels hatchling \
 && /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels .
# What the program needs, and nothing that builds it. Left out: parts that it never imports (tests, botocore's data of AWS services,
# extensions of CEL, dialects of other databases), and symbols for debuggers. Compiled modules halve the CPU time of a start, and
# nothing can write them later.
ARG EXTRAS=aws,otel,sops
RUN python3 -m venv --without-pip /opt/reconciler \
 && /build/bin/pip --python /opt/reconciler/bin/python install --quiet --no-index --no-compile --find-links /wheels \
      "integrations-reconciler[$EXTRAS]" \
 && cd /opt/reconciler/lib/python3.11/site-packages \
 && rm -rf botocore/data cel_expr_python/ext sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle \
 && find . -type d \( -name tests -o -name test -o -path ./sqlalchemy/testing -o -path ./alembic/testing -o -path ./mako/testing \) -prune -exec rm -rf {} + \
 && find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.c' \) -delete \
 && find . -name '*.so*' -exec strip --strip-unneeded {} + \
 && python3 -m compileall -q -j 0 -x sqlalchemy/orm/ --invalidation-mode unchecked-hash .

FROM runtime
ARG BASE
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="reconciler" \
      org.opencontainers.image.description="GitOps for CI/CD integrations: reconciles webhooks, notifications and pipelines with manifests in Git" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
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
