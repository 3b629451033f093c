# The one image of the project: Spark's workers, and in profile `app` job, producer, alert sender and dashboard.
# Driver and executors thus have the same package, the same Python and the same Java.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r requirements.txt

# State is made here, so that a volume mounted on it belongs to the account that writes it.
RUN useradd --uid 10001 --create-home fraudstream \
    && install -d -o fraudstream /var/cache/fraudstream /var/lib/fraudstream /var/lib/spark
ENV XDG_CACHE_HOME=/var/cache XDG_STATE_HOME=/var/lib PYTHONUNBUFFERED=1
USER fraudstream

# numba keeps its machine code where the account that runs may write.
ENV NUMBA_CACHE_DIR=/var/cache/fraudstream/numba
COPY fraudstream ./fraudstream
RUN python -m fraudstream stack fetch --connector \
    && python -c 'from fraudstream.features import compile_features; compile_features()'

COPY . .
CMD ["python", "-m", "fraudstream", "--help"]
