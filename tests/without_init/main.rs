//! A program that forgets `multiproc::init()` gets errors that name it, and no endless line of copies.

use multiproc::{Error, Process, StartMethod};

fn main() {
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let error = Process::new(|| (), ()).start_method(method).start().unwrap_err();
        assert!(matches!(error, Error::NotInitialized), "{method}: {error}");
        assert!(error.to_string().contains("multiproc::init();"), "{error}");
    }
    // A fork needs no second beginning of the program.
    let child = Process::new(|n: u32| n + 1, (1,)).start_method(StartMethod::Fork).start().unwrap();
    assert_eq!(child.join().unwrap(), 2);
    assert_eq!(Process::fork(|| 3).unwrap().join().unwrap(), 3);
    assert!(multiproc::active_children().is_empty());
    println!("a program without init: ok");
}
