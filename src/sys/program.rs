//! The running program: its image in memory, its arguments, its environment.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What `getauxval` says of `key`, if the kernel passed it.
fn auxiliary(key: libc::c_ulong) -> Option<usize> {
    // SAFETY: the call takes a number; an unknown one gives zero.
    match unsafe { libc::getauxval(key) } {
        0 => None,
        value => Some(value as usize),
    }
}

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;

/// Where the program's own file (no shared library) is mapped. Found without /proc.
#[derive(Debug)]
pub(crate) struct Image {
    /// The difference between addresses in memory and in the file's headers.
    pub(crate) base: usize,
    /// Address ranges that hold bytes of the file, in no order.
    segments: Vec<(usize, usize)>,
    /// Differs between builds: of the headers, the entry point, and the build identity if it has one.
    pub(crate) fingerprint: u64,
}

impl Image {
    /// `None` where the C library does not tell.
    pub(crate) fn find() -> Option<Image> {
        let mut found = None;
        // SAFETY: `first_object` has the signature that the call asks for, and `found` outlives it.
        unsafe { libc::dl_iterate_phdr(Some(first_object), (&raw mut found).cast()) };
        found
    }

    fn of(base: usize, headers: &[ProgramHeader]) -> Image {
        let range = |header: &ProgramHeader| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            (start, start.saturating_add(header.p_filesz as usize))
        };
        let segments: Vec<_> =
            headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(range).collect();
        let mut hash = Fnv::new();
        // The fields have 32 bits on some machines.
        #[allow(clippy::unnecessary_cast)]
        for header in headers {
            let words = [
                u64::from(header.p_type),
                u64::from(header.p_flags),
                header.p_vaddr as u64,
                header.p_filesz as u64,
                header.p_memsz as u64,
            ];
            words.iter().for_each(|word| hash.add(&word.to_le_bytes()));
        }
        let entry = auxiliary(libc::AT_ENTRY).unwrap_or(base).wrapping_sub(base);
        hash.add(&(entry as u64).to_le_bytes());
        for (start, end) in headers.iter().filter(|h| h.p_type == libc::PT_NOTE).map(range) {
            if segments.iter().any(|&(from, to)| from <= start && end <= to) {
                // SAFETY: the range is inside a segment of the file that the kernel has mapped; notes
                // are read-only data.
                let note = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
                hash.add(note);
            }
        }
        Image { base, segments, fingerprint: hash.0 }
    }

    /// Whether `len` bytes at `address` are all of the program's file.
    pub(crate) fn contains(&self, address: usize, len: usize) -> bool {
        let Some(end) = address.checked_add(len) else { return false };
        self.segments.iter().any(|&(from, to)| from <= address && end <= to)
    }
}

/// Called with each object that is mapped, the program itself first: takes note of it and stops.
extern "C" fn first_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    found: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a record that is filled in for the call.
    let info = unsafe { &*info };
    let count = usize::from(info.dlpi_phnum);
    // SAFETY: it names the headers of an object that is mapped, and the program itself stays so.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, count) };
    let image = Image::of(info.dlpi_addr as usize, headers);
    // SAFETY: `find` passes the address of its own variable, of this type.
    unsafe { *found.cast::<Option<Image>>() = Some(image) };
    1
}

/// FNV-1a, for identities that nobody tries to forge.
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The path that the program was started by, as the kernel keeps it.
pub(crate) fn exec_path() -> Option<CString> {
    let path = auxiliary(libc::AT_EXECFN)? as *const libc::c_char;
    // SAFETY: the kernel passes the address of a NUL-ended string above the stack, which stays.
    Some(unsafe { CStr::from_ptr(path) }.to_owned())
}

/// The argument vector as C strings.
pub(crate) fn arguments() -> Vec<CString> {
    let words = std::env::args_os().map(OsStringExt::into_vec);
    let known: Vec<_> = words.filter_map(|word| CString::new(word).ok()).collect();
    // Before `main`, std knows none with musl.
    if known.is_empty() { arguments_by_proc().unwrap_or_default() } else { known }
}

fn arguments_by_proc() -> Option<Vec<CString>> {
    let line = std::fs::read("/proc/self/cmdline").ok()?;
    let words = line.strip_suffix(&[0])?.split(|&byte| byte == 0);
    Some(words.filter_map(|word| CString::new(word).ok()).collect())
}

/// The environment, each variable as `NAME=VALUE`.
pub(crate) fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut variable = name.into_vec();
            variable.push(b'=');
            variable.extend_from_slice(value.as_bytes());
            CString::new(variable).ok()
        })
        .collect()
}

/// Sets or removes a variable of the environment. Called in a child alone, before its function runs.
/// Neither name nor value are such as no variable can have.
pub(crate) fn change_variable(name: &OsStr, value: Option<&OsStr>) {
    match value {
        // SAFETY: a child has one thread until its function runs; see `forget_variable`.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
}

/// Takes a variable out of the environment. Called by `init` alone, which is the first thing that a
/// child does.
pub(crate) fn forget_variable(name: &str) {
    // SAFETY: a process that has the variable was started by this library and runs `init`: it has one
    // thread so far, or initialisers of the program have started some, which must not use the
    // environment without std's lock, as `init` documents.
    unsafe { std::env::remove_var(name) };
}

/// Runs [`init`](crate::init) before `main`, in a program whose `main` is not ours: a test binary or a
/// benchmark under another harness. One line, outside of any function.
///
/// Children of such a program run before its `main` would, while the program's other initialisers may
/// not have run. With musl, `std::env::args` is empty there.
///
/// # Examples
/// ```
/// multiproc::init_before_main!();
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! init_before_main {
    () => {
        #[used]
        #[allow(unsafe_code)]
        // SAFETY: the section holds pointers to functions that the C library calls, one after the
        // other, before `main`; this is one, and what it ignores of their arguments is harmless.
        #[unsafe(link_section = ".init_array")]
        static MULTIPROC_INIT: extern "C" fn() = {
            extern "C" fn run() {
                $crate::init();
            }
            run
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_holds_the_programs_own_data_and_not_the_heap() {
        static HERE: [u64; 2] = [1, 2];
        let image = Image::find().unwrap();
        assert!(image.contains((&raw const HERE) as usize, 16));
        let heap = Box::new(0u64);
        assert!(!image.contains((&raw const *heap) as usize, 8));
        assert!(!image.contains(usize::MAX - 3, 8));
        assert_eq!(image.fingerprint, Image::find().unwrap().fingerprint);
    }

    #[test]
    fn the_kernel_tells_the_path_of_the_program() {
        assert!(!exec_path().unwrap().is_empty());
        assert!(auxiliary(libc::c_ulong::MAX).is_none());
        assert!(!arguments().is_empty() && !environment().is_empty());
        assert_eq!(arguments_by_proc().unwrap(), arguments());
    }
}
