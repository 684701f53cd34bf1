"""A server that has seen prompts of all kinds, failures and interruptions among them, renders as on the first day."""

from soak import soak, write_models


def test_nothing_is_carried_from_prompt_to_prompt(host):
    write_models(host.base / "models")
    digests, outcomes = soak(host.client, 16, again=4)
    assert len(digests) == 1, "the same prompt, four times, gave other bytes"
    assert outcomes.keys() == {"rendered", "failed", "interrupted"}
