"""The token view through the REST API, made by a real process."""

from __future__ import annotations

import json
import time

import psutil
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from celery_workers.contract.tokens import Load, Look
from datasets_app import tokens
from datasets_app.token_child import TokenChild

TURNS = [{"role": "user", "content": "two lattes"}, {"role": "assistant", "content": "2 x é"}]
TEXT = "<|im_start|>user\ntwo lattes<|im_end|>\n<|im_start|>assistant\n2 x é<|im_end|>\n"


@pytest.fixture(autouse=True)
def _no_process_stays():
    yield
    tokens.child.close()


def upload(client, rows: list[object], *, name: str = "rows") -> str:
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    answer = client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile("rows.jsonl", content), "name": name})
    assert answer.status_code in (200, 201), answer.json()
    return answer.json()["id"]


def ask(client, dataset: str, model: str, **query: object):
    return client.get(f"/api/v1/datasets/{dataset}/tokens", {"model": model, **query})


def test_every_token_of_a_row_is_shown_as_it_is_trained(api_client, local_model) -> None:
    dataset = upload(api_client, [{"messages": TURNS}] * 3)

    body = ask(api_client, dataset, local_model, row=2).json()

    assert (body["version"], body["row"], body["rows"], body["row_number"], body["state"]) == (1, 2, 3, 2, "kept")
    assert "".join(token["text"] for token in body["tokens"]) == TEXT
    trained = [token for token in body["tokens"] if token["trained"]]
    assert "".join(token["text"] for token in trained) == "2 x é<|im_end|>"
    assert [token["part"] for token in trained] == ["assistant"] * 6 + ["end_of_turn"]
    assert (body["length_tokens"], body["supervised_tokens"]) == (len(body["tokens"]), len(trained))
    users = "".join(token["text"] for token in body["tokens"] if token["part"] == "user")
    assert users == "two lattes"
    assert body["share"] == {
        "sample": "all",
        "rows": 3,
        "kept_rows": 1,
        "left_out_rows": {"duplicate": 2},
        "tokens": body["length_tokens"],
        "supervised_tokens": 7,
        "fraction": 7 / body["length_tokens"],
    }


def test_compared_and_judged_answers_are_shown_as_such(api_client, local_model) -> None:
    pair = upload(api_client, [{"prompt": "two lattes", "chosen": "2 x", "rejected": "no"}])
    judged = upload(api_client, [{"prompt": "two lattes", "completion": "2 x", "label": False}], name="judged")

    body = ask(api_client, pair, local_model).json()
    assert (body["format"], body["is_desirable"]) == ("preference", None)
    for answer, tokens_shown in (("2 x", body["tokens"]), ("no", body["rejected"]["tokens"])):
        assert "".join(token["text"] for token in tokens_shown if token["trained"]) == f"{answer}<|im_end|>"
    body = ask(api_client, judged, local_model).json()
    assert (body["format"], body["is_desirable"], body["rejected"]) == ("kto", False, None)


def test_the_server_imports_nothing_heavy_and_its_process_is_kept_warm(api_client, local_model) -> None:
    rows = [{"messages": [TURNS[0], {"role": "assistant", "content": f"answer {n}"}]} for n in range(50)]
    dataset = upload(api_client, rows)
    ask(api_client, dataset, local_model)
    pid = tokens.child.pid

    started = time.perf_counter()
    answer = ask(api_client, dataset, local_model, row=2)
    seconds = time.perf_counter() - started

    assert answer.status_code == 200
    assert tokens.child.pid == pid
    assert seconds < 1.0  # 0.2 s on an idle machine
    assert not {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"} & set(psutil.Process(pid).environ())


def test_what_is_not_trained_says_why(api_client, local_model) -> None:
    unfit = {"messages": [{"role": "user", "content": "hello"}]}
    long = {"messages": [TURNS[0], {"role": "assistant", "content": "x" * 400}]}
    dataset = upload(api_client, [{"messages": TURNS}, unfit, long])

    states = [ask(api_client, dataset, local_model, row=row, max_length_tokens=100).json() for row in (1, 2, 3)]
    cut = ask(api_client, dataset, local_model, row=3, max_length_tokens=100, over_long="truncate").json()

    assert [(body["state"], body["code"]) for body in states] == [
        ("kept", ""),
        ("unfit", "no_answer"),
        ("too_long", "too_long"),
    ]
    assert states[0]["share"]["left_out_rows"] == {"unfit": 1, "too_long": 1}
    assert "at most 100 are taken" in states[2]["message"]
    assert (cut["length_tokens"], cut["is_answer_cut"]) == (100, True)
    assert cut["cut_tokens"] == states[2]["length_tokens"] - 100


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ({"row": 4}, "row", "row must be from 1 to 3, the rows of this version, got 4"),
        ({"row": 0}, "row", "greater than or equal to 1"),
        ({"template": "nope"}, "template", '"nope" is not a valid choice'),
        ({"model": "local:other"}, "model", "there is no folder 'other' under MODEL_ROOTS"),
        ({"model": "bundled:nope"}, "model", "nope"),
        ({"model": "model:3f0c0000-0000-0000-0000-000000000000"}, "model", "list yours"),
        ({"model": "../etc"}, "model", "model: "),
        ({"max_length_tokens": 100_000}, "max_length_tokens", "at most 512"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_common_shape(api_client, local_model, query, field, message) -> None:
    dataset = upload(api_client, [{"messages": TURNS}] * 3)

    answer = ask(api_client, dataset, **{"model": local_model, **query})

    assert answer.status_code == 400, answer.json()
    body = answer.json()
    assert set(body) == {"code", "detail", "errors"}
    assert body["errors"][0]["field"] == field
    assert message in body["detail"] + body["errors"][0]["message"]


def test_options_of_preprocessing_have_their_say(api_client, local_model) -> None:
    dataset = upload(api_client, [{"messages": TURNS}])
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )

    body = ask(
        api_client, dataset, local_model, template="custom", custom_template=template, train_on_roles=["user", "assistant"]
    ).json()

    assert "".join(token["text"] for token in body["tokens"]) == "user: two lattes<|im_end|>assistant: 2 x é<|im_end|>"
    trained = "".join(token["text"] for token in body["tokens"] if token["trained"])
    assert trained == "two lattes<|im_end|>2 x é<|im_end|>"


def test_a_stranger_sees_nothing(api_client, other_user, local_model) -> None:
    from datasets_app.tests.factories import DatasetVersionFactory

    version = DatasetVersionFactory(dataset__owner=other_user)

    assert ask(api_client, str(version.dataset_id), local_model).status_code == 404
    assert tokens.child.pid is None


def test_an_idle_process_is_ended(tmp_path) -> None:
    child = TokenChild(idle_seconds=0.2)
    load = Load(folder=str(tmp_path))
    child.look(load=load, look=_look(tmp_path))
    pid = child.pid
    assert pid is not None

    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not psutil.pid_exists(pid)
    assert child.pid is None


def test_a_process_that_takes_too_long_is_killed_and_the_next_works(api_client, local_model, tmp_path) -> None:
    dataset = upload(api_client, [{"messages": TURNS}])
    template = tmp_path / "roots" / "tiny" / "chat_template.jinja"
    good = template.read_text()
    template.write_text(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
    )
    child, tokens.child = tokens.child, TokenChild(look_seconds=1)
    try:
        started = time.monotonic()
        answer = ask(api_client, dataset, local_model)
        assert answer.status_code == 503
        assert answer.json()["code"] == "token_process_too_slow"
        assert time.monotonic() - started < 60
        template.write_text(good)
        assert tokens.child.pid is None
    finally:
        tokens.child.close()
        tokens.child = child
    assert ask(api_client, dataset, local_model).status_code == 200


def _look(folder) -> Look:
    return Look(
        folder=str(folder), config={}, path=str(folder / "rows"), file_name="rows", file_format="jsonl", sha256="0", rows=1,
        position=0,
    )  # fmt: skip
