"""The Python side of the tests: one role a run, told by the arguments."""

import multiprocessing
import multiprocessing.connection as connection
import os
import pickle
import subprocess
import sys
import threading
import time

ADDRESSES = {"unix": lambda rest: rest, "abstract": lambda rest: "\0" + rest}


def address(text):
    family, rest = text.split(":", 1)
    if family == "tcp":
        host, port = rest.rsplit(":", 1)
        return (host, int(port))
    return ADDRESSES[family](rest)


def text(address):
    """As `address` reads it."""
    if isinstance(address, tuple):
        return "tcp:%s:%d" % address
    if isinstance(address, bytes):
        address = address.decode()
    return "abstract:" + address[1:] if address.startswith("\0") else "unix:" + address


def say(line):
    print(line, flush=True)


def client(where, key):
    return connection.Client(address(where), authkey=None if key == "-" else bytes.fromhex(key))


def listener(where, key):
    where = ("127.0.0.1", 0) if where == "tcp:0" else address(where)
    # With the usual backlog of one, TCP clients that come at once may be dropped without a word.
    key = None if key == "-" else bytes.fromhex(key)
    listener = connection.Listener(where, backlog=50, authkey=key)
    say(text(listener.address))
    return listener


def serve_bytes(peer):
    """Sends back what comes, until the peer leaves."""
    try:
        while True:
            peer.send_bytes(peer.recv_bytes())
    except EOFError:
        peer.close()


def serve_objects(peer):
    """Sends back what comes, and what it looks like here."""
    try:
        while True:
            value = peer.recv()
            peer.send((value, repr(value)))
    except EOFError:
        peer.close()


def connect_and_echo(*places):
    """At each place in turn, with the key that follows it."""
    for where, key in zip(places[::2], places[1::2]):
        serve_bytes(client(where, key))


def connect_when_there(where, key):
    """Begins before anybody listens."""
    try:
        client(where, key)
    except (FileNotFoundError, ConnectionRefusedError):
        say("nobody is there yet")
    while True:
        try:
            return serve_bytes(client(where, key))
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.001)


def listen_and_echo(where, key, count="1"):
    with listener(where, key) as waiting:
        threads = []
        for _ in range(int(count)):
            threads.append(threading.Thread(target=serve_bytes, args=(waiting.accept(),)))
            threads[-1].start()
        for thread in threads:
            thread.join()


def listen_and_echo_at(*places):
    """At each place in turn, with the key that follows it."""
    for where, key in zip(places[::2], places[1::2]):
        listen_and_echo(where, key)


def connect_refused(where, key):
    try:
        client(where, key)
    except multiprocessing.AuthenticationError as error:
        say("AuthenticationError: %s" % error)
    except (EOFError, OSError) as error:
        say("dropped: %r" % error)


def listen_refused(where, key):
    with listener(where, key) as waiting:
        try:
            waiting.accept()
            say("accepted")
        except multiprocessing.AuthenticationError as error:
            say("AuthenticationError: %s" % error)
        except (EOFError, OSError) as error:
            say("dropped: %r" % error)


def many_clients(where, key, count):
    """Clients in threads, which all send at once what they are."""
    def one(i):
        with client(where, key) as peer:
            peer.send_bytes(b"%d" % i)
            assert peer.recv_bytes() == b"%d" % (i + 1)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wait_for_all(where, key, count):
    """Takes what several connections send, as `connection.wait` finds it, until all have left."""
    with listener(where, key) as waiting:
        peers = [waiting.accept() for _ in range(int(count))]
    total = 0
    while peers:
        for peer in connection.wait(peers):
            try:
                total += int(peer.recv_bytes())
            except EOFError:
                peers.remove(peer)
                peer.close()
    say(str(total))


def objects(where, key):
    serve_objects(client(where, key))


def pickles(where, key):
    """Sends the same values in every protocol, then says goodbye."""
    shared = ["shared"]
    values = [
        None, True, False, 0, 1, 255, 256, 65535, 65536, -1, -128, 2**31 - 1, 2**31, -2**31 - 1,
        2**63, -2**63, 2**64, 2**2100, -2**2100, 0.0, -0.5, 1e300, float("inf"), "", "text",
        "\u00e9\u20ac\U0001f40d", "long" * 100, b"", b"\x00\xff", b"x" * 300, bytearray(b"array"),
        bytearray(), [], [1, [2, [3]]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {"a": 1, 2: [3]},
        set(), {1, 2, 3}, frozenset(), frozenset([1]), [shared, shared], list(range(3000)),
        {str(i): i for i in range(2000)}, [42, None, "hello"],
    ]
    with client(where, key) as peer:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            for value in values:
                peer.send_bytes(pickle.dumps(value, protocol))
                came_back = peer.recv()
                expected = bytes(value) if isinstance(value, bytearray) else value
                expected = set(value) if isinstance(value, frozenset) else expected
                assert came_back == expected, (protocol, value, came_back)
                assert type(came_back) is type(expected), (protocol, value, came_back)
        peer.send("end")


def refused_pickles(where, key):
    """Sends what is no plain data."""
    recursive = []
    recursive.append(recursive)
    bomb = ["x" * 100]
    for _ in range(30):
        bomb = [bomb, bomb]
    deep = []
    for _ in range(200):
        deep = [deep]
    with client(where, key) as peer:
        for value in (object(), print, ValueError("x"), 1j, range(3), recursive, bomb, deep, "\ud800"):
            peer.send(value)
            say(peer.recv())


def inherited(number):
    """Talks over a socket that the parent has left open."""
    with connection.Connection(int(number)) as peer:
        peer.send_bytes(peer.recv_bytes()[::-1])


def speaks_first(peer, other_end):
    # A forked process has it too, and would wait for itself to leave.
    other_end.close()
    peer.send([42, None, "hello"])
    assert peer.recv() == {"answer": (42, "hello")}
    serve_bytes(peer)


def process_beside_rust(program, test):
    """A pair of connections: one end for a `Process`, the other for a Rust program that inherits it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=speaks_first, args=(ours, theirs))
    process.start()
    ours.close()
    number = theirs.fileno()
    environment = dict(os.environ, MULTIPROC_TEST_INHERITED=str(number))
    rust = subprocess.run(
        [program, "--exact", test], pass_fds=[number], env=environment, stdout=subprocess.PIPE)
    if rust.returncode:
        sys.stderr.buffer.write(rust.stdout)
    theirs.close()
    process.join()
    sys.exit(rust.returncode or process.exitcode)


def takes_descriptor(where, key):
    from multiprocessing.reduction import recv_handle, send_handle
    with client(where, key) as peer:
        handle = recv_handle(peer)
        os.write(handle, b"from Python")
        os.close(handle)
        read, write = os.pipe()
        send_handle(peer, read, None)
        os.write(write, b"to Rust")
        peer.recv_bytes()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
