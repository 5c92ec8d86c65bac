"""`python -m benchmarks [NAME…]`: these, or all of them, one after the other, each against its peer in the
same run."""

import sys

from benchmarks import (
    eac,
    foundation_stages,
    memory,
    relevance_step,
    results_scale,
    results_store,
    samplers,
    shared_pipelines,
    sparse_layer,
    stage_throughput,
    trial_overhead,
)

ALL = (
    stage_throughput,
    shared_pipelines,
    trial_overhead,
    results_scale,
    results_store,
    memory,
    foundation_stages,
    sparse_layer,
    eac,
    relevance_step,
    samplers,
)

if __name__ == "__main__":
    by_name = {benchmark.__name__.rpartition(".")[2]: benchmark for benchmark in ALL}
    unknown = [name for name in sys.argv[1:] if name not in by_name]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]}; there are {', '.join(by_name)}")
    for name in sys.argv[1:] or by_name:
        print(by_name[name].__doc__.splitlines()[0])
        by_name[name].main()
