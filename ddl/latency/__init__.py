"""Benchmark of a trained model's inference time, in several variants (precision, memory layout, compiled, exported).

Method: warm-up; percentiles over single calls, timed until the device is done; throughput over blocks of calls, which wait for
the device only at their end; variants take turns in two rounds, so that drift of the machine shows. MLPerf
Inference's SingleStream scenario also times single calls and reports a percentile. A variant whose outputs disagree with eager
fp32 is not reported.
"""
