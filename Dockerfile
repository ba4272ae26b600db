# ws2mqtt as a container image: docker build -t ws2mqtt .
# The first stage builds, with tools that are pinned by hash like everything else; the second has what runs, alone.

FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/build && python -m venv --without-pip /opt/ws2mqtt
COPY requirements-build.txt requirements.txt ./
RUN pip --python /opt/build/bin/python install --require-hashes --only-binary :all: -r requirements-build.txt \
 && pip --python /opt/ws2mqtt/bin/python install --no-compile --require-hashes --only-binary :all: -r requirements.txt
COPY LICENSE README.md pyproject.toml ./
COPY bridge bridge
RUN pip --python /opt/build/bin/python wheel --no-build-isolation --no-deps -w dist . \
 && pip --python /opt/ws2mqtt/bin/python install --no-compile --no-deps --no-index dist/*.whl \
 && /opt/build/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
        --validate --output-file /opt/ws2mqtt/sbom.cdx.json /opt/ws2mqtt/bin/python \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/ws2mqtt/lib

FROM python:3.13-slim-trixie
# The root is read-only where it runs, so bytecode has to be there; the base comes without that of Python itself: 7 MB
# that bring a health check from 0.5 s to 0.3 s, a start from 0.8 s to 0.3 s. Nothing is installed in here: no pip.
RUN python -m pip uninstall --yes --root-user-action=ignore pip \
 && rm -rf /usr/local/lib/python3.13/ensurepip \
 && python -m compileall -q --invalidation-mode unchecked-hash /usr/local/lib/python3.13 \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/ws2mqtt
COPY --from=build /opt/ws2mqtt /opt/ws2mqtt
ENV PATH=/opt/ws2mqtt/bin:$PATH \
    WS2MQTT_CONFIG=/etc/ws2mqtt/ws2mqtt.yaml \
    WS2MQTT_LISTEN=0.0.0.0:9108
USER 10001:10001
WORKDIR /var/lib/ws2mqtt
VOLUME /var/lib/ws2mqtt
EXPOSE 9108
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["ws2mqtt", "healthcheck"]
ENTRYPOINT ["ws2mqtt"]
CMD ["run", "-c", "/etc/ws2mqtt/ws2mqtt.yaml"]

ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="ws2mqtt" \
      org.opencontainers.image.description="Bridge from IoT and telephony platforms' WebSockets to MQTT: a clean topic \
tree, one payload shape, nothing lost silently" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
