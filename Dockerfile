# syntax=docker/dockerfile:1
# The tool alone: `docker build -t kai-migrate .`; see docs/operations.md for the line that runs it.

FROM python:3.13-slim AS build
ARG EXTRAS=local,postgresql
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/kai-migrate
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY kai kai
COPY migration migration
RUN /opt/kai-migrate/bin/pip install ".[${EXTRAS}]" \
    # Nothing is installed into it afterwards.
    && /opt/kai-migrate/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin migrate \
    && install --directory --owner=migrate --group=migrate --mode=0700 /data
COPY --from=build /opt/kai-migrate /opt/kai-migrate
# Ledger, cache, backups and status: what must outlive the container. A `.env` or a collections file is mounted to /work.
ENV PATH=/opt/kai-migrate/bin:$PATH PYTHONUNBUFFERED=1 MIGRATION_HOME=/data
VOLUME /data
WORKDIR /work
USER migrate
# SIGTERM, which `docker stop` sends, ends a run after the pages in hand.
STOPSIGNAL SIGTERM
ENTRYPOINT ["kai-migrate"]
CMD ["--help"]
