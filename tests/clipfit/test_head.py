"""Trained rows for the classes that a head knows by name, the text tower's features for all others."""

import torch

from clipfit.clip import normalize
from clipfit.head import ClassHead

KNOWN = ["cat", "dog", "owl"]


def rows(count, seed=0):
    return normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)))


def refused():
    raise AssertionError("the text tower was asked")


def test_known_classes_have_their_rows_in_any_order_and_ask_no_text_tower():
    head = ClassHead(rows(3), KNOWN)
    assert not head.in_use and not head.weight.requires_grad
    head.start(3 * rows(3, seed=1))
    assert head.in_use
    torch.testing.assert_close(head(KNOWN, refused), rows(3, seed=1))  # a row's length is free
    torch.testing.assert_close(head(["owl", "cat"], refused), rows(3, seed=1)[[2, 0]])


def test_a_mixed_list_takes_each_class_from_where_it_is_known():
    head, text = ClassHead(rows(3), KNOWN), rows(4, seed=2)
    found = head(["zebra", "dog", "okapi", "cat"], lambda: text)
    torch.testing.assert_close(found, torch.stack([text[0], rows(3)[1], text[2], rows(3)[0]]))
    assert torch.equal(head(["zebra", "okapi"], lambda: text[:2]), text[:2])
    assert head.rows_of(["zebra", "dog"]) == ([1], [1])


def test_only_the_rows_asked_for_have_a_gradient():
    head = ClassHead(rows(3), KNOWN)
    head.weight.requires_grad_(True)
    (head(["zebra", "dog"], lambda: rows(2)) @ rows(1, seed=3).T).sum().backward()
    assert [bool(row.any()) for row in head.weight.grad] == [False, True, False]


def test_two_classes_of_one_name_keep_their_rows():
    names = ["crane", "crane", "owl"]
    head = ClassHead(rows(3), names)
    torch.testing.assert_close(head(names, refused), rows(3))


def test_a_head_of_another_size_is_loaded_in_place():
    head, other = ClassHead(rows(2), ["a", "b"]), ClassHead(rows(3), KNOWN)
    weight = head.weight
    head.resize(other.weight.shape, other.classes.shape)
    head.load_state_dict(other.state_dict())
    assert head.weight is weight
    torch.testing.assert_close(head(KNOWN, refused), rows(3))
