"""Average User Ranking of tables that can be worked out by hand."""

from animatic_pack.evaluation.ranking import (
    Rating,
    average_user_ranking,
    ranking_table,
    read_ratings,
    require_sum,
)
import pytest

METHODS = ("ours", "zero", "tuned")


def ratings(*rankings, axis="smooth", rater="ann", item="cat"):
    """rankings: of each rater or item, the ranks of METHODS."""
    return [
        Rating(rater.format(n), item.format(n), axis, method, rank)
        for n, ranks in enumerate(rankings)
        for method, rank in zip(METHODS, ranks, strict=True)
    ]


def values(found, axis="smooth"):
    return [estimate.value for estimate in found[axis].values()]


def test_scores_by_hand():
    found = average_user_ranking(ratings((1, 2, 3), (1, 3, 2), (2, 1, 3), rater="r{}"))
    assert values(found) == pytest.approx([8 / 3, 2, 4 / 3])
    assert sum(values(found)) == pytest.approx(6) and list(found["smooth"]) == list(METHODS)


@pytest.mark.parametrize("ranks", [(1, 1, 3), (1, 1, 2), (1.5, 1.5, 3)])
def test_ties_share_their_places_however_they_are_written(ranks):
    assert values(average_user_ranking(ratings(ranks))) == [2.5, 2.5, 1]


def test_all_axes_add_up_on_their_own():
    found = average_user_ranking(ratings((1, 2, 3), axis="text") + ratings((2, 2, 2), axis="smooth"))
    assert values(found, "text") == [3, 2, 1] and values(found, "smooth") == [2, 2, 2]


def test_intervals_are_over_raters_who_differ_and_over_items_of_one_rater():
    agreed = average_user_ranking(ratings(*[(1, 2, 3)] * 4, rater="r{}"))["smooth"]["ours"]
    assert (agreed.low, agreed.value, agreed.high, agreed.count) == (3, 3, 3, 4)
    for spread in ({"rater": "r{}"}, {"item": "i{}"}):
        split = average_user_ranking(ratings((1, 2, 3), (3, 2, 1), (1, 2, 3), (3, 2, 1), **spread))["smooth"]
        assert split["ours"].low < 1.6 < 2.4 < split["ours"].high
        assert split["zero"].low == split["zero"].high == 2
    one_loud = ratings(*[(1, 2, 3)] * 20, item="i{}") + ratings((3, 2, 1), rater="bob", item="i{}")
    loud = average_user_ranking(one_loud)["smooth"]["ours"]
    assert loud.low == 1 and loud.high == 3, "many items of one person are no many persons"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (ratings((1, 2, 3))[:2] + ratings((1, 2, 3), item="dog"), "cat, ranked by ann: tuned has no rank"),
        (ratings((1, 2, 3)) + ratings((1, 2, 3))[:1], "ours is ranked twice"),
        (ratings((1, 2, 4)), "1, 2, 4 are no ranks"),
        (ratings((0, 1, 2)), "are no ranks from 1"),
        (ratings((1, 2, 3))[:1], "two methods or more"),
    ],
)
def test_what_is_no_ranking_is_named(broken, words):
    with pytest.raises(ValueError, match=words):
        average_user_ranking(broken)


def test_the_self_check_finds_scores_that_cannot_be():
    require_sum("text", [2.21, 2.18, 1.61])
    with pytest.raises(RuntimeError, match="text: scores add up to 6.1, not to 6"):
        require_sum("text", [2.3, 2.2, 1.6])


def test_tables_are_read_and_their_faults_named(tmp_path):
    good = tmp_path / "good.csv"
    rows = ("rater,item,axis,method,rank", 'ann,"cat, red",text,ours,1', 'ann,"cat, red",text,zero,2')
    good.write_text("\n".join(rows), "utf-8-sig")
    assert read_ratings([good])[1] == Rating("ann", "cat, red", "text", "zero", 2)
    assert len(read_ratings([good, good])) == 4
    bad = tmp_path / "bad.csv"
    for content, words in (
        ("rater,item,axis,method\na,b,c,d\n", "no column rank"),
        ("rater,item,axis,method,rank\na,b,c,d,best\n", "line 2: the rank is 'best'"),
        ("rater,item,axis,method,rank\na,b,c,d,1\na,,c,d,2\n", "line 3: item is missing"),
        ("rater,item,axis,method,rank\na,b,c,d,nan\n", "line 2: rank is missing"),
        ("rater,item,axis,method,rank\n", "no ratings"),
    ):
        bad.write_text(content)
        with pytest.raises(ValueError, match=words):
            read_ratings([bad])
    bad.write_bytes("rater,item,axis,method,rank\nJ\u00f6rg,b,c,d,1\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"bad\.csv is no table in UTF-8"):
        read_ratings([bad])


def test_the_table():
    text = ranking_table(average_user_ranking(ratings((1, 2, 3))))
    assert text.splitlines()[2] == "| ours | 3.00 [3.00, 3.00] |"
    assert text.endswith("3 is the best, 2 the mean. Rankings: smooth 1.")
