#![allow(unsafe_code)]
use std::hint::black_box;
use std::time::Instant;
fn ns(n: u64, mut f: impl FnMut()) -> f64 {
    let t = Instant::now();
    for _ in 0..n {
        f()
    }
    t.elapsed().as_nanos() as f64 / n as f64
}
fn main() {
    let shared = multiproc::Region::new(4096).unwrap();
    let m = unsafe { shared.as_ptr() }.cast::<libc::pthread_mutex_t>();
    unsafe {
        let mut a = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut a);
        libc::pthread_mutexattr_setpshared(&mut a, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutexattr_setrobust(&mut a, libc::PTHREAD_MUTEX_ROBUST);
        if std::env::var_os("EC").is_some() {
            libc::pthread_mutexattr_settype(&mut a, libc::PTHREAD_MUTEX_ERRORCHECK);
        }
        libc::pthread_mutex_init(m, &a);
    }
    let lock = multiproc::Lock::new().unwrap();
    let v = multiproc::Value::new(0u64).unwrap();
    let n = 20_000;
    let mut best = [f64::MAX; 4];
    for _ in 0..300 {
        let row = [
            ns(n, || unsafe {
                libc::pthread_mutex_lock(m);
                libc::pthread_mutex_unlock(m);
            }),
            ns(n, || {
                drop(black_box(&lock).acquire().unwrap());
            }),
            ns(n, || {
                drop(black_box(&lock).try_acquire().unwrap());
            }),
            ns(n, || {
                *black_box(&v).lock().unwrap() += 1;
            }),
        ];
        for i in 0..4 {
            best[i] = best[i].min(row[i]);
        }
    }
    println!(
        "bare {:.1} acquire {:.2} try {:.2} value {:.2}",
        best[0],
        best[1] / best[0],
        best[2] / best[0],
        best[3] / best[0]
    );
}
