"""Times the stages from file to model step alone and together, and says which one is the bottleneck."""

import fastpipe.installed  # noqa: F401 - refuses another project's `fastpipe`, which may be in front
from fastpipe.profiling.report import to_dict as to_dict
from fastpipe.profiling.result import Profile as Profile
from fastpipe.profiling.run import profile as profile
from fastpipe.profiling.workload import Options as Options
from fastpipe.profiling.workload import Workload as Workload
from fastpipe.profiling.workload import make_workload as make_workload

__all__ = ["Options", "Profile", "Workload", "make_workload", "profile", "to_dict"]
