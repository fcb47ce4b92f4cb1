//! Two hosts, for tests of what goes over a network.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Two network namespaces with a cable between them: two hosts, as far as TCP can tell.
pub(crate) struct Hosts {
    names: [String; 2],
}

/// By family, and by host.
pub(crate) const ADDRESSES: [[&str; 2]; 2] =
    [["10.231.77.1", "10.231.77.2"], ["fd31:77::1", "fd31:77::2"]];

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Hosts {
    pub(crate) fn make() -> Result<Hosts, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let hosts =
            Hosts { names: ["a", "b"].map(|side| format!("multiproc-{pid}-{number}{side}")) };
        let [a, b] = &hosts.names;
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!("-n {a} link add cable type veth peer name cable netns {b}"))?;
        for (side, name) in hosts.names.iter().enumerate() {
            ip(&format!("-n {name} address add {}/24 dev cable", ADDRESSES[0][side]))?;
            ip(&format!("-n {name} link set cable up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(hosts)
    }

    /// False where the kernel has no IPv6.
    pub(crate) fn has_v6(&self) -> bool {
        self.names.iter().enumerate().all(|(side, name)| {
            ip(&format!("-n {name} address add {}/64 dev cable nodad", ADDRESSES[1][side])).is_ok()
        })
    }

    /// A program on one of them.
    pub(crate) fn command(&self, host: usize, program: &PathBuf) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host]]).arg(program);
        command
    }

    /// What a process enters to be on one of them.
    pub(crate) fn path(&self, host: usize) -> String {
        format!("/run/netns/{}", self.names[host])
    }

    /// Takes the cable out, at one end.
    pub(crate) fn unplug(&self, host: usize) {
        ip(&format!("-n {} link set cable down", self.names[host])).unwrap();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}
