//! `getrandom(2)`.

use std::io;

/// Fills `bytes` from the kernel's generator.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        filled += super::retry(|| {
            // SAFETY: `rest` is writable for `rest.len()` bytes.
            super::errno_result(unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) })
        })? as usize;
    }
    Ok(())
}

/// A random `u64`.
pub(crate) fn u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn fill_reaches_the_last_byte_of_a_long_buffer() {
        let mut bytes = vec![0; 1 << 20];
        super::fill(&mut bytes).unwrap();
        assert!(bytes[bytes.len() - 64..].iter().any(|&byte| byte != 0));
        assert_ne!(super::u64().unwrap(), super::u64().unwrap());
    }
}
