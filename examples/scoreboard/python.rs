//! The accidents with CPython's `multiprocessing`, as programs.

use std::path::PathBuf;
use std::process::Command;

/// What stands before each program.
const BEGINNING: &str = r#"
import multiprocessing as mp, os, signal, subprocess, sys, time

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def alive(pid):
    try:
        return ') Z ' not in open(f'/proc/{pid}/stat').read()
    except OSError:
        return False
"#;

/// "CPython 3.11.2", if there is one.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("python3").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| format!("C{}", text.trim()))
}

/// Writes a program to a file: its own main file is where spawned children find its functions.
pub(crate) fn write(program: &str) -> std::io::Result<PathBuf> {
    let name = format!("multiproc-scoreboard-{}.py", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, format!("{BEGINNING}{program}"))?;
    Ok(path)
}

pub(crate) const WORKER_KILLED: &str = r#"
mp.set_start_method('fork')
mp.Pool(2).apply(die)
print('the task is answered')
"#;

pub(crate) const IDLE_WORKERS_KILLED: &str = r#"
mp.set_start_method('fork')
pool = mp.Pool(2)
pool.map(abs, range(4))
time.sleep(0.5)
for worker in list(pool._pool):
    os.kill(worker.pid, signal.SIGKILL)
time.sleep(0.5)
pool.apply(len, ('four',))
print('they are replaced')
os._exit(0)
"#;

pub(crate) const TERMINATED_AFTER_THAT: &str = r#"
mp.set_start_method('fork')
pool = mp.Pool(2)
pool.map(abs, range(4))
time.sleep(0.5)
for worker in list(pool._pool):
    os.kill(worker.pid, signal.SIGKILL)
time.sleep(0.5)
pool.terminate()
print('it ends')
os._exit(0)
"#;

pub(crate) const ANSWER_NOT_REBUILT: &str = r#"
class TwoWords(Exception):
    def __init__(self, one, two):
        super().__init__(one)

def fail():
    raise TwoWords('one', 'two')

mp.set_start_method('fork')
try:
    mp.Pool(2).apply(fail)
except Exception as error:
    print('the task fails with', type(error).__name__)
os._exit(0)
"#;

pub(crate) const JOINED_BEFORE_READ: &str = r#"
mp.set_start_method('fork')
queue = mp.Queue()
child = mp.Process(target=queue.put, args=(bytes(1 << 20),))
child.start()
child.join()
print('the child has ended,', len(queue.get()), 'bytes are there')
os._exit(0)
"#;

pub(crate) const HOLDER_KILLED: &str = r#"
def hold(lock):
    lock.acquire()
    die()

mp.set_start_method('fork')
lock = mp.Lock()
child = mp.Process(target=hold, args=(lock,))
child.start()
child.join()
lock.acquire()
print('the next one acquires it')
os._exit(0)
"#;

pub(crate) const SIBLING_ALIVE: &str = r#"
mp.set_start_method('fork')
reader, writer = mp.Pipe(False)
mp.Process(target=time.sleep, args=(60,), daemon=True).start()
writer.close()
try:
    reader.recv()
except EOFError:
    print('the reader is told of the end')
os._exit(0)
"#;

pub(crate) const EXITS_BEFORE: &str = r#"
if __name__ == '__mp_main__':
    os._exit(3)
if __name__ == '__main__':
    mp.set_start_method('spawn')
    child = mp.Process(target=die)
    child.start()
    child.join()
    print('its exit code is', child.exitcode)
    os._exit(0)
"#;

pub(crate) const NEVER_JOINED: &str = r#"
mp.set_start_method('fork')
for _ in range(50):
    mp.Process(target=os.getpid).start()
time.sleep(1)
zombies = 0
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        fields = open(f'/proc/{pid}/stat').read().rsplit(') ')[-1].split()
        zombies += fields[0] == 'Z' and int(fields[1]) == os.getpid()
    except OSError:
        pass
print(zombies, 'zombies are left')
os._exit(0)
"#;

pub(crate) const BUSY_POOL: &str = r#"
mp.set_start_method('fork')
pool = mp.Pool(1)
pool.apply_async(time.sleep, (60,))
pool.apply_async(len, (bytes(4 << 20),))
time.sleep(0.5)
pool.terminate()
print('it ends')
os._exit(0)
"#;

pub(crate) const MANY_HANDLES: &str = r#"
def count(connection):
    for _ in range(2):
        connection.send(len(connection.recv()))

mp.set_start_method('fork')
ours, theirs = mp.Pipe()
mp.Process(target=count, args=(theirs,), daemon=True).start()
for number in (65, 300):
    ours.send([mp.Pipe(False)[0] for _ in range(number)])
    assert ours.recv() == number
print('they arrive')
os._exit(0)
"#;

pub(crate) const NOBODY_READS: &str = r#"
child = subprocess.Popen([sys.executable, '-c',
    'import multiprocessing; multiprocessing.Queue().put(bytes(1 << 20))'])
child.wait()
print('it exits')
"#;

pub(crate) const PRODUCER_KILLED: &str = r#"
def produce(queue):
    while True:
        queue.put(bytes(64 << 20))

mp.set_start_method('fork')
queue = mp.Queue()
child = mp.Process(target=produce, args=(queue,))
child.start()
time.sleep(1)
child.kill()
child.join()
after = mp.Process(target=queue.put, args=(b'after',))
after.start()
while queue.get() != b'after':
    pass
print('the queue works on')
os._exit(0)
"#;

pub(crate) const OWNER_KILLED: &str = r#"
from multiprocessing.shared_memory import SharedMemory

def own(writer):
    os.setsid()
    block = SharedMemory(create=True, size=1000)
    writer.send(block.name)
    os.killpg(0, signal.SIGKILL)

mp.set_start_method('fork')
reader, writer = mp.Pipe(False)
child = mp.Process(target=own, args=(writer,))
child.start()
name = reader.recv()
child.join()
time.sleep(1)
left = os.path.exists('/dev/shm/' + name)
if left:
    os.unlink('/dev/shm/' + name)
print('it stays, with nobody to remove it' if left else 'it is removed by a tracker process')
os._exit(0)
"#;

pub(crate) const SERVER_KILLED: &str = r#"
mp.set_start_method('fork')
manager = mp.Manager()
shared = manager.dict()
os.kill(manager._process.pid, signal.SIGKILL)
try:
    shared['one'] = 1
except Exception as error:
    print('calls fail:', type(error).__name__)
os._exit(0)
"#;

pub(crate) const PARENT_KILLED: &str = r#"
def parent(writer):
    pool = mp.Pool(2)
    pool.map(abs, range(4))
    writer.send([worker.pid for worker in pool._pool])
    die()

mp.set_start_method('fork')
reader, writer = mp.Pipe(False)
child = mp.Process(target=parent, args=(writer,))
child.start()
pids = reader.recv()
child.join()
time.sleep(1)
left = sum(map(alive, pids))
print(f'{left} of its {len(pids)} workers live on' if left else 'its workers are gone')
os._exit(0)
"#;
