//! What comes over the socket between a process and its child, sent by somebody who sends what he likes:
//! each of those who read there ends with a value or an error, and runs nothing that it was not given.

use super::bootstrap::Order;
use super::child::hear;
use super::control::{Control, Incoming};
use super::forkserver::hear_requests;
use super::target;
use crate::Decoder;
use crate::codec::Payload;
use crate::sys::socket;
use crate::sys::time::Deadline;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

/// How many packets a script has at most: as many as a socket takes that nobody reads.
const MOST: usize = 16;

/// Sends the packets of a script and has one of the readers read them; whether it made sense of them.
///
/// The first byte says which; with 128 in it, the first packet's body begins with this program's
/// fingerprint, which nobody else could guess. Of each packet there follow the number of its
/// descriptors, its length (2 bytes), and its bytes.
pub fn check(script: &[u8]) -> bool {
    let Some((&first, mut rest)) = script.split_first() else { return false };
    let Ok((reader, sender)) = Control::pair() else { return false };
    let Ok(file) = File::open("/dev/null") else { return false };
    for number in 0..MOST {
        let Some((header, behind)) = rest.split_at_checked(3) else { break };
        let len = usize::from(u16::from_le_bytes([header[1], header[2]])).min(behind.len());
        let (body, behind) = behind.split_at(len);
        rest = behind;
        let mut body = body.to_vec();
        if first & 128 != 0 && number == 0 {
            let end = body.len().min(FRONT);
            body.splice(end..end, target::fingerprint().to_le_bytes());
        }
        let fds: Vec<BorrowedFd<'_>> = (0..header[0] % 8).map(|_| file.as_fd()).collect();
        let _ = socket::send(sender.as_fd(), &[IoSlice::new(&body)], &fds, false);
    }
    drop(sender);
    match first % 3 {
        0 => be_child(&reader),
        1 => hear_requests(&reader),
        _ => hear(reader),
    }
}

/// The bytes of a packet's header.
const FRONT: usize = 16;

fn be_child(control: &Control) -> bool {
    let Ok(Incoming::Packet(packet)) = control.receive(Deadline::now()) else { return false };
    let Payload { bytes, mut fds } = packet.payload;
    // Whether its place is an entry point, two numbers in the program's own data say: a sanitizer takes
    // the gaps between constants for forbidden, so that is not looked at here.
    Order::decode(&mut Decoder::new(&bytes, &mut fds)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_began_with_is_read_or_refused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/orders");
        let Ok(seeds) = std::fs::read_dir(&folder) else {
            return eprintln!("skipped: a published package has no {}", folder.display());
        };
        let mut count = 0;
        for seed in seeds {
            let seed = seed.unwrap().path();
            let bytes = std::fs::read(&seed).unwrap();
            assert!(check(&bytes), "{seed:?}");
            for len in 0..bytes.len() {
                check(&bytes[..len]);
            }
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }
}
