"""`python -m benchmarks`: all of them, one after the other, each against its peer in the same run."""

from benchmarks import results_store, stage_throughput, trial_overhead

if __name__ == "__main__":
    for benchmark in (stage_throughput, trial_overhead, results_store):
        print(benchmark.__doc__.splitlines()[0])
        benchmark.main()
