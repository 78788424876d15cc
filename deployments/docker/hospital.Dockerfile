# A hospital: the code, no data, no keys. From the repository's root:
#   docker build -f deployments/docker/hospital.Dockerfile -t fedmed-hospital .
# docs/hospital.md says how to join and run with it; hospital.compose.yaml is an example.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    FEDMED_HOME=/var/lib/fedmed HOME=/tmp

WORKDIR /opt/fedmed
COPY requirements.txt ./
RUN pip install --requirement requirements.txt

COPY pyproject.toml README.md LICENSE alembic.ini prefect.yaml ./
COPY api ./api
COPY db ./db
COPY deployments ./deployments
COPY fl ./fl
COPY flows ./flows
COPY privacy ./privacy
COPY tasks ./tasks
# Editable: the code hash is taken of the files that run. What they need is pinned above.
RUN pip install --no-deps --no-build-isolation --editable . \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin fedmed \
    && install -d -o fedmed -g fedmed -m 0700 /var/lib/fedmed

USER 10001:10001
VOLUME /var/lib/fedmed
ENTRYPOINT ["fedmed", "hospital"]
CMD ["start"]
