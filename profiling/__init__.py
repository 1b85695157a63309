"""Times the stages from file to model step, alone and together, and names the bottleneck."""

import fastpipe.installed  # noqa: F401 - refuses another project's `fastpipe`, which may be in front
from fastpipe.profiling.measure.workload import Options as Options
from fastpipe.profiling.measure.workload import Workload as Workload
from fastpipe.profiling.measure.workload import make_workload as make_workload
from fastpipe.profiling.profile import profile as profile
from fastpipe.profiling.report.result import Profile as Profile
from fastpipe.profiling.report.values import to_dict as to_dict

__all__ = ["Options", "Profile", "Workload", "make_workload", "profile", "to_dict"]
