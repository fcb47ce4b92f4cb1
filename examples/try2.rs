use multiproc::*;
fn square(n: u64) -> u64 {
    n * n
}
fn main() -> Result<()> {
    init();
    let pool = Pool::builder().processes(4).build()?;
    let r = pool.map_async(square, 0..1000u64)?;
    pool.close();
    eprintln!("closing");
    pool.join()?;
    eprintln!("joined");
    println!("{:?}", r.get().map(|v| v.len()));
    Ok(())
}
