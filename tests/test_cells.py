"""Facts about what cells say: numbers, gaps, dates and words, alone and as a column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.cells import Kind, column_kind, decimal_mark, kind, kinds, number


@pytest.mark.parametrize(
    ("says", "cells"),
    [
        (Kind.NUMBER, "0 -1 +2 18. .5 1e5 -3.25E-7 inf -inf 007"),
        (Kind.LIKE_NUMBER, "1,200 1,234,567.89 1.200.300 1'200 1_000 1,5 12% 3.5% $5 $1,200.50"),
        (Kind.LIKE_NUMBER, "€20 20€ -$5 $-5 (1,200) \u22125 0,5 1,5e-3"),
        (Kind.MISSING, "NA na N/A n/a NaN nan null NULL ? #N/A <NA> -nan"),
        (Kind.DATE, "2020-01-05 2020/1/5 5/1/2020 05.01.2020 5-1-20 12-Jan-2020 2020-01 Jan-20"),
        (Kind.DATE, "10:30 10:30:05 2020-01-05T10:30:00Z 2020-01-05T10:30:00.123+01:00"),
        (Kind.WORD, "a >50K <=50K <30 3A 1st 2x 10-20 5.l o.9 1O 1.2.3.4 jan mon + - . none 0x1F"),
    ],
)
def test_a_cell_says_what_a_reader_takes_it_for(says, cells):
    assert {cell: kind(cell) for cell in cells.split()} == dict.fromkeys(cells.split(), says)


@pytest.mark.parametrize("cell", ["1 200", "1\u00a0200,50", "12 %", "5 €"])
def test_a_number_may_be_written_with_blanks(cell):
    assert kind(cell) is Kind.LIKE_NUMBER


@pytest.mark.parametrize("cell", ["January 5, 2020", "5 Jan 2020", "2020-01-05 10:30", "10:30 pm"])
def test_a_date_may_be_written_with_blanks(cell):
    assert kind(cell) is Kind.DATE


def test_an_empty_cell_says_nothing():
    assert kind("") is Kind.MISSING


@given(st.floats(allow_nan=False), st.sampled_from(".,"))
def test_a_number_is_read_as_it_was_written_with_either_mark(value, mark):
    assert number(repr(value).replace(".", mark), mark) == value


@pytest.mark.parametrize(
    ("cells", "read_as"),
    [
        ("1 2 3 n/a", Kind.NUMBER),
        ("1 2 x", Kind.NUMBER),
        ("1 x", Kind.WORD),  # as many words as numbers
        ("1 x y", Kind.WORD),
        ("1.5 x y", Kind.NUMBER),  # but no label has a fraction
        ("1,200 3,400 900", Kind.NUMBER),
        ("12% 13% 1%", Kind.NUMBER),
        ("+ - - +", Kind.WORD),
        ("- - - 1 2", Kind.NUMBER),  # among numbers a dash says nothing
        ("1 . 2 none", Kind.NUMBER),
        ("none some many", Kind.WORD),
        ("? ? a", Kind.WORD),
        ("? NA", Kind.MISSING),
        ("2020-01-05 2020-01-06 x", Kind.DATE),
        ("2020-01-05 x y", Kind.WORD),
        (">50K <=50K >50K", Kind.WORD),
        ("<30 >30 NO", Kind.WORD),
    ],
)
def test_a_column_is_what_most_of_its_cells_are(cells, read_as):
    assert column_kind(cells.split(), kinds(cells.split())) is read_as


@given(st.lists(st.sampled_from(["1", "2", "x", "y", "?", "-", "3,000", "10:30"]), min_size=1))
def test_the_order_of_cells_and_their_number_do_not_matter(cells):
    read_as = column_kind(cells, kinds(cells))
    assert column_kind(sorted(cells), kinds(cells)) is read_as
    assert column_kind(cells * 3, kinds(cells)) is read_as


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["1", "2", "a, b"], "."),
        (["1.5", "2"], "."),
        (["1,5", "2", "x"], ","),
        (["1,200", "0,123"], ","),  # no thousands begin with 0
        (["1234,500", "2,100"], ","),  # nor have four digits before the comma
        (["1,200", "3,400"], None),
        (["1,5", "2.5"], "."),  # neither is taken for granted
        (["12.05.2020", "1,5"], ","),
    ],
)
def test_a_decimal_comma_is_taken_only_where_it_can_be_nothing_else(cells, mark):
    assert decimal_mark(cells) == mark
