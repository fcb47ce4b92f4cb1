//! Draws the Mandelbrot set: a pool computes the rows, and they meet in one shared array.
//!
//! `cargo run --release --example mandelbrot -- [--width N] [FILE]`
//!
//! The picture is written as PPM to FILE, or to a new file in the folder for temporary ones; standard
//! output says where. While standard error is a terminal, it shows how far the work is.

use multiproc::{Array, Pool, Result};
use std::env;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

const USAGE: &str = "usage: mandelbrot [--width N] [FILE]";

/// Bytes of a point: red, green and blue.
const DEPTH: usize = 3;

/// A worker's handle of the array that all of them draw into.
static CANVAS: OnceLock<Array<u8>> = OnceLock::new();

fn main() -> ExitCode {
    multiproc::init();
    let Some((width, path)) = options(env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(width, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mandelbrot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = std::ffi::OsString>) -> Option<(usize, PathBuf)> {
    let (mut width, mut path) = (480, None);
    while let Some(arg) = args.next() {
        if arg == "--width" {
            width =
                args.next()?.to_str()?.parse().ok().filter(|width| (3..=30_000).contains(width))?;
        } else if path.is_none() && arg.to_str() != Some("--help") {
            path = Some(PathBuf::from(arg));
        } else {
            return None;
        }
    }
    let name = || env::temp_dir().join(format!("mandelbrot-{}.ppm", std::process::id()));
    Some((width, path.unwrap_or_else(name)))
}

fn run(width: usize, path: PathBuf) -> io::Result<()> {
    let height = width * 2 / 3;
    // Before the work: a file that cannot be written is no reason to do any.
    let file = File::create(&path)?;
    let canvas = draw(width, height)?;
    let mut out = BufWriter::new(file);
    write!(out, "P6\n{width} {height}\n255\n")?;
    out.write_all(&canvas.lock()?)?;
    out.into_inner()?;
    println!("{}", path.display());
    Ok(())
}

/// Has every row drawn, in whatever order.
fn draw(width: usize, height: usize) -> Result<Array<u8>> {
    let canvas = Array::zeroed(width * height * DEPTH)?;
    // A worker that is killed takes its row with it: drawing that once more does no harm.
    let pool = Pool::builder().initializer(keep, (canvas.clone(),)).retries(3).build()?;
    let mut rows = pool.imap_unordered(row, (0..height).map(|y| (y, width, height)));
    let shows = io::stderr().is_terminal();
    while let Some(done) = rows.next() {
        done??;
        if shows {
            let left = rows.size_hint().0;
            eprint!("\r{:3} % ", (height - left) * 100 / height);
        }
    }
    if shows {
        eprintln!();
    }
    pool.close();
    pool.join()?;
    Ok(canvas)
}

/// The initializer of each worker.
fn keep(canvas: Array<u8>) {
    let _ = CANVAS.set(canvas);
}

/// Computes row `y`, and only then takes the array's lock.
fn row((y, width, height): (usize, usize, usize)) -> Result<()> {
    let scale = 3.0 / width as f64;
    let imaginary = (y as f64 - height as f64 / 2.0) * scale;
    let points = (0..width).flat_map(|x| colour(x as f64 * scale - 2.25, imaginary));
    let points: Vec<u8> = points.collect();
    let canvas = CANVAS.get().expect("the initializer ran before the first task");
    canvas.set_slice(y * width * DEPTH, &points)
}

/// Black for what never leaves; for the rest, by how soon it does.
fn colour(real: f64, imaginary: f64) -> [u8; DEPTH] {
    const STEPS: u32 = 256;
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..STEPS {
        if x * x + y * y > 256.0 {
            // What is left of the last step makes the bands fade into each other.
            let distance: f64 = x * x + y * y;
            let escape = f64::from(step) - distance.log2().log2();
            return [0.0, 2.1, 4.2]
                .map(|phase| (127.5 * (1.0 - (escape / 9.0 + phase).cos())) as u8);
        }
        (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
    }
    [0; DEPTH]
}
