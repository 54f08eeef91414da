# One image for every room; the command names the room. Two stages: the final image has no build tools.
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/postlane
COPY requirements.lock .
RUN /opt/postlane/bin/pip install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
RUN /opt/postlane/bin/pip install --quiet --no-deps --no-build-isolation . \
    # Containers run the nats image; pip and setuptools have done their work.
 && rm -f /opt/postlane/bin/nats-server \
 && /opt/postlane/bin/pip uninstall --quiet --yes setuptools pip \
 && find /opt/postlane -name tests -path '*site-packages*' -prune -exec rm -rf {} + \
 && /opt/postlane/bin/python -m compileall -q /opt/postlane/lib

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin postlane \
    # Volumes take over the owner of the directory they cover.
 && mkdir -p /run/postlane /var/lib/postlane \
 && for part in admin ingress verifier delivery tracker control status nats postgres tls public; do \
      mkdir -p /run/postlane/$part; done \
 && mkdir -p /var/lib/postlane/sandbox /var/lib/postlane/guide \
 && chown -R postlane:postlane /run/postlane /var/lib/postlane
COPY --from=build /opt/postlane /opt/postlane
ENV PATH=/opt/postlane/bin:$PATH PYTHONUNBUFFERED=1 POSTLANE_HEALTH_LISTEN=0.0.0.0:9090
USER postlane
WORKDIR /var/lib/postlane
STOPSIGNAL SIGTERM
# Sockets only and no site packages: a check costs some 20 ms, also with many containers on a small host.
# `up --wait` gives up at the first container that is unhealthy: a slow host gets time to start all of them, and a room
# time to find the bus again that an upgrade starts anew.
HEALTHCHECK --interval=5s --timeout=10s --start-period=300s --retries=12 \
  CMD ["python", "-I", "-S", "-c", "import socket; s = socket.create_connection(('127.0.0.1', 9090), 5); s.sendall(b'GET /readyz HTTP/1.1\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
ENTRYPOINT ["postlane"]
CMD ["--help"]
