"""PostgreSQL with pgvector, for real: text rows stay to the byte, odd tables and types, indexes."""

from __future__ import annotations

import threading

import numpy as np
import psycopg
import pytest
from psycopg import sql

from databases import Row, opened, pgvector, postgres, table, words
from lift.config import Part
from lift.errors import ConfigError, ServerError, SpaceMismatch
from lift.search.attached import Attached
from lift.search.attaching import Attaching, check_space
from lift.search.filters import Filter
from lift.search.stores._postgres import beside, saved_url
from lift.search.stores._store import Entry
from lift.search.terms import Item
from made_model import made

TEXTS = [f"a {colour} {thing}" for colour in ("red", "blue", "green") for thing in range(20)]


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def rows(model):
    z = model.encode_texts(TEXTS)
    return [Row(n, TEXTS[n], z[n], {"price": n / 2}) for n in range(len(TEXTS))]


def run(query: str, *values, name: str = ""):
    """Run a statement on the server; {} in it is the name of a table."""
    with psycopg.connect(postgres(), autocommit=True) as connection:
        made_ = sql.SQL(query).format(sql.Identifier(name)) if name else query
        done = connection.execute(made_, values or None)
        return done.fetchall() if done.description else None


def store_of(name: str, **options):
    return opened(Part("search/stores", "pgvector", {"url": postgres(), "table": name}), **options)


def entries(model, count: int) -> list[Entry]:
    rows = np.random.default_rng(0).standard_normal((count, 24)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [Entry(key=f"i{n}", rows=rows[n : n + 1], digests=("00",)) for n in range(count)]


def dump(name: str) -> list[tuple]:
    """Return all that PostgreSQL has of a table: rows with where they lie and who wrote them."""
    return run("select t.ctid::text, t.xmin::text, t.xmax::text, t::text from {} t", name=name)


def test_text_rows_stay_to_the_byte(model, rows):
    name = table(rows)
    columns = "select attname, atttypid from pg_attribute where attrelid = %s::regclass"
    others = "select indexrelid from pg_index where indrelid = %s::regclass union all "
    others += "select oid from pg_trigger where tgrelid = %s::regclass"
    before = dump(name), run(columns, name), run(others, name, name)
    found = store_of(name)
    check_space(found, model)
    work = Attaching(found, model, "key")
    image = np.zeros((24, 24, 3), np.uint8)
    work.run([Item(key=str(n), images=(image + n,)) for n in range(8)])
    found.index()
    attached = Attached(found, model)
    attached.search("a red 3", where="price<9")
    attached.browse(0, 99)
    attached.facts()
    attached.delete(["3"])
    found.close()
    assert (dump(name), run(columns, name), run(others, name, name)) == before


def test_the_server_itself_refuses_writes_of_readers(rows):
    found = store_of(table(rows))
    with found._db.reader() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("create table never (a int)")
    with pytest.raises(ServerError, match="read-only transaction"):
        found._db.rows(sql.SQL("delete from {} returning id").format(found._from))
    assert found.count_texts() == 60
    with psycopg.connect(postgres()) as connection:  # a pooler may lend it to another program
        assert found._db._idle
        for one in found._db._idle:
            assert one.execute("show transaction_read_only").fetchone() == ("off",)
            state = "select state from pg_stat_activity where pid = %s"
            assert connection.execute(state, (one.info.backend_pid,)).fetchone() == ("idle",)
    found.close()


@pytest.mark.parametrize(
    "name",
    [
        'a"; drop table x; --',
        "per cent %s %(x)s {}",
        "new\nline",
        "Ünï.cödé . dots",
        "x" * 63,
        "é" * 31,
    ],
)
def test_hostile_names_of_tables(model, rows, name):
    run("drop table if exists {}", name=name)
    table(rows, name=name)
    found = store_of(name)
    found.prepare({"model": "m"}, 24)
    found.put(entries(model, 5))
    found.index()
    assert len(found.near_images(np.eye(24, dtype=np.float32)[0], 9)) == 5
    assert len(found.near_texts(np.eye(24, dtype=np.float32)[0], 9, Filter.parse("price>3"))) == 9
    assert found.about() == {"model": "m"} and found.facts()["price"].items == 60
    assert found.browse_texts(0, 1)[0].text == TEXTS[0]
    found.close()
    run("drop table {}", name=name)


def test_names_beside_long_ones_are_short_and_differ():
    names = [beside(f"{'x' * 62}{n}", of) for n in range(3) for of in ("images", "about")]
    assert len(set(names)) == 6 and all(len(name.encode()) <= 63 for name in names)
    assert len(beside("é" * 31, "by_vector").encode()) <= 63


def test_columns_with_odd_names_and_of_many_types(model, rows):
    run("create schema if not exists odd; drop table if exists odd.t")
    run(
        'create table odd.t ("Id %s" uuid default gen_random_uuid(), "te""xt" varchar, '
        '"v{}" halfvec(24), truth bool, day date, "n" numeric, tags text[], j json, other bytea, '
        'many vector(24)[], more halfvec[], primary key ("Id %s") include (day))'
    )
    for row in rows:
        run(
            'insert into odd.t ("te""xt", "v{}", truth, day, n, tags, j, other) values '
            "(%s, %s::halfvec, %s, '2020-01-02', %s, '{a}', %s, 'x')",
            row.text,
            words(row.vector * 3),
            row.id % 2 == 0,
            "NaN" if row.id == 0 else row.id,
            f'{{"deep": {{"a": 1}}, "kind": "k{row.id % 3}"}}' if row.id else '{"a": "\\u0000"}',
        )
    found = store_of("odd.t")
    drift = check_space(found, model)
    assert drift is not None and drift.min_cosine > 0.9999 and not found.unit
    assert found.layout().text == 'te"xt'
    one = found.browse_texts(0, 60)
    facts = next(row.facts for row in one if row.text == TEXTS[7])
    assert facts == {"truth": False, "day": "2020-01-02", "n": 7, "kind": "k1"}
    z = model.encode_texts(["a red 7"])[0]
    for words_, expected in (
        ("truth=true", 30),
        ("day=2020-01-02", 60),
        ("n<10", 9),
        ("kind=k1", 20),
        ("deep=1", 0),
        ("tags=a", 0),
    ):
        assert found.count_texts(Filter.parse(words_)) == expected, words_
    near = found.near_texts(z, 60)
    expected = np.stack([row.vector for row in rows]) @ z
    np.testing.assert_allclose([n.cosine for n in near], np.sort(expected)[::-1], atol=2e-3)
    key = near[0].item
    assert found.texts([key, key.upper(), "x"])[key].text == near[0].text == "a red 7"
    with pytest.raises(ConfigError, match="not vector or halfvec"):
        store_of("odd.t", vector="many")
    found.close()


def test_vectors_of_another_length_are_compared_by_cosine_whatever_their_index(model, rows):
    long = [row._replace(vector=row.vector * (1 + row.id)) for row in rows]
    name = table(long)
    run("create index on {} using hnsw (embedding vector_ip_ops)", name=name)
    found = store_of(name)
    check_space(found, model)
    assert found.layout().metric == "inner product" and not found.unit
    z = model.encode_texts(["a red 7"])[0]
    expected = np.sort(np.stack([row.vector for row in rows]) @ z)[::-1][:10]
    np.testing.assert_allclose([n.cosine for n in found.near_texts(z, 10)], expected, atol=2e-6)
    found.close()


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_an_index_of_theirs_is_used_and_filters_leave_enough(model, rows, metric):
    name = table(rows)
    run(f"create index on {{}} using hnsw (embedding vector_{metric}_ops)", name=name)
    found = store_of(name)
    check_space(found, model)
    assert found.unit
    z = model.encode_texts(["a red 7"])[0]
    exact = store_of(name, exact=True)
    for where in (None, Filter.parse("price>25")):
        mine = [n.cosine for n in found.near_texts(z, 9, where)]
        np.testing.assert_allclose(
            mine, [n.cosine for n in exact.near_texts(z, 9, where)], atol=2e-6
        )
        assert len(mine) == 9
    exact.close()
    found.close()


def test_a_filter_that_few_rows_meet_goes_past_an_index_that_gives_up():
    made_ = np.random.default_rng(0).standard_normal((800, 24)).astype(np.float32)
    made_ /= np.linalg.norm(made_, axis=1, keepdims=True)
    name = table([Row(n, "text", row) for n, row in enumerate(made_)])
    run("create index on {} using hnsw (embedding vector_cosine_ops)", name=name)
    run(f"create view seen_{name} as select * from {name}")
    z, where = made_[0], Filter.parse("colour=rare")
    told = "-c enable_seqscan=off -c hnsw.max_scan_tuples=1"
    url = f"{postgres()}&options={told.replace(' ', '%20').replace('=', '%3D')}"
    far = np.argsort(made_ @ z)[:3].tolist()
    for n in far:
        run("update {} set meta = %s where id = %s", '{"colour": "rare"}', n, name=name)
    for seen, options in ((name, {}), (f"seen_{name}", {"id": "id"})):
        found = opened(Part("search/stores", "pgvector", {"url": url, "table": seen, **options}))
        assert {int(near.item) for near in found.near_texts(z, 9, where)} == set(far)
        found.close()


def test_a_sample_is_of_rows_that_have_vectors(model, rows):
    name = table(rows)
    run("insert into {} select n, 'none yet' from generate_series(1000, 7000) n", name=name)
    found = store_of(name)
    assert len(found.sample(32)) >= 30 and check_space(found, model).probes >= 30
    found.close()


def test_rows_without_vectors_and_of_zeros_are_passed_over(model, rows):
    name = table([*rows, Row(100, "nothing", np.zeros(24, np.float32))])
    run("insert into {} values (101, 'no vector')", name=name)
    found = store_of(name)
    z = model.encode_texts(["a red 7"])[0]
    assert len(found.near_texts(z, 200)) == 60 and check_space(found, model).ok
    assert found.texts(["101"], rows=True)["101"].row is None
    found.close()


def test_a_column_of_any_width_and_an_empty_table(model, rows):
    name = table([], name="empty_one")
    found = store_of(name)
    assert check_space(found, model) is None and found.sample(5) == []
    work = Attaching(found, model)
    work.run([Item(key="a", images=(np.zeros((24, 24, 3), np.uint8),))])
    attached = Attached(found, model)
    assert [hit.key for hit in attached.search("anything")] == ["a"] and len(attached) == 1
    found.close()
    run("alter table {} alter embedding type vector using embedding::vector", name=name)
    for n, width in enumerate((24, 24, 8)):
        run("insert into {} values (%s, 'x', %s::vector)", n, words(np.ones(width)), name=name)
    found = store_of(name)
    with pytest.raises(ConfigError, match="24 and of 8 numbers"):
        found.layout()
    found.close()
    run("delete from {} where id = 2", name=name)
    found = store_of(name)
    assert (
        found.layout().dimensions == 24
        and len(found.near_texts(np.eye(24)[0].astype("f4"), 5)) == 2
    )
    with pytest.raises(SpaceMismatch, match="0 of 2 rows agree"):
        check_space(found, model)
    found.close()
    run("drop table {}", name=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "no such"}, "There is no table 'no such'"),
        ({"id": "nope"}, "no column 'nope'"),
        ({"vector": "body"}, "of type text, not vector"),
        ({"text": "nope"}, "no column"),
        ({"facts": ["nope"]}, "no column"),
        ({"url": "host='"}, "can't be read; write postgresql"),
    ],
)
def test_tables_that_do_not_fit_are_told(rows, options, message):
    with pytest.raises(ConfigError, match=message):
        opened(pgvector("", rows), **options)


def test_ids_that_are_none_are_told(rows):
    name = table(rows)
    run(f"create view seen_{name} as select body, embedding, price from {name}")
    with pytest.raises(ConfigError, match="no primary key of one column"):
        store_of(f"seen_{name}")
    run("update {} set price = 1", name=name)
    found = store_of(f"seen_{name}", id="price")
    with pytest.raises(ConfigError, match="60 rows have 1 values"):
        found.layout()
    found.close()
    found = store_of(f"seen_{name}", id="body")
    assert found.layout().rows == 60 and found.texts(["a red 3"])["a red 3"].facts == {"price": 1}
    found.close()


def test_passwords_are_never_told():
    secret = "hunter2 %"
    url = "postgresql://me:hunter2%20%25@127.0.0.1:1/db?sslmode=disable&sslpassword=hunter2"
    with pytest.raises(ServerError, match=r"db at 127\.0\.0\.1") as told:
        opened(Part("search/stores", "pgvector", {"url": url, "table": "t"}))
    assert "hunter2" not in str(told.value)
    for words_ in (
        "hunter2",
        "postgresql://me:hunter2@[::bad/db",
        "host=x password='hunter2",
        "postgresql://me:a@hunter2@host/db",  # libpq takes the rest for the host
        "postgresql://me:a/hunter2@host/db",
        "postgresql://me:hunter2/a@host/db",
        "postgresql://host/db?connect_timeout=hunter2",
    ):
        with pytest.raises(ConfigError) as told:
            opened(Part("search/stores", "pgvector", {"url": words_, "table": "t"}))
        assert "hunter2" not in str(told.value)
    assert saved_url("service=shop password=hunter2") == "service=shop"
    assert secret not in saved_url(url) and "hunter2" not in saved_url(url)
    assert saved_url(f"{url}&passfile=/etc/passwd&options=-c%20x%3D1") == (
        "user=me dbname=db host=127.0.0.1 port=1 sslmode=disable"
    )


def test_a_server_that_was_started_again_is_asked_again(rows):
    found = store_of(table(rows))
    assert found.count_texts() == 60
    run("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    assert found.count_texts() == 60
    found.close()


def test_readers_see_an_item_whole_while_it_is_replaced(model, rows):
    found = store_of(table(rows))
    found.prepare({"model": "m"}, 24)
    z = np.eye(24, dtype=np.float32)[:3]
    versions = [
        Entry(key="it", rows=z[:count], digests=("00",) * count, facts={"n": count})
        for count in (1, 3)
    ]
    found.put(versions[:1])
    stop, seen = threading.Event(), set()

    def look() -> None:
        while not stop.is_set():
            seen.add(len(found.images_of(["it"]).get("it", [])))

    reader = threading.Thread(target=look)
    reader.start()
    for n in range(40):
        found.put([versions[n % 2]])
    stop.set()
    reader.join()
    assert seen <= {1, 3}
    found.close()
