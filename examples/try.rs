use multiproc::*;
use std::time::{Duration, Instant};
fn square(n: u64) -> u64 {
    n * n
}
fn slow() {
    std::thread::sleep(Duration::from_secs(10));
}
fn die() {
    std::process::abort()
}
fn main() -> Result<()> {
    init();
    for method in [StartMethod::Spawn, StartMethod::Fork, StartMethod::ForkServer] {
        let t = Instant::now();
        let pool = Pool::builder().processes(4).start_method(method).build()?;
        println!("{method} start {:?}", t.elapsed());
        println!("{:?}", pool.map(square, 0..10u64)?);
        println!("first map {:?}", t.elapsed());
        println!("{:?}", pool.imap(square, 0..10u64).map(|r| r.unwrap()).collect::<Vec<_>>());
        println!(
            "{:?}",
            pool.imap_unordered(square, 0..10u64).map(|r| r.unwrap()).collect::<Vec<_>>()
        );
        let a = pool.apply_async(square, (20,))?;
        println!("{:?}", a.get_timeout(Duration::from_secs(1)));
        println!("{:?}", pool.apply(std::process::id, ()));
        let s = pool.apply_async(slow, ())?;
        println!("{:?}", s.get_timeout(Duration::from_millis(100)));
        println!("{:?}", pool.apply(die, ()));
        println!("{:?}", pool.apply(|| -> u32 { panic!("x") }, ()));
        println!("{:?}", pool.snapshot());
        let t = Instant::now();
        let n = 200_000u64;
        let v = pool.map_chunks(square, 0..n, 1)?;
        println!("chunk1 {:?}/task", t.elapsed() / n as u32);
        assert!(v.iter().enumerate().all(|(i, &x)| x == (i * i) as u64));
        let t = Instant::now();
        let n = 10_000_000u64;
        let v = pool.map(square, 0..n)?;
        println!("default {:?} ns/task", t.elapsed().as_nanos() as f64 / n as f64);
        assert_eq!(v.len() as u64, n);
        let t = Instant::now();
        let n = 100_000;
        let c = pool.imap_unordered(square, 0..n as u64).count();
        println!("imap_u {:?}/task {c}", t.elapsed() / n as u32);
        let t = Instant::now();
        let n = 5000;
        for i in 0..n {
            pool.apply(square, (i as u64,))?;
        }
        println!("apply {:?}", t.elapsed() / n as u32);
        let t = Instant::now();
        pool.terminate();
        println!("terminate {:?}", t.elapsed());
        println!("{:?}", s.get());
        let pool = Pool::builder().processes(4).start_method(method).build()?;
        let r = pool.map_async(square, 0..1000u64)?;
        pool.close();
        pool.join()?;
        println!("{:?}", r.get().map(|v| v.len()));
    }
    Ok(())
}
