"""The map from import names to folders: the only place that knows the two differ."""

from setuptools import find_packages, setup

ROOMS = {
    "fastpipe": "fastpipe",
    "fastpipe.kernels": "kernels",
    "fastpipe.train": "train",
    "fastpipe.profiling": "profiling",
}

setup(
    package_dir=ROOMS,
    packages=[
        package
        for name, folder in ROOMS.items()
        for package in (name, *(f"{name}.{sub}" for sub in find_packages(folder)))
    ],
    package_data={
        "fastpipe": ["py.typed"],
        "fastpipe.train": ["recipes/*.yaml"],
        "fastpipe.profiling": ["*.json"],
    },
)
