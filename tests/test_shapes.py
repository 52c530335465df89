"The check of shapes finds what is wrong, and leaves alone what is right."
import pytest
import torch
from torch import Tensor

pytest.importorskip('jaxtyping')
from jaxtyping import Float, Int
from shapes import ShapeError, checked


@checked
def product(X: Float[Tensor, 'n d'], W: Float[Tensor, 'k d'],
            rows: Int[Tensor, ' m'] | None = None) -> Float[Tensor, 'n k']:
    return X[rows] @ W.T if rows is not None else X @ W.T


@checked
def split(X: Float[Tensor, 'n d']) -> tuple[Float[Tensor, ' n'], Float[Tensor, 'n d']]:
    return X.sum(0), X


def test_right_shapes_pass():
    assert product(torch.ones(2, 3), torch.ones(4, 3)).shape == (2, 4)


def test_a_result_of_another_shape_is_found():
    with pytest.raises(ShapeError, match='product: the result'):
        product(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0]))


def test_a_part_of_a_tuple_is_found():
    split(torch.ones(3, 3))
    with pytest.raises(ShapeError, match='split: the result'):
        split(torch.ones(2, 3))


def test_kinds_of_numbers_count():
    with pytest.raises(ShapeError, match='product: X'):
        product(torch.ones(2, 3, dtype=torch.long), torch.ones(4, 3, dtype=torch.long))


def test_what_raises_is_left_alone():
    with pytest.raises(RuntimeError):
        product(torch.ones(2, 3), torch.ones(4, 2))
