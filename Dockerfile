# Two images. `service` (what `docker build .` makes) runs the two scripts:
#   docker run IMAGE python productor_camara.py
#   docker run IMAGE python consumidor_clasificador.py        (the default)
# and `dashboard` the page that shows the results. See docker-compose.yml, profile `app`.
#
# TensorFlow, more than a gigabyte, is not in them: the consumer runs the int8 model on OpenVINO,
# which is the fastest runtime and takes 180 MB. The page has 500 MB of packages of its own, which
# the consumers need not carry.

FROM python:3.11.13-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home cars
WORKDIR /app

# In each image the packages come before the code: a changed line does not install them again.
FROM base AS dashboard
COPY requirements/container/dashboard.txt requirements/container/
RUN pip install -r requirements/container/dashboard.txt
COPY car_classifier/ car_classifier/
COPY .streamlit/ .streamlit/
COPY dashboard/ dashboard/
USER cars
EXPOSE 8501
CMD ["streamlit", "run", "dashboard/app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true", "--browser.gatherUsageStats=false"]

FROM base AS service
COPY requirements/container/service.txt requirements/container/
RUN pip install -r requirements/container/service.txt
COPY data/imagenes_test/ data/imagenes_test/
COPY models/marcas_coches.json models/clasificador_coches_v4.tflite models/clasificador_coches_ligero.tflite models/
COPY car_classifier/ car_classifier/
COPY productor_camara.py consumidor_clasificador.py ./
# Named, so that a missing file is said as such and nothing slower is tried.
ENV RUNTIME=openvino
USER cars
EXPOSE 9108
CMD ["python", "consumidor_clasificador.py"]
