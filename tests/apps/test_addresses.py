"""Addresses are taken early, and say what is wrong with them."""

from __future__ import annotations

import socket
from urllib.request import urlopen

import pytest

from adaptive_diffusion.apps import addresses


def test_the_first_free_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used, addresses.take("127.0.0.1", [0]) as taken:
        port = taken.getsockname()[1]
        taken.close()
        with addresses.take("127.0.0.1", [used.getsockname()[1], port]) as next_one:
            assert next_one.getsockname()[1] == port
            assert addresses.url(next_one) == f"http://127.0.0.1:{port}"


def test_nobody_is_kept_waiting_before_it_listens() -> None:
    with addresses.take("127.0.0.1", [0]) as taken, pytest.raises(OSError, match="refused"):
        urlopen(addresses.url(taken))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_ipv6_is_in_brackets() -> None:
    with addresses.take("::1", [0]) as taken:
        assert addresses.url(taken).startswith("http://[::1]:")


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_port_in_use_is_told_before_anything_is_loaded(cli, monkeypatch, command) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("adaptive_diffusion.apps.loading._load", refuse)
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        error = cli(command, "--port", port).error
    assert f"can't listen on 127.0.0.1, port {port}: Address already in use" in error


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_host_that_is_not_of_this_machine_is_told(cli, command) -> None:
    options = ("--api-key", "k") if command == "serve" else ()
    assert "can't listen on 192.0.2.1" in cli(command, "--host", "192.0.2.1", *options).error
