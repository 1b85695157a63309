"""The map from import names to folders: the only place that knows the two differ; and the native module."""

from glob import glob

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import find_packages, setup

ROOMS = {
    "fastpipe": "fastpipe",
    "fastpipe.kernels": "kernels",
    "fastpipe.train": "train",
    "fastpipe.profiling": "profiling",
}

TURBO = Pybind11Extension(
    "fastpipe._turbo",
    sorted(glob("fastpipe/decode/native/*.cpp")),
    depends=sorted(glob("fastpipe/decode/native/*.h")),
    cxx_std=17,
    # Contracted multiplications would move a crop's box by a pixel against Python's own arithmetic.
    extra_compile_args=["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"],
    # Without a compiler the install succeeds, and backend="turbo" says what to install.
    optional=True,
)

setup(
    ext_modules=[TURBO],
    cmdclass={"build_ext": build_ext},
    package_dir=ROOMS,
    packages=[
        package
        for name, folder in ROOMS.items()
        for package in (name, *(f"{name}.{sub}" for sub in find_packages(folder)))
    ],
    # The native sources are for the source archive; a wheel holds what they were compiled to.
    include_package_data=False,
    package_data={
        "fastpipe": ["py.typed", "_turbo.pyi"],
        "fastpipe.train": ["recipes/*.yaml"],
        "fastpipe.profiling": ["*.json"],
    },
)
