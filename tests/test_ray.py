"""A real Ray cluster of two nodes on this machine."""

import pandas as pd
import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster
from test_planner import scenario

from simulator.planner.runs import Runs
from simulator.planner.sweep import sweep


@pytest.fixture(scope="module")
def address():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_give_the_same_as_one_process(address):
    grid = {"replicas": [1, 2], "max_num_batched_tokens": [2048, 8192]}
    found = sweep(scenario(duration_s=30), grid, runs=Runs("ray", address=address))
    assert len([n for n in ray.nodes() if n["Alive"]]) == 2
    pd.testing.assert_frame_equal(found, sweep(scenario(duration_s=30), grid, runs=Runs("serial")))
