# The server with the bundled model, on a CPU:
#   docker build -t captionless .
#   docker run -p 127.0.0.1:8000:8000 -e CAPTIONLESS_API_KEY=... captionless
# A model of your own: docker run ... -v "$PWD/runs/mine:/models/mine:ro" captionless /models/mine
FROM python:3.12-slim

RUN useradd --create-home captionless \
 && install -d -o captionless -g captionless /home/captionless/cache
ENV CAPTIONLESS_CACHE=/home/captionless/cache HF_HOME=/home/captionless/cache/huggingface PYTHONUNBUFFERED=1

WORKDIR /build
COPY constraints.txt ./
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' && rm -rf /build

USER captionless
WORKDIR /home/captionless
# Encoders that are downloaded, and what is computed once, for the next container.
VOLUME /home/captionless/cache
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["captionless", "serve", "--host", "0.0.0.0"]
