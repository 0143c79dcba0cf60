"""``python -m benchmarks``: quality and speed.

``--peers``, ``--pipeline``, ``--scaling``, ``--imager-scaling``, ``--memory`` and
``--field-scaling`` run others.
"""

import sys

from benchmarks import bench

words = sys.argv[1:]
if "--peers" in words:
    from benchmarks import bench_peers

    sys.exit(bench_peers.main([word for word in words if word != "--peers"]))
if "--pipeline" in words:
    from benchmarks import bench_pipeline

    sys.exit(bench_pipeline.main([word for word in words if word != "--pipeline"]))
if "--scaling" in words:
    from benchmarks import bench_scaling

    sys.exit(bench_scaling.main([word for word in words if word != "--scaling"]))
if "--imager-scaling" in words:
    from benchmarks import bench_imager_scaling

    sys.exit(bench_imager_scaling.main([word for word in words if word != "--imager-scaling"]))
if "--memory" in words:
    from benchmarks import bench_memory

    sys.exit(bench_memory.main([word for word in words if word != "--memory"]))
if "--field-scaling" in words:
    from benchmarks import bench_field_scaling

    sys.exit(bench_field_scaling.main([word for word in words if word != "--field-scaling"]))
sys.exit(bench.main(words))
