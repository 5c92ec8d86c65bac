"""`python -m benchmarks [NAME…]`: these, or all of them, one after the other, each against its peer in the
same run."""

import sys

from benchmarks import (
    eac,
    foundation_stages,
    memory,
    relevance_step,
    results_store,
    sparse_layer,
    stage_throughput,
    trial_overhead,
)

ALL = (
    stage_throughput,
    trial_overhead,
    results_store,
    memory,
    foundation_stages,
    sparse_layer,
    eac,
    relevance_step,
)

if __name__ == "__main__":
    for benchmark in ALL:
        if sys.argv[1:] and benchmark.__name__.rpartition(".")[2] not in sys.argv[1:]:
            continue
        print(benchmark.__doc__.splitlines()[0])
        benchmark.main()
