//! Managers: objects in a server, used by this process and others.
//!
//! What CPython's own tests of managers try, and where it is tried here:
//!
//! | CPython | here |
//! |---|---|
//! | `_TestContainers` | containers.rs: each of its methods; `..._isinstance` is what the compiler does |
//! | `TestSyncManagerTypes` | containers.rs: list, dict, set, namespace, value, array; waiting.rs: event, locks, semaphores, condition, barrier, queue, joinable queue; own_types.rs: iterator; pool.rs: pool, `AsyncResult` |
//! | `_TestMyManager` | own_types.rs; a manager in a `with` is one that is dropped (life.rs) |
//! | `_TestRemoteManager` | life.rs, `a_registered_object_is_found_by_address_key_and_name`; programs.rs |
//! | `_TestManagerRestart` | life.rs, `an_address_can_be_used_again_at_once` |
//! | `_TestZZZNumberOfObjects` | life.rs, `objects_go_with_their_last_reference`; attack.rs, at the end of each storm |
//! | `TestManagerExceptions` | nothing: an error here refers to nothing |
//! | `_TestQueue` | waiting.rs: put, get, size, timeouts, `task_done`, processes; there is no feeder whose errors could be lost, and a proxy cannot be closed while it is used |
//! | `_TestLock` | waiting.rs: acquire and release here and in children, recursion, texts; a guard is Python's `with` |
//! | `_TestSemaphore` | waiting.rs: values, bounds, timeouts |
//! | `_TestCondition` | waiting.rs: `notify` of some, of all and of more than wait, timeouts, `wait_for` |
//! | `_TestEvent` | waiting.rs |
//! | `_TestBarrier` | waiting.rs: rounds, indices, action, abort, reset, both timeouts, one party |
//! | `_TestValue`, `_TestArray` | containers.rs; a lock for them is not needed, `apply` changes them where they are |
//! | `_TestPool` | pool.rs: `apply`, `map`, `starmap`, `imap`, `imap_unordered`, the `_async` forms, timeouts, errors, close, terminate, join; the rest is `tests/pool` |

#[path = "../support/mod.rs"]
mod support;

mod attack;
mod containers;
mod ending;
mod hostile;
mod hosts;
mod life;
mod network;
mod own_types;
mod pool;
mod programs;
mod python;
mod waiting;

multiproc::init_before_main!();

use std::time::Duration;

/// How long a test may take.
const PATIENCE: Duration = Duration::from_secs(60);
