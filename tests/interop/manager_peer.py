"""CPython programs as clients of our manager: one role a run, told by the arguments."""

import gc
import multiprocessing
import queue
import sys
import threading
from multiprocessing import managers

KEY = b"manager key"


class Plain(managers.BaseManager):
    """Knows the names that were registered, and nothing else."""


Plain.register("jobs")
Plain.register("notes", proxytype=managers.ListProxy)
Plain.register("settings", proxytype=managers.NamespaceProxy)
Plain.register("numbers")
Plain.register("nothing")


def address(text):
    family, rest = text.split(":", 1)
    if family == "tcp":
        host, port = rest.rsplit(":", 1)
        return (host, int(port))
    return "\0" + rest if family == "abstract" else rest


def connect(kind, where):
    manager = kind(address(where), KEY)
    manager.connect()
    return manager


def raises(error, f, *arguments, **keywords):
    try:
        f(*arguments, **keywords)
    except error as caught:
        assert type(caught) is error, repr(caught)
        return caught
    raise AssertionError("nothing was raised")


def say(line):
    print(line, flush=True)


def registered(where):
    """What the Rust program has registered, by names; both sides change it."""
    manager = connect(Plain, where)
    jobs = manager.jobs()
    assert jobs.get() == ["from Rust", 1, None, 2.5, b"bytes"]
    jobs.put({"from": "Python", "numbers": (1, 2**70)})
    notes = manager.notes()
    notes.append("Python's")
    assert list(notes) == ["Rust's", "Python's"], list(notes)
    settings = manager.settings()
    assert settings.name == "Rust"
    settings.answer = 42
    del settings.name
    raises(AttributeError, lambda: settings.name)
    # Not of a type that Python programs can use: its methods are hidden.
    numbers = manager.numbers()
    raises(managers.RemoteError, numbers._callmethod, "append", (1,))
    raises(managers.RemoteError, manager.nothing)
    assert manager.jobs()._id == jobs._id


def containers(where):
    m = connect(managers.SyncManager, where)
    a = m.list(list(range(10)))
    assert a[:] == list(range(10)) and len(a) == 10
    assert a[2:5] == [2, 3, 4] and a[::-3] == [9, 6, 3, 0] and a[-1] == 9
    a[1:3] = ["x"]
    assert a[:] == [0, "x", 3, 4, 5, 6, 7, 8, 9]
    a[5:5] = [1, 1]
    assert a[4:8] == [5, 1, 1, 6]
    del a[0]
    del a[::2]
    assert a[:] == [3, 5, 1, 7, 9], a[:]
    a[::2] = [30, 10, 90]
    assert a[:] == [30, 5, 10, 7, 90]
    a.sort()
    assert a[:] == [5, 7, 10, 30, 90]
    a.sort(reverse=True)
    a.append("text")
    raises(TypeError, a.sort)
    assert a.pop() == "text" and a.pop(0) == 90 and a.index(10) == 1 and a.count(5) == 1
    a.insert(0, None)
    a.remove(7)
    a.reverse()
    assert str(a) == "[5, 10, 30, None]" and 10 in a and 11 not in a
    a += [2.5]
    a *= 2
    assert len(a) == 10 and a + [1] == a[:] + [1] and a * 2 == a[:] * 2
    raises(IndexError, lambda: a[100])
    raises(ValueError, a.remove, "absent")
    assert [item for item in a] == a[:]
    big = m.list([2**80, -2**80, 3, -2**200, 2**200, 0.5, True])
    big.sort()
    assert big[:] == [-2**200, -2**80, 0.5, True, 3, 2**80, 2**200], big[:]

    d = m.dict({1: "one", "two": 2})
    d.update([(2.5, None)], k="v")
    assert d.copy() == {1: "one", "two": 2, 2.5: None, "k": "v"} and len(d) == 4
    assert d.keys() == [1, "two", 2.5, "k"] and d.get(7) is None and d.get(7, 8) == 8
    assert d.values() == ["one", 2, None, "v"] and d.items()[0] == (1, "one")
    assert raises(KeyError, lambda: d["absent"]).args == ("absent",)
    assert [key for key in d] == [1, "two", 2.5, "k"]
    assert d.pop("k") == "v" and d.pop("k", 5) == 5 and d.popitem() == (2.5, None)
    assert d.setdefault("new", [1]) == [1] and "new" in d
    del d["new"]
    d["nested"] = {"list": [1, (2,)]}
    assert str(d) == "{1: 'one', 'two': 2, 'nested': {'list': [1, (2,)]}}"
    d.clear()
    raises(KeyError, d.popitem)

    if hasattr(m, "set"):
        s = m.set([1, 2])
        s.add(3)
        assert sorted(s) == [1, 2, 3]

    n = m.Namespace(x=1, text="t")
    n.y = n.x + 1
    assert (n.y, str(n)) == (2, "Namespace(text='t', x=1, y=2)")
    v = m.Value("i", 7)
    v.value += 1
    assert v.get() == 8
    r = m.Array("d", [1.5, 2.5])
    r[1] = 9.0
    assert (len(r), r[0], r[1]) == (2, 1.5, 9.0)
    # What was raised in a call holds on to its proxy, in a cycle.
    gc.collect()
    assert m._number_of_objects() == (7 if hasattr(m, "set") else 6)
    assert "refcount=1" in m._debug_info()
    # Functions and other instances of classes stay outside.
    raises(managers.RemoteError, m.list, 5)
    raises(managers.RemoteError, a.append, len)
    raises(managers.RemoteError, a.append, v)
    raises(managers.RemoteError, a._callmethod, "__class__")
    raises(TypeError, a.insert, "no number", 1)
    assert len(a) == 10
    del a, big, d, n, v, r
    if hasattr(m, "set"):
        del s
    gc.collect()
    assert m._number_of_objects() == 0, m._debug_info()


def waiting(where):
    m = connect(managers.SyncManager, where)
    q = m.Queue(2)
    q.put(1)
    q.put("two", timeout=5)
    assert q.full() and q.qsize() == 2
    raises(queue.Full, q.put, 3, False)
    raises(queue.Full, q.put, 3, True, 0.01)
    assert (q.get(), q.get_nowait()) == (1, "two") and q.empty()
    raises(queue.Empty, q.get, timeout=0.01)
    raises(queue.Empty, q.get_nowait)
    q.task_done()
    q.task_done()
    q.join()
    raises(ValueError, q.task_done)

    def late():
        q.put("late")
        event.set()

    event = m.Event()
    assert not event.wait(0.01) and not event.is_set()
    threading.Thread(target=late).start()
    assert q.get() == "late" and event.wait() and event.is_set()
    event.clear()

    lock = m.Lock()
    assert lock.acquire() and not lock.acquire(False) and not lock.acquire(timeout=0.01)
    lock.release()
    raises(RuntimeError, lock.release)
    with lock:
        pass
    rlock = m.RLock()
    with rlock:
        with rlock:
            other = []
            thread = threading.Thread(target=lambda: other.append(rlock.acquire(False)))
            thread.start()
            thread.join()
            assert other == [False]
    raises(RuntimeError, rlock.release)

    semaphore = m.BoundedSemaphore(1)
    assert semaphore.acquire() and not semaphore.acquire(False)
    semaphore.release()
    raises(ValueError, semaphore.release)

    condition, ready = m.Condition(), []
    raises(RuntimeError, condition.notify)

    def wait():
        with condition:
            assert condition.wait_for(lambda: ready, 60)

    thread = threading.Thread(target=wait)
    thread.start()
    with condition:
        assert not condition.wait(0.01)
        ready.append(True)
        condition.notify_all()
    thread.join()

    barrier = m.Barrier(2)
    places = []
    thread = threading.Thread(target=lambda: places.append(barrier.wait()))
    thread.start()
    places.append(barrier.wait())
    thread.join()
    assert sorted(places) == [0, 1] and barrier.parties == 2 and barrier.n_waiting == 0
    raises(threading.BrokenBarrierError, barrier.wait, 0.01)
    assert barrier.broken
    barrier.reset()


def child(jobs, number):
    jobs.put(number)


def processes(where):
    """Proxies travel to other Python processes, by either way to start them."""
    manager = connect(Plain, where)
    multiprocessing.current_process().authkey = KEY
    jobs = manager.jobs()
    for method in "fork", "spawn":
        context = multiprocessing.get_context(method)
        process = context.Process(target=child, args=(jobs, method))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert (jobs.get(), jobs.get()) == ("fork", "spawn")


def holds_lock(where):
    m = connect(managers.SyncManager, where)
    jobs = connect(Plain, where).jobs()
    lock = m.Lock()
    lock.acquire()
    say(lock._id)
    # Killed while it waits.
    jobs.get()


def shutdown(where):
    m = connect(managers.SyncManager, where)
    connection = managers.listener_client["pickle"][1](address(where), authkey=KEY)
    raises(managers.RemoteError, managers.dispatch, connection, None, "shutdown")
    assert len(m.list([1])) == 1


def refused(where):
    manager = managers.SyncManager(address(where), b"another key")
    raises(multiprocessing.AuthenticationError, manager.connect)


def not_let_in(where):
    said = raises(managers.RemoteError, connect, managers.SyncManager, where)
    assert "python(true)" in str(said), said


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
