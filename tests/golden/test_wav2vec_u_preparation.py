"""wav2vec-U's preparation scripts: runs of clusters merged, pairs pooled, principal components applied."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases
from torch import Tensor

from firstwords.nn.pca import PCA
from firstwords.nn.segments import merge_runs, pool_pairs


@pytest.fixture(scope="module", params=[case for case in cases("wav2vec-U") if "scripts/features" in case.tensors],
                ids=str)  # fmt: skip
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def close(case: Case, ours: list[Tensor], name: str) -> None:
    theirs, lengths = case[f"scripts/{name}"], case[f"scripts/{name}_lengths"]
    assert [len(one) for one in ours] == lengths.tolist()
    tolerance = case.info["tolerance"]
    torch.testing.assert_close(torch.cat(ours), theirs, rtol=tolerance["rtol"], atol=tolerance["atol"])


def test_runs_of_equal_clusters_become_their_mean(case: Case) -> None:
    lengths = case["scripts/lengths"].tolist()
    features, clusters = case["scripts/features"].split(lengths), case["scripts/clusters"].split(lengths)
    close(case, [merge_runs(x, ids) for x, ids in zip(features, clusters, strict=True)], "merged")


def test_neighbours_are_averaged_in_pairs(case: Case) -> None:
    features = case["scripts/features"].split(case["scripts/lengths"].tolist())
    close(case, [pool_pairs(x) for x in features], "mean_pool")
    close(case, [pool_pairs(x, drop_last=True) for x in features], "mean_pool_remove_extra")


def test_principal_components_are_applied_as_x_a_plus_b(case: Case) -> None:
    matrix, offset = case["scripts/pca_A"], case["scripts/pca_b"]
    mean = -torch.linalg.lstsq(matrix.T, offset[:, None]).solution[:, 0]
    components = PCA(mean, matrix.T.contiguous(), torch.zeros(matrix.shape[1]))
    features = case["scripts/features"].split(case["scripts/lengths"].tolist())
    close(case, [components.apply(x) for x in features], "pca")
